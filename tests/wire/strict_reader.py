"""Reads an answer of any dialect as strictly as an SDK at its strictest.

A stream is whole only with the last event of its dialect, and a complete answer only with a reason
why it ended. Sources: OpenAI API reference, "Chat" and "Responses", "Streaming events"; Anthropic
API reference, "Streaming messages" and "Errors".
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from tests.matrix.framing import events_of


@dataclass
class Heard:
    """What a client makes of an answer."""

    text: str = ""
    is_whole: bool = False
    """The answer says that nothing is missing."""
    error: str = ""
    """The message of an error; empty if there is none."""


def read(dialect: str, status: int, body: bytes, *, stream: bool) -> Heard:
    """What a client of a dialect makes of a status and a body."""
    if status != 200:
        return Heard(error=_message(dialect, json.loads(body)))
    return _STREAMS[dialect](body.decode()) if stream else _WHOLE[dialect](json.loads(body))


def _message(dialect: str, body: dict[str, Any]) -> str:
    error = body["error"]
    if dialect == "messages":
        assert body["type"] == "error"
        assert error["type"].endswith(("_error", "_too_large"))
    else:
        assert {"message", "type", "param", "code"} <= error.keys()
    message = str(error["message"])
    assert message
    return message


def _whole_chat(body: dict[str, Any]) -> Heard:
    (choice,) = body["choices"]
    return Heard(choice["message"]["content"] or "", choice["finish_reason"] == "stop")


def _whole_messages(body: dict[str, Any]) -> Heard:
    text = "".join(block["text"] for block in body["content"])
    return Heard(text, body["stop_reason"] == "end_turn")


def _whole_responses(body: dict[str, Any]) -> Heard:
    return Heard(_text_of(body), body["status"] == "completed")


def _text_of(response: dict[str, Any]) -> str:
    contents = [content for item in response["output"] for content in item["content"]]
    return "".join(content["text"] for content in contents)


def _stream_of_chat(body: str) -> Heard:
    heard, finish = Heard(), None
    for _, data in events_of(body):
        assert not heard.is_whole, "an event after the last one"
        if data == "[DONE]":
            heard.is_whole = finish == "stop" and not heard.error
            continue
        event = json.loads(data)
        if "error" in event:
            heard.error = _message("chat", event)
        for choice in event.get("choices", ()):
            heard.text += choice["delta"].get("content") or ""
            finish = finish or choice["finish_reason"]
    return heard


def _stream_of_messages(body: str) -> Heard:
    heard, finish = Heard(), None
    for name, data in events_of(body):
        assert not heard.is_whole, "an event after the last one"
        event = json.loads(data)
        assert name == event["type"]
        match name:
            case "error":
                heard.error = _message("messages", event)
            case "content_block_delta":
                heard.text += event["delta"]["text"]
            case "message_delta":
                finish = event["delta"]["stop_reason"]
            case "message_stop":
                heard.is_whole = finish == "end_turn" and not heard.error
    return heard


def _stream_of_responses(body: str) -> Heard:
    heard = Heard()
    for name, data in events_of(body):
        assert not heard.is_whole, "an event after the last one"
        event = json.loads(data)
        assert name == event["type"]
        match name:
            case "response.output_text.delta":
                heard.text += event["delta"]
            case "response.completed":
                heard.is_whole = not heard.error and _text_of(event["response"]) == heard.text
            case "response.failed":
                heard.error = event["response"]["error"]["message"]
            case "error":
                heard.error = event["message"]
    return heard


_WHOLE: Final[dict[str, Callable[[dict[str, Any]], Heard]]] = {
    "chat": _whole_chat,
    "messages": _whole_messages,
    "responses": _whole_responses,
}
_STREAMS: Final[dict[str, Callable[[str], Heard]]] = {
    "chat": _stream_of_chat,
    "messages": _stream_of_messages,
    "responses": _stream_of_responses,
}
