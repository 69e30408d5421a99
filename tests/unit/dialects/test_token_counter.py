"""The tokens of answers, found in bodies and in streams of every dialect."""

import json

import pytest

from serve_app.dialects import ir
from serve_app.dialects.registry import UPSTREAM_DIALECTS
from serve_app.dialects.token_counter import TokenCounter
from serve_app.domain import Json

_CHAT = {
    "prompt_tokens": 30,
    "completion_tokens": 7,
    "prompt_tokens_details": {"cached_tokens": 10},
}
_MESSAGES = {
    "input_tokens": 20,
    "output_tokens": 7,
    "cache_read_input_tokens": 10,
    "cache_creation_input_tokens": 5,
}
_RESPONSES = {"input_tokens": 30, "output_tokens": 7, "input_tokens_details": {"cached_tokens": 10}}


def _counter(dialect: str) -> TokenCounter:
    return TokenCounter(UPSTREAM_DIALECTS[dialect].read_usage)


def _event(value: Json) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


@pytest.mark.parametrize(
    ("dialect", "usage", "expected"),
    [
        ("chat", _CHAT, ir.Usage(20, 10, 0, 7)),
        ("completions", _CHAT, ir.Usage(20, 10, 0, 7)),
        ("messages", _MESSAGES, ir.Usage(20, 10, 5, 7)),
        ("responses", _RESPONSES, ir.Usage(20, 10, 0, 7)),
        ("embeddings", {"prompt_tokens": 8, "total_tokens": 8}, ir.Usage(8)),
        ("decisions", {"input_tokens": 8, "output_tokens": 0}, ir.Usage(8)),
    ],
)
def test_body_tells_its_tokens(dialect: str, usage: Json, expected: ir.Usage) -> None:
    """A text and a tool's argument that look like usage do not count."""
    text = 'he said "usage": {"prompt_tokens": 999, "input_tokens": 999}'
    body = {"content": [{"text": text}, {"input": {"usage": "high"}}], "usage": usage}
    counter = _counter(dialect)
    counter.feed_body(json.dumps(body).encode())
    assert counter.usage == expected


def test_stream_of_chat_tells_its_tokens_at_the_end() -> None:
    """Chunks before say null, and are counted as events."""
    counter = _counter("chat")
    for _ in range(3):
        counter.feed_events(_event({"choices": [{"delta": {"content": "a"}}], "usage": None}))
    assert counter.usage is None
    counter.feed_events(_event({"choices": [], "usage": _CHAT}) + b"data: [DONE]\n\n")
    assert counter.usage == ir.Usage(20, 10, 0, 7)
    assert counter.events == 5


def test_stream_of_messages_adds_up_its_two_events() -> None:
    """The input comes first, the output last, and a zero does not replace a count."""
    counter = _counter("messages")
    start = {**_MESSAGES, "output_tokens": 1}
    counter.feed_events(_event({"type": "message_start", "message": {"usage": start}}))
    assert counter.usage == ir.Usage(20, 10, 5, 1)
    end = {"input_tokens": 0, "output_tokens": 70}
    counter.feed_events(_event({"type": "message_delta", "usage": end}))
    assert counter.usage == ir.Usage(20, 10, 5, 70)


@pytest.mark.parametrize("body", [b'{"usage": {', b'{"usage": {"prompt_tokens": "many"}}', b"{}"])
def test_unusable_usage_is_unknown(body: bytes) -> None:
    """A torn or strange object counts nothing, and raises nothing."""
    counter = _counter("chat")
    counter.feed_body(body)
    assert counter.usage is None
