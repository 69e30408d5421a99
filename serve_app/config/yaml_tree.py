"""Reads YAML into plain values, and keeps where in the file each of them stands."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import yaml

from serve_app.config.locations import ConfigError, Location, Problem, path_text
from serve_app.domain import Json

_MAX_DEPTH = 32
_MAX_NODES = 200_000
_MAX_BITS = 1000
_MERGE = "<<"
_UNREADABLE = (
    *(yaml.YAMLError, ValueError, LookupError, ArithmeticError),
    *(AttributeError, TypeError),  # what yaml's constructors stumble over
)


@dataclass(frozen=True, slots=True)
class Tree:
    """What a file says, as plain values."""

    values: dict[str, Json]
    lines: Mapping[Location, int]
    again: Mapping[Location, Location]
    """Places of aliases (``*name``), with the place where their text stands."""
    problems: tuple[Problem, ...]
    """Keys that can't be used; they are left out of ``values``."""

    def standing(self, place: Location) -> Location:
        """Where the text of a place stands: at the anchor, for what an alias or ``<<`` brings."""
        found: Location = ()
        for position, step in enumerate(place):
            below = self._below(found, step)
            if below is None:
                return (*found, *place[position:])
            found = self.again.get(below, below)
        return found

    def _below(self, place: Location, step: str | int) -> Location | None:
        if (*place, step) in self.lines:
            return (*place, step)
        merged = (*place, _MERGE)
        if merged not in self.lines:
            return None
        sources = [merged]
        while (*merged, len(sources) - 1) in self.lines:
            sources.append((*merged, len(sources) - 1))
        found = (self._below(self.again.get(source, source), step) for source in sources)
        return next((below for below in found if below is not None), None)


class Loader(yaml.SafeLoader):
    """With constructors of its own: libraries that are loaded beside us change SafeLoader's."""

    yaml_constructors: ClassVar[Any] = {
        **yaml.SafeLoader.yaml_constructors,
        "tag:yaml.org,2002:timestamp": yaml.SafeLoader.construct_yaml_timestamp,
    }


def parse(file: str, content: bytes, start: str = "version: v0.4.0") -> Tree:
    """The mapping that YAML's bytes stand for. Raises ConfigError when they stand for none.

    Equal keys are a problem of the tree; the first of them holds.
    """
    try:
        loader = Loader(content)
        node = loader.get_single_node()
        if node is None:
            raise ConfigError(file, (Problem(1, "", f"file is empty; start with `{start}`"),))
        reader = _NodeReader(loader)
        values = reader.read(node, (), 0)
    except yaml.reader.ReaderError as error:
        line = content.count(b"\n", 0, error.position) + 1
        message = f"invalid YAML: {error.reason}; save it as plain text in UTF-8"
        raise ConfigError(file, (Problem(line, "", message),)) from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        message = f"invalid YAML: {error.problem or error.context}"
        raise ConfigError(file, (Problem(line, "", message),)) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(file, (Problem(0, "", f"invalid YAML: {error}"),)) from error
    if not isinstance(values, dict):
        message = f"must be a mapping of keys, such as `{start}`"
        raise ConfigError(file, (Problem(1, "", message),))
    return Tree(values, reader.lines, reader.again, tuple(reader.problems))


class _NodeReader:
    """Turns YAML nodes into plain values and remembers the line of every place.

    yaml's own constructor keeps no lines, takes the last of two equal keys in silence, and
    follows aliases without a bound.
    """

    def __init__(self, loader: Loader) -> None:
        self._loader = loader
        self._nodes = 0
        self._first: dict[int, Location] = {}
        self.lines: dict[Location, int] = {}
        self.again: dict[Location, Location] = {}
        self.problems: list[Problem] = []

    def read(self, node: yaml.Node, place: Location, depth: int) -> Json:
        self.lines[place] = node.start_mark.line + 1
        if self._first.setdefault(id(node), place) is not place:
            self.again[place] = self._first[id(node)]
        self._nodes += 1
        if depth > _MAX_DEPTH or self._nodes > _MAX_NODES:
            raise _fault(node, "nested too deeply, or anchors expand to too many values")
        if isinstance(node, yaml.MappingNode):
            return self._merged(node, place, depth)
        if isinstance(node, yaml.SequenceNode):
            return [
                self.read(item, (*place, index), depth + 1) for index, item in enumerate(node.value)
            ]
        return self._scalar(node)

    def _scalar(self, node: yaml.Node) -> Json:
        try:
            value = self._loader.construct_object(node, deep=True)
        except _UNREADABLE as error:
            raise _fault(node, f"{node.value!r} does not match its tag") from error
        if isinstance(value, int) and value.bit_length() > _MAX_BITS:
            raise _fault(node, "number has too many digits; quote it if it is a string")
        return _sound(node, value) if isinstance(value, str) else value

    def _merged(self, node: yaml.MappingNode, place: Location, depth: int) -> dict[str, Json]:
        """A mapping with what ``<<`` brings in; its own keys win, and earlier ones over later."""
        own: dict[str, Json] = {}
        brought: dict[str, Json] = {}
        for key, value in self._members(node, place, depth):
            if key == _MERGE:
                for source in value if isinstance(value, list) else [value]:
                    brought = {**(source if isinstance(source, dict) else {}), **brought}
            else:
                own[key] = value
        return {**brought, **own}

    def _members(
        self, node: yaml.MappingNode, place: Location, depth: int
    ) -> Iterator[tuple[str, Json]]:
        seen: set[str] = set()
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                self.problems.append(
                    Problem(
                        line,
                        path_text(place),
                        "a key must be a string; write it as one word or in quotes",
                    )
                )
                continue
            key = _sound(key_node, key_node.value)
            if key in seen:
                self.problems.append(
                    Problem(line, path_text((*place, key)), "duplicate key; keep one")
                )
                continue
            seen.add(key)
            yield key, self.read(value_node, (*place, key), depth + 1)
            self.lines[*place, key] = line


def _sound(node: yaml.Node, text: str) -> str:
    """The text, if it can be written in UTF-8; an escape may be half a sign."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise _fault(node, "unpaired surrogate escape; write the character itself") from error
    return text


def _fault(node: yaml.Node, problem: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
