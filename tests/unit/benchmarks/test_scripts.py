"""The scripts of benchmarks/ and their table in README.md."""

import re
from importlib import import_module
from typing import Final

import pytest

from benchmarks.lib.paths import BENCHMARKS, PROJECT
from benchmarks.lib.processes import output_of

SCRIPTS: Final = sorted(file.stem for file in BENCHMARKS.glob("[!_]*.py"))


@pytest.mark.parametrize("name", SCRIPTS)
def test_script_can_be_imported(name: str) -> None:
    """All names that it imports exist, and it has an entry point and a description."""
    module = import_module(f"benchmarks.{name}")
    assert callable(module.main)
    assert f"python benchmarks/{name}.py" in (module.__doc__ or "")


def test_table_lists_each_script_and_its_results() -> None:
    """Each row names a script that exists and a report that exists."""
    text = (BENCHMARKS / "README.md").read_text()
    rows = re.findall(r"^\| \[(\w+)\.py\]\((\w+)\.py\) \|.*\| (.*) \|$", text, re.MULTILINE)
    assert sorted(name for name, _, _ in rows) == SCRIPTS
    assert all(name == link for name, link, _ in rows)


def test_output_of_returns_all_of_a_long_output() -> None:
    """Python without a buffer does not lose the end of a long line."""
    command = ["python3", "-u", "-c", "print('x' * 300_000)"]
    assert output_of(command, cwd=PROJECT) == (0, "x" * 300_000 + "\n")


def test_output_of_reports_status_and_timeout() -> None:
    """Errors are part of the output on request only."""
    failing = ["sh", "-c", "echo out; echo err >&2; exit 3"]
    assert output_of(failing) == (3, "out\n")
    assert output_of(failing, with_errors=True) == (3, "out\nerr\n")
    status, output = output_of(["sleep", "10"], within_s=0.1)
    assert (status, output) == (-1, "sleep did not end within 0.1 s")
