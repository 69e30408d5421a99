"""Streams of Anthropic messages: what is preamble, what is an error, what is complete.

Source: Anthropic API reference, "Streaming messages".
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from serve_app.dialects.anthropic_messages.errors import event_error, failure_in
from serve_app.dialects.json_edits import read_object
from serve_app.dialects.json_values import object_of
from serve_app.dialects.protocol import ErrorInfo
from serve_app.dialects.typed_events import UNTYPED_ERROR, EventTable, Judgement, TypedEventWatch
from serve_app.domain import Json

_CONTENT: Final = ("text", "thinking", "input", "data", "content")
"""Fields of a block that hold its content, where it does not come in deltas."""
_SPEECH: Final = ("text", "thinking")
"""Types of blocks that say nothing without content."""
_SILENT: Final[Mapping[str, Judgement]] = MappingProxyType(
    {
        "": Judgement(),
        "ping": Judgement(),
        "message_start": Judgement(),
        "content_block_stop": Judgement(),
        "message_stop": Judgement(ends=True),
    }
)


def _judge(kind: str, data: bytes) -> Judgement:
    if kind in _SILENT:
        return _SILENT[kind]
    if kind == "error":
        return Judgement(ends=True, error=event_error(data))
    if kind == UNTYPED_ERROR:  # the official SDKs skip it, so that it does not end the stream
        return Judgement(error=event_error(data))
    if kind == "message_delta":  # only its stop reason tells a silent model from a broken server
        return Judgement(starts=bool(_delta(data).get("stop_reason")))
    return _judge_block(data) if kind == "content_block_start" else Judgement(speaks=True)


def _failure(kind: str, data: bytes) -> ErrorInfo | None:
    if kind != "message_delta" or b'"error"' not in data:
        return None
    return failure_in(_delta(data))


def _delta(data: bytes) -> dict[str, Json]:
    return object_of((read_object(data) or {}).get("delta"))


def _judge_block(data: bytes) -> Judgement:
    """A block that begins with content, or cannot be read, is content; a call may lack arguments."""
    block = (read_object(data) or {}).get("content_block")
    if not isinstance(block, dict):
        return Judgement(speaks=True)
    has_content = any(block.get(key) for key in _CONTENT)
    return Judgement(starts=block.get("type") not in _SPEECH, speaks=has_content)


_TABLE: Final = EventTable(
    ends=frozenset({"message_stop", "error"}),
    marks=(b"message_stop", b"error"),
    judge=_judge,
    failure=_failure,
)


class MessagesWatch(TypedEventWatch):
    """Frames one stream, and knows whether it has content and whether it may end here.

    A stream with a stop reason may end without content: a model may have nothing to say.
    """

    def __init__(self) -> None:
        super().__init__(_TABLE)
