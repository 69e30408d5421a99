"""Values of log lines: JSON that no text of a client can break out of."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from math import isfinite
from typing import Final

from serve_app.domain import Json

MAX_TEXT: Final = 400
"""Characters of a name from a client that a line holds; names of models are as long at most."""

_encode: Final = json.JSONEncoder(separators=(",", ":")).encode
"""Writes ASCII alone, so line breaks of any kind are escaped, U+2028 and lone surrogates, too."""


def line_of(fields: Mapping[str, Json]) -> bytes:
    """One line of a log, with its line break."""
    return f"{_encode(fields)}\n".encode("ascii")


def time_text(at: float) -> str:
    """Seconds since the epoch as UTC in ISO 8601; equal lengths, so that texts sort as times do."""
    thousandths = int(at * 1000)
    return f"{_second_text(thousandths // 1000)}.{thousandths % 1000:03}Z"


@lru_cache(maxsize=16)
def _second_text(second: int) -> str:
    """Requests of one second share its text."""
    return f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}"


def milliseconds(seconds: float | None) -> float | None:
    """Seconds in milliseconds, to the microsecond; None stays None."""
    return None if seconds is None else round(seconds * 1e3, 3)


def number(value: float | None) -> float | None:
    """A probability to four decimals; None for what JSON cannot say, too."""
    return round(value, 4) if value is not None and isfinite(value) else None


def short(text: str | None) -> str | None:
    """A name that may be a client's, cut to MAX_TEXT; None if it is empty."""
    return text[:MAX_TEXT] if text else None
