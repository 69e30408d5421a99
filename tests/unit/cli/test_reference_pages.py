"""How reference pages are rendered from what code knows."""

import argparse
from pathlib import Path

import pytest

from serve_app.cli import reference_pages
from serve_app.cli.reference_pages import ERRORS, LABELS, REASONS, pages
from serve_app.domain import Reason
from serve_app.errors import GatewayError
from serve_app.telemetry.metrics import METRICS


def parser() -> argparse.ArgumentParser:
    """A command line with every kind of argument."""
    whole = argparse.ArgumentParser(prog="tool")
    whole.add_argument("--version", action="version", version="1")
    cooking = whole.add_subparsers(dest="command").add_parser("cook", help="cook a meal | for one.")
    cooking.add_argument("dish", help="what to cook")
    cooking.add_argument("pot", nargs="?", type=Path, default=Path("pot.yaml"))
    cooking.add_argument(
        "--heat", choices=["low", "high"], default="low", help="a | b (default: %(default)s)"
    )
    cooking.add_argument("--salt", nargs="*", default=[], metavar="N")
    cooking.add_argument("--lid", action="store_true")
    cooking.add_argument("--for", required=True)
    return whole


def test_commands_show_every_argument() -> None:
    """With its form, its default, and its help; pipes do not end a cell."""
    text = "\n".join(reference_pages._commands(parser()))
    assert "| `--version` | off | show program's version number and exit |" in text
    assert "\n## tool cook\n\nCook a meal | for one.\n" in text
    for line in (
        "| `DISH` | required | what to cook |",
        "| `[POT]` | `pot.yaml` |  |",
        "| `--heat {low,high}` | `low` | a \\| b |",
        "| `--salt [N ...]` | none |  |",
        "| `--lid` | off |  |",
        "| `--for FOR` | required |  |",
    ):
        assert line in text.splitlines()


def test_pages_have_a_line_for_everything() -> None:
    """Each error, reason and label of the code is in its page."""
    made = pages()
    errors = made["docs/reference/headers-and-errors.md"]
    assert all(f"| `{error.code}` | {ERRORS[error][0]}" in errors for error in ERRORS)
    assert all(f"| `{reason}` | {REASONS[reason]} |" in errors for reason in Reason)
    labels = {label for spec in METRICS.values() for label in spec.labels}
    assert labels == set(LABELS)


def test_an_error_without_a_sentence_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors of other modules are left out."""
    assert set(reference_pages._tree(GatewayError)) == set(ERRORS)
    lacking = {error: text for error, text in ERRORS.items() if error is not GatewayError}
    monkeypatch.setattr(reference_pages, "ERRORS", lacking)
    with pytest.raises(KeyError):
        pages()


def test_tables_of_surfaces_have_a_row_each() -> None:
    """Below two lines of heads."""
    assert len(reference_pages.served_table()) == len(reference_pages.SERVED) + 2
    assert len(reference_pages.stored_table()) == len(reference_pages.STORED) + 2
    assert len(reference_pages.missing_table()) == len(reference_pages.MISSING) + 2


def test_pages_are_written_below_a_folder(tmp_path: Path) -> None:
    """At their paths in the project."""
    (tmp_path / "docs/reference").mkdir(parents=True)
    reference_pages.write_pages(tmp_path)
    assert all((tmp_path / name).read_text("utf-8") == text for name, text in pages().items())
