"""Reads YAML into plain values, and records the line of each."""

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
    *(AttributeError, TypeError),  # raised by yaml's constructors
)


@dataclass(frozen=True, slots=True)
class Tree:
    """The content of a file as plain values, with the lines of all locations."""

    values: dict[str, Json]
    lines: Mapping[Location, int]
    anchors: Mapping[Location, Location]
    """Locations of aliases (``*name``), each with the location of its anchor."""
    problems: tuple[Problem, ...]
    """Keys that cannot be used; ``values`` does not contain them."""

    def written_at(self, location: Location) -> Location:
        """The location where a value is written: for an alias or ``<<`` that of its anchor."""
        written: Location = ()
        for position, step in enumerate(location):
            below = self._below(written, step)
            if below is None:
                return (*written, *location[position:])
            written = self.anchors.get(below, below)
        return written

    def _below(self, location: Location, step: str | int) -> Location | None:
        if (*location, step) in self.lines:
            return (*location, step)
        merged = (*location, _MERGE)
        if merged not in self.lines:
            return None
        sources = [merged]
        while (*merged, len(sources) - 1) in self.lines:
            sources.append((*merged, len(sources) - 1))
        matches = (self._below(self.anchors.get(source, source), step) for source in sources)
        return next((below for below in matches if below is not None), None)


class Loader(yaml.SafeLoader):
    """Has constructors of its own, because other libraries change those of SafeLoader."""

    yaml_constructors: ClassVar[Any] = {
        **yaml.SafeLoader.yaml_constructors,
        "tag:yaml.org,2002:timestamp": yaml.SafeLoader.construct_yaml_timestamp,
    }


def parse(file: str, content: bytes, start: str = "version: v0.4.0") -> Tree:
    """Reads the mapping in a YAML file. Raises ConfigError if the file does not contain one.

    Duplicate keys are problems of the tree; the first one is kept.
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
    return Tree(values, reader.lines, reader.anchors, tuple(reader.problems))


class _NodeReader:
    """Converts YAML nodes to plain values and records the line of every location.

    The constructor of yaml records no lines, keeps the last of two equal keys without an error,
    and follows aliases without a limit.
    """

    def __init__(self, loader: Loader) -> None:
        self._loader = loader
        self._nodes = 0
        self._first: dict[int, Location] = {}
        self.lines: dict[Location, int] = {}
        self.anchors: dict[Location, Location] = {}
        self.problems: list[Problem] = []

    def read(self, node: yaml.Node, location: Location, depth: int) -> Json:
        self.lines[location] = node.start_mark.line + 1
        if self._first.setdefault(id(node), location) is not location:
            self.anchors[location] = self._first[id(node)]
        self._nodes += 1
        if depth > _MAX_DEPTH or self._nodes > _MAX_NODES:
            raise _fault(node, "nested too deeply, or anchors expand to too many values")
        if isinstance(node, yaml.MappingNode):
            return self._merged(node, location, depth)
        if isinstance(node, yaml.SequenceNode):
            return [
                self.read(item, (*location, index), depth + 1)
                for index, item in enumerate(node.value)
            ]
        return self._scalar(node)

    def _scalar(self, node: yaml.Node) -> Json:
        try:
            value = self._loader.construct_object(node, deep=True)
        except _UNREADABLE as error:
            raise _fault(node, f"{node.value!r} does not match its tag") from error
        if isinstance(value, int) and value.bit_length() > _MAX_BITS:
            raise _fault(node, "number has too many digits; quote it if it is a string")
        return _valid_text(node, value) if isinstance(value, str) else value

    def _merged(self, node: yaml.MappingNode, location: Location, depth: int) -> dict[str, Json]:
        """A mapping with the keys that ``<<`` merges; own keys win, then those of earlier sources."""
        own: dict[str, Json] = {}
        merged: dict[str, Json] = {}
        for key, value in self._members(node, location, depth):
            if key == _MERGE:
                for source in value if isinstance(value, list) else [value]:
                    merged = {**(source if isinstance(source, dict) else {}), **merged}
            else:
                own[key] = value
        return {**merged, **own}

    def _members(
        self, node: yaml.MappingNode, location: Location, depth: int
    ) -> Iterator[tuple[str, Json]]:
        keys: set[str] = set()
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                self.problems.append(
                    Problem(
                        line,
                        path_text(location),
                        "a key must be a string; write it as one word or in quotes",
                    )
                )
                continue
            key = _valid_text(key_node, key_node.value)
            if key in keys:
                self.problems.append(
                    Problem(line, path_text((*location, key)), "duplicate key; keep one")
                )
                continue
            keys.add(key)
            yield key, self.read(value_node, (*location, key), depth + 1)
            self.lines[*location, key] = line


def _valid_text(node: yaml.Node, text: str) -> str:
    """The text; raises an error if UTF-8 cannot encode it, as half of a surrogate pair."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise _fault(node, "unpaired surrogate escape; write the character itself") from error
    return text


def _fault(node: yaml.Node, problem: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
