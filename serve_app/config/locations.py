"""Locations in a configuration file, and the problems there."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias


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
