"""Streams of OpenAI responses: what is preamble, what is an error, what is complete.

Source: OpenAI API reference, "Streaming events" of responses.
"""

import re
from typing import Final

from serve_app.dialects.json_edits import read_object
from serve_app.dialects.json_values import object_of
from serve_app.dialects.openai_responses.errors import event_error, render_failed, response_failure
from serve_app.dialects.protocol import ErrorInfo, StreamState
from serve_app.dialects.sse import iterate_events
from serve_app.dialects.typed_events import UNTYPED_ERROR, EventTable, Judgement, TypedEventWatch
from serve_app.domain import Json
from serve_app.errors import GatewayError

_NUMBER: Final = b'"sequence_number"'
_NUMBERED: Final = re.compile(_NUMBER + rb"\s*:\s*(\d{1,9})\b")
_STARTS: Final = frozenset({"response.created", "response.in_progress", "response.queued"})
_ENDS: Final = frozenset({"response.completed", "response.incomplete"})
_ERRORS: Final = frozenset({"response.failed", "error", UNTYPED_ERROR})
_FAILED_MARKS: Final = (b'"failed"', b'"cancelled"')
_CONTAINERS: Final = {
    "response.output_item.added": "item",
    "response.content_part.added": "part",
    "response.reasoning_summary_part.added": "part",
}
"""Events that announce content, and the field that has it where it does not come in deltas."""
_CONTENT: Final = ("arguments", "content", "input", "refusal", "text")


def _judge(kind: str, data: bytes) -> Judgement:
    if kind in _STARTS:
        return Judgement(starts=True)
    if kind in ("", "keepalive"):
        return Judgement()
    if kind in _ENDS:  # the whole response is in the last event again
        event = read_object(data)
        return Judgement(starts=isinstance((event or {}).get("response"), dict), ends=True)
    if kind in _ERRORS:
        return Judgement(ends=True, error=event_error(data))
    field = _CONTAINERS.get(kind)
    return Judgement(speaks=field is None or _has_content(data, field))


def _failure(kind: str, data: bytes) -> ErrorInfo | None:
    """The failure of an end whose response says that it failed or was cancelled."""
    if kind not in _ENDS or not any(mark in data for mark in _FAILED_MARKS):
        return None
    return response_failure(object_of((read_object(data) or {}).get("response")))


def _has_content(data: bytes, field: str) -> bool:
    """True for an item or part that begins with content; also for one that cannot be read."""
    event = read_object(data)
    value = None if event is None else event.get(field)
    return not isinstance(value, dict) or any(value.get(key) for key in _CONTENT)


_TABLE: Final = EventTable(
    ends=_ENDS | _ERRORS,
    marks=(b"response.completed", b"response.incomplete", b"response.failed", b"error"),
    judge=_judge,
    failure=_failure,
)


class ResponsesWatch(TypedEventWatch):
    """Frames one stream, and knows whether it has content and whether it may end here.

    A stream may end without content: a model may have nothing to say.
    """

    def __init__(self) -> None:
        super().__init__(_TABLE)
        self._response: dict[str, Json] | None = None
        """What is known of the response since it began."""
        self._numbered = b""
        """The last events that have a number."""

    def feed(self, chunk: bytes) -> bytes:
        """The whole events that are now there, unchanged."""
        is_beginning = self._response is None and self.state is StreamState.PREAMBLE
        events = super().feed(chunk)
        if _NUMBER in events:
            self._numbered = events
        if is_beginning:
            split = self._framer.split
            self._response = _response_in(events if split is None else split)
        return events

    def fail(self, error: GatewayError) -> bytes:
        """The event ``response.failed`` of this response; the SDKs refuse one of another id."""
        if self._response is None:
            return b""
        numbers = _NUMBERED.findall(self._numbered)
        following = int(numbers[-1]) + 1 if numbers else 0
        return render_failed(error, sequence_number=following, response=self._response)


def _response_in(events: bytes) -> dict[str, Json] | None:
    """The single values of the first response; None if there is none."""
    for event in iterate_events(events):
        response = (read_object(event.data or b"") or {}).get("response")
        if isinstance(response, dict):
            return {
                key: value for key, value in response.items() if not isinstance(value, dict | list)
            }
    return None
