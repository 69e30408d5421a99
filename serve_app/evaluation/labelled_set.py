"""Labelled sets: conversations with the route that each belongs to."""

import json
from dataclasses import dataclass
from pathlib import Path

from serve_app.config.locations import ConfigError, Problem
from serve_app.dialects.registry import turns_of_messages
from serve_app.domain import Json, Route, Turn
from serve_app.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class Case:
    """One conversation and where it belongs."""

    turns: tuple[Turn, ...]
    expect: str | None


@dataclass(frozen=True, slots=True)
class LabelledSet:
    """Routes, and conversations that are known to belong to them or to none."""

    file: str
    routes: tuple[Route, ...]
    cases: tuple[Case, ...]


def read_set(file: Path) -> LabelledSet:
    """The set in a file. Raises ConfigError with every line that is wrong, and why.

    Where the first line says nothing of routes, that is the only problem.
    """
    try:
        lines = file.read_text("utf-8").split("\n")  # splitlines() also cuts inside of texts
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(str(file), (Problem(0, "", f"cannot read the file: {error}"),)) from error
    problems: list[Problem] = []
    entries = (_object(lines[0]) or {}).get("routes")
    if not isinstance(entries, list) or not entries:
        wanted = 'must be {"routes": [{"name": ..., "description": ...}, ...]}'
        raise ConfigError(str(file), (Problem(1, "", wanted),))
    routes = _read_routes(entries, problems)
    names = _names(entries)
    cases = []
    for number, line in enumerate(lines[1:], 2):
        if line.strip():
            case = _read_case(line, number, names, problems)
            cases += [] if case is None else [case]
    if not problems and not cases:
        problems.append(Problem(len(lines), "", "holds no cases; add one a line"))
    if problems:
        raise ConfigError(str(file), tuple(problems))
    return LabelledSet(str(file), routes, tuple(cases))


def _names(entries: list[Json]) -> set[str] | None:
    """What cases may expect: also routes with a problem. None where one of them has no name."""
    names = [entry.get("name") if isinstance(entry, dict) else None for entry in entries]
    return {str(name) for name in names} if all(names) else None


def _read_routes(entries: list[Json], problems: list[Problem]) -> tuple[Route, ...]:
    routes: list[Route] = []
    for index, entry in enumerate(entries):
        place = f"routes[{index}]"
        texts = entry if isinstance(entry, dict) else {}
        name, description = texts.get("name"), texts.get("description")
        examples = texts.get("examples", [])
        if not (isinstance(name, str) and name and isinstance(description, str) and description):
            problems.append(Problem(1, place, "needs a name and a description, both texts"))
        elif not isinstance(examples, list) or not all(isinstance(e, str) for e in examples):
            problems.append(Problem(1, f"{place}.examples", "must be a list of texts"))
        elif any(name == route.name for route in routes):
            problems.append(Problem(1, place, f"another route is named {name!r}"))
        else:
            routes.append(Route(name, description, (), examples=tuple(examples)))
    return tuple(routes)


def _read_case(
    line: str, number: int, names: set[str] | None, problems: list[Problem]
) -> Case | None:
    case = _object(line)
    if case is None:
        problems.append(Problem(number, "", "is no JSON object"))
        return None
    expect = case.get("expect", "")
    known = names is None or (isinstance(expect, str) and expect in names)
    if expect is not None and not known:
        problems.append(Problem(number, "expect", f"{expect!r} is no route of line 1, nor null"))
        return None
    try:
        turns = turns_of_messages(case.get("messages"))
    except InvalidRequest as error:
        problems.append(Problem(number, "messages", str(error)))
        return None
    return Case(turns, expect)


def _object(line: str) -> dict[str, Json] | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
