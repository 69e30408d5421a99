"""What an OpenAI provider answers to chat completions, as JSON and as events.

Source: OpenAI API reference, "Chat", "The chat completion object" and "Streaming"; the field
``reasoning_content`` as DeepSeek has it.
"""

import json
from typing import Any, Final

from tests.matrix.cases import (
    BEFORE,
    DURING,
    SOURCE,
    TOLD,
    TOOL,
    Case,
    Tokens,
    Told,
    call_id,
    thirds,
    tokens_of,
)

MODEL: Final = "gpt-5.1-2026-02-01"
ID: Final = "chatcmpl-BxYz12345"
DONE: Final = b"data: [DONE]\n\n"
_FINISHES: Final = {"tools": "tool_calls", "length": "length"}


def usage(tokens: Tokens) -> dict[str, Any]:
    return {
        "prompt_tokens": tokens.prompt,
        "completion_tokens": tokens.output,
        "total_tokens": tokens.prompt + tokens.output,
        "prompt_tokens_details": {"cached_tokens": tokens.read, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": tokens.reasoning or 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _head(kind: str) -> dict[str, Any]:
    return {
        "id": ID,
        "object": kind,
        "created": 1_780_000_000,
        "model": MODEL,
        "service_tier": "default",
        "system_fingerprint": None,
    }


def _call(position: int, arguments: dict[str, Any]) -> dict[str, Any]:
    function = {"name": TOOL, "arguments": json.dumps(arguments, ensure_ascii=False)}
    return {"id": call_id("chat", position), "type": "function", "function": function}


def _annotations(text: str) -> list[dict[str, Any]]:
    cited = {"url": SOURCE, "title": "Paris", "start_index": 0, "end_index": len(text)}
    return [{"type": "url_citation", "url_citation": cited}]


def answer(case: Case) -> dict[str, Any]:
    """The complete answer of a case."""
    told = TOLD[case]
    message: dict[str, Any] = {
        "role": "assistant",
        "content": told.text or None,
        "refusal": told.refusal or None,
        "annotations": _annotations(told.text) if case is Case.SERVER_TOOL else [],
    }
    if told.calls:
        message["tool_calls"] = [_call(at, each) for at, each in enumerate(told.calls)]
    if told.thinking:
        message["reasoning_content"] = told.thinking
    choice = {
        "index": 0,
        "message": message,
        "logprobs": None,
        "finish_reason": _FINISHES.get(told.finish, "stop"),
    }
    return {
        **_head("chat.completion"),
        "choices": [choice],
        "usage": usage(tokens_of(case, "chat")),
    }


def chunk(delta: dict[str, Any] | None, finish: str | None = None, **fields: Any) -> bytes:
    """One event; without a choice if there is no delta."""
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    body = {
        **_head("chat.completion.chunk"),
        "choices": [] if delta is None else [choice],
        "usage": None,
        **fields,
    }
    return b"data: " + json.dumps(body, ensure_ascii=False).encode() + b"\n\n"


def _deltas(case: Case, told: Told) -> list[dict[str, Any]]:
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": "", "refusal": None}]
    deltas += [{"reasoning_content": piece} for piece in thirds(told.thinking)]
    deltas += [{"content": piece} for piece in thirds(told.text)]
    deltas += [{"refusal": piece} for piece in thirds(told.refusal)]
    if case is Case.SERVER_TOOL:
        deltas.append({"annotations": _annotations(told.text)})
    for at, arguments in enumerate(told.calls):
        call = _call(at, arguments)
        pieces = thirds(call["function"]["arguments"])
        begun = {**call, "index": at, "function": {"name": TOOL, "arguments": ""}}
        deltas.append({"tool_calls": [begun]})
        deltas += [
            {"tool_calls": [{"index": at, "function": {"arguments": piece}}]} for piece in pieces
        ]
    return deltas


def events(case: Case) -> list[bytes]:
    """The stream of a case."""
    told = TOLD[case]
    stream = [chunk(delta) for delta in _deltas(case, told)]
    if case is Case.ERROR_DURING:
        return [*stream, _failure(DURING, "server_error", None)]
    last = chunk({}, _FINISHES.get(told.finish, "stop"))
    return [*stream, last, chunk(None, usage=usage(tokens_of(case, "chat"))), DONE]


def _error(message: str, kind: str, code: str | None) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def _failure(message: str, kind: str, code: str | None) -> bytes:
    return b"data: " + json.dumps(_error(message, kind, code)).encode() + b"\n\n"


ERROR: Final = _error(BEFORE, "requests", "rate_limit_exceeded")
"""The body under status 429."""

FIRST_ERROR: Final = [
    chunk({"role": "assistant", "content": ""}),
    _failure(BEFORE, "requests", "rate_limit_exceeded"),
]
"""A stream that fails before it has content."""
