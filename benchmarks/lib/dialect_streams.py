"""Answers of providers of each dialect: streams of text, and complete answers."""

import json
from typing import Any, Final

from serve_app.exchange import Operation

DIALECTS: Final = (Operation.CHAT, Operation.MESSAGES, Operation.RESPONSES)
"""Those that are translated into one another."""


def stream_of(dialect: Operation, texts: list[str]) -> list[bytes]:
    """Returns a stream of a provider, an event in each chunk."""
    match dialect:
        case Operation.CHAT:
            return _chat_stream(texts)
        case Operation.MESSAGES:
            return _messages_stream(texts)
        case _:
            return _responses_stream(texts)


def complete_of(dialect: Operation, text: str) -> bytes:
    """Returns a complete answer of a provider."""
    usage: dict[str, Any] = {"input_tokens": 3, "output_tokens": 5, "total_tokens": 8}
    match dialect:
        case Operation.CHAT:
            message = {"role": "assistant", "content": text}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            usage = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
            answer: dict[str, Any] = {"object": "chat.completion", "choices": [choice]}
        case Operation.MESSAGES:
            answer = {"type": "message", "role": "assistant", "stop_reason": "end_turn"}
            answer |= {"stop_sequence": None, "content": [{"type": "text", "text": text}]}
        case _:
            part = {"type": "output_text", "text": text, "annotations": []}
            item = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed"}
            answer = {"object": "response", "status": "completed", "created_at": 1}
            answer["output"] = [{**item, "content": [part]}]
    return json.dumps({"id": "answer_1", "model": "m", **answer, "usage": usage}).encode()


def _event(name: str, data: dict[str, Any]) -> bytes:
    return f"event: {name}\ndata: {json.dumps({'type': name, **data})}\n\n".encode()


def _chat_stream(texts: list[str]) -> list[bytes]:
    def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        data = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
        return f"data: {json.dumps({**data, 'choices': [choice]})}\n\n".encode()

    return [
        chunk({"role": "assistant", "content": ""}),
        *(chunk({"content": text}) for text in texts),
        chunk({}, "stop"),
        b"data: [DONE]\n\n",
    ]


def _messages_stream(texts: list[str]) -> list[bytes]:
    usage = {"input_tokens": 3, "output_tokens": 1}
    message = {"id": "msg_1", "type": "message", "role": "assistant", "content": [], "model": "m"}
    message |= {"stop_reason": None, "stop_sequence": None, "usage": usage}
    return [
        _event("message_start", {"message": message}),
        _event("content_block_start", {"index": 0, "content_block": {"type": "text", "text": ""}}),
        *(
            _event(
                "content_block_delta", {"index": 0, "delta": {"type": "text_delta", "text": text}}
            )
            for text in texts
        ),
        _event("content_block_stop", {"index": 0}),
        _event("message_delta", {"delta": {"stop_reason": "end_turn"}, "usage": usage}),
        _event("message_stop", {}),
    ]


def _responses_stream(texts: list[str]) -> list[bytes]:
    response = {"id": "resp_1", "object": "response", "created_at": 1, "model": "m", "output": []}
    item = {"id": "msg_1", "type": "message", "role": "assistant", "content": []}
    at = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    part = {"type": "output_text", "text": "".join(texts), "annotations": []}
    whole = {**item, "status": "completed", "content": [part]}
    return [
        _event("response.created", {"response": {**response, "status": "in_progress"}}),
        _event("response.output_item.added", {"output_index": 0, "item": item}),
        _event("response.content_part.added", {**at, "part": {**part, "text": ""}}),
        *(_event("response.output_text.delta", {**at, "delta": text}) for text in texts),
        _event("response.output_text.done", {**at, "text": part["text"]}),
        _event("response.content_part.done", {**at, "part": part}),
        _event("response.output_item.done", {"output_index": 0, "item": whole}),
        _event(
            "response.completed",
            {"response": {**response, "status": "completed", "output": [whole]}},
        ),
    ]
