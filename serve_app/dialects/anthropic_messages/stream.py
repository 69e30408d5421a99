"""Streams of Anthropic messages: what is preamble, what is an error, what is complete.

Source: Anthropic API reference, "Streaming messages".
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from serve_app.dialects.anthropic_messages.errors import event_error
from serve_app.dialects.json_edits import read_object
from serve_app.dialects.typed_events import UNTYPED_ERROR, EventTable, Judgement, TypedEventWatch

_CONTENT: Final = ("text", "thinking", "input", "data", "content")
"""Fields of a block that hold its content, where it does not come in deltas."""
_SILENT: Final[Mapping[str, Judgement]] = MappingProxyType(
    {
        "": Judgement(),
        "ping": Judgement(),
        "message_start": Judgement(starts=True),
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
    return Judgement(speaks=kind != "content_block_start" or _has_content(data))


def _has_content(data: bytes) -> bool:
    """True for a block that begins with content; also for one that cannot be read."""
    event = read_object(data)
    block = None if event is None else event.get("content_block")
    return not isinstance(block, dict) or any(block.get(key) for key in _CONTENT)


_TABLE: Final = EventTable(
    ends=frozenset({"message_stop", "error"}), marks=(b"message_stop", b"error"), judge=_judge
)


class MessagesWatch(TypedEventWatch):
    """Frames one stream, and knows whether it has content and whether it may end here.

    A stream may end without content: a model may have nothing to say.
    """

    def __init__(self) -> None:
        super().__init__(_TABLE)
