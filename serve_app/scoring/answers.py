r"""Reads the routes in an answer that a model generated without constraints.

Models with an enforced schema answer in plain JSON. Others put it into a code fence, use the wrong
quotes, write ``\n`` for the end of a line, explain themselves, or return the bare name. All these
forms are read; any other one is an error, never a guess. Time is linear in the length of the text.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from serve_app.domain import Json

_NO_ROUTE_WORDS: Final = frozenset({"", "other", "none", "null"})
"""Words in place of a name that mean that no route fits."""

_MAX_KEYS: Final = 16
"""Number of keys in a text after which its answer is looked for."""

_MAX_DEPTH: Final = 4
"""Number of lists and objects around a name; deeper names are ignored."""

_PADDING: Final = " \t\r\n\"'`*."
"""Characters that are allowed around a bare name."""

_GAP = r"(?:\s|\\[nrt])*+"
_KEY = re.compile(rf"""(?<![\w-])routes?["'\\]{{0,2}}{_GAP}:{_GAP}""", re.IGNORECASE)
_BETWEEN = re.compile(rf"(?:{_GAP},)*+{_GAP}")
_DOUBLE = re.compile(r'"([^"\\]*+(?:\\.[^"\\]*+)*+)"', re.DOTALL)
_SINGLE = re.compile(  # ends only before a separator, since names contain apostrophes
    rf"'((?:[^'\\]|\\.|'(?!{_GAP}(?:[,\]}}]|\Z)))*+)'", re.DOTALL
)
_SINGLE_IN_TEXT = re.compile(r"'([^'\n]*+)'")
_BARE = re.compile(r"""[^\[\]{},"\n\\]++""")
_FENCE = re.compile(r"\A```[\w-]*+(?=\s|\\n)")
_AROUND: Final = " \t\r\n`*#>-"
"""Characters of Markdown around a line."""

_DECODER = json.JSONDecoder()
_EMPTY_OBJECT = re.compile(rf"\{{{_GAP}\}}")


class UnreadableAnswerError(Exception):
    """A text without an answer."""

    def __init__(self, characters: int) -> None:
        super().__init__(characters)
        self.characters = characters

    def __str__(self) -> str:
        return f"found no route in its {self.characters} characters"


@dataclass(frozen=True, slots=True)
class _Reading:
    """One way to read the text as an answer."""

    words: tuple[str, ...]
    complete: bool
    """True if it has the form of an answer from beginning to end, whatever its words."""


def read_answer(text: str, names: Sequence[str], *, cut: bool = False) -> tuple[str, ...]:
    """The routes in an answer, in its order, without duplicates; empty if no route fits.

    Words that are not in ``names`` are ignored. An exact name has precedence over one that differs
    in case, and a route named "other" or "none" over the usual meaning of that word. An empty text
    means that no route fits. Raises UnreadableAnswerError if there is no answer in the text.

    ``cut``: the model ran out of tokens. Then only JSON with which the text begins is an answer:
    what follows may explain it, while words before it, or half an answer, may be anything.
    """
    if cut:
        whole = _leading_json(text)
        if whole is None:
            raise UnreadableAnswerError(len(text))
        return read_answer(whole, names)
    if not text.strip():
        return ()
    exact = frozenset(names)
    folded = {name.casefold(): name for name in reversed(names)}
    unknown = False
    for reading in _readings(text):
        matches = [_route(word, exact, folded) for word in reading.words]
        routes = tuple(dict.fromkeys(name for name in matches if name is not None))
        if routes and (reading.complete or not unknown):
            return routes
        if (reading.words or reading.complete) and all(_is_none(word) for word in reading.words):
            return ()
        unknown = unknown or reading.complete
    if unknown:
        return ()
    raise UnreadableAnswerError(len(text))


def _route(word: str, exact: frozenset[str], folded: dict[str, str]) -> str | None:
    forms = (word, word.strip(), word.strip(_PADDING))
    for form in forms:
        if form in exact:
            return form
    if forms[1] in _NO_ROUTE_WORDS:
        return None
    return next((folded[form] for form in map(str.casefold, forms) if form in folded), None)


def _is_none(word: str) -> bool:
    bare = word.strip(_PADDING).casefold()
    return bare in _NO_ROUTE_WORDS if bare else not word.strip()


def _readings(text: str) -> Iterator[_Reading]:
    """All ways to read the text as an answer, the most certain first."""
    yield from _as_json(text)
    conclusion = text.rpartition("</think>")[2].partition("<think>")[0].strip()
    if conclusion != text:
        text = conclusion
        yield from _as_json(text)
    texts = [text, text.replace('\\"', '"')] if '\\"' in text else [text]
    for form in texts:
        for number, key in enumerate(_KEY.finditer(form)):
            if number == _MAX_KEYS:
                break
            if _is_in_braces(form, key.start()):
                yield _value(form, key.end())
            else:
                yield from _conclusion(form, key.start(), key.end())
    yield from _bare(text)


def _is_in_braces(text: str, at: int) -> bool:
    """True inside of an object or a list, which may lack its end."""
    before = max(text.rfind(mark, 0, at) for mark in "{[")
    return before >= 0 and all(text.find(mark, before, at) < 0 for mark in "}]")


def _conclusion(text: str, start: int, at: int) -> Iterator[_Reading]:
    """The reading of a value after a key among words: the rest of its line.

    The line must be the last one, or the text must begin with the key. In any other place the
    model is still thinking about the route.
    """
    text = text.replace("\\n", " \n")  # of the same length
    end = text.find("\n", at)
    end = len(text) if end < 0 else end
    is_last = not text[end:].strip(_AROUND)
    is_first = not _FENCE.sub("", text[:start]).strip(_AROUND)
    if is_last or is_first:
        rest = text[at:end].strip()
        yield _list(rest, 1) if rest.startswith("[") else _Reading((rest,), complete=False)


def _leading_json(text: str) -> str | None:
    """The JSON object or list with which a text begins, also in a code fence; None without one."""
    text = _FENCE.sub("", text.strip()).strip()
    if not text.startswith(("{", "[")):
        return None
    try:
        _, end = _DECODER.raw_decode(text)
    except (ValueError, RecursionError):
        return None
    return text[:end]


def _as_json(text: str) -> Iterator[_Reading]:
    value = _json(text)
    if isinstance(value, str):  # JSON within JSON, or a name in quotes
        yield _Reading((value,), complete=False)
        value = _json(value)
    if isinstance(value, dict) and not value:
        yield _Reading((), complete=True)
    if isinstance(value, dict):
        value = next(([value[key]] for key in ("route", "routes") if key in value), None)
    if isinstance(value, list):
        yield _Reading(tuple(_names(value)), complete=True)


def _names(value: Json, depth: int = _MAX_DEPTH) -> Iterator[str]:
    """The names in a value: a string, a number, a list of values, or an object about a route."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield str(value)
    elif isinstance(value, list) and depth:
        for item in value:
            yield from _names(item, depth - 1)
    elif isinstance(value, dict) and depth:
        named = next((value[key] for key in ("route", "name") if key in value), None)
        yield from _names(named, depth - 1)


def _json(text: str) -> Json:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _value(text: str, at: int) -> _Reading:
    """The reading of the value after a key."""
    if text.startswith("[", at):
        return _list(text, at + 1)
    quoted = _DOUBLE.match(text, at) or _SINGLE.match(text, at) or _SINGLE_IN_TEXT.match(text, at)
    if quoted is not None:
        return _Reading((_unescaped(quoted[1]),), complete=True)
    bare = _BARE.match(text, at)
    return _Reading((bare[0],) if bare else (), complete=False)


def _list(text: str, at: int) -> _Reading:
    words: list[str] = []
    while True:
        between = _BETWEEN.match(text, at)
        at = at if between is None else between.end()
        if text.startswith("]", at):
            return _Reading(tuple(words), complete=True)
        quoted = _DOUBLE.match(text, at) or _SINGLE.match(text, at)
        item = quoted or _BARE.match(text, at)
        if item is None:
            return _Reading(tuple(words), complete=False)
        words.append(item[0] if quoted is None else _unescaped(quoted[1]))
        at = item.end()


def _unescaped(inner: str) -> str:
    """The content of a JSON string with escapes resolved, or as it is if it is not valid."""
    if "\\" not in inner:
        return inner
    try:
        value: str = json.loads(f'"{inner}"', strict=False)
    except ValueError:
        return inner.replace("\\'", "'")
    return value


def _bare(text: str) -> Iterator[_Reading]:
    """Readings without a key: only the name, or the name on the first line."""
    yield _Reading((text,) if text else (), complete=False)
    text = _FENCE.sub("", text).replace("\\n", "\n").strip()
    if _EMPTY_OBJECT.match(text):
        yield _Reading((), complete=True)
    if text.startswith("["):
        yield _list(text, 1)
    for word in filter(None, (text, text.partition("\n")[0])):
        yield _Reading((word,), complete=False)
