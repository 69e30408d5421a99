"""A provider on loopback that answers in three dialects with the transcripts.

The path says the dialect; the model's name says the case after its last colon, and after an ``@``
how a stream is cut: ``bytes`` for one byte at a time, a number for pieces of random size.
"""

import asyncio
import json
import random
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, Final

from tests.matrix import chat_transcripts, messages_transcripts, responses_transcripts
from tests.matrix.cases import RETRY_AFTER, Case
from tests.scripts import OPEN_S, Headers, Line, Script

MODULES: Final[dict[str, ModuleType]] = {
    "chat": chat_transcripts,
    "messages": messages_transcripts,
    "responses": responses_transcripts,
}
PATHS: Final = {
    "/v1/chat/completions": "chat",
    "/v1/messages": "messages",
    "/v1/responses": "responses",
}
FIRST_ERROR: Final = "error-first"
"""The name of a stream that fails under status 200 before it has content."""

BROKEN: Final = "broken"
"""The name of a model that always fails."""

TORN, SILENT = "torn", "silent"
"""The names of streams that break after some content, and that stay open."""

_PAUSE_S: Final = 0.05
_STREAM: Final = {"content-type": "text/event-stream; charset=utf-8"}
_PACKET: Final = 40
_MAX_PACKETS: Final = 64

EXTRA: Final[dict[str, Callable[[str], list[bytes]]]] = {}
"""Streams of single tests by the name of their case; each gets the dialect."""


def script(model: str) -> Script:
    """The script for a model."""
    name = model.rpartition(":")[2]
    case, _, cut = name.partition("@")
    exact = OTHERS.get(case)
    if exact is not None:
        return exact

    async def play(line: Line, exchange: Headers, request: dict[str, Any]) -> None:
        dialect = PATHS[exchange.path.partition("?")[0]]
        module = MODULES[dialect]
        if case == Case.ERROR_BEFORE:
            await refuse(line, module.ERROR)
        elif request.get("stream"):
            await stream(line, list(cut_up(b"".join(_events(dialect, case)), cut)))
        else:
            line.whole(json.dumps(module.answer(Case(case)), ensure_ascii=False).encode())

    return play


def _events(dialect: str, case: str) -> list[bytes]:
    module = MODULES[dialect]
    if case in EXTRA:
        return EXTRA[case](dialect)
    read: list[bytes] = module.FIRST_ERROR if case == FIRST_ERROR else module.events(Case(case))
    return read


async def refuse(line: Line, error: dict[str, Any]) -> None:
    """A rate limit."""
    body = json.dumps(error, ensure_ascii=False).encode()
    line.whole(body, 429, {"retry-after": RETRY_AFTER, "x-request-id": "req_vendor"})


async def stream(line: Line, pieces: list[bytes]) -> None:
    """A stream in pieces; those of one packet go out together."""
    line.head(200, {**_STREAM, "x-request-id": "req_vendor", "request-id": "req_vendor"}, None)
    for at, piece in enumerate(pieces):
        line.chunk(piece)
        if at < _MAX_PACKETS:
            await asyncio.sleep(0)
    line.end()


def cut_up(data: bytes, cut: str) -> Iterator[bytes]:
    """The pieces in which a stream is sent."""
    if not cut:
        yield data
        return
    sizes = random.Random(cut)
    at = 0
    while at < len(data):
        size = 1 if cut == "bytes" else sizes.randint(1, _PACKET)
        yield data[at : at + size]
        at += size


async def _broken(line: Line, exchange: Headers, request: dict[str, Any]) -> None:
    error = {"type": "overloaded_error", "message": "Overloaded"}
    line.whole(json.dumps({"type": "error", "error": error}).encode(), 529)


async def _begun(line: Line, exchange: Headers) -> None:
    """A stream up to where it would say why it ends."""
    module = MODULES[PATHS[exchange.path.partition("?")[0]]]
    line.head(200, _STREAM, None)
    line.chunk(b"".join(module.events(Case.ERROR_DURING)[:-1]))
    await asyncio.sleep(_PAUSE_S)


async def _torn(line: Line, exchange: Headers, request: dict[str, Any]) -> None:
    await _begun(line, exchange)
    line.reset()


async def _silent(line: Line, exchange: Headers, request: dict[str, Any]) -> None:
    await _begun(line, exchange)
    await asyncio.sleep(OPEN_S)


async def _count(line: Line, exchange: Headers, request: dict[str, Any]) -> None:
    assert exchange.path.partition("?")[0] == "/v1/messages/count_tokens"
    line.whole(json.dumps(messages_transcripts.COUNT).encode())


async def _embed(line: Line, exchange: Headers, request: dict[str, Any]) -> None:
    assert exchange.path == "/v1/embeddings"
    vector = "AACAPwAAAEA=" if request.get("encoding_format") == "base64" else [1.0, 2.0]
    data = [{"object": "embedding", "index": 0, "embedding": vector}]
    usage = {"prompt_tokens": 3, "total_tokens": 3}
    body = {"object": "list", "data": data, "model": "text-embedding-3-small", "usage": usage}
    line.whole(json.dumps(body).encode())


async def _complete(line: Line, exchange: Headers, request: dict[str, Any]) -> None:
    assert exchange.path == "/v1/completions"
    body: dict[str, Any] = {
        "id": "cmpl-uqkvlQyYK7bGYrRHQ0eXlWi7",
        "object": "text_completion",
        "created": 1_780_000_000,
        "model": "gpt-3.5-turbo-instruct",
        "choices": [{"text": " is mild", "index": 0, "logprobs": None, "finish_reason": "stop"}],
    }
    if request.get("stream"):
        data = b"data: " + json.dumps(body).encode() + b"\n\n"
        await stream(line, [data, chat_transcripts.DONE])
    else:
        usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
        line.whole(json.dumps({**body, "usage": usage}).encode())


OTHERS: Final[dict[str, Script]] = {
    "count": _count,
    "embed": _embed,
    "complete": _complete,
    BROKEN: _broken,
    TORN: _torn,
    SILENT: _silent,
}
