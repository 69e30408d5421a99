"""Streams of OpenAI chat completions: what is preamble, what is an error, what is complete.

Source: OpenAI API reference, "Streaming". Nothing is decoded on the way: events are only read
where a cheap search says that they matter.
"""

import json
import re

from serve_app.dialects.json_edits import read_object
from serve_app.dialects.openai_errors import event_error
from serve_app.dialects.protocol import ErrorInfo, StreamState
from serve_app.dialects.sse import Event, Framer, iterate_events, parse_event, parse_events
from serve_app.domain import Json
from serve_app.errors import GatewayError

_DONE = b"[DONE]"
_FINISH = re.compile(rb'"finish_reason"\s*:\s*"')
_LINE_ENDS = (b"\n", b"\r")


class ChatWatch:
    """Frames one stream, and knows whether it has content and whether it may end here."""

    def __init__(self, choices: int = 1) -> None:
        self._framer = Framer()
        self._ending = _Ending(choices)
        self._reads_all = choices > 1
        self._speaking = False
        self._empty = True
        self._announced_end = False
        self.error: ErrorInfo | None = None

    @property
    def state(self) -> StreamState:
        """How far the stream has come."""
        if self._announced_end:
            return StreamState.EMPTY
        if self._ending.complete:
            return StreamState.COMPLETE
        return StreamState.SPEAKING if self._speaking else StreamState.PREAMBLE

    def feed(self, chunk: bytes) -> bytes:
        """The whole events that are now there, unchanged."""
        events = self._framer.feed(chunk)
        if not self._speaking or self._reads_all or _matters(events):
            self._read(events)
        return events

    def rest(self, *, torn: bool) -> bytes:
        """What came after the last event's end, without a line that was cut in its middle.

        A complete stream that was closed in order keeps its last bytes, whatever they are.
        """
        left = self._framer.rest()
        if torn:
            whole = left if left.endswith(_LINE_ENDS) else b""
        else:
            whole = left if left.endswith(_LINE_ENDS) or _is_complete_event(left) else b""
        self._read(whole)
        return left if self._ending.complete and not torn else whole

    def fail(self, error: GatewayError) -> bytes:
        """Nothing: an error event here is the same in every stream."""
        del error
        return b""

    def _read(self, events: bytes) -> None:
        if not self._speaking:
            self._read_preamble(events)
        self._ending.feed(events)

    def _read_preamble(self, events: bytes) -> None:
        for event in iterate_events(events):
            self.error = self.error or event_error(event)
            if self.error is not None:
                return
            if event.data == _DONE and self._empty:
                self._announced_end = True
                return
            self._empty = self._empty and event.data is None
            if not is_preamble(event):
                self._speaking = True
                return


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

    @property
    def complete(self) -> bool:
        """True when nothing is missing."""
        return self._done or (bool(self._finished) and self._seen <= self._finished)

    def feed(self, events: bytes) -> None:
        """Takes bytes that end at an event's end."""
        if _DONE in events and _holds_done(events):
            self._done = True
        elif self._parse_all or b'"finish_reason"' in events or b'"error"' in events:
            self._parse(events)

    def _parse(self, events: bytes) -> None:
        if not self._parse_all and b'"error"' not in events and not _FINISH.search(events):
            return
        for event in parse_events(events):
            if event_error(event) is not None:
                self._done = True
            chunk = read_object(event.data or b"")
            choices = (chunk or {}).get("choices")
            for choice in choices if isinstance(choices, list) else ():
                index = choice.get("index", 0) if isinstance(choice, dict) else None
                if isinstance(index, int):
                    self._seen.add(index)
                    if choice.get("finish_reason"):
                        self._finished.add(index)


def _matters(events: bytes) -> bool:
    """False for events that are content alone, as nearly all are."""
    return b'"finish_reason"' in events or _DONE in events or b'"error"' in events


def is_preamble(event: Event) -> bool:
    """True for comments, and for chunks that hold only a role or an empty delta."""
    if event.data is None:
        return True
    if event.data == _DONE:
        return False
    chunk = read_object(event.data)
    if chunk is None or chunk.get("error"):
        return False
    choices = chunk.get("choices")
    if not choices and chunk.get("usage"):  # some servers count in every chunk
        return False
    return isinstance(choices, list) and not any(map(_has_content, choices))


def _has_content(choice: Json) -> bool:
    if not isinstance(choice, dict) or choice.get("finish_reason"):
        return True
    delta = choice.get("delta")
    if not isinstance(delta, dict):
        return "text" in choice
    return any(value for key, value in delta.items() if key != "role")


def _holds_done(events: bytes) -> bool:
    """True when a line is ``data: [DONE]``; bytes.find is faster than a regex here."""
    at = events.find(_DONE)
    while at >= 0:
        line = max(events.rfind(b"\n", 0, at), events.rfind(b"\r", 0, at)) + 1
        if events[line:at] in {b"data:", b"data: "}:
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
