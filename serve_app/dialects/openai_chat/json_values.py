"""Values of JSON that a provider or a client wrote: one of an unexpected type counts as absent."""

import json
import math
from collections.abc import Iterator, Mapping

from serve_app.domain import Json


def text_of(value: Json) -> str | None:
    """A string; None for anything else."""
    return value if isinstance(value, str) else None


def object_of(value: Json) -> Mapping[str, Json]:
    """An object; empty for anything else."""
    return value if isinstance(value, dict) else {}


def objects_of(value: Json) -> Iterator[dict[str, Json]]:
    """The objects of a list; empty for anything else."""
    for item in value if isinstance(value, list) else ():
        if isinstance(item, dict):
            yield item


def number_of(value: Json) -> float | None:
    """A finite number as it is; None for anything else, ``true`` included."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if isinstance(value, int) or math.isfinite(value) else None


def count_of(value: Json) -> int | None:
    """A whole number that is not negative; None for anything else."""
    number = number_of(value)
    if number is None or number < 0 or number != int(number):
        return None
    return int(number)


def compact(value: Json) -> str:
    """A value as JSON text; empty if it is nested too deeply to be written."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    except RecursionError:
        return ""


def encode(value: Json) -> bytes:
    """A value as JSON in UTF-8; half a surrogate pair stays an escape."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":")).encode()
