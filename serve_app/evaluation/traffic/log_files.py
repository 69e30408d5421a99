"""Lines of log files: plain, compressed with gzip, or from standard input."""

import gzip
import json
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final, cast

from serve_app.config.locations import unreadable
from serve_app.domain import Json

STDIN: Final = Path("-")

_GZIP: Final = b"\x1f\x8b"
_MAX_LINE_BYTES: Final = 16 << 20
_LOG: Final = b'{"log":"'
_MAX_NAMED: Final = 5


@dataclass(slots=True)
class Damage:
    """The lines of a file that are not lines of a log."""

    file: str
    lines: int = 0
    first: list[int] = field(default_factory=list)
    """The numbers of the first ones."""
    end: str = ""
    """Why the rest of the file cannot be read; empty if it was read to its end."""

    def add(self, number: int) -> None:
        """Counts a line."""
        self.lines += 1
        if len(self.first) < _MAX_NAMED:
            self.first.append(number)

    def __str__(self) -> str:
        parts = []
        if self.lines:
            more = ", ..." if self.lines > len(self.first) else ""
            numbers = ", ".join(map(str, self.first))
            are = "line is" if self.lines == 1 else "lines are"
            parts.append(f"{self.lines} {are} not a line of a log ({numbers}{more})")
        if self.end:
            parts.append(f"the rest cannot be read: {self.end}")
        return f"{self.file}: {'; '.join(parts)}"


def read_lines(file: Path, damage: Damage) -> Iterator[tuple[int, dict[str, Json]]]:
    """The objects in a log with the numbers of their lines; other lines are counted.

    A line may have something before its object, such as Ray's prefix. Raises ConfigError if the
    file cannot be opened.
    """
    with _opened(file) as stream:
        number = 0
        while True:
            try:
                line = stream.readline(_MAX_LINE_BYTES)
            except (OSError, EOFError, zlib.error) as error:
                damage.end = str(error)
                return
            if not line:
                return
            number += 1
            fields = _object(line)
            if fields is not None:
                yield number, fields
            elif line.strip():
                damage.add(number)


def _object(line: bytes) -> dict[str, Json] | None:
    begin = 0 if line.startswith(b"{") else max(line.find(_LOG), 0)
    try:
        fields = json.loads(line[begin:] if begin else line)
    except (ValueError, RecursionError):
        return None
    return fields if isinstance(fields, dict) else None


@contextmanager
def _opened(file: Path) -> Iterator[BinaryIO]:
    if file == STDIN:
        yield sys.stdin.buffer
        return
    try:
        raw = file.open("rb")
    except OSError as error:
        raise unreadable(file, error) from error
    with raw:
        if raw.peek(len(_GZIP))[: len(_GZIP)] != _GZIP:
            yield raw
            return
        with gzip.open(raw) as unpacked:
            yield cast("BinaryIO", unpacked)
