"""Labelled sets: conversations, each with the route that it belongs to.

A decision log is read as one, too: what was decided is then what is expected.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from serve_app.config.locations import ConfigError, Problem, read_text
from serve_app.dialects.registry import turns_of_messages
from serve_app.domain import Json, Route, Turn
from serve_app.errors import InvalidRequest
from serve_app.telemetry.decision_log import DECISION

_OF_HEAD: Final = ("routes", "no_route_examples")


@dataclass(frozen=True, slots=True)
class Case:
    """A conversation and the route that it belongs to."""

    turns: tuple[Turn, ...]
    expect: str | None
    """None: no route matches."""
    lang: str | None = None
    """The language, as the set writes it; None if it does not say."""
    is_decided: bool = False
    """True for a line of a decision log: ``expect`` is what the gateway decided, not a label."""


@dataclass(frozen=True, slots=True)
class LabelledSet:
    """Routes, and conversations that are known to belong to one of them or to none."""

    file: str
    routes: tuple[Route, ...]
    cases: tuple[Case, ...]
    no_route_examples: tuple[str, ...] = ()

    @property
    def decided_cases(self) -> int:
        """How many cases are lines of a decision log."""
        return sum(case.is_decided for case in self.cases)

    def check_labels(self) -> None:
        """Raises ConfigError if a case is a line of a decision log, from which nothing is learned."""
        if self.decided_cases:
            message = (
                f"{self.decided_cases} cases are decisions of the gateway, not labels; write a set "
                "with `fingerpost report FILE --labels mine.jsonl`, correct it, and use that"
            )
            raise ConfigError(self.file, (Problem(0, "expect", message),))


def read_set(file: Path) -> LabelledSet:
    """Reads the set in a file. Raises ConfigError with the problems of all lines.

    A first line without routes is reported alone.
    """
    lines = read_text(file).split("\n")  # splitlines() also splits inside strings
    problems: list[Problem] = []
    head = _object(lines[0]) or {}
    entries = head.get("routes")
    if not isinstance(entries, list) or not entries:
        message = 'must be {"routes": [{"name": ..., "description": ...}, ...]}'
        raise ConfigError(str(file), (Problem(1, "", message),))
    routes = _read_routes(entries, problems)
    none = head.get("no_route_examples", [])
    if not isinstance(none, list) or not all(isinstance(text, str) for text in none):
        problems.append(Problem(1, "no_route_examples", "must be a list of strings"))
        none = []
    names = _names(entries)
    cases = []
    for number, line in enumerate(lines[1:], 2):
        if line.strip() and not _is_other_line(line, number, head, problems):
            case = _read_case(line, number, names, problems)
            cases += [] if case is None else [case]
    if not problems and not cases:
        is_log = head.get("log") == DECISION
        message = (
            "no texts; set logs.decisions.texts to true" if is_log else "no cases; add one per line"
        )
        problems.append(Problem(len(lines), "", message))
    if problems:
        raise ConfigError(str(file), tuple(problems))
    return LabelledSet(str(file), routes, tuple(cases), tuple(none))


def _is_other_line(line: str, number: int, head: dict[str, Json], problems: list[Problem]) -> bool:
    """True for a line of a decision log that is not a case: without texts, or with the routes."""
    fields = _object(line)
    if fields is None or fields.get("log") != DECISION or "messages" in fields:
        return False
    if any(fields.get(name) != head.get(name) for name in _OF_HEAD if "routes" in fields):
        message = (
            "other routes than in line 1; write a set of the newest ones with "
            "`fingerpost report FILE --labels mine.jsonl`"
        )
        problems.append(Problem(number, "routes", message))
    return True


def _names(entries: list[Json]) -> set[str] | None:
    """The names that cases may expect, routes with problems included; None if one has no name."""
    names = [entry.get("name") if isinstance(entry, dict) else None for entry in entries]
    return {str(name) for name in names} if all(names) else None


def _read_routes(entries: list[Json], problems: list[Problem]) -> tuple[Route, ...]:
    routes: list[Route] = []
    for index, entry in enumerate(entries):
        path = f"routes[{index}]"
        fields = entry if isinstance(entry, dict) else {}
        name, description = fields.get("name"), fields.get("description")
        examples = fields.get("examples", [])
        if not (isinstance(name, str) and name and isinstance(description, str) and description):
            problems.append(Problem(1, path, "must have a name and a description, both strings"))
        elif not isinstance(examples, list) or not all(isinstance(e, str) for e in examples):
            problems.append(Problem(1, f"{path}.examples", "must be a list of strings"))
        elif any(name == route.name for route in routes):
            problems.append(Problem(1, path, f"duplicate route {name!r}; keep one"))
        else:
            routes.append(Route(name, description, (), examples=tuple(examples)))
    return tuple(routes)


def _read_case(
    line: str, number: int, names: set[str] | None, problems: list[Problem]
) -> Case | None:
    case = _object(line)
    if case is None:
        problems.append(Problem(number, "", "must be a JSON object"))
        return None
    expect = case.get("expect", "")
    known = names is None or (isinstance(expect, str) and expect in names)
    if expect is not None and not known:
        message = f"must be a route of line 1 or null, not {expect!r}"
        problems.append(Problem(number, "expect", message))
        return None
    lang = case.get("lang")
    if lang is not None and not isinstance(lang, str):
        problems.append(Problem(number, "lang", f"must be a string, not {lang!r}"))
        return None
    try:
        turns = turns_of_messages(case.get("messages"))
    except InvalidRequest as error:
        problems.append(Problem(number, "messages", str(error)))
        return None
    return Case(turns, expect, lang, case.get("log") == DECISION)


def _object(line: str) -> dict[str, Json] | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
