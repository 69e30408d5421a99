r"""What a routing model that writes freely means.

Models that are held to a schema answer in plain JSON. Others put it into a code fence, take the
wrong quotes, write ``\n`` for the end of a line, explain themselves, or give the bare name. All
that is read; what can't be read is an error, never a guess. Time is linear in the text's length.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from serve_app.domain import Json

_NOTHING: Final = frozenset({"", "other", "none", "null"})
"""How "no route fits" is written where a name could stand."""

_TRIES: Final = 16
"""Places of a text at which its answer may begin; more of them are noise."""

_DEPTH: Final = 4
"""Lists and objects around a name; what lies deeper is no answer."""

_AROUND: Final = " \t\r\n\"'`*."
"""What may stand around a bare name."""

_GAP = r"(?:\s|\\[nrt])*+"
_KEY = re.compile(rf"""(?<![\w-])routes?["'\\]{{0,2}}{_GAP}:{_GAP}""", re.IGNORECASE)
_BETWEEN = re.compile(rf"(?:{_GAP},)*+{_GAP}")
_DOUBLE = re.compile(r'"([^"\\]*+(?:\\.[^"\\]*+)*+)"', re.DOTALL)
_SINGLE = re.compile(  # ends where something may follow, since names hold apostrophes
    rf"'((?:[^'\\]|\\.|'(?!{_GAP}(?:[,\]}}]|\Z)))*+)'", re.DOTALL
)
_SINGLE_IN_TEXT = re.compile(r"'([^'\n]*+)'")
_BARE = re.compile(r"""[^\[\]{},"\n\\]++""")
_FENCE = re.compile(r"\A```[\w-]*+(?=\s|\\n)")
_EMPTY_OBJECT = re.compile(rf"\{{{_GAP}\}}")


class UnreadableAnswerError(Exception):
    """A text in which there is no answer."""

    def __init__(self, characters: int) -> None:
        super().__init__(characters)
        self.characters = characters

    def __str__(self) -> str:
        return f"no route could be read from the {self.characters} characters of its answer"


@dataclass(frozen=True, slots=True)
class _Said:
    """What stands where an answer could be."""

    words: tuple[str, ...]
    complete: bool
    """It is an answer from beginning to end, whatever its words."""


def read_answer(text: str, names: Sequence[str]) -> tuple[str, ...]:
    """The routes that an answer names, in its order, each once; empty where none fits.

    Words that name no route of ``names`` are dropped. An exact name comes before one that
    differs in case; a route that is called "other" or "none" comes before what that word means
    otherwise. An empty text names no route.
    Raises UnreadableAnswerError when there is no answer in the text.
    """
    if not text.strip():
        return ()
    exact = frozenset(names)
    folded = {name.casefold(): name for name in reversed(names)}
    unknown = False
    for said in _readings(text):
        found = [_route(word, exact, folded) for word in said.words]
        routes = tuple(dict.fromkeys(name for name in found if name is not None))
        if routes and (said.complete or not unknown):
            return routes
        if (said.words or said.complete) and all(_is_none(word) for word in said.words):
            return ()
        unknown = unknown or said.complete
    if unknown:
        return ()
    raise UnreadableAnswerError(len(text))


def _route(word: str, exact: frozenset[str], folded: dict[str, str]) -> str | None:
    forms = (word, word.strip(), word.strip(_AROUND))
    for form in forms:
        if form in exact:
            return form
    if forms[1] in _NOTHING:
        return None
    return next((folded[form] for form in map(str.casefold, forms) if form in folded), None)


def _is_none(word: str) -> bool:
    bare = word.strip(_AROUND).casefold()
    return bare in _NOTHING if bare else not word.strip()


def _readings(text: str) -> Iterator[_Said]:
    """All that could be the answer, the surest first."""
    yield from _as_json(text)
    thought_over = text.rpartition("</think>")[2].partition("<think>")[0].strip()
    if thought_over != text:
        text = thought_over
        yield from _as_json(text)
    texts = [text, text.replace('\\"', '"')] if '\\"' in text else [text]
    for form in texts:
        for tried, key in enumerate(_KEY.finditer(form)):
            if tried == _TRIES:
                break
            yield _value(form, key.end())
    yield from _bare(text)


def _as_json(text: str) -> Iterator[_Said]:
    value = _json(text)
    if isinstance(value, str):  # JSON within JSON, or a name in quotes
        yield _Said((value,), complete=False)
        value = _json(value)
    if isinstance(value, dict) and not value:
        yield _Said((), complete=True)
    if isinstance(value, dict):
        value = next(([value[key]] for key in ("route", "routes") if key in value), None)
    if isinstance(value, list):
        yield _Said(tuple(_names(value)), complete=True)


def _names(value: Json, deeper: int = _DEPTH) -> Iterator[str]:
    """The names in a value: a text, a number, a list of values, or an object about a route."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield str(value)
    elif isinstance(value, list) and deeper:
        for item in value:
            yield from _names(item, deeper - 1)
    elif isinstance(value, dict) and deeper:
        named = next((value[key] for key in ("route", "name") if key in value), None)
        yield from _names(named, deeper - 1)


def _json(text: str) -> Json:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _value(text: str, at: int) -> _Said:
    """What stands behind the key."""
    if text.startswith("[", at):
        return _list(text, at + 1)
    quoted = _DOUBLE.match(text, at) or _SINGLE.match(text, at) or _SINGLE_IN_TEXT.match(text, at)
    if quoted is not None:
        return _Said((_unescaped(quoted[1]),), complete=True)
    bare = _BARE.match(text, at)
    return _Said((bare[0],) if bare else (), complete=False)


def _list(text: str, at: int) -> _Said:
    words: list[str] = []
    while True:
        between = _BETWEEN.match(text, at)
        at = at if between is None else between.end()
        if text.startswith("]", at):
            return _Said(tuple(words), complete=True)
        quoted = _DOUBLE.match(text, at) or _SINGLE.match(text, at)
        item = quoted or _BARE.match(text, at)
        if item is None:
            return _Said(tuple(words), complete=False)
        words.append(item[0] if quoted is None else _unescaped(quoted[1]))
        at = item.end()


def _unescaped(inner: str) -> str:
    """The text of a string as JSON means it, or as it stands."""
    if "\\" not in inner:
        return inner
    try:
        value: str = json.loads(f'"{inner}"', strict=False)
    except ValueError:
        return inner.replace("\\'", "'")
    return value


def _bare(text: str) -> Iterator[_Said]:
    """Without any key: nothing but the name, or the name on a line of its own before the rest."""
    yield _Said((text,) if text else (), complete=False)
    text = _FENCE.sub("", text).replace("\\n", "\n").strip()
    if _EMPTY_OBJECT.match(text):
        yield _Said((), complete=True)
    if text.startswith("["):
        yield _list(text, 1)
    for word in filter(None, (text, text.partition("\n")[0])):
        yield _Said((word,), complete=False)
