"""Finds the tokens that an answer reports, without decoding the rest of it."""

import json
import re
from collections.abc import Callable
from typing import Final, TypeAlias

from serve_app.dialects import ir
from serve_app.domain import Json

ReadUsage: TypeAlias = Callable[[Json], ir.Usage | None]
"""Reads an object ``usage`` of a dialect; None if it counts nothing."""

_KEY: Final = b'"usage"'
"""Inside a JSON string its quotes are escaped, so that it is found as a key alone."""
_OPENING: Final = re.compile(rb"\s*:\s*\{")
_DATA: Final = b"data:"
_MAX_BYTES: Final = 16 << 10
"""Size of an object ``usage`` that is read; those of today have less than 1 KiB."""
_DECODER: Final = json.JSONDecoder()


def read_nothing(usage: Json) -> None:
    """Counts nothing, for streams whose usage is noted by another reader, or not at all."""
    del usage


class TokenCounter:
    """Collects the usage of one answer; counts are cumulative, so that later ones replace.

    A zero does not replace: some servers send the input's count with the first event only.
    """

    def __init__(self, read: ReadUsage) -> None:
        self._read = read
        self.usage: ir.Usage | None = None
        """What the provider has reported so far; None if nothing."""
        self.size = 0
        """Bytes of a complete answer."""
        self.events = 0
        """Events with data; most providers send one for each token of the output."""

    def feed_events(self, events: bytes) -> None:
        """Takes whole events of a stream."""
        self.events += events.count(_DATA)
        if _KEY in events:
            self._feed(events)

    def feed_body(self, body: bytes) -> None:
        """Takes a complete answer."""
        self.size = len(body)
        self._feed(body)

    def _feed(self, text: bytes) -> None:
        at = text.find(_KEY)
        while at >= 0:
            at += len(_KEY)
            opening = _OPENING.match(text, at)
            if opening is not None:
                self.note(self._read(_object_at(text, opening.end() - 1)))
            at = text.find(_KEY, at)

    def note(self, usage: ir.Usage | None) -> None:
        """Takes what an event reports."""
        if usage is not None:
            self.usage = usage if self.usage is None else _merged(self.usage, usage)


def _object_at(text: bytes, start: int) -> Json:
    try:
        return _DECODER.raw_decode(text[start : start + _MAX_BYTES].decode("utf-8", "replace"))[0]
    except (ValueError, RecursionError):
        return None


def _merged(known: ir.Usage, new: ir.Usage) -> ir.Usage:
    return ir.Usage(
        uncached_input=new.uncached_input or known.uncached_input,
        cache_read=new.cache_read or known.cache_read,
        cache_write=new.cache_write or known.cache_write,
        output=new.output or known.output,
        reasoning=known.reasoning if new.reasoning is None else new.reasoning,
        cache_write_1h=new.cache_write_1h or known.cache_write_1h,
    )
