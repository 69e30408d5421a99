"""Server-sent events as bytes: where one ends, and what it says.

Format: WHATWG HTML, section 9.2 "Server-sent events". Only what LLM providers send is read: the
fields ``event`` and ``data``. Nothing here decodes or rewrites: the bytes stay as they are.
"""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from serve_app.dialects.json_outline import JsonOutline

MAX_HELD_BYTES = 1 << 20
"""An event larger than this is passed on in pieces, so that no upstream can fill the memory."""

_BOUNDARY = re.compile(rb"\r\n\r\n|\n\n|\r\r|\n\r\n")
EVENT_ENDS: Final = (b"\n\n", b"\r\n\r\n", b"\r\r")
"""How bytes end that hold whole events only."""

_ONLY_DATA: Final = b"data: "
_BOUNDARIES = (b"\n\n", b"\r\n\r\n", b"\r\r", b"\n\r\n")


class Event(NamedTuple):
    """One event: its name ("" when it has none) and its data lines joined by newlines.

    A block of comments only has ``data`` None.
    """

    name: str
    data: bytes | None


def parse_event(block: bytes) -> Event:
    """The event in a block of lines, without the blank line at its end."""
    if block.startswith(_ONLY_DATA) and b"\n" not in block and b"\r" not in block:
        return Event("", block[len(_ONLY_DATA) :])  # nearly every event of chat completions
    name = ""
    data: list[bytes] = []
    for line in block.splitlines():
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            data.append(value)
        elif field == b"event":
            name = value.decode("utf-8", "replace")
    return Event(name, b"\n".join(data) if data else None)


def parse_events(complete: bytes) -> list[Event]:
    """The events in bytes that end at an event's end; empty blocks are left out."""
    return list(iterate_events(complete))


def iterate_events(complete: bytes) -> Iterator[Event]:
    """As parse_events, one at a time, for callers that need only the first ones."""
    return map(parse_event, iterate_blocks(complete))


def iterate_blocks(complete: bytes) -> Iterator[bytes]:
    """The bytes of each event, for callers that parse only some; empty blocks are left out."""
    if b"\r" not in complete:
        for block in complete.split(b"\n\n"):
            if block and not block.isspace():
                yield block
        return
    start = 0
    for boundary in _BOUNDARY.finditer(complete):
        block = complete[start : boundary.start()]
        start = boundary.end()
        if block.strip():
            yield block
    if complete[start:].strip():
        yield complete[start:]


def events_from(complete: bytes, position: int) -> bytes:
    """The events from the one on in which ``position`` lies, of bytes that hold whole events."""
    return complete[max(_end_of_last(complete, end, 0, position) for end in _BOUNDARIES) :]


def events_before(complete: bytes, event: Event) -> bytes:
    """The bytes before the first event that equals this one; all of them if there is none."""
    start = 0
    for boundary in _BOUNDARY.finditer(complete):
        if parse_event(complete[start : boundary.start()]) == event:
            return complete[:start]
        start = boundary.end()
    return complete[:start] if parse_event(complete[start:]) == event else complete


class Framer:
    """Cuts a byte stream at the ends of events; the bytes stay as they are.

    If the upstream dies inside an event, the client gets whole events and then an error, not a
    torn line that its parser fails on.
    """

    def __init__(self, max_held_bytes: int = MAX_HELD_BYTES) -> None:
        self._held = bytearray()
        self._max_held_bytes = max_held_bytes
        self._outline: JsonOutline | None = None
        """Of the event that is being passed on in pieces."""
        self.split: bytes | None = None
        """The events to read in place of the bytes that were returned last; None: those bytes.

        An event that is passed on in pieces is there with its last piece, as its outline.
        """

    def feed(self, chunk: bytes) -> bytes:
        """The bytes up to the last event end seen so far; the rest is kept."""
        held = self._held
        if not held and self.split is None and chunk.endswith(b"\n\n"):
            return chunk  # nearly every chunk of a provider that flushes each event
        start = max(0, len(held) - 3)  # a boundary may straddle the chunks
        held += chunk
        end = max(_end_of_last(held, boundary, start) for boundary in _BOUNDARIES)
        if self._outline is not None or (end == 0 and len(held) > self._max_held_bytes):
            return self._feed_large(end)
        self.split = None
        return self._take(end)

    def rest(self) -> bytes:
        """What came after the last event end."""
        rest = self._take(len(self._held))
        self.split = None
        if self._outline is not None:
            self._outline.add(rest)
            self.split, self._outline = self._outline.text, None
        return rest

    def _feed_large(self, end: int) -> bytes:
        """A piece of a large event; its last one with the events after it."""
        held = self._held
        outline = self._outline = self._outline or JsonOutline()
        self.split = b""
        first = _BOUNDARY.search(held) if end else None
        if first is None:
            if len(held) <= self._max_held_bytes:
                return b""
            ready = self._take(len(held.rstrip(b"\r\n")))  # a boundary goes out whole
            outline.add(ready)
            return ready
        ready, after = self._take(end), first.end()
        outline.add(ready[:after])
        self.split, self._outline = outline.text + ready[after:], None
        return ready

    def _take(self, end: int) -> bytes:
        taken = bytes(self._held[:end])
        del self._held[:end]
        return taken


def _end_of_last(
    held: bytes | bytearray, boundary: bytes, start: int, before: int | None = None
) -> int:
    found = held.rfind(boundary, start, before)
    return found + len(boundary) if found >= 0 else 0
