"""Streams of OpenAI chat completions: what is preamble, what is an error, what is complete.

Source: OpenAI API reference, "Streaming". Nothing is decoded on the way: events are only read
where a cheap search says that they matter.
"""

import json

from serve_app.dialects.json_edits import read_object
from serve_app.dialects.json_values import objects_of
from serve_app.dialects.openai_chat.finish_reasons import failure_in
from serve_app.dialects.openai_errors import event_error
from serve_app.dialects.protocol import ErrorInfo, StreamState
from serve_app.dialects.sse import (
    Event,
    Framer,
    events_before,
    events_from,
    iterate_events,
    parse_event,
)
from serve_app.domain import Json
from serve_app.errors import GatewayError

_DONE = b"[DONE]"
_FINISH = b'"finish_reason"'
_NOT_FINISHED = (b":null", b": null")
_ERROR = b'"error"'
_LINE_ENDS = (b"\n", b"\r")
_DATA = (b"data:", b"data: ")
_DATA_LINES = tuple(end + data for end in _LINE_ENDS for data in _DATA)
_DONE_MARGIN = max(map(len, _DATA_LINES))


class ChatWatch:
    """Frames one stream, and knows whether it has content and whether it may end here."""

    def __init__(self, choices: int = 1) -> None:
        self._framer = Framer()
        self._ending = _Ending(choices)
        self._speaking = False
        self._reads_all = True
        """Whether every event is read; else only those that may be an end."""
        self._several = choices > 1
        self._lost: StreamState | None = None
        self.error: ErrorInfo | None = None

    @property
    def state(self) -> StreamState:
        """How far the stream has come."""
        if self._lost is not None:
            return self._lost
        if self._ending.complete:
            return StreamState.COMPLETE
        return StreamState.SPEAKING if self._speaking else StreamState.PREAMBLE

    def feed(self, chunk: bytes) -> bytes:
        """The whole events that are now there, unchanged, without an end that is not a good one."""
        events = self._framer.feed(chunk)
        split = self._framer.split
        if split is not None:
            self._read(split)
            return b"" if self._lost else events
        if self._reads_all or _matters(events):
            return self._read(events)
        return events

    def rest(self, *, torn: bool) -> bytes:
        """What came after the last event's end, without a line that was cut in its middle.

        A complete stream that was closed in order keeps its last bytes, whatever they are.
        """
        left = self._framer.rest()
        event = left if self._framer.split is None else self._framer.split
        is_whole = left.endswith(_LINE_ENDS) or (not torn and _is_complete_event(event))
        if is_whole:
            self._read(event)
        if self._lost:
            return b""
        return left if is_whole or (self._ending.complete and not torn) else b""

    def fail(self, error: GatewayError) -> bytes:
        """Nothing: an error event here is the same in every stream."""
        del error
        return b""

    def _read(self, events: bytes) -> bytes:
        """Reads whole events; returns those that may go out."""
        if self._lost:
            return b""
        end = None if self._speaking else self._read_preamble(events)
        if end is not None:
            self._lost = StreamState.EMPTY
            return events_before(events, end)
        failed = self._ending.feed(events)
        if failed is None:
            return events
        self.error, self._lost, self._reads_all = self._ending.failure, StreamState.FAILED, True
        return events_before(events, failed)

    def _read_preamble(self, events: bytes) -> Event | None:
        """Reads up to the first content; returns the end marker that came before it."""
        for event in iterate_events(events):
            if event.data == _DONE:
                return event
            self.error = self.error or event_error(event)
            if not is_preamble(event):
                self._speaking = True
                self._reads_all = self._several
                break
        return None


class _Ending:
    """Knows from the events that went by whether a stream may end here.

    Complete means ``[DONE]``, or a finish reason for every choice seen, or an error event. Chunks
    are parsed only where a cheap search says that they matter, or where several choices were
    asked for.
    """

    def __init__(self, choices: int) -> None:
        self._parse_all = choices > 1
        self._done = False
        self._seen: set[int] = set()
        self._finished: set[int] = set()
        self.failure: ErrorInfo | None = None
        """What the provider reports as the reason of its end."""

    @property
    def complete(self) -> bool:
        """True when nothing is missing."""
        return self._done or (bool(self._finished) and self._seen <= self._finished)

    def feed(self, events: bytes) -> Event | None:
        """Takes bytes that end at an event's end; returns the event in which a choice failed."""
        failed = None
        if self._parse_all:
            failed = self._parse(events)
        else:
            end = _find_end(events)
            if end >= 0:  # a provider may send a whole answer at once: only its end is parsed
                failed = self._parse(events_from(events, end))
        if _DONE in events and _holds_done(events):
            self._done = True
        return failed

    def _parse(self, events: bytes) -> Event | None:
        for event in iterate_events(events):
            chunk = read_object(event.data or b"")
            if chunk is None:
                continue
            if chunk.get("error"):
                self._done = True
            was_complete = self.complete
            for choice in objects_of(chunk.get("choices")):
                self._note(choice)
            if self.failure is not None and not was_complete:
                return event
        return None

    def _note(self, choice: dict[str, Json]) -> None:
        self.failure = self.failure or failure_in(choice)
        index = choice.get("index", 0)
        if isinstance(index, int):
            self._seen.add(index)
            if choice.get("finish_reason"):
                self._finished.add(index)


def _find_end(events: bytes) -> int:
    """Where the first error is, or finish reason that is not null, as most providers write it in
    every event; -1 if there is none. Plain searches are faster than a regex here.
    """
    error = events.find(_ERROR)
    reason = events.find(_FINISH)
    while reason >= 0 and events.startswith(_NOT_FINISHED, reason + len(_FINISH)):
        reason = events.find(_FINISH, reason + len(_FINISH))
    return max(error, reason) if min(error, reason) < 0 else min(error, reason)


def _matters(events: bytes) -> bool:
    """False for events that are content alone, as nearly all are."""
    return _DONE in events or _find_end(events) >= 0


def is_preamble(event: Event) -> bool:
    """True for comments, and for chunks without content: of a role, an empty delta, or usage."""
    if event.data is None:
        return True
    if event.data == _DONE:
        return False
    chunk = read_object(event.data)
    if chunk is None or chunk.get("error"):
        return False
    choices = chunk.get("choices")
    return not isinstance(choices, list) or not any(map(_has_content, choices))


def _has_content(choice: Json) -> bool:
    if not isinstance(choice, dict) or choice.get("finish_reason"):
        return True
    delta = choice.get("delta")
    if not isinstance(delta, dict):
        return bool(choice.get("text"))
    return any(value for key, value in delta.items() if key != "role")


def _holds_done(events: bytes) -> bool:
    """True when a line is ``data: [DONE]``; bytes.find is faster than a regex here."""
    at = events.find(_DONE)
    while at >= 0:
        before = events[max(0, at - _DONE_MARGIN) : at]
        if before in _DATA or before.endswith(_DATA_LINES):
            return True
        at = events.find(_DONE, at + 1)
    return False


def _is_complete_event(block: bytes) -> bool:
    data = parse_event(block).data
    if data is None or data == _DONE:
        return data is not None
    try:
        json.loads(data)
    except (ValueError, RecursionError):
        return False
    return True
