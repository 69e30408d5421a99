"""JSON values of any shape, read without surprises, and written so that every parser takes them.

A value of an unexpected type counts as absent: providers and clients are sloppy.
"""

import json
import math
from json.encoder import encode_basestring
from typing import Final

from serve_app.domain import Json

_DECODER: Final = json.JSONDecoder()
_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def read_json(data: bytes) -> Json:
    """The value that begins these bytes of UTF-8. Raises ValueError or RecursionError.

    Costs two thirds of ``json.loads``, which looks for other encodings and for space before it.
    """
    text = data.decode("utf-8", "surrogatepass")
    value, end = _DECODER.raw_decode(text)
    if end != len(text) and not text[end:].isspace():
        raise json.JSONDecodeError("Extra data", text, end)
    return value


def text_of(value: Json) -> str:
    """A string; empty for anything else."""
    return value if isinstance(value, str) else ""


def text_or_none(value: Json) -> str | None:
    """A string, which may be empty; None for anything else."""
    return value if isinstance(value, str) else None


def object_of(value: Json) -> dict[str, Json]:
    """An object; empty for anything else."""
    return value if isinstance(value, dict) else {}


def objects_of(value: Json) -> list[dict[str, Json]]:
    """The objects in a list, in their order; empty for anything else."""
    if not isinstance(value, list):
        return []
    return [entry for entry in value if isinstance(entry, dict)]


def number_of(value: Json) -> float | None:
    """A finite number as it is; None for anything else, ``true`` included."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if isinstance(value, int) or math.isfinite(value) else None


def count_of(value: Json) -> int | None:
    """A whole number that is not negative, also as ``3.0``; None for anything else."""
    if type(value) is int:  # not bool; nearly always
        return value if value >= 0 else None
    number = number_of(value)
    if number is None or number < 0 or number != int(number):
        return None
    return int(number)


def seconds_of(value: Json) -> int | None:
    """A time in seconds, without its fraction; None for anything else."""
    number = number_of(value)
    return None if number is None or number < 0 else int(number)


def json_text(value: Json) -> str:
    """A value as JSON without spaces. Raises RecursionError if it is nested too deeply."""
    return _ENCODER.encode(value)


def json_bytes(value: Json) -> bytes:
    """A value as JSON in UTF-8. Raises RecursionError if it is nested too deeply.

    Half a surrogate pair becomes a ``?``: UTF-8 cannot hold it, and strict parsers refuse its
    escape.
    """
    return json_text(value).encode("utf-8", "replace")


class JsonTemplate:
    """A JSON value that is written many times and differs in one string, which alone is encoded.

    Most events of a stream are of this kind: the same object around another piece of text.
    """

    PLACE: Final = "\x00text\x00"
    """Stands for the string in the value; the last one counts."""

    def __init__(self, value: Json, *, head: bytes = b"", tail: bytes = b"") -> None:
        """``head`` and ``tail`` go before and after the value."""
        before, _, after = json_text(value).rpartition(json_text(self.PLACE))
        self._before = head + before.encode("utf-8", "replace")
        self._after = after.encode("utf-8", "replace") + tail

    def fill(self, text: str) -> bytes:
        """The value with this string, as ``json_bytes`` writes it, between head and tail."""
        return self._before + encode_basestring(text).encode("utf-8", "replace") + self._after
