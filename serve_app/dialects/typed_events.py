"""Streams whose events have a type: how far they have come.

Anthropic messages and OpenAI responses are such streams. Nothing is decoded on the way: once a
stream has content, events are only read where a cheap search says that they may be its end.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

from serve_app.dialects.json_edits import read_object
from serve_app.dialects.protocol import ErrorInfo, StreamState
from serve_app.dialects.sse import Event, Framer, events_before, iterate_blocks, parse_event
from serve_app.errors import GatewayError

UNTYPED_ERROR: Final = "an object `error` without a type"
"""The kind of an error event in the form of OpenAI chat."""

_NO_NAMES: Final = ("", "message")
"""Names that say nothing; ``message`` is the default of the format."""
_FIRST_TYPE: Final = re.compile(rb'\s*\{\s*"type"\s*:\s*"([^"\\]*)"')
"""Most providers write the type first, which saves parsing large events."""
_LINE_ENDS: Final = (b"\n", b"\r")


class Judgement(NamedTuple):
    """What an event means for a stream that has no content yet."""

    starts: bool = False
    """The answer is known to have begun or to have ended, so that it may end without content."""
    speaks: bool = False
    """The event has content."""
    ends: bool = False
    """The stream may end here."""
    error: ErrorInfo | None = None


@dataclass(frozen=True, slots=True)
class EventTable:
    """What the events of a dialect mean."""

    ends: frozenset[str]
    """Kinds after which the stream may end, errors included."""
    marks: tuple[bytes, ...]
    """One of these is in each event that has a kind of ``ends``."""
    judge: Callable[[str, bytes], Judgement]
    """Judges the kind and the data of an event before any content; raises nothing."""
    failure: Callable[[str, bytes], ErrorInfo | None]
    """The failure that an event reports which looks like a good end; raises nothing.

    One of ``marks`` must be in each such event.
    """


def _nothing(kind: str, data: bytes) -> Judgement:
    del kind, data
    return Judgement()


def _no_failure(kind: str, data: bytes) -> None:
    del kind, data


NO_EVENTS: Final = EventTable(ends=frozenset(), marks=(), judge=_nothing, failure=_no_failure)
"""Of a dialect without streams: whatever comes as a stream is not an answer."""


class TypedEventWatch:
    """Frames one stream, and knows whether it has content and whether it may end here."""

    def __init__(self, table: EventTable) -> None:
        self._table = table
        self._framer = Framer()
        self._started = self._speaking = self._ended = False
        self._lost: StreamState | None = None
        self.error: ErrorInfo | None = None

    @property
    def state(self) -> StreamState:
        """How far the stream has come."""
        if self._lost is not None:
            return self._lost
        if self._ended:
            return StreamState.COMPLETE
        return StreamState.SPEAKING if self._speaking else StreamState.PREAMBLE

    def feed(self, chunk: bytes) -> bytes:
        """The whole events that are now there, unchanged, without an end that is not a good one."""
        events = self._framer.feed(chunk)
        split = self._framer.split
        if split is not None:
            self._read(split)
            return b"" if self._lost else events
        return self._read(events) if events else events

    def rest(self, *, torn: bool) -> bytes:
        """What came after the last event's end, without a line that was cut in its middle.

        A complete stream that was closed in order keeps its last bytes, whatever they are.
        """
        left = self._framer.rest()
        event = left if self._framer.split is None else self._framer.split
        whole = left.endswith(_LINE_ENDS) or (not torn and _has_object(event))
        if whole:
            self._read(event)
        if self._lost:
            return b""
        return left if whole or (not torn and self.state is StreamState.COMPLETE) else b""

    def fail(self, error: GatewayError) -> bytes:
        """Nothing: an error event here is the same in every stream."""
        del error
        return b""

    def _read(self, events: bytes) -> bytes:
        """Reads whole events; returns those that may go out."""
        if self._speaking and not self._may_end(events):
            return events
        if self._lost:
            return b""
        for block in iterate_blocks(events):
            if self._ended or self.error is not None:
                break
            if self._speaking and not self._may_end(block):
                continue
            event = parse_event(block)
            if event.data is None:
                continue
            self._take(_kind(event), event.data)
            if self.state.is_lost:
                return events_before(events, event)
        return events

    def _may_end(self, text: bytes) -> bool:
        return any(mark in text for mark in self._table.marks)

    def _take(self, kind: str, data: bytes) -> None:
        failure = self._table.failure(kind, data)
        if failure is not None:
            self.error = failure
            self._lose(StreamState.FAILED)
        elif self._speaking:
            self._ended = kind in self._table.ends
        else:
            self._judge(kind, data)

    def _judge(self, kind: str, data: bytes) -> None:
        judgement = self._table.judge(kind, data)
        self._started = self._started or judgement.starts
        self._speaking = judgement.speaks
        self.error = judgement.error
        if judgement.ends:
            self._ended = self._started or self.error is not None
            if not self._ended:
                self._lose(StreamState.EMPTY)

    def _lose(self, how: StreamState) -> None:
        self._lost = how
        self._speaking = False  # from now on all events are looked at, and none goes out


def _kind(event: Event) -> str:
    """The type of an event by its name, or else by its data; empty if neither says."""
    if event.name not in _NO_NAMES:
        return event.name
    data = event.data or b""
    first = _FIRST_TYPE.match(data)
    if first is not None:
        return first[1].decode("utf-8", "replace")
    fields = read_object(data) or {}
    kind = fields.get("type")
    if isinstance(kind, str):
        return kind
    return UNTYPED_ERROR if fields.get("error") else ""


def _has_object(block: bytes) -> bool:
    return read_object(parse_event(block).data or b"") is not None
