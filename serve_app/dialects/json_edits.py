"""Byte-exact edits of a JSON body: read once at top level, changed by spans, the rest untouched.

The body is one JSON object (RFC 8259). Every byte outside an edited span stays as the client
sent it: spacing, key order, escapes, number forms.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from json.decoder import scanstring  # type: ignore[attr-defined]  # C speed, strings only
from typing import Final, NamedTuple, NoReturn, TypeAlias

from serve_app.dialects.json_values import read_json
from serve_app.domain import Json
from serve_app.errors import DuplicateKey, InvalidJson, NestingTooDeep

_PACKED: Final = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd")
"""How gzip and Zstandard begin."""

_SPACE = re.compile(r"[ \t\n\r]*")
_COLON = re.compile(r"[ \t\n\r]*:[ \t\n\r]*")
_AFTER_VALUE = re.compile(r"[ \t\n\r]*([,}])[ \t\n\r]*")

Edit: TypeAlias = tuple[int, int, str]
"""Replace the characters from start to end by a text."""


def _no_constant(name: str) -> NoReturn:
    message = f"{name} is not JSON"
    raise ValueError(message)


_SCAN: Final[Callable[[str, int], tuple[Json, int]]] = json.JSONDecoder(
    parse_constant=_no_constant
).scan_once  # type: ignore[attr-defined]  # C speed; not documented
"""Reads one value at an offset; ``raw_decode`` is a call around this one."""
_MAX_DIGITS = 4300


class Member(NamedTuple):
    """One ``key: value`` of an object: where the key starts, where the value lies, what it is.

    Offsets count characters of the text.
    """

    key_start: int
    value_start: int
    value_end: int
    value: Json


@dataclass(frozen=True, slots=True)
class Document:
    """A JSON object with the spans of its members. ``text`` encodes back to the same bytes."""

    text: str
    order: tuple[tuple[str, Member], ...]
    """Every member in order, repeated keys included."""
    members: Mapping[str, Member]
    opened: int
    """Offset just behind the opening brace."""
    size: int
    """Length of ``text`` in UTF-8, bytes."""

    def get(self, key: str, default: Json = None) -> Json:
        """The value of a top-level key."""
        member = self.members.get(key)
        return default if member is None else member.value


def read_document(body: bytes, *, unique: frozenset[str]) -> Document:
    """Reads a body.

    Keys in ``unique`` may occur once; of other keys the last one counts, as in most parsers. A key that differs from one in ``unique`` only by case is refused too, because
    providers whose parser ignores case would read it as that key.

    Raises InvalidJson, DuplicateKey or NestingTooDeep.
    """
    if not body or body.isspace():
        raise InvalidJson("the request body is empty; send a JSON object")
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        why = f"is not valid UTF-8 at byte {error.start}; encode it as UTF-8"
        if body.startswith(_PACKED):
            why = "is compressed; send it uncompressed, without content-encoding"
        raise InvalidJson(f"the body {why}") from error
    start = _skip(text, 0)
    if text[start] != "{":
        mark = ", without a byte order mark" if text[start] == "\ufeff" else ""
        raise InvalidJson(f"the body must be a JSON object, written {{...}}{mark}")
    try:
        order, end = _walk(text, start, unique)
    except RecursionError:
        raise NestingTooDeep from None
    except json.JSONDecodeError as error:
        raise _invalid(text, error.pos, error.msg) from error
    if _skip(text, end) != len(text):
        raise _invalid(text, end, "extra data follows the object")
    return Document(text, tuple(order), dict(order), start + 1, len(body))


def read_object(data: bytes) -> dict[str, Json] | None:
    """The JSON object in these bytes; None if they hold anything else."""
    try:
        value = read_json(data) if data.startswith(b"{") else json.loads(data)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _walk(text: str, start: int, unique: frozenset[str]) -> tuple[list[tuple[str, Member]], int]:
    """Members of the object that opens at ``start``, and the offset behind its end."""
    order: list[tuple[str, Member]] = []
    seen: set[str] = set()
    position = _skip(text, start + 1)
    if text[position : position + 1] == "}":
        return order, position + 1
    while True:
        if text[position : position + 1] != '"':
            raise json.JSONDecodeError("expected a key in double quotes", text, position)
        key, after_key = scanstring(text, position + 1, True)  # noqa: FBT003 - a C function
        colon = _COLON.match(text, after_key)
        if colon is None:
            raise json.JSONDecodeError("expected ':'", text, _skip(text, after_key))
        value_start = colon.end()
        value, value_end = _value(text, value_start)
        if key in unique:
            if key in seen:
                raise DuplicateKey(key)
            seen.add(key)
        elif (folded := key.casefold()) in unique:
            raise DuplicateKey(folded)
        order.append((key, Member(position, value_start, value_end, value)))
        mark = _AFTER_VALUE.match(text, value_end)
        if mark is None:
            raise json.JSONDecodeError("expected ',' or '}'", text, _skip(text, value_end))
        if mark[1] == "}":
            return order, mark.end(1)
        position = mark.end()


def _value(text: str, start: int) -> tuple[Json, int]:
    try:
        return _SCAN(text, start)
    except StopIteration as error:
        raise json.JSONDecodeError("Expecting value", text, error.value) from None
    except json.JSONDecodeError:
        raise
    except ValueError as error:
        name = str(error)
        message = name if name.endswith("is not JSON") else f"a number over {_MAX_DIGITS} digits"
        raise json.JSONDecodeError(message, text, start) from error


def _skip(text: str, position: int) -> int:
    return _SPACE.match(text, position).end()  # type: ignore[union-attr]  # matches ""


def _invalid(text: str, position: int, message: str) -> InvalidJson:
    line = text.count("\n", 0, position) + 1
    column = position - text.rfind("\n", 0, position)
    if not message.startswith("NaN"):
        message = message[0].lower() + message[1:]
    return InvalidJson(f"the body is not valid JSON at line {line}, column {column}: {message}")


@dataclass(frozen=True, slots=True)
class Quirk:
    """What has to change at the top level of a body so that a model takes it.

    A key is in one of the five alone. Of a key that occurs more than once the last one counts.
    """

    drop: frozenset[str] = frozenset()
    rename: Mapping[str, str] = field(default_factory=dict)
    """New names of keys; one whose new name is there already goes."""
    values: Mapping[str, Mapping[str | float, str | float]] = field(default_factory=dict)
    """By key, the values that a model takes, and what it calls them; with others the key goes."""
    add: Mapping[str, str] = field(default_factory=dict)
    """Strings for keys that a body does not have."""
    put: Mapping[str, Json] = field(default_factory=dict)
    """Values of keys, in place of those that a body has."""

    def putting(self, values: Mapping[str, Json]) -> "Quirk":
        """The quirk with more values to put, as far as the model takes them."""
        fit: dict[str, Json] = {}
        for key, value in values.items():
            taken = self.values.get(key)
            new = taken.get(value) if taken is not None and isinstance(value, str) else value
            if key not in self.drop and new is not None:
                fit[key] = new
        if not fit:
            return self
        kept = {key: taken for key, taken in self.values.items() if key not in fit}
        return replace(self, values=kept, put={**self.put, **fit})


NO_QUIRK: Final = Quirk()


def rewrite_document(
    document: Document,
    *,
    model: str,
    cut: frozenset[str],
    cut_metadata: frozenset[str] = frozenset(),
    quirk: Quirk = NO_QUIRK,
) -> bytes:
    """The body for a provider: ``model`` set, the keys in ``cut`` removed, all else unchanged.

    ``cut_metadata`` names keys inside ``metadata`` that are removed too. A ``quirk`` changes the
    keys that it names, and no byte of a body without them; what it adds comes first.
    """
    name = json.dumps(model, ensure_ascii=not _encodes(model))
    edits: list[Edit] = []
    added = ""
    if quirk is not NO_QUIRK:
        gone, edits = _quirk_edits(document, quirk)
        cut |= gone
        added = _additions(document, quirk)
    edits += _cuts(document.order, cut)
    if "metadata" not in cut:
        edits += _metadata_cuts(document, cut_metadata)
    present = document.members.get("model")
    if present is not None:
        edits.append((present.value_start, present.value_end, name))
    else:
        others = any(key not in cut for key, _ in document.order)
        added += f'"model": {name}{", " if others else ""}'
    if added:
        edits.append((document.opened, document.opened, added))
    return _apply(document.text, edits).encode("utf-8")


def edit_document(
    document: Document, *, values: Mapping[str, Json], cut: frozenset[str] = frozenset()
) -> Document:
    """The document with other values of these keys, without the keys in ``cut``.

    All else is unchanged. A key of ``values`` that occurs more than once is set everywhere.
    """
    edits = _cuts(document.order, cut)
    others = any(key not in cut for key, _ in document.order)
    for key, value in values.items():
        text = json.dumps(value)
        places = [member for name, member in document.order if name == key]
        edits += [(member.value_start, member.value_end, text) for member in places]
        if not places:
            insertion = f"{json.dumps(key)}: {text}{', ' if others else ''}"
            edits.append((document.opened, document.opened, insertion))
            others = True
    edited = _apply(document.text, edits)
    return read_document(edited.encode("utf-8"), unique=frozenset())


def apply_quirk(body: dict[str, Json], quirk: Quirk) -> dict[str, Json]:
    """As ``rewrite_document`` changes a body by a quirk, for one that the gateway wrote itself."""
    if quirk is NO_QUIRK:
        return body
    changed: dict[str, Json] = {}
    for key, value in body.items():
        name = quirk.rename.get(key, key)
        if key in quirk.drop or (name != key and name in body):
            continue
        taken = quirk.values.get(key)
        if taken is None:
            changed[name] = value
        elif isinstance(value, str | int | float) and not isinstance(value, bool):
            new = taken.get(value)
            if new is not None:
                changed[name] = new
    return {**quirk.add, **changed, **quirk.put}


def _quirk_edits(document: Document, quirk: Quirk) -> tuple[set[str], list[Edit]]:
    """The keys that a quirk takes out of a document, and its other edits."""
    members = document.members
    gone = {key for key in quirk.drop if key in members}
    edits: list[Edit] = []
    for key, new_name in quirk.rename.items():
        if new_name in members:
            gone.add(key)
        elif key in members:
            edits += _renamed(document, key, new_name)
    for key, taken in quirk.values.items():
        member = members.get(key)
        if member is None:
            continue
        value = member.value
        new = taken.get(value) if isinstance(value, str | int | float) else None
        if new is None or isinstance(value, bool):  # true is not 1
            gone.add(key)
        elif new != value:
            edits.append((member.value_start, member.value_end, json.dumps(new)))
    for key, value in quirk.put.items():
        member = members.get(key)
        if member is not None:
            edits.append((member.value_start, member.value_end, json.dumps(value)))
    return gone, edits


def _additions(document: Document, quirk: Quirk) -> str:
    """The members that a quirk adds to a document, each with a comma: the model always follows."""
    return "".join(
        f"{json.dumps(key)}: {json.dumps(value)}, "
        for key, value in (*quirk.add.items(), *quirk.put.items())
        if key not in document.members
    )


def _renamed(document: Document, key: str, new_name: str) -> list[Edit]:
    """Edits that rename a key at every occurrence, however it is escaped."""
    text = document.text
    return [
        (member.key_start, scanstring(text, member.key_start + 1, True)[1], json.dumps(new_name))  # noqa: FBT003 - a C function
        for name, member in document.order
        if name == key
    ]


def _encodes(text: str) -> bool:
    """False for a text with half a surrogate pair, which JSON can escape and UTF-8 can't hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _metadata_cuts(document: Document, keys: frozenset[str]) -> list[Edit]:
    member = document.members.get("metadata")
    if member is None or not isinstance(member.value, dict):
        return []
    if keys.isdisjoint(member.value):
        return []
    inner, _ = _walk(document.text, member.value_start, frozenset())
    return _cuts(inner, keys)


def _cuts(order: Sequence[tuple[str, Member]], keys: frozenset[str]) -> list[Edit]:
    """Spans that take these members out, each with one comma, so that the object stays valid."""
    edits: list[Edit] = []
    kept_before = False
    for position, (key, member) in enumerate(order):
        if key not in keys:
            kept_before = True
        elif kept_before:  # from the end of the member before, with the comma between
            edits.append((order[position - 1][1].value_end, member.value_end, ""))
        elif position + 1 < len(order):  # up to the next key
            edits.append((member.key_start, order[position + 1][1].key_start, ""))
        else:
            edits.append((member.key_start, member.value_end, ""))
    return edits


def _apply(text: str, edits: list[Edit]) -> str:
    parts: list[str] = []
    at = 0
    for start, end, replacement in sorted(edits):
        parts += [text[at:start], replacement]
        at = end
    parts.append(text[at:])
    return "".join(parts)
