"""Locations in a configuration file, and the problems there."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

_FIXES: Final = (
    (IsADirectoryError, "name a file in it"),
    (PermissionError, "let this user read it"),
)


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem of a file: the line, the path of the key, and what is wrong with the fix."""

    line: int
    path: str
    message: str

    def __str__(self) -> str:
        where = f"line {self.line}: " if self.line else ""
        return f"{where}{self.path}: {self.message}" if self.path else f"{where}{self.message}"


@dataclass(eq=False)
class ConfigError(Exception):
    """Raised for a file that cannot be used; contains all its problems."""

    file: str
    problems: tuple[Problem, ...]

    def __str__(self) -> str:
        count = len(self.problems)
        head = f"{self.file} has {count} problem{'' if count == 1 else 's'}:"
        return "\n".join([head, *(f"  {problem}" for problem in self.problems)])


def unreadable(
    file: Path | str, error: OSError | ValueError, fix: str | None = None
) -> ConfigError:
    """The error for a text file that cannot be read: why, and what to do.

    ``fix`` says that; None: what follows from the error.
    """
    if isinstance(error, UnicodeDecodeError):
        reason, way = f"it is not UTF-8, at byte {error.start + 1}", "save it as UTF-8"
    else:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        ways = (way for kind, way in _FIXES if isinstance(error, kind))
        way = next(ways, "check its path")
    message = f"cannot read the file: {reason}; {fix or way}"
    return ConfigError(str(file), (Problem(0, "", message),))


def read_text(file: Path) -> str:
    """The text of a file. Raises ConfigError if it cannot be read, or is not UTF-8."""
    try:
        return file.read_bytes().decode()
    except (OSError, ValueError) as error:
        raise unreadable(file, error) from error


Location: TypeAlias = tuple[str | int, ...]
"""The keys and indexes that lead to a value of a file."""


def path_text(location: Location) -> str:
    """A location as a path: ``model_providers[0].model``."""
    text = ""
    for step in location:
        if isinstance(step, int):
            text += f"[{step}]"
            continue
        shown = step if step.isprintable() else repr(step)[1:-1]
        text += f".{shown}" if text else shown
    return text


def problem_at(lines: Mapping[Location, int], location: Location, message: str) -> Problem:
    """A problem with the line of its location, or of the nearest location that contains it."""
    known = location
    while known and known not in lines:
        known = known[:-1]
    return Problem(lines.get(known, 0), path_text(location), message)
