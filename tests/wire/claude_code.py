"""What Claude Code 2.1.332 sends, a provider that answers it, and a gateway between the two.

The headers are those that the program sent through the gateway to a scripted model.
"""

import asyncio
import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tests.scripts import Headers, Line, Script, answer, event

KEY: Final = "sk-contract-client-key"
"""The client's, of the gateway."""
PROVIDER_KEY: Final = "sk-contract-provider-key"
ENVIRON: Final = {"CLIENT_KEY": KEY, "PROVIDER_KEY": PROVIDER_KEY}
BODY_BYTES: Final = 300_000

BETAS: Final = (
    "claude-code-20250219,interleaved-thinking-2025-05-14,context-management-2025-06-27,"
    "mid-conversation-tool-changes-2026-07-01,thinking-token-count-2026-05-13,"
    "advanced-tool-use-2025-11-20,effort-2025-11-24,unheard-of-2027-01-01"
)
STAINLESS: Final = {
    "x-stainless-arch": "x64",
    "x-stainless-lang": "js",
    "x-stainless-os": "Linux",
    "x-stainless-package-version": "0.128.0",
    "x-stainless-retry-count": "0",
    "x-stainless-runtime": "node",
    "x-stainless-runtime-version": "v26.12.1",
    "x-stainless-timeout": "600",
}
BEARER: Final = {"authorization": f"Bearer {KEY}"}
HINTS: Final = {
    "x-claude-1p-request-class": "main",
    "x-claude-code-prompt-id": "b3c05b58-124d-4db8-99fc-e7c57b7109ba",
    "x-claude-code-prev-tool-durations": "Agent=12",
    "x-claude-code-request-class": "main",
    "x-claude-code-session-id": "691f3321-50d0-493d-8948-5f4ba520ce2c",
}
MAIN: Final = {
    "accept": "application/json",
    "user-agent": "claude-cli/2.1.332 (external, sdk-cli)",
    "anthropic-beta": BETAS,
    "anthropic-dangerous-direct-browser-access": "true",
    "anthropic-version": "2023-06-01",
    "x-app": "cli",
    "accept-encoding": "gzip, deflate, br, zstd",
    **BEARER,
    **HINTS,
    **STAINLESS,
}
"""A request of the main conversation."""
SUBAGENT: Final = {
    **MAIN,
    "x-claude-1p-request-class": "blocking-subagent",
    "x-claude-code-agent-id": "af330c3ad1ad47103",
    "x-claude-code-agent-type": "Explore",
    "x-claude-code-parent-agent-id": "b0441d4be2be58214",
    "x-claude-code-request-class": "subagent",
}
"""A request of an agent that another agent started."""
DISCOVERY: Final = {
    "user-agent": "claude-code/2.1.332",
    "anthropic-version": "2023-06-01",
    "accept": "*/*",
    "accept-encoding": "gzip, deflate, br, zstd",
    **BEARER,
}
"""The request for the list of models; with an API key also ``x-api-key``."""

BODY: Final[Mapping[str, Any]] = {
    "model": "native/claude-sonnet-4-5",
    "max_tokens": 32000,
    "system": [{"type": "text", "text": "You help.", "cache_control": {"type": "ephemeral"}}],
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Hello", "cache_control": {"type": "ephemeral"}},
            ],
        }
    ],
    "thinking": {"type": "adaptive"},
    "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
    "output_config": {"effort": "medium"},
    "metadata": {"user_id": '{"session_id": "691f3321-50d0-493d-8948-5f4ba520ce2c"}'},
    "diagnostics": {"unheard_of": [1, {"é": None}]},
}
"""The fields that its requests have, and one that is not known yet."""

SAFEGUARDS: Final = {"safeguards": [{"type": "dangerous_tool_use", "evaluate": ["t1"]}]}
RESULTS: Final = [{"type": "dangerous_tool_use", "status": {"type": "available", "tool_uses": {}}}]
TOO_LONG: Final = "prompt is too long: 210000 tokens > 200000 maximum"


def _native(kind: str, message: str) -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}


def _openai(message: str, code: str | None, kind: str = "invalid_request_error") -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


ERRORS: Final[Mapping[str, tuple[int, dict[str, Any]]]] = {
    "invalid": (400, _native("invalid_request_error", "tools.0.name: Field required")),
    "too-long": (400, _native("invalid_request_error", TOO_LONG)),
    "input-too-long": (400, _native("invalid_request_error", "Input is too long.")),
    "too-large": (413, _native("request_too_large", "Request exceeds the maximum size")),
    "forbidden": (403, _native("permission_error", "not for this workspace")),
    "limited": (429, _native("rate_limit_error", "slow down")),
    "overloaded": (529, _native("overloaded_error", "Overloaded")),
    "broken": (500, _native("api_error", "Internal server error")),
    "unpaid": (402, _openai("Insufficient Balance", "invalid_request_error", "unknown_error")),
    "quota": (429, _openai("You exceeded your current quota", "insufficient_quota")),
    "context": (
        400,
        _openai("This model's maximum context length is 8192 tokens. Shorten it.", None),
    ),
    "answer": (
        400,
        _openai("max_tokens is too large: 32000. This model supports at most 4096 of them.", None),
    ),
    "together": (
        400,
        _openai(
            "'max_tokens' or 'max_completion_tokens' is too large: 32000. This model's maximum "
            "context length is 32768 tokens and your request has 9000 input tokens.",
            None,
        ),
    ),
    "foreign-limited": (429, _openai("Rate limit reached", "rate_limit_exceeded")),
    "foreign-busy": (529, _openai("The server is full", None, "server_error")),
    "foreign-broken": (503, _openai("The server is down", None, "server_error")),
}
"""What the provider answers by the model's name, which may go on with ``@``."""


async def _fail(line: Line, exchange: Headers, request: dict[str, Any]) -> None:
    del exchange
    status, body = ERRORS[str(request["model"]).partition("@")[0]]
    headers = {"retry-after": "7"} if status == 429 else {}
    line.whole(json.dumps(body).encode(), status, headers)


def _event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


MESSAGE: Final = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-4-5",
    "content": [{"type": "text", "text": "Hello there"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 5, "output_tokens": 2},
    "safeguard_results": RESULTS,
    "unheard_of": {"é": 1},
}
_DELTA: Final = {"stop_reason": "end_turn", "safeguard_results": RESULTS}
_TEXT: Final = {"type": "text", "text": ""}
FIRST_EVENTS: Final = (
    _event("message_start", message={**MESSAGE, "content": [], "stop_reason": None})
    + _event("content_block_start", index=0, content_block=_TEXT)
    + _event("ping")
    + _event("content_block_delta", index=0, delta={"type": "text_delta", "text": "Hello"})
)
LAST_EVENTS: Final = (
    _event("ping")
    + _event("content_block_delta", index=0, delta={"type": "text_delta", "text": " there"})
    + _event("content_block_stop", index=0)
    + _event("message_delta", delta=_DELTA, usage={"output_tokens": 2})
    + _event("message_stop")
)
GATE: Final = threading.Event()
"""Lets the rest of a stream of the model ``gated`` go."""
_OPEN_S: Final = 10.0


async def _messages(line: Line, exchange: Headers, request: dict[str, Any]) -> None:
    if exchange.path.partition("?")[0].endswith("/count_tokens"):
        line.whole(b'{"input_tokens": 77}')
        return
    if not request.get("stream"):
        line.whole(json.dumps(MESSAGE).encode(), headers={"request-id": "req_1"})
        return
    line.head(200, {"content-type": "text/event-stream"}, None)
    line.chunk(FIRST_EVENTS)
    await _wait(request)
    line.chunk(LAST_EVENTS)
    line.end()


async def _wait(request: dict[str, Any]) -> None:
    for _ in range(int(_OPEN_S / 0.01)):
        if request["model"] != "gated" or GATE.is_set():
            return
        await asyncio.sleep(0.01)


async def _chat(line: Line, exchange: Headers, request: dict[str, Any]) -> None:
    if request["model"] != "gated":
        await answer(line, exchange, request)
        return
    line.head(200, {"content-type": "text/event-stream"}, None)
    line.chunk(event({"role": "assistant", "content": ""}) + event({"content": "Hello"}))
    await _wait(request)
    line.chunk(event({}, "stop") + b"data: [DONE]\n\n")
    line.end()


async def _responses(line: Line, exchange: Headers, request: dict[str, Any]) -> None:
    del exchange, request
    text = {"type": "output_text", "text": "Hello there", "annotations": []}
    item = {"type": "message", "id": "i1", "role": "assistant", "content": [text]}
    line.whole(
        json.dumps(
            {
                "id": "resp_1",
                "object": "response",
                "status": "completed",
                "model": "m",
                "output": [{**item, "status": "completed"}],
                "usage": {"input_tokens": 5, "output_tokens": 2, "total_tokens": 7},
            }
        ).encode()
    )


async def _speak(line: Line, exchange: Headers, request: dict[str, Any]) -> None:
    script = _messages if "/messages" in exchange.path else _chat
    if exchange.path.endswith("/responses"):
        script = _responses
    await script(line, exchange, request)


def script_for(name: str) -> Script:
    """The script of a model: an error by its name, else an answer in the dialect of the path."""
    return _fail if name.partition("@")[0] in ERRORS else _speak


def write_contract_config(folder: Path, url: str, **more: Any) -> Path:
    """Writes a configuration with providers of three dialects, routes and aliases.

    ``more`` are other sections.
    """
    operations = {
        "native": ("anthropic", ["messages", "count_tokens"]),
        "chat": ("openai", ["chat"]),
        "responses": ("openai", ["responses"]),
    }
    entries: list[dict[str, Any]] = [
        {
            "model": f"{provider}/{name}",
            "base_url": url,
            "provider_interface": interface,
            "operations": known,
            "access_key": "$PROVIDER_KEY",
        }
        for provider, (interface, known) in operations.items()
        for name in ("claude-sonnet-4-5", "*")
    ]
    entries[0] |= {
        "default": True,
        "display_name": "Sonnet",
        "description": "Everyday work",
        "max_input_tokens": 150_000,
    }
    entries.append(
        {
            "model": "theirs/*",
            "base_url": url,
            "provider_interface": "anthropic",
            "passthrough_auth": True,
        }
    )
    named = "native/claude-sonnet-4-5"
    config = {
        "version": "v0.4.0",
        "model_providers": entries,
        "model_aliases": {
            "claude-auto": {"target": "auto"},
            "claude-work": {"target": named, "display_name": "Work", "description": "For work"},
            "claude-chat": {"target": "chat/claude-sonnet-4-5"},
        },
        "routing_preferences": [
            {"name": "code", "description": "writing and fixing code", "models": [named]},
            {"name": "poems", "description": "poems and songs", "models": [named]},
        ],
        "client_keys": ["$CLIENT_KEY"],
        "limits": {"body_bytes": BODY_BYTES},
        "timeouts": {"connect_s": 1.0, "first_byte_s": 5.0, "idle_s": 5.0, "total_s": 10.0},
        **more,
    }
    file = folder / "gateway.yaml"
    file.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))
    return file
