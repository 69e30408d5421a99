"""Places in a configuration file, and what is wrong there."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a file: where it stands, what it is, the way out."""

    line: int
    path: str
    message: str

    def __str__(self) -> str:
        where = f"line {self.line}: " if self.line else ""
        return f"{where}{self.path}: {self.message}" if self.path else f"{where}{self.message}"


@dataclass(eq=False)
class ConfigError(Exception):
    """Raised for a file that cannot be used; lists all its problems at once."""

    file: str
    problems: tuple[Problem, ...]

    def __str__(self) -> str:
        count = len(self.problems)
        head = f"{self.file} has {count} problem{'' if count == 1 else 's'}:"
        return "\n".join([head, *(f"  {problem}" for problem in self.problems)])


Location: TypeAlias = tuple[str | int, ...]


def path_text(place: Location) -> str:
    """A place as text: ``model_providers[0].model``."""
    text = ""
    for step in place:
        if isinstance(step, int):
            text += f"[{step}]"
            continue
        shown = step if step.isprintable() else repr(step)[1:-1]
        text += f".{shown}" if text else shown
    return text


def problem_at(lines: Mapping[Location, int], place: Location, message: str) -> Problem:
    """A problem with the line of its place, or of the nearest place around it."""
    known = place
    while known and known not in lines:
        known = known[:-1]
    return Problem(lines.get(known, 0), path_text(place), message)
