"""The scripted model in the dialect OpenAI chat completions.

Source: OpenAI API reference, "Chat Completions".
"""

import json
import re
from collections.abc import Iterator
from typing import Any

from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming as Params

from tests.agents.script import Asked, Offered, Said, pieces

KNOWN = Params.__required_keys__ | Params.__optional_keys__
FIELD = "reasoning_content"


def read(body: dict[str, Any], *, is_strict: bool) -> Asked:
    """The request, checked as OpenAI would; ``is_strict``: the gateway wrote it."""
    asked = Asked(str(body.get("model")), body.get("stream") is True)
    asked.may_be_parallel = body.get("parallel_tool_calls") is not False
    asked.has_thinking = "reasoning_effort" in body
    if is_strict:
        asked.expect(set(body) <= KNOWN, f"unknown fields {sorted(set(body) - KNOWN)}")
        usage = (body.get("stream_options") or {}).get("include_usage")
        asked.expect(usage is True or not asked.is_stream, "no usage is asked for in the stream")
    for tool in body.get("tools") or []:
        function = tool.get("function") or {}
        name = str(function.get("name"))
        asked.expect(tool.get("type") == "function", f"a tool of type {tool.get('type')}")
        asked.expect(bool(re.fullmatch(r"[\w-]{1,64}", name)), f"tool name {name!r}")
        asked.tools.append(Offered(name, function.get("parameters") or {}))
    _read_messages(asked, body.get("messages") or [])
    return asked


def _read_messages(asked: Asked, messages: list[dict[str, Any]]) -> None:
    open_calls: set[str] = set()
    for message in messages:
        role, text = message.get("role"), _text(message.get("content"))
        if role == "tool":
            known = message.get("tool_call_id") in open_calls
            asked.expect(known, f"a result of the unknown call {message.get('tool_call_id')!r}")
            open_calls.discard(message.get("tool_call_id", ""))
            asked.results.append(text)
            continue
        asked.expect(not open_calls, f"calls without a result before a {role} message")
        asked.expect(role in {"system", "developer", "user", "assistant"}, f"role {role!r}")
        if role == "user":
            asked.texts.append(text)
        for call in message.get("tool_calls") or []:
            open_calls.add(call["id"])
            _expect_object(asked, call["function"]["arguments"])
    asked.expect(not open_calls, "calls without a result at the end")


def _expect_object(asked: Asked, arguments: Any) -> None:
    try:
        is_object = isinstance(json.loads(arguments), dict)
    except (TypeError, ValueError):
        is_object = False
    asked.expect(is_object, f"arguments that are not a JSON object: {arguments!r}")


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "\n".join(str(part.get("text", "")) for part in content)
    return str(content or "")


def _usage(said: Said) -> dict[str, Any]:
    return {
        "prompt_tokens": said.tokens + 20,
        "completion_tokens": 30,
        "total_tokens": said.tokens + 50,
        "prompt_tokens_details": {"cached_tokens": 20},
    }


def answer(said: Said, model: str) -> dict[str, Any]:
    """The answer in one piece."""
    message: dict[str, Any] = {"role": "assistant", "content": said.text, "refusal": None}
    if said.thought:
        message[FIELD] = said.thought
    if said.calls:
        message["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in said.calls
        ]
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _finish(said)}
    return {**_frame(said, model, "chat.completion"), "choices": [choice], "usage": _usage(said)}


def events(said: Said, model: str) -> Iterator[bytes]:
    """The answer as a stream, its usage in a chunk of its own."""
    frame = _frame(said, model, "chat.completion.chunk")

    def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return _event({**frame, "choices": [choice], "usage": None})

    yield chunk({"role": "assistant", "content": ""})
    yield from (chunk({FIELD: piece}) for piece in pieces(said.thought))
    yield from (chunk({"content": piece}) for piece in pieces(said.text))
    for index, call in enumerate(said.calls):
        first = {"name": call.name, "arguments": ""}
        yield chunk(
            {"tool_calls": [{"index": index, "id": call.id, "type": "function", "function": first}]}
        )
        for piece in pieces(call.arguments):
            yield chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
    yield chunk({}, _finish(said))
    yield _event({**frame, "choices": [], "usage": _usage(said)})
    yield b"data: [DONE]\n\n"


def _finish(said: Said) -> str:
    return "tool_calls" if said.calls else "stop"


def _frame(said: Said, model: str, kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{said.number}",
        "object": kind,
        "created": 1_700_000_000,
        "model": model,
    }


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"
