"""What an OpenAI provider answers to responses, as JSON and as events.

Source: OpenAI API reference, "Responses", "The response object" and "Streaming events".
"""

import json
from collections.abc import Sequence
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
ID: Final = "resp_67ccd2bed1ec8190b14f964abc0542670bb6a6b452d3795b"
REASONING_ID: Final = "rs_6889fdc0d5a48191"
SIGNATURE: Final = "gAAAAABencryptedThoughts=="


def usage(tokens: Tokens) -> dict[str, Any]:
    return {
        "input_tokens": tokens.prompt,
        "input_tokens_details": {"cached_tokens": tokens.read, "cache_write_tokens": 0},
        "output_tokens": tokens.output,
        "output_tokens_details": {"reasoning_tokens": tokens.reasoning or 0},
        "total_tokens": tokens.prompt + tokens.output,
    }


def _content(case: Case, told: Told) -> list[dict[str, Any]]:
    if told.refusal:
        return [{"type": "refusal", "refusal": told.refusal}]
    cited = {
        "type": "url_citation",
        "url": SOURCE,
        "title": "Paris",
        "start_index": 0,
        "end_index": len(told.text),
    }
    sources = [cited] if case is Case.SERVER_TOOL else []
    return [{"type": "output_text", "text": told.text, "annotations": sources, "logprobs": []}]


def _items(case: Case, told: Told) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    if told.thinking:
        summary = [{"type": "summary_text", "text": told.thinking}]
        items.append(
            {
                "type": "reasoning",
                "id": REASONING_ID,
                "summary": summary,
                "encrypted_content": SIGNATURE,
            }
        )
    if case is Case.SERVER_TOOL:
        action = {"type": "search", "query": "Paris"}
        search = {"type": "web_search_call", "id": "ws_67ccf18f64008190"}
        items.append({**search, "status": "completed", "action": action})
    if told.text or told.refusal:
        items.append(
            {
                "type": "message",
                "id": "msg_67ccd3acc8d48190a77525dc6de64b4104becb25c45c1d44",
                "status": "incomplete" if told.finish == "length" else "completed",
                "role": "assistant",
                "content": _content(case, told),
            }
        )
    for at, arguments in enumerate(told.calls):
        items.append(
            {
                "type": "function_call",
                "id": f"fc_67ccd2bed1ec8190{at}",
                "call_id": call_id("responses", at),
                "name": TOOL,
                "arguments": json.dumps(arguments, ensure_ascii=False),
                "status": "completed",
            }
        )
    return items


def response(status: str, **fields: Any) -> dict[str, Any]:
    return {
        "id": ID,
        "object": "response",
        "created_at": 1_780_000_000,
        "status": status,
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": None,
        "model": MODEL,
        "output": [],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None},
        "store": False,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": None,
        "user": None,
        "metadata": {},
        **fields,
    }


def answer(case: Case) -> dict[str, Any]:
    """The complete answer of a case."""
    told = TOLD[case]
    ended: dict[str, Any] = {
        "output": _items(case, told),
        "usage": usage(tokens_of(case, "responses")),
    }
    if told.finish == "length":
        return response("incomplete", incomplete_details={"reason": "max_output_tokens"}, **ended)
    return response("completed", **ended)


class Events:
    """Events of one stream, numbered."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def add(self, kind: str, **fields: Any) -> None:
        """One more event."""
        body = {"type": kind, "sequence_number": len(self.written), **fields}
        data = json.dumps(body, ensure_ascii=False)
        self.written.append(f"event: {kind}\ndata: {data}\n\n".encode())

    def begin(self) -> None:
        """The first events of every stream."""
        for kind in ("created", "in_progress"):
            self.add(f"response.{kind}", response=response("in_progress"))

    def item(self, index: int, item: dict[str, Any], pieces: Sequence[str] | None = None) -> None:
        """All events of an item, whose text comes in pieces: thirds by default."""
        empty = {**item, "status": "in_progress"}
        match item["type"]:
            case "message":
                empty["content"] = []
            case "function_call":
                empty["arguments"] = ""
            case "reasoning":
                empty = {**item, "summary": []}
        self.add("response.output_item.added", output_index=index, item=empty)
        at = {"item_id": item["id"], "output_index": index}
        match item["type"]:
            case "message":
                self._said(at, item["content"][0], pieces)
            case "function_call":
                kind = "response.function_call_arguments"
                for piece in pieces or thirds(item["arguments"]):
                    self.add(f"{kind}.delta", **at, delta=piece)
                self.add(f"{kind}.done", **at, name=item["name"], arguments=item["arguments"])
            case "reasoning":
                self._thought(at, item["summary"][0])
            case "web_search_call":
                for kind in ("in_progress", "searching", "completed"):
                    self.add(f"response.web_search_call.{kind}", **at)
        self.add("response.output_item.done", output_index=index, item=item)

    def _said(
        self, at: dict[str, Any], content: dict[str, Any], pieces: Sequence[str] | None
    ) -> None:
        at = {**at, "content_index": 0}
        key = "refusal" if content["type"] == "refusal" else "text"
        kind = "response.refusal" if key == "refusal" else "response.output_text"
        more: dict[str, Any] = {} if key == "refusal" else {"logprobs": []}
        empty = {**content, key: "", **({} if key == "refusal" else {"annotations": []})}
        self.add("response.content_part.added", **at, part=empty)
        for piece in pieces or thirds(content[key]):
            self.add(f"{kind}.delta", **at, delta=piece, **more)
        for position, cited in enumerate(content.get("annotations", ())):
            self.add(f"{kind}.annotation.added", **at, annotation_index=position, annotation=cited)
        self.add(f"{kind}.done", **at, **{key: content[key]}, **more)
        self.add("response.content_part.done", **at, part=content)

    def _thought(self, at: dict[str, Any], part: dict[str, Any]) -> None:
        at = {**at, "summary_index": 0}
        kind = "response.reasoning_summary"
        self.add(f"{kind}_part.added", **at, part={**part, "text": ""})
        for piece in thirds(part["text"]):
            self.add(f"{kind}_text.delta", **at, delta=piece)
        self.add(f"{kind}_text.done", **at, text=part["text"])
        self.add(f"{kind}_part.done", **at, part=part)


def events(case: Case) -> list[bytes]:
    """The stream of a case."""
    stream = Events()
    stream.begin()
    for index, item in enumerate(_items(case, TOLD[case])):
        stream.item(index, item)
    if case is Case.ERROR_DURING:
        del stream.written[-3:]  # what says that the text is complete
        _fail(stream, DURING, "server_error")
        return stream.written
    ended = answer(case)
    stream.add(f"response.{ended['status']}", response=ended)
    return stream.written


def _fail(stream: Events, message: str, code: str) -> None:
    error = {"code": code, "message": message}
    stream.add("response.failed", response=response("failed", error=error))


def _first_error() -> list[bytes]:
    stream = Events()
    stream.begin()
    _fail(stream, BEFORE, "rate_limit_exceeded")
    return stream.written


ERROR: Final = {
    "error": {
        "message": BEFORE,
        "type": "requests",
        "param": None,
        "code": "rate_limit_exceeded",
    }
}
"""The body under status 429."""

FIRST_ERROR: Final = _first_error()
"""A stream that fails before it has content."""
