"""Server-sent events as bytes: where one ends, and what it says.

Format: WHATWG HTML, section 9.2 "Server-sent events". Only what LLM providers send is read: the
fields ``event`` and ``data``. Nothing here decodes or rewrites: the bytes stay as they are.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

MAX_HELD_BYTES = 1 << 20
"""An event larger than this is passed on in pieces, so that no upstream can fill the memory."""

_BOUNDARY = re.compile(rb"\r\n\r\n|\n\n|\r\r|\n\r\n")
EVENT_ENDS: Final = (b"\n\n", b"\r\n\r\n", b"\r\r")
"""How bytes end that hold whole events only."""

_BOUNDARIES = (b"\n\n", b"\r\n\r\n", b"\r\r", b"\n\r\n")


@dataclass(frozen=True, slots=True)
class Event:
    """One event: its name ("" when it has none) and its data lines joined by newlines.

    A block of comments only has ``data`` None.
    """

    name: str
    data: bytes | None


def parse_event(block: bytes) -> Event:
    """The event in a block of lines, without the blank line at its end."""
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
    start = 0
    for boundary in _BOUNDARY.finditer(complete):
        block = complete[start : boundary.start()]
        start = boundary.end()
        if block.strip():
            yield parse_event(block)
    if complete[start:].strip():
        yield parse_event(complete[start:])


class Framer:
    """Cuts a byte stream at the ends of events; the bytes stay as they are.

    If the upstream dies inside an event, the client gets whole events and then an error, not a
    torn line that its parser fails on.
    """

    def __init__(self, max_held_bytes: int = MAX_HELD_BYTES) -> None:
        self._held = bytearray()
        self._max_held_bytes = max_held_bytes

    def feed(self, chunk: bytes) -> bytes:
        """The bytes up to the last event end seen so far; the rest is kept."""
        held = self._held
        if not held and chunk.endswith(b"\n\n"):
            return chunk  # nearly every chunk of a provider that flushes each event
        start = max(0, len(held) - 3)  # a boundary may straddle the chunks
        held += chunk
        end = max(_end_of_last(held, boundary, start) for boundary in _BOUNDARIES)
        if end == 0 and len(held) > self._max_held_bytes:
            end = len(held)
        ready = bytes(held[:end])
        del held[:end]
        return ready

    def rest(self) -> bytes:
        """What came after the last event end."""
        rest = bytes(self._held)
        self._held.clear()
        return rest


def _end_of_last(held: bytearray, boundary: bytes, start: int) -> int:
    found = held.rfind(boundary, start)
    return found + len(boundary) if found >= 0 else 0
