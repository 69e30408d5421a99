"""Ids that the gateway makes: the same each time for the same text, of characters that all take."""

import hashlib
import re
from typing import Final

_UNSAFE: Final = re.compile(r"[^a-zA-Z0-9_-]+")
"""Providers take letters, digits, ``_`` and ``-`` in the ids of calls and the names of tools."""


def is_safe(text: str) -> bool:
    """True for a text that is not empty and of characters that all providers take."""
    return bool(text) and not _UNSAFE.search(text)


def safe(text: str) -> str:
    """A text with ``_`` for each run of other characters."""
    return _UNSAFE.sub("_", text)


def digest_of(text: str, digits: int = 64) -> str:
    """Hexadecimal digits that stand for a text, also for one with half a surrogate pair."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:digits]


def id_of_call(prefix: str, answer_id: str, position: int) -> str:
    """An id for a call that has none: the same each time, and different in each answer."""
    return f"{prefix}{safe(answer_id)}_{position}"
