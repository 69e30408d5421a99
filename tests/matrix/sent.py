"""What a provider gets, in one form for all dialects, held against the vendors' own types."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

from anthropic.types.message_create_params import (
    MessageCreateParamsNonStreaming,
    MessageCreateParamsStreaming,
)
from openai.types.chat.completion_create_params import (
    CompletionCreateParamsNonStreaming,
    CompletionCreateParamsStreaming,
)
from openai.types.responses.response_create_params import (
    ResponseCreateParamsNonStreaming,
    ResponseCreateParamsStreaming,
)
from pydantic import ConfigDict, TypeAdapter

_TYPES: Final[dict[str, Any]] = {
    "chat": CompletionCreateParamsStreaming | CompletionCreateParamsNonStreaming,
    "messages": MessageCreateParamsStreaming | MessageCreateParamsNonStreaming,
    "responses": ResponseCreateParamsStreaming | ResponseCreateParamsNonStreaming,
}
_THOUGHTS: Final = ("reasoning_content", "reasoning_details")
"""Fields of chat messages that OpenAI does not have and other providers want."""


@dataclass
class Sent:
    """One request of a provider."""

    stream: bool
    limit: int | None = None
    system: str = ""
    said: list[str] = field(default_factory=list)
    """Texts of the user."""
    answered: list[str] = field(default_factory=list)
    """Texts of the model."""
    tools: dict[str, Any] = field(default_factory=dict)
    """Schemas by name."""
    must_call: bool = False
    calls: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    results: list[tuple[str, str]] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    documents: list[tuple[str | None, str]] = field(default_factory=list)
    schema: Any = None
    stop: list[str] = field(default_factory=list)
    thinks: bool = False
    proofs: list[str] = field(default_factory=list)
    """What proves the thoughts of earlier answers."""
    server_tools: int = 0


@cache
def _adapter(dialect: str) -> TypeAdapter[Any]:
    return TypeAdapter(_TYPES[dialect], config=ConfigDict(extra="forbid"))


def check(dialect: str, body: dict[str, Any]) -> None:
    """Fails unless a body has the vendor's type, without a key that the vendor does not know."""
    if dialect == "chat":
        messages = [
            {key: value for key, value in message.items() if key not in _THOUGHTS}
            for message in body["messages"]
        ]
        body = {**body, "messages": messages}
    _exhaust(_adapter(dialect).validate_python(body))


def _exhaust(value: Any) -> None:
    """Reads what pydantic checks only when it is read."""
    if isinstance(value, dict):
        for each in value.values():
            _exhaust(each)
    elif not isinstance(value, str) and hasattr(value, "__iter__"):
        for each in value:
            _exhaust(each)


def read(dialect: str, body: dict[str, Any]) -> Sent:
    """The request of a provider of this dialect."""
    return {"chat": _chat, "messages": _messages, "responses": _responses}[dialect](body)


def _parts(content: Any, kind: str = "text") -> list[dict[str, Any]]:
    if content is None:
        return []
    return [{"type": kind, "text": content}] if isinstance(content, str) else content


def _data(url: str) -> str:
    return url.partition(";base64,")[2]


def _chat(body: dict[str, Any]) -> Sent:
    sent = Sent(
        body.get("stream", False),
        body.get("max_completion_tokens"),
        tools={
            tool["function"]["name"]: tool["function"]["parameters"]
            for tool in body.get("tools", ())
        },
        must_call=body.get("tool_choice") == "required",
        schema=body.get("response_format", {}).get("json_schema", {}).get("schema"),
        stop=[body["stop"]] if isinstance(body.get("stop"), str) else body.get("stop", []),
        thinks=body.get("reasoning_effort") == "low",
        server_tools=int("web_search_options" in body),
    )
    for message in body["messages"]:
        parts = _parts(message.get("content"))
        texts = [part["text"] for part in parts if part["type"] == "text"]
        match message["role"]:
            case "system":
                sent.system += "".join(texts)
            case "user":
                sent.said += texts
                sent.images += [
                    _data(part["image_url"]["url"]) for part in parts if part["type"] == "image_url"
                ]
                sent.documents += [
                    (part["file"]["filename"], _data(part["file"]["file_data"]))
                    for part in parts
                    if part["type"] == "file"
                ]
            case "tool":
                sent.results.append((message["tool_call_id"], "".join(texts)))
            case "assistant":
                sent.answered += texts
                sent.proofs += [message[key] for key in _THOUGHTS[:1] if key in message]
                sent.calls += [
                    (
                        call["id"],
                        call["function"]["name"],
                        json.loads(call["function"]["arguments"]),
                    )
                    for call in message.get("tool_calls", ())
                ]
    return sent


def _messages(body: dict[str, Any]) -> Sent:
    tools = body.get("tools", [])
    sent = Sent(
        body.get("stream", False),
        body["max_tokens"],
        system="".join(block["text"] for block in _parts(body.get("system"))),
        tools={tool["name"]: tool["input_schema"] for tool in tools if "input_schema" in tool},
        must_call=body.get("tool_choice", {}).get("type") == "any",
        schema=body.get("output_config", {}).get("format", {}).get("schema"),
        stop=body.get("stop_sequences", []),
        thinks=body.get("thinking", {}).get("type") == "enabled",
        server_tools=sum("input_schema" not in tool for tool in tools),
    )
    for message in body["messages"]:
        texts = sent.said if message["role"] == "user" else sent.answered
        for block in _parts(message["content"]):
            match block["type"]:
                case "text":
                    texts.append(block["text"])
                case "image":
                    sent.images.append(block["source"]["data"])
                case "document":
                    sent.documents.append((block.get("title"), block["source"]["data"]))
                case "tool_use":
                    sent.calls.append((block["id"], block["name"], block["input"]))
                case "tool_result":
                    content = "".join(part["text"] for part in _parts(block["content"]))
                    sent.results.append((block["tool_use_id"], content))
                case "thinking":
                    sent.proofs.append(block["signature"])
    return sent


def _responses(body: dict[str, Any]) -> Sent:
    tools = body.get("tools", [])
    sent = Sent(
        body.get("stream", False),
        body.get("max_output_tokens"),
        system=body.get("instructions") or "",
        tools={tool["name"]: tool["parameters"] for tool in tools if tool["type"] == "function"},
        must_call=body.get("tool_choice") == "required",
        schema=body.get("text", {}).get("format", {}).get("schema"),
        thinks=body.get("reasoning", {}).get("effort") == "low",
        server_tools=sum(tool["type"] != "function" for tool in tools),
    )
    for item in body["input"]:
        match item.get("type", "message"):
            case "message":
                _item(sent, item)
            case "function_call":
                arguments = json.loads(item["arguments"])
                sent.calls.append((item["call_id"], item["name"], arguments))
            case "function_call_output":
                sent.results.append((item["call_id"], "".join(_texts(item["output"]))))
            case "reasoning":
                sent.proofs.append(item["encrypted_content"])
    return sent


def _texts(content: Any) -> Iterator[str]:
    return (part["text"] for part in _parts(content, "input_text") if "text" in part)


def _item(sent: Sent, item: dict[str, Any]) -> None:
    texts = list(_texts(item["content"]))
    match item["role"]:
        case "system" | "developer":
            sent.system += "".join(texts)
        case "assistant":
            sent.answered += texts
        case "user":
            sent.said += texts
            for part in _parts(item["content"], "input_text"):
                if part["type"] == "input_image":
                    sent.images.append(_data(part["image_url"]))
                elif part["type"] == "input_file":
                    sent.documents.append((part["filename"], _data(part["file_data"])))
