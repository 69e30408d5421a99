"""Adds and replaces client keys in the text of a configuration, and leaves the rest as it is.

The places come from the events of the YAML parser. The result is read again: it must hold the old
content with the one change, or the text is not used.
"""

import json
from collections.abc import Callable, Mapping
from typing import Final

import yaml

from serve_app.config.locations import ConfigError, Problem
from serve_app.config.yaml_spots import ListSpot, MappingSpot, OtherSpot, root_spot
from serve_app.config.yaml_tree import parse
from serve_app.domain import Json

_KEYS: Final = "client_keys"
_WIDE: Final = 1 << 20


class CannotEditKeysError(ConfigError):
    """Raised for a configuration whose client keys have to be changed by hand."""


def add_key(text: str, file: str, entry: Mapping[str, Json]) -> str:
    """The text with one more client key. Raises ConfigError."""
    root = root_spot(text)
    keys = root.below(_KEYS)
    if isinstance(keys, ListSpot) and keys.flow:
        comma = ", " if keys.items else ""
        at = keys.items[-1].end if keys.items else keys.end - 1
        changed = f"{text[:at]}{comma}{_flow(entry)}{text[at:]}"
    elif isinstance(keys, ListSpot):
        column = _column_of_line(text, keys.items[0].start)
        at = _next_line(text, keys.last.end)
        before = text[:at] if text[:at].endswith("\n") else f"{text[:at]}\n"
        changed = before + _block(entry, column) + text[at:]
    elif isinstance(root, MappingSpot) and not root.flow and _KEYS not in root:
        before = text if text.endswith("\n") else f"{text}\n"
        changed = f"{before}\n{_KEYS}:\n{_block(entry, 2)}"
    else:
        raise _refusal(file)

    def expected(values: Json) -> None:
        values.setdefault(_KEYS, []).append(dict(entry))

    return _checked(text, changed, file, expected)


def replace_key(
    text: str, file: str, index: int, key: str, previous: Mapping[str, Json] | None
) -> str:
    """The text with a new key in an entry of ``client_keys``, and with the previous one.

    ``previous`` None: no key was valid before, or the old one expires at once. Raises ConfigError.
    """
    entry = root_spot(text).below(_KEYS).below(index)
    if not isinstance(entry, MappingSpot):
        raise _refusal(file)
    own, old = entry.below("key"), entry.below("previous")
    if not isinstance(own, OtherSpot) or own.value is None or own.in_block:
        raise _refusal(file)
    edits = [(own.start, own.end, key)]
    if previous is not None and "previous" in entry:
        if not isinstance(old, MappingSpot):
            raise _refusal(file)
        end = old.end if old.flow else old.last.end
        start = old.start
        edits.append((start, end, _flow(previous)))
    elif previous is not None and entry.flow:
        edits.append((own.end, own.end, f", previous: {_flow(previous)}"))
    elif previous is not None:
        at = _next_line(text, own.end)
        line = f"{' ' * entry.items[0][0].column}previous: {_flow(previous)}\n"
        edits.append((at, at, line if text[:at].endswith("\n") else f"\n{line}"))
    changed = text
    for start, end, new in sorted(edits, reverse=True):
        changed = changed[:start] + new + changed[end:]

    def expected(values: Json) -> None:
        values[_KEYS][index]["key"] = key
        if previous is not None:
            values[_KEYS][index]["previous"] = dict(previous)

    return _checked(text, changed, file, expected)


def fragment(entry: Mapping[str, Json]) -> str:
    """An entry as YAML to be pasted below ``client_keys:``."""
    return _block(entry, 2)


def _checked(text: str, changed: str, file: str, expected: Callable[[Json], None]) -> str:
    values = _values(file, text)
    expected(values)
    try:
        is_expected = _values(file, changed) == values
    except ConfigError:
        is_expected = False
    if not is_expected:
        raise _refusal(file)
    return changed


def _values(file: str, text: str) -> Json:
    return json.loads(json.dumps(parse(file, text.encode()).values, default=repr))


def _refusal(file: str) -> CannotEditKeysError:
    message = (
        "can't be changed without a change of other values; write out what anchors, aliases and << "
        "provide, or change the file by hand"
    )
    return CannotEditKeysError(file, (Problem(0, _KEYS, message),))


def _block(entry: Mapping[str, Json], column: int) -> str:
    """An entry as lines of a block list whose dashes are in this column."""
    lines = []
    for name, value in entry.items():
        shown = _flow(value) if isinstance(value, dict | list) else _scalar(value)
        lines.append(f"{' ' * (column + 2)}{name}: {shown}\n")
    return f"{' ' * column}- {lines[0].lstrip()}{''.join(lines[1:])}"


def _flow(value: Json) -> str:
    """A mapping or a list on one line."""
    dumped: str = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=_WIDE)
    return dumped.strip()


def _scalar(value: Json) -> str:
    return _flow([value])[1:-1]


def _column_of_line(text: str, position: int) -> int:
    """The indentation of the line that contains a position."""
    line = text[text.rfind("\n", 0, position) + 1 : position]
    return len(line) - len(line.lstrip(" "))


def _next_line(text: str, position: int) -> int:
    """The start of the first line after a position, or the position if it starts a line."""
    if position and text[position - 1] == "\n":
        return position
    end = text.find("\n", position)
    return len(text) if end < 0 else end + 1
