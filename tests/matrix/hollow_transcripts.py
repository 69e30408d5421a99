"""Answers of providers that look whole and are not, in each dialect, complete and as streams.

A chat completion without choices is reported of many servers; a choice that ended with ``error`` is
OpenRouter's, as its documentation has it.
"""

import asyncio
import json
from typing import Any, Final

from tests.matrix import chat_transcripts, messages_transcripts, responses_transcripts
from tests.matrix.cases import Case
from tests.matrix.vendor import OTHERS, PATHS, stream
from tests.scripts import Headers, Line

NOTHING: Final = "hollow"
"""The name of an answer without content, and without a reason to be so."""
FAILED: Final = "failed-at-once"
"""The name of an answer whose end says that it failed before it had content."""
FAILED_LATER: Final = "failed-later"
"""The same after some content."""
TOLD: Final = "Let me"
WORDS: Final = "Provider returned an error."

_PAUSE_S: Final = 0.1
_REPORT: Final = {"code": 503, "message": WORDS}
_ROLE: Final = chat_transcripts.chunk({"role": "assistant", "content": ""})
_DONE: Final = chat_transcripts.DONE


def _event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


def _chat(fields: dict[str, Any]) -> bytes:
    head = {"id": "gen-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return b"data: " + json.dumps(head | fields).encode() + b"\n\n"


_CHOICE: Final = {"index": 0, "finish_reason": "error", "error": _REPORT}
_CHAT_FAILED: Final = [_chat({"choices": [{**_CHOICE, "delta": {"content": ""}}]}), _DONE]
_MESSAGE: Final = {**messages_transcripts.answer(Case.TEXT), "content": [], "stop_reason": None}
_MESSAGE_STOP: Final = _event("message_stop")
_START: Final = _event("message_start", message=_MESSAGE)
_BLOCK: Final = [
    _event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
    _event("content_block_delta", index=0, delta={"type": "text_delta", "text": TOLD}),
    _event("content_block_stop", index=0),
]
_MESSAGE_FAILED: Final = [
    _event("message_delta", delta={"stop_reason": "error", "error": _REPORT}, usage={}),
    _MESSAGE_STOP,
]
_RESPONSE: Final = {**responses_transcripts.answer(Case.TEXT), "output": [], "status": None}
_BROKEN: Final = {**_RESPONSE, "status": "failed", "error": _REPORT}
_CREATED: Final = _event(
    "response.created", sequence_number=0, response={**_RESPONSE, "status": "in_progress"}
)
_ITEM: Final = {"type": "message", "id": "msg_1", "role": "assistant", "status": "in_progress"}
_PIECE: Final = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
_TEXT: Final = [
    _event("response.output_item.added", sequence_number=1, output_index=0, item={**_ITEM, "content": []}),
    _event("response.content_part.added", sequence_number=2, **_PIECE,
           part={"type": "output_text", "text": "", "annotations": []}),
    _event("response.output_text.delta", sequence_number=3, **_PIECE, delta=TOLD, logprobs=[]),
]  # fmt: skip
_RESPONSE_FAILED: Final = [
    _event("response.completed", sequence_number=4, response=_BROKEN),
    b": bye\n\n",
]

STREAMS: Final[dict[str, dict[str, list[bytes]]]] = {
    NOTHING: {
        "chat": [_chat({"choices": []}), _DONE],
        "messages": [_START, _MESSAGE_STOP],
        "responses": [_event("response.completed")],
    },
    FAILED: {
        "chat": [_ROLE, *_CHAT_FAILED],
        "messages": [_START, *_MESSAGE_FAILED],
        "responses": [_CREATED, *_RESPONSE_FAILED],
    },
    FAILED_LATER: {
        "chat": [_ROLE, chat_transcripts.chunk({"content": TOLD}), *_CHAT_FAILED],
        "messages": [_START, *_BLOCK, *_MESSAGE_FAILED],
        "responses": [_CREATED, *_TEXT, *_RESPONSE_FAILED],
    },
}
WHOLE: Final[dict[str, dict[str, Any]]] = {
    NOTHING: {"chat": {"choices": []}, "messages": _MESSAGE, "responses": _RESPONSE},
    FAILED: {
        "chat": {"choices": [{**_CHOICE, "message": {"role": "assistant", "content": ""}}]},
        "messages": {**_MESSAGE, "stop_reason": "error", "error": _REPORT},
        "responses": _BROKEN,
    },
}


async def _fail_later(line: Line, exchange: Headers, request: dict[str, Any]) -> None:
    """The end comes after a pause, in single bytes: by then the client has the content."""
    *content, first, last = STREAMS[FAILED_LATER][PATHS[exchange.path.partition("?")[0]]]
    line.head(200, {"content-type": "text/event-stream"}, None)
    line.chunk(b"".join(content))
    await asyncio.sleep(_PAUSE_S)
    for byte in first + last:
        line.chunk(bytes([byte]))
    line.end()


def _add(name: str) -> None:
    async def answer(line: Line, exchange: Headers, request: dict[str, Any]) -> None:
        dialect = PATHS[exchange.path.partition("?")[0]]
        if request.get("stream"):
            await stream(line, STREAMS[name][dialect])
        else:
            line.whole(json.dumps(WHOLE[name][dialect]).encode())

    OTHERS[name] = answer


for _name in WHOLE:
    _add(_name)
OTHERS[FAILED_LATER] = _fail_later
