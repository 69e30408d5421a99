"""The scripted model in the dialect Anthropic messages.

Source: Anthropic API reference, "Messages".
"""

import json
import re
from collections.abc import Iterator
from typing import Any

from anthropic.types.message_create_params import MessageCreateParamsNonStreaming as Params

from tests.agents.script import SIGNATURE, Asked, Call, Offered, Said, pieces

SAMPLING = {"temperature", "top_p", "top_k"}
"""What only models take that are older than the SDK's types; the scripted one is such a model."""
KNOWN = Params.__required_keys__ | Params.__optional_keys__ | SAMPLING
MAX_CACHE_MARKS = 4


def read(body: dict[str, Any], *, is_strict: bool) -> Asked:
    """The request, checked as Anthropic would; ``is_strict``: the gateway wrote it."""
    asked = Asked(str(body.get("model")), body.get("stream") is True)
    choice = body.get("tool_choice") or {}
    asked.may_be_parallel = choice.get("disable_parallel_tool_use") is not True
    thinking = body.get("thinking") or {}
    asked.has_thinking = thinking.get("type") in {"enabled", "adaptive"}
    limit = body.get("max_tokens")
    asked.expect(isinstance(limit, int) and limit > 0, f"max_tokens {limit!r}")
    if asked.has_thinking:
        budget = thinking.get("budget_tokens", 0)
        asked.expect(isinstance(limit, int) and budget < limit, f"budget {budget} of {limit!r}")
        asked.expect(choice.get("type", "auto") == "auto", "a forced tool while it thinks")
        asked.expect(body.get("temperature", 1) == 1, "a temperature while it thinks")
    if is_strict:
        asked.expect(set(body) <= KNOWN, f"unknown fields {sorted(set(body) - KNOWN)}")
    marks = json.dumps(body).count('"cache_control"')
    asked.expect(marks <= MAX_CACHE_MARKS, f"{marks} cache_control marks")
    for tool in body.get("tools") or []:
        _read_tool(asked, tool)
    _read_messages(asked, body.get("messages") or [], is_strict=is_strict)
    return asked


def _read_tool(asked: Asked, tool: dict[str, Any]) -> None:
    name, schema = str(tool.get("name")), tool.get("input_schema") or {}
    if tool.get("type", "custom") != "custom":
        return
    asked.expect(bool(re.fullmatch(r"[\w-]{1,128}", name)), f"tool name {name!r}")
    asked.expect(schema.get("type") == "object", f"the schema of {name} is not an object's")
    if tool.get("defer_loading") is True:
        asked.deferred.append(name)
    else:
        asked.tools.append(Offered(name, schema))


def _read_messages(asked: Asked, messages: list[dict[str, Any]], *, is_strict: bool) -> None:
    before, open_calls = "", set[str]()
    for message in messages:
        role, content = str(message.get("role")), message.get("content")
        known = {"user", "assistant"} if is_strict else {"user", "assistant", "system"}
        asked.expect(role in known, f"role {role!r}")
        asked.expect(bool(before) or role == "user", f"the first message is the {role}'s")
        asked.expect(role != before or not is_strict, f"two {role} messages in a row")
        before = role
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content or []
        asked.expect(bool(blocks), f"a {role} message without content")
        _read_results(asked, blocks, open_calls)
        for block in blocks:
            _read_block(asked, block, role, open_calls)
    asked.expect(not open_calls, "calls without a result at the end")


def _read_results(asked: Asked, blocks: list[dict[str, Any]], open_calls: set[str]) -> None:
    results = [block for block in blocks if block.get("type") == "tool_result"]
    asked.expect(results == blocks[: len(results)], "tool results after other blocks")
    for block in results:
        id_ = block.get("tool_use_id", "")
        asked.expect(id_ in open_calls, f"a result of the unknown call {id_!r}")
        open_calls.discard(id_)
        asked.results.append(_text(block.get("content")))
    asked.expect(not open_calls, "calls without a result in the next message")
    open_calls.clear()


def _read_block(asked: Asked, block: dict[str, Any], role: str, open_calls: set[str]) -> None:
    kind = block.get("type")
    if kind == "text":
        asked.expect(bool(str(block.get("text")).strip()), f"an empty text of the {role}")
        if role == "user":
            asked.texts.append(str(block.get("text")))
    elif kind == "tool_use":
        asked.expect(bool(re.fullmatch(r"[\w-]+", str(block.get("id")))), f"id {block.get('id')}")
        asked.expect(isinstance(block.get("input"), dict), "an input that is not an object")
        open_calls.add(str(block.get("id")))
    elif kind == "thinking":
        asked.expect(block.get("signature") == SIGNATURE, f"signature {block.get('signature')!r}")
    else:
        asked.expect(kind == "tool_result" or role == "user", f"a block {kind!r} of the {role}")


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "\n".join(str(part.get("text") or part.get("tool_name") or "") for part in content)
    return str(content or "")


def count(body: dict[str, Any]) -> dict[str, Any]:
    """The answer of ``count_tokens``."""
    return {"input_tokens": len(json.dumps(body)) // 4}


def answer(said: Said, model: str) -> dict[str, Any]:
    """The answer in one piece."""
    content: list[dict[str, Any]] = []
    if said.thought:
        content.append({"type": "thinking", "thinking": said.thought, "signature": SIGNATURE})
    content.append({"type": "text", "text": said.text, "citations": None})
    content += [{**_tool_use(call), "input": json.loads(call.arguments)} for call in said.calls]
    return {
        **_frame(said, model),
        "content": content,
        "stop_reason": _stop_reason(said),
        "usage": _usage(said),
    }


def events(said: Said, model: str) -> Iterator[bytes]:
    """The answer as a stream."""
    started = {**_frame(said, model), "content": [], "stop_reason": None, "usage": _usage(said)}
    yield _event("message_start", message=started)
    yield _event("ping")
    index = 0
    if said.thought:
        yield _start(0, {"type": "thinking", "thinking": "", "signature": ""})
        for piece in pieces(said.thought):
            yield _delta(0, type="thinking_delta", thinking=piece)
        yield _delta(0, type="signature_delta", signature=SIGNATURE)
        yield _event("content_block_stop", index=0)
        index = 1
    yield _start(index, {"type": "text", "text": ""})
    for piece in pieces(said.text):
        yield _delta(index, type="text_delta", text=piece)
    yield _event("content_block_stop", index=index)
    for call in said.calls:
        index += 1
        yield _start(index, {**_tool_use(call), "input": {}})
        for piece in ("", *pieces(call.arguments)):
            yield _delta(index, type="input_json_delta", partial_json=piece)
        yield _event("content_block_stop", index=index)
    delta = {"stop_reason": _stop_reason(said), "stop_sequence": None}
    yield _event("message_delta", delta=delta, usage=_usage(said))
    yield _event("message_stop")


def _tool_use(call: Call) -> dict[str, Any]:
    return {"type": "tool_use", "id": f"toolu_{call.id}", "name": call.name}


def _usage(said: Said) -> dict[str, int]:
    return {
        "input_tokens": said.tokens,
        "output_tokens": 30,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 20,
    }


def _stop_reason(said: Said) -> str:
    return "tool_use" if said.calls else "end_turn"


def _frame(said: Said, model: str) -> dict[str, Any]:
    fixed = {"type": "message", "role": "assistant", "stop_sequence": None}
    return {"id": f"msg_{said.number}", "model": model, **fixed}


def _start(index: int, block: dict[str, Any]) -> bytes:
    return _event("content_block_start", index=index, content_block=block)


def _delta(index: int, **delta: Any) -> bytes:
    return _event("content_block_delta", index=index, delta=delta)


def _event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()
