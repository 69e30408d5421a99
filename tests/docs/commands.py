"""Code blocks of the pages: read, run, and written anew.

A block ``console`` shows a command and its output; ``python -m tests.docs.commands`` runs each of
them and writes what they print now into the pages. A block after a line that ends in "`NAME`:" is
the content of that file, for commands of the same page.
"""

import contextlib
import io
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from unittest.mock import patch

from serve_app.cli.main import main

ROOT: Final = Path(__file__).parents[2]
README: Final = ROOT / "README.md"
PAGES: Final = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
_FENCE: Final = re.compile(
    r"(?:`(?P<name>[\w.-]+)`:\n\n)?^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```$",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block of a page."""

    page: Path
    language: str
    text: str
    name: str | None
    """Of the file that it is the content of."""
    is_first_screen: bool
    """True before the second heading of a page, and everywhere in README."""

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}: {self.text.strip().splitlines()[0][:60]}"


def blocks(page: Path) -> list[Block]:
    """Returns the fenced blocks of a page in their order."""
    text = page.read_text("utf-8")
    second = re.search(r"^## ", text, re.MULTILINE)
    end = len(text) if page == README or second is None else second.start()
    return [
        Block(
            page,
            match["language"],
            re.sub(rf"^{match['indent']}", "", match["text"], flags=re.MULTILINE),
            match["name"],
            match.start() < end,
        )
        for match in _FENCE.finditer(text)
    ]


def all_blocks(*languages: str) -> list[Block]:
    """Returns the blocks of some languages, of all pages."""
    return [block for page in PAGES for block in blocks(page) if block.language in languages]


def commands(block: Block) -> list[str]:
    """Returns the command lines of a shell block, continued lines joined, without comments."""
    text = block.text.replace("\\\n", " ")
    lines = [re.sub(r"\s+#\s.*$", "", line).strip() for line in text.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def make_workspace(folder: Path, page: Path) -> None:
    """Makes a folder in which the commands of a page find what they name."""
    for name in ("configs", "benchmarks", "requirements"):
        (folder / name).symlink_to(ROOT / name)
    for block in blocks(page):
        if block.name is not None:
            (folder / block.name).write_text(block.text, "utf-8")


def run(command: str, folder: Path) -> tuple[int, str]:
    """Runs a command of fingerpost in a folder, without keys; returns its status and output."""
    output = io.StringIO()
    without_keys = {key: os.environ[key] for key in os.environ if not key.endswith("_KEY")}
    with (
        patch.dict(os.environ, without_keys, clear=True),
        contextlib.chdir(folder),
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(output),
    ):
        status = main(shlex.split(command)[1:])
    return status, output.getvalue()


def consoles(page: Path) -> Iterator[tuple[Block, str, list[str]]]:
    """Yields the blocks of a page that show a command, the command, and the lines of its output."""
    for block in blocks(page):
        if block.language == "console":
            first, _, shown = block.text.partition("\n")
            yield block, first.removeprefix("$ "), shown.rstrip("\n").split("\n")


def excerpt(command: str, shown: list[str], output: str) -> list[str]:
    """Returns the lines of an output that a page shows: all, but of a report of eval a few."""
    lines = output.rstrip("\n").split("\n")
    if " eval " in command:
        beginnings = {line.split(" ")[0] for line in shown}
        lines = [line for line in lines if line and line.split(" ")[0] in beginnings]
    return lines


BROKEN_EXAMPLE: Final = re.compile(
    r"```yaml\n(# yaml-[^`]*?version:[^`]*)```\n\ngives\n\n```\n(.*?)```", re.DOTALL
)
"""A configuration with problems, and what `check` prints of it."""

_NUMBER: Final = re.compile(r"\d+\.\d+(?: ms)?")
TOLERANCE: Final = 0.03
"""Of scores and shares: processors round 8-bit weights in different ways."""


def is_same(shown: list[str], lines: list[str]) -> bool:
    """Compares an output with the one that is shown; times may differ, and scores a little."""
    if [_NUMBER.sub("N", line.rstrip()) for line in shown] != [
        _NUMBER.sub("N", line.rstrip()) for line in lines
    ]:
        return False
    pairs = zip(_NUMBER.findall("\n".join(shown)), _NUMBER.findall("\n".join(lines)), strict=True)
    return all(
        one.endswith("ms") or abs(float(one) - float(other)) <= TOLERANCE for one, other in pairs
    )


def rewrite(page: Path) -> None:
    """Writes the outputs that a page shows as they are now, unless they are the same."""
    text = page.read_text("utf-8")
    for block, command, shown in consoles(page):
        with tempfile.TemporaryDirectory() as folder:
            make_workspace(Path(folder), page)
            lines = excerpt(command, shown, run(command, Path(folder))[1])
        if not is_same(shown, lines):
            text = text.replace(block.text, "\n".join([f"$ {command}", *lines, ""]))
    for match in BROKEN_EXAMPLE.finditer(text):
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "gateway.yaml").write_text(match[1], "utf-8")
            text = text.replace(match[2], run("fingerpost check gateway.yaml", Path(folder))[1])
    page.write_text(text, "utf-8")


if __name__ == "__main__":
    for changed in PAGES:
        rewrite(changed)
        sys.stdout.write(f"{changed.relative_to(ROOT)}\n")
