"""The scripted model in the dialect OpenAI responses.

Source: OpenAI API reference, "Responses".
"""

import itertools
import json
import re
from collections.abc import Iterator
from typing import Any

from openai.types.responses.response_create_params import ResponseCreateParamsNonStreaming as Params

from tests.agents.script import SIGNATURE, Asked, Offered, Said, pieces

KNOWN = Params.__required_keys__ | Params.__optional_keys__
_ITEMS = {
    "message",
    "function_call",
    "function_call_output",
    "reasoning",
    "custom_tool_call",
    "custom_tool_call_output",
    "local_shell_call",
    "local_shell_call_output",
    "additional_tools",
}


def read(body: dict[str, Any], *, is_strict: bool) -> Asked:
    """The request, checked as OpenAI would; ``is_strict``: the gateway wrote it."""
    asked = Asked(str(body.get("model")), body.get("stream") is True)
    asked.may_be_parallel = body.get("parallel_tool_calls") is not False
    asked.has_thinking = "reasoning.encrypted_content" in (body.get("include") or [])
    if is_strict:
        asked.expect(set(body) <= KNOWN, f"unknown fields {sorted(set(body) - KNOWN)}")
    for tool in body.get("tools") or []:
        if tool.get("type") == "function":
            name = str(tool.get("name"))
            asked.expect(bool(re.fullmatch(r"[\w-]{1,128}", name)), f"tool name {name!r}")
            asked.tools.append(Offered(name, tool.get("parameters") or {}))
        elif tool.get("type") == "namespace" and not is_strict:
            inner = [one for one in tool.get("tools") or [] if one.get("type") == "function"]
            asked.tools += [
                Offered(str(one.get("name")), one.get("parameters") or {}, str(tool.get("name")))
                for one in inner
            ]
        else:
            asked.expect(not is_strict, f"a tool of type {tool.get('type')}")
    items = body.get("input") or []
    _read_items(asked, [{"role": "user", "content": items}] if isinstance(items, str) else items)
    return asked


def _read_items(asked: Asked, items: list[dict[str, Any]]) -> None:
    open_calls: set[str] = set()
    for item in items:
        kind = item.get("type", "message")
        asked.expect(kind in _ITEMS, f"an item {kind!r}")
        if kind in {"function_call", "custom_tool_call"}:
            open_calls.add(item["call_id"])
        elif kind in {"function_call_output", "custom_tool_call_output"}:
            known = item.get("call_id") in open_calls
            asked.expect(known, f"a result of the unknown call {item.get('call_id')!r}")
            open_calls.discard(item.get("call_id", ""))
            asked.results.append(_text(item.get("output")))
        elif kind == "reasoning":
            content = item.get("encrypted_content")
            asked.expect(content == SIGNATURE, f"encrypted_content {content!r}")
        elif kind == "message":
            _read_message(asked, item)
    asked.expect(not open_calls, "calls without a result at the end")


def _read_message(asked: Asked, item: dict[str, Any]) -> None:
    role, content = item.get("role"), item.get("content")
    asked.expect(role in {"system", "developer", "user", "assistant"}, f"role {role!r}")
    kind = "output_text" if role == "assistant" else "input_text"
    for part in content if isinstance(content, list) else []:
        asked.expect(part.get("type") == kind, f"a part {part.get('type')!r} of the {role}")
    if role == "user":
        asked.texts.append(_text(content))


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "\n".join(str(part.get("text", "")) for part in content)
    return str(content or "")


def answer(said: Said, model: str) -> dict[str, Any]:
    """The answer in one piece."""
    return _response(said, model, "completed", list(_items(said)))


def events(said: Said, model: str) -> Iterator[bytes]:
    """The answer as a stream."""
    numbers = itertools.count()

    def event(kind: str, **fields: Any) -> bytes:
        value = {"type": kind, "sequence_number": next(numbers), **fields}
        return f"event: {kind}\ndata: {json.dumps(value)}\n\n".encode()

    for state in ("created", "in_progress"):
        yield event(f"response.{state}", response=_response(said, model, "in_progress", []))
    for index, item in enumerate(_items(said)):
        yield event("response.output_item.added", output_index=index, item=_begun(item))
        at = {"item_id": item["id"], "output_index": index}
        for kind, fields in _inner(item):
            yield event(kind, **at, **fields)
        yield event("response.output_item.done", output_index=index, item=item)
    done = _response(said, model, "completed", list(_items(said)))
    yield event("response.completed", response=done)


def _inner(item: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The events between the start and the end of an item, without their place."""
    if item["type"] == "function_call":
        for piece in pieces(item["arguments"]):
            yield "response.function_call_arguments.delta", {"delta": piece}
        whole = {"arguments": item["arguments"], "name": item["name"]}
        yield "response.function_call_arguments.done", whole
    elif item["type"] == "message":
        part, at = item["content"][0], {"content_index": 0}
        yield "response.content_part.added", {**at, "part": {**part, "text": ""}}
        for piece in pieces(part["text"]):
            yield "response.output_text.delta", {**at, "delta": piece, "logprobs": []}
        yield "response.output_text.done", {**at, "text": part["text"], "logprobs": []}
        yield "response.content_part.done", {**at, "part": part}
    else:
        part, at = item["summary"][0], {"summary_index": 0}
        yield "response.reasoning_summary_part.added", {**at, "part": {**part, "text": ""}}
        for piece in pieces(part["text"]):
            yield "response.reasoning_summary_text.delta", {**at, "delta": piece}
        yield "response.reasoning_summary_text.done", {**at, "text": part["text"]}
        yield "response.reasoning_summary_part.done", {**at, "part": part}


def _begun(item: dict[str, Any]) -> dict[str, Any]:
    """An item before its content."""
    empty = {"content": [], "summary": [], "arguments": "", "encrypted_content": ""}
    begun = {name: empty.get(name, value) for name, value in item.items()}
    return {**begun, "status": "in_progress"} if "status" in begun else begun


def _items(said: Said) -> Iterator[dict[str, Any]]:
    if said.thought:
        yield {
            "id": f"rs_{said.number}",
            "type": "reasoning",
            "summary": [{"type": "summary_text", "text": said.thought}],
            "encrypted_content": SIGNATURE,
        }
    part = {"type": "output_text", "text": said.text, "annotations": [], "logprobs": []}
    yield {
        "id": f"msg_{said.number}",
        "type": "message",
        "status": "completed",
        "role": "assistant",
        "content": [part],
    }
    for position, call in enumerate(said.calls):
        yield {
            "id": f"fc_{said.number}_{position}",
            "type": "function_call",
            "status": "completed",
            "call_id": call.id,
            "name": call.name,
            "arguments": call.arguments,
            **({"namespace": call.namespace} if call.namespace else {}),
        }


def _response(said: Said, model: str, status: str, output: list[Any]) -> dict[str, Any]:
    return {
        "id": f"resp_{said.number}",
        "object": "response",
        "created_at": 1_700_000_000,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "model": model,
        "output": output,
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": _usage(said) if status == "completed" else None,
    }


def _usage(said: Said) -> dict[str, Any]:
    return {
        "input_tokens": said.tokens + 20,
        "input_tokens_details": {"cached_tokens": 20, "cache_write_tokens": 0},
        "output_tokens": 30,
        "output_tokens_details": {"reasoning_tokens": 5},
        "total_tokens": said.tokens + 50,
    }
