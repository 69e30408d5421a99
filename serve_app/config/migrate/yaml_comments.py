"""Rewrites a YAML text and keeps its comments, with the library ruamel.yaml.

ruamel attaches a comment to the item before it. So the comment lines after a part that is removed
have to be attached to the part before that.
"""

import io
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, TypeAlias

import yaml as pyyaml
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import CommentMark, YAMLError
from ruamel.yaml.tokens import CommentToken
from ruamel.yaml.util import load_yaml_guess_indent

from serve_app.config.schema.gateway import NEWEST
from serve_app.config.upgrade import Upgraded
from serve_app.domain import Json

Collection: TypeAlias = CommentedMap | CommentedSeq

_ROUTES: Final = "routing_preferences"
_WIDE: Final = 1 << 20
_AFTER: Final = {CommentedMap: 2, CommentedSeq: 0}
"""The index of the comment that follows an item."""


class RewriteError(Exception):
    """Raised for a text that cannot be rewritten part by part."""


def rewritten(text: str, values: Mapping[str, Json], form: Upgraded) -> str:
    """Rewrites a text with the content ``values`` to that of ``form``. Raises RewriteError."""
    try:
        writer, document = _read(text)
        change = _Change(text, document, values, form)
        change.listeners()
        change.routes()
        change.names()
        out = io.StringIO()
        writer.dump(document, out)
    except (YAMLError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise RewriteError from error
    return out.getvalue()


def _read(text: str) -> tuple[YAML, CommentedMap]:
    _, step, offset = load_yaml_guess_indent(text)
    writer = YAML()
    writer.preserve_quotes = True
    writer.width = _WIDE
    writer.explicit_start = any(
        isinstance(event, pyyaml.DocumentStartEvent) and event.explicit
        for event in pyyaml.parse(text, pyyaml.SafeLoader)
    )
    writer.indent(mapping=_mapping_indent(text), sequence=step or 4, offset=offset or 0)
    return writer, writer.load(text)


def _mapping_indent(text: str) -> int:
    """The indentation of the first mapping inside another one."""
    for node in _below(pyyaml.compose(text, pyyaml.SafeLoader)):
        for _, value in node.value:
            if isinstance(value, pyyaml.MappingNode) and not value.flow_style:
                return max(value.start_mark.column - node.start_mark.column, 1)
    return 2


def _below(node: pyyaml.Node | None) -> Iterator[pyyaml.MappingNode]:
    if isinstance(node, pyyaml.MappingNode):
        yield node
        for _, value in node.value:
            yield from _below(value)
    elif isinstance(node, pyyaml.SequenceNode):
        for value in node.value:
            yield from _below(value)


class _Change:
    def __init__(
        self, text: str, document: CommentedMap, values: Mapping[str, Json], form: Upgraded
    ) -> None:
        self._lines = text.removesuffix("\n").split("\n")
        self._root = pyyaml.compose(text, pyyaml.SafeLoader)
        self._document = document
        self._values = values
        self._form = form
        self._models = "llm_providers" if "llm_providers" in values else "model_providers"

    def names(self) -> None:
        """Updates the version, and the name of the list of models."""
        if "version" not in self._values:
            self._document.insert(0, "version", NEWEST)
        elif self._values["version"] != self._form.values.get("version"):
            self._document["version"] = NEWEST
        if self._models == "llm_providers":
            _rename(self._document, self._models, "model_providers")

    def listeners(self) -> None:
        """Converts the mapping of listeners to a list."""
        mapping = self._document.get("listeners")
        if not isinstance(mapping, CommentedMap):
            return
        listed = CommentedSeq()
        listed.ca.comment = mapping.ca.comment
        for listener in self._form.values["listeners"]:
            name = listener["name"]
            section = mapping[name]
            followed = mapping.ca.items.get(name) or [None, None, None, None]
            for key in list(section)[:1]:
                section.ca.items.setdefault(key, [None, None, None, None])[1] = followed[3]
            section.insert(0, "type", listener["type"])
            section.insert(1, "name", name)
            section.ca.comment = None
            listed.append(section)
            before = list(followed[1] or [])
            if section.fa.flow_style():
                before += _before(_split(followed[2]))
            else:
                section.ca.items["type"] = [None, None, followed[2], None]
            if before:
                listed.ca.items[len(listed) - 1] = [None, before, None, None]
            if "message_format" in section:
                location = ("listeners", name, "message_format")
                inside = self._take_out(section, "message_format", location)
                _give_rest(section, "name", _as_lines(remark for _, remark in inside))
        self._document["listeners"] = listed

    def routes(self) -> None:
        """Moves the routes from under models to the top level."""
        lifted = self._lifted()
        remarks: dict[str, list[str]] = {name: [] for name in lifted}
        for index, entry in enumerate(self._values.get(self._models) or []):
            after = self._form.values["model_providers"][index]
            if isinstance(entry, dict) and _ROUTES in entry and _ROUTES not in after:
                self._take_routes(index, [item.get("name") for item in entry[_ROUTES]], remarks)
        if not lifted:
            return
        routes = self._document.get(_ROUTES)
        rest = ""
        if routes is None:
            routes = self._document[_ROUTES] = CommentedSeq()
            if self._lines[-1].strip():
                self._document.ca.items[_ROUTES] = [None, [_remark("\n")], None, None]
        else:
            routes.fa.set_block_style()
            rest = _take_rest(self._document, _ROUTES)
        for name, route in lifted.items():
            routes.append(route)
            if remarks[name]:
                before = _before(remarks[name])
                routes.ca.items[len(routes) - 1] = [None, before, None, None]
        _give_rest(self._document, _ROUTES, rest)

    def _lifted(self) -> dict[str, CommentedMap]:
        """The routes to write at the top level; names and descriptions keep their style."""
        lifted = {}
        start = len(self._values.get(_ROUTES) or [])
        for position, route in enumerate(self._form.values.get(_ROUTES, [])[start:], start):
            _, index, _, step = self._form.origins[_ROUTES, position]
            item = self._document[self._models][index][_ROUTES][step]
            written = CommentedMap(name=item["name"], description=item.get("description", ""))
            written["models"] = CommentedSeq(route["models"])
            lifted[route["name"]] = written
        return lifted

    def _take_routes(
        self, index: int, names: list[str | None], remarks: Mapping[str, list[str]]
    ) -> None:
        """Removes the routes from an entry, and adds the comments on each of them to ``remarks``."""
        location = (self._models, index, _ROUTES)
        node = self._node(location)
        if node is None:
            return  # merged by <<, and removed with its source
        ends = [_last_line(item) for item in node.value] if _is_list(node) else []
        starts = [item.start_mark.line for item in node.value] if _is_list(node) else []
        kept = []
        for line, remark in self._take_out(self._document[self._models][index], _ROUTES, location):
            if self._lines[line].lstrip().startswith("#"):
                own = next((step for step, end in enumerate(ends) if end > line), None)
            else:
                own = max((step for step, start in enumerate(starts) if start <= line), default=0)
            name = names[own] if own is not None and own < len(names) else None
            if name is not None and name in remarks:
                remarks[name].append(remark)
            else:
                kept.append(remark)
        _give_rest(self._document[self._models], index, _as_lines(kept))

    def _take_out(
        self, mapping: CommentedMap, key: str, location: tuple[str, str | int, str]
    ) -> list[tuple[int, str]]:
        """Removes a key; returns the comments inside by their lines. Later comments stay."""
        node = self._node(location)
        if node is None:
            raise RewriteError
        end = _last_line(node)
        inside = dict(_remarks_at(mapping, key))
        rest = []
        if any(line > end for line in inside):
            for line in self._lines[end + 1 :]:
                if line.strip() and not line.lstrip().startswith("#"):
                    break
                rest.append(f"{line}\n")
        keys = list(mapping)
        position = keys.index(key)
        del mapping[key]
        mapping.ca.items.pop(key, None)
        if position:
            _give_rest(mapping, keys[position - 1], "".join(rest))
        else:
            _put_before(self._document[location[0]], location[1], rest)
        return [(line, text) for line, text in sorted(inside.items()) if text and line <= end]

    def _node(self, location: Iterable[str | int]) -> pyyaml.Node | None:
        """The node at a location; None if nothing is written there."""
        node = self._root
        for step in location:
            if node is None or isinstance(step, int):
                node = node and node.value[step]
            else:
                node = next((value for key, value in node.value if key.value == step), None)
        return node


def _is_list(node: pyyaml.Node) -> bool:
    return isinstance(node, pyyaml.SequenceNode)


def _last_line(node: pyyaml.Node) -> int:
    """The last line of a node."""
    if isinstance(node, pyyaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _last_line(last[1] if isinstance(last, tuple) else last)
    return int(node.end_mark.line) - (node.end_mark.column == 0)


def _before(remarks: Iterable[str]) -> list[CommentToken]:
    return [_remark(f"{remark}\n", 2) for remark in remarks]


def _split(token: CommentToken | None) -> list[str]:
    lines = [] if token is None else str(token.value).split("\n")
    return [line.strip() for line in lines if line.strip()]


def _as_lines(remarks: Iterable[str]) -> str:
    return "".join(f"    {remark}\n" for remark in remarks)


def _rename(mapping: CommentedMap, old: str, new: str) -> None:
    position = list(mapping).index(old)
    value, slots = mapping[old], mapping.ca.items.pop(old, None)
    del mapping[old]
    mapping.insert(position, new, value)
    if slots:
        mapping.ca.items[new] = slots


def _remark(text: str, column: int = 0) -> CommentToken:
    return CommentToken(text, CommentMark(column), None)


def _remarks_at(parent: Collection, key: str | int) -> Iterator[tuple[int, str]]:
    """The comments that ruamel attaches to an item and inside it by line, with blank lines."""
    for token in _tokens(parent.ca.items.get(key), parent[key]):
        parts = str(token.value).removesuffix("\n").split("\n")
        first = next((index for index, part in enumerate(parts) if part.strip()), 0)
        for index, part in enumerate(parts):
            yield token.start_mark.line - first + index, part.strip()


def _tokens(slots: Any, value: Any) -> Iterator[CommentToken]:  # noqa: ANN401 - ruamel's own
    if isinstance(slots, CommentToken):
        yield slots
    elif isinstance(slots, list):
        for slot in slots:
            yield from _tokens(slot, None)
    if isinstance(value, CommentedMap | CommentedSeq):
        yield from _tokens([value.ca.comment, value.ca.end], None)
        for key in value if isinstance(value, CommentedMap) else range(len(value)):
            yield from _tokens(value.ca.items.get(key), value[key])


def _tail(parent: Collection, key: str | int) -> tuple[Collection, Any]:
    """The last item at or inside a location; later comments are attached to it."""
    value = parent[key]
    while isinstance(value, CommentedMap | CommentedSeq) and value and not value.fa.flow_style():
        parent = value
        key = next(reversed(value)) if isinstance(value, CommentedMap) else len(value) - 1
        value = parent[key]
    return parent, key


def _give_rest(parent: Collection, key: str | int, rest: str) -> None:
    """Puts comment lines behind a part, after those that are there."""
    if not rest:
        return
    parent, key = _tail(parent, key)
    slots = parent.ca.items.setdefault(key, [None, None, None, None])
    after = _AFTER[type(parent)]
    old = slots[after]
    token = CommentToken(
        f"{old.value if old else chr(10)}{rest}", old.start_mark if old else CommentMark(0), None
    )
    slots[after] = token
    if isinstance(parent[key], CommentedMap | CommentedSeq):
        parent[key].ca.comment = [token, None]


def _put_before(parent: Collection, key: str | int, rest: Iterable[str]) -> None:
    before = _before(line.strip() for line in rest if line.strip())
    if before:
        slots = parent.ca.items.setdefault(key, [None, None, None, None])
        slots[1] = [*(slots[1] or []), *before]


def _take_rest(parent: Collection, key: str | int) -> str:
    """Removes and returns the comment lines after a part, except one on its last line."""
    parent, key = _tail(parent, key)
    slots = parent.ca.items.get(key)
    token = slots[_AFTER[type(parent)]] if slots else None
    if token is None:
        return ""
    first, _, rest = str(token.value).partition("\n")
    slots[_AFTER[type(parent)]] = CommentToken(f"{first}\n", token.start_mark, None)
    return rest
