"""Adds examples to the text of a configuration, and leaves every other character as it is.

The places come from the events of the YAML parser. The result is read again: what it contains must
be the old content with the new examples, or the text is not used.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import yaml

from serve_app.config.locations import ConfigError, Location, Problem, problem_at
from serve_app.config.schema.routes import MAX_EXAMPLES
from serve_app.config.upgrade import upgrade
from serve_app.config.yaml_spots import ListSpot, MappingSpot, OtherSpot, Spot, root_spot
from serve_app.config.yaml_tree import Tree, parse
from serve_app.domain import Json

_ROUTES: Final = "routing_preferences"
_EXAMPLES: Final = "examples"
_NO_ROUTE: Final = "no_route_examples"
_WIDE: Final = 1 << 20

_Edit: TypeAlias = tuple[int, str]
"""A position in the text, and what is inserted there."""


class CannotEditError(ConfigError):
    """Raised for a configuration that is valid, but whose examples have to be added by hand."""


def add_examples(
    text: str, file: str, examples: Mapping[str, Sequence[str]], no_route: Sequence[str] = ()
) -> str:
    """The text with more examples of these routes, by name, and of "no route".

    Existing examples stay in front, equal ones are not repeated, and a list ends at MAX_EXAMPLES.
    Raises ConfigError for a text that is not a configuration, and CannotEditError if the places
    are in an older format or behind an anchor.
    """
    tree = parse(file, text.encode("utf-8", "surrogatepass"))
    wanted: dict[Location, list[str]] = {}
    for location, values in _targets(tree, file, examples):
        wanted[*location, _EXAMPLES] = _more(values.get(_EXAMPLES), examples[values["name"]])
    wanted[_NO_ROUTE,] = _more(tree.values.get(_NO_ROUTE), no_route)
    wanted = {location: new for location, new in wanted.items() if new}
    editor = _Editor(text, root_spot(text), tree.values)
    edits = [edit for location, new in wanted.items() for edit in editor.edit(location, new)]
    if len(edits) < len(wanted):
        raise _refusal(file)
    changed = _applied(text, edits)
    if not _is_expected(file, changed, tree, wanted):
        raise _refusal(file)
    return changed


def _targets(
    tree: Tree, file: str, examples: Mapping[str, Sequence[str]]
) -> list[tuple[Location, dict[str, Json]]]:
    """The location in the file of each route that gets examples, with its keys there."""
    form = upgrade(tree.values)
    targets, problems = [], []
    routes = form.values.get(_ROUTES)
    for index, route in enumerate(routes if isinstance(routes, list) else []):
        if not isinstance(route, dict) or not examples.get(route.get("name", "")):
            continue
        location = form.written((_ROUTES, index))
        if location[0] == _ROUTES:
            targets.append((location, route))
            continue
        problems.append(
            problem_at(
                tree.lines,
                location,
                "a route under a model cannot have examples; move it to the top level with "
                "`fingerpost migrate --write`",
            )
        )
    if problems:
        raise CannotEditError(file, tuple(problems))
    return targets


def _more(existing: Json, new: Sequence[str]) -> list[str]:
    """The new examples that are not there yet and for which there is room."""
    known = existing if isinstance(existing, list) else []
    fresh = [text for text in dict.fromkeys(new) if text not in known]
    return fresh[: max(MAX_EXAMPLES - len(known), 0)]


def _refusal(file: str) -> CannotEditError:
    message = (
        "examples cannot be inserted without a change of other values; write out what anchors, "
        "aliases and << provide, end the file with a line break, or insert the examples by hand"
    )
    return CannotEditError(file, (Problem(0, _ROUTES, message),))


def _applied(text: str, edits: Sequence[_Edit]) -> str:
    parts, at = [], 0
    for position, inserted in sorted(edits, key=lambda edit: edit[0]):
        parts += [text[at:position], inserted]
        at = position
    return "".join([*parts, text[at:]])


def _is_expected(
    file: str, changed: str, tree: Tree, wanted: Mapping[Location, Sequence[str]]
) -> bool:
    """True if the changed text contains the old values and the new examples, and nothing else."""
    expected = json.loads(json.dumps(tree.values, default=repr))
    for location, new in wanted.items():
        parent = expected
        for step in location[:-1]:
            parent = parent[step]
        parent[location[-1]] = [*parent.get(location[-1], []), *new]
    try:
        values = parse(file, changed.encode("utf-8", "surrogatepass")).values
    except ConfigError:
        return False
    return bool(json.loads(json.dumps(values, default=repr)) == expected)


@dataclass(frozen=True, slots=True)
class _Editor:
    """Finds the places for examples in a text with these values."""

    text: str
    root: Spot
    values: Mapping[str, Json]

    @property
    def _newline(self) -> str:
        return "\r\n" if "\r\n" in self.text else "\n"

    def edit(self, location: Location, new: Sequence[str]) -> list[_Edit]:
        """The insertion of examples at a location; empty where an alias is in the way."""
        parent = self.root
        for step in location[:-1]:
            parent = parent.below(step)
        if not isinstance(parent, MappingSpot):
            return []
        key = str(location[-1])
        own = parent.below(key)
        if isinstance(own, ListSpot):
            return [self._append(parent, own, new)]
        if key in parent:
            return []
        inherited: Json = self.values
        for step in location:
            inherited = inherited.get(step, []) if isinstance(inherited, dict) else inherited[step]
        return [self._add_key(parent, key, [*inherited, *new])]

    def _append(self, parent: MappingSpot, own: ListSpot, new: Sequence[str]) -> _Edit:
        if own.flow:
            items = [
                f"{self._newline}{self._deeper(own.start)}{self._flow(parent, text)}"
                for text in new
            ]
            if own.items:
                return own.items[-1].end, "".join(f",{item}" for item in items)
            return own.end - 1, ",".join(items)
        dash = self._column_of_line(own.items[0].start)
        lines = "".join(f"{' ' * dash}- {_block(text)}{self._newline}" for text in new)
        return self._below(own, dash, lines)

    def _add_key(self, parent: MappingSpot, key: str, listed: Sequence[str]) -> _Edit:
        if parent.flow:
            pad = self._deeper(parent.start)
            items = f",{self._newline}{pad}".join(self._flow(parent, text) for text in listed)
            name = f'"{key}"' if parent.is_json else key
            return parent.items[-1][1].end, f", {name}: [{self._newline}{pad}{items}]"
        column = parent.items[0][0].column
        pad, dash = " " * column, " " * (column + self._offset())
        lines = [f"{pad}{key}:", *(f"{dash}- {_block(text)}" for text in listed)]
        written = "".join(f"{line}{self._newline}" for line in lines)
        after: Spot = parent
        if not column and isinstance(self.root.below(_ROUTES), ListSpot):
            after = self.root.below(_ROUTES)
        if not column and not self._keeps_blank(after.last):
            written = f"{self._newline}{written}"
        return self._below(after, max(column, 1), written)

    def _flow(self, parent: MappingSpot, text: str) -> str:
        return json.dumps(text, ensure_ascii=False) if parent.is_json else _inline(text)

    def _offset(self) -> int:
        """How far lists are indented below their key: as the list of routes is."""
        routes = self.root.below(_ROUTES)
        if not isinstance(routes, ListSpot) or routes.flow:
            return 2
        return min(self._column_of_line(routes.items[0].start), 2)

    def _deeper(self, position: int) -> str:
        """The indentation of lines inside of brackets that open at a position."""
        return " " * (self._column_of_line(position) + 4)

    def _column_of_line(self, position: int) -> int:
        """The indentation of the line that contains a position."""
        line = self.text[self.text.rfind("\n", 0, position) + 1 : position]
        return len(line) - len(line.lstrip(" "))

    def _below(self, spot: Spot, column: int, lines: str) -> _Edit:
        """Inserts lines after those of a spot, and after comments below it from that column on."""
        last = spot.last
        position = last.end
        if isinstance(last, OtherSpot) and last.in_block and not self._keeps_blank(last):
            position = len(self.text[:position].rstrip())
        if position and self.text[position - 1] != "\n":
            position = self._next_line(position)
        while position < len(self.text):
            line = self.text[position : self._next_line(position)]
            bare = line.lstrip(" ")
            if not bare.startswith("#") or len(line) - len(bare) < column:
                break
            position += len(line)
        starts = not position or self.text[position - 1] == "\n"
        return position, lines if starts else f"{self._newline}{lines}"

    def _keeps_blank(self, spot: Spot) -> bool:
        """True for a scalar below ``|+`` or ``>+``: blank lines after it are a part of it."""
        header = self.text[spot.start : self._next_line(spot.start)].partition(" #")[0]
        return isinstance(spot, OtherSpot) and spot.in_block and "+" in header

    def _next_line(self, position: int) -> int:
        end = self.text.find("\n", position)
        return len(self.text) if end < 0 else end + 1


def _block(text: str) -> str:
    """A text as an item of a block list: plain if YAML reads it as the same text, else quoted."""
    return _dumped(text, flow=False).removeprefix("- ").rstrip("\n")


def _inline(text: str) -> str:
    """A text as an item of a list in brackets."""
    return _dumped(text, flow=True).strip()[1:-1]


def _dumped(text: str, *, flow: bool) -> str:
    """A list of one text, on one line."""
    style = '"' if "\n" in text else None
    dumped: str = yaml.safe_dump(
        [text], default_flow_style=flow, default_style=style, allow_unicode=True, width=_WIDE
    )
    return dumped


def fragment(examples: Mapping[str, Sequence[str]], no_route: Sequence[str]) -> str:
    """Routes with their examples, and those of "no route", as YAML to be pasted."""
    lines = [f"{_ROUTES}:"] if examples else []
    for name, listed in examples.items():
        lines += [f"  - name: {_block(name)}", f"    {_EXAMPLES}:"]
        lines += [f"      - {_block(text)}" for text in listed]
    if no_route:
        lines += [f"{_NO_ROUTE}:", *(f"  - {_block(text)}" for text in no_route)]
    return "\n".join(lines)
