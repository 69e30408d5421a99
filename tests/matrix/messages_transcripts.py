"""What an Anthropic provider answers to messages, as JSON and as events.

Source: Anthropic API reference, "Messages", "Streaming messages", "Errors", "Web search tool".
"""

import json
from typing import Any, Final

from tests.matrix.cases import (
    BEFORE,
    DURING,
    SEARCH,
    SOURCE,
    STOP,
    TOLD,
    TOOL,
    Case,
    Tokens,
    Told,
    call_id,
    thirds,
    tokens_of,
)

MODEL: Final = "claude-sonnet-4-5-20250929"
ID: Final = "msg_01XFDUDYJgAACzvnptvVoYEL"
SIGNATURE: Final = "EqQBCgIYAhIM1gbcDa9GJwZA2b3hGgxBdjrkzLoky3dl1pkiMOYds"
PING: Final = b'event: ping\ndata: {"type": "ping"}\n\n'
_FINISHES: Final = {
    "stop": "end_turn",
    "tools": "tool_use",
    "length": "max_tokens",
    "stop_sequence": "stop_sequence",
    "refused": "refusal",
}


def usage(tokens: Tokens) -> dict[str, Any]:
    return {
        "input_tokens": tokens.uncached,
        "cache_creation_input_tokens": tokens.written,
        "cache_read_input_tokens": tokens.read,
        "cache_creation": {
            "ephemeral_5m_input_tokens": tokens.written,
            "ephemeral_1h_input_tokens": 0,
        },
        "output_tokens": tokens.output,
        "output_tokens_details": {"thinking_tokens": tokens.reasoning or 0},
        "service_tier": "standard",
    }


def _searched(text: str) -> list[dict[str, Any]]:
    found = {
        "type": "web_search_result",
        "url": SOURCE,
        "title": "Paris",
        "encrypted_content": "EqgfCioIARgB",
        "page_age": None,
    }
    cited = {
        "type": "web_search_result_location",
        "url": SOURCE,
        "title": "Paris",
        "encrypted_index": "Eo8BCioIAhgB",
        "cited_text": "mild",
    }
    call = "srvtoolu_01WYG3ziw53XMcoyKL4XcZmE"
    return [
        {"type": "server_tool_use", "id": call, "name": SEARCH, "input": {"query": "Paris"}},
        {"type": "web_search_tool_result", "tool_use_id": call, "content": [found]},
        {"type": "text", "text": text, "citations": [cited]},
    ]


def _blocks(case: Case, told: Told) -> list[dict[str, Any]]:
    if case is Case.SERVER_TOOL:
        return _searched(told.text)
    blocks: list[dict[str, Any]] = []
    if told.thinking:
        blocks.append({"type": "thinking", "thinking": told.thinking, "signature": SIGNATURE})
    if told.text:
        blocks.append({"type": "text", "text": told.text, "citations": None})
    for at, arguments in enumerate(told.calls):
        identity = call_id("messages", at)
        blocks.append({"type": "tool_use", "id": identity, "name": TOOL, "input": arguments})
    return blocks


def _ending(told: Told) -> dict[str, Any]:
    details = {"type": "refusal", "category": None, "explanation": told.refusal}
    return {
        "stop_reason": _FINISHES[told.finish],
        "stop_sequence": STOP if told.finish == "stop_sequence" else None,
        "stop_details": details if told.refusal else None,
    }


def _message(content: list[dict[str, Any]], **fields: Any) -> dict[str, Any]:
    return {
        "id": ID,
        "type": "message",
        "role": "assistant",
        "model": MODEL,
        "content": content,
        **fields,
    }


def answer(case: Case) -> dict[str, Any]:
    """The complete answer of a case."""
    told = TOLD[case]
    return _message(_blocks(case, told), **_ending(told), usage=usage(tokens_of(case, "messages")))


def event(kind: str, **fields: Any) -> bytes:
    """One event."""
    data = json.dumps({"type": kind, **fields}, ensure_ascii=False)
    return f"event: {kind}\ndata: {data}\n\n".encode()


def _streamed(index: int, block: dict[str, Any]) -> list[bytes]:
    """The events of a block; blocks of searches begin whole, and their input comes in pieces."""
    deltas: list[dict[str, Any]] = []
    match block["type"]:
        case "thinking":
            pieces = thirds(block["thinking"])
            deltas += [{"type": "thinking_delta", "thinking": piece} for piece in pieces]
            deltas.append({"type": "signature_delta", "signature": block["signature"]})
            begun = {**block, "thinking": "", "signature": ""}
        case "text":
            deltas += [
                {"type": "citations_delta", "citation": cited} for cited in block["citations"] or ()
            ]
            deltas += [{"type": "text_delta", "text": piece} for piece in thirds(block["text"])]
            begun = {"type": "text", "text": ""}
        case "tool_use" | "server_tool_use":
            text = json.dumps(block["input"], ensure_ascii=False)
            deltas += [
                {"type": "input_json_delta", "partial_json": piece} for piece in ("", *thirds(text))
            ]
            begun = {**block, "input": {}}
        case _:
            begun = block
    start = event("content_block_start", index=index, content_block=begun)
    moving = [event("content_block_delta", index=index, delta=delta) for delta in deltas]
    return [start, *moving, event("content_block_stop", index=index)]


def start(tokens: Tokens = TOLD[Case.TEXT].tokens) -> bytes:
    """The first event of a stream."""
    begun = {
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {**usage(tokens), "output_tokens": 1},
    }
    return event("message_start", message=_message([], **begun))


def events(case: Case) -> list[bytes]:
    """The stream of a case."""
    told = TOLD[case]
    stream = [start(tokens_of(case, "messages")), PING]
    for index, block in enumerate(_blocks(case, told)):
        stream += _streamed(index, block)
    if case is Case.ERROR_DURING:
        return [*stream[:-1], _failure(DURING, "api_error")]
    counted = usage(tokens_of(case, "messages"))
    del counted["service_tier"], counted["cache_creation"]
    return [
        *stream,
        event("message_delta", delta=_ending(told), usage=counted),
        event("message_stop"),
    ]


def _error(message: str, kind: str) -> dict[str, Any]:
    error = {"type": kind, "message": message}
    return {"type": "error", "error": error, "request_id": "req_011CSHoEeqs5C35K2UUqR7Fy"}


def _failure(message: str, kind: str) -> bytes:
    return b"event: error\ndata: " + json.dumps(_error(message, kind)).encode() + b"\n\n"


ERROR: Final = _error(BEFORE, "rate_limit_error")
"""The body under status 429."""

FIRST_ERROR: Final = [start(), PING, _failure(BEFORE, "rate_limit_error")]
"""A stream that fails before it has content."""

COUNT: Final = {"input_tokens": 2095}
"""What the path that counts tokens answers."""
