"""The scripts of the scripted provider, by model name.

A script receives the connection, the exchange and the request's JSON, and writes the reply.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Protocol

CHUNKS = ["Fin", "ger", "post", " says", " hello"]
OPEN_S = 30.0
"""The longest time that a script keeps a connection open."""


class Headers(Protocol):
    """The part of an exchange that scripts read."""

    path: str
    headers: dict[str, str]


class Line(Protocol):
    """The part of a connection that scripts write to."""

    count: int
    """The number of exchanges on this connection, including this one."""

    def head(self, status_code: int, headers: dict[str, str], length: int | None) -> None: ...

    def whole(
        self, body: bytes, status_code: int = 200, headers: dict[str, str] | None = None
    ) -> None: ...

    def chunk(self, data: bytes) -> None: ...

    def raw(self, data: bytes) -> None: ...

    def end(self) -> None: ...

    def reset(self) -> None: ...

    def abort(self) -> None: ...


Script = Callable[[Line, Headers, dict[str, Any]], Coroutine[Any, Any, None]]
_STREAM = {"content-type": "text/event-stream; charset=utf-8", "x-request-id": "req_scripted"}


def event(delta: dict[str, Any], finish: str | None = None, index: int = 0) -> bytes:
    choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
    chunk = {
        "id": "chatcmpl-scripted",
        "object": "chat.completion.chunk",
        "created": 1700000000,
        "model": "scripted",
        "choices": [choice],
        "x_extra": {"kept": "é\u2028"},
    }
    return b"data: " + json.dumps(chunk, ensure_ascii=False).encode() + b"\n\n"


def completion(text: str, model: str) -> bytes:
    message = {"role": "assistant", "content": text, "x_extra": "kept"}
    body = {
        "id": "chatcmpl-scripted",
        "object": "chat.completion",
        "created": 1700000000,
        "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8},
    }
    return json.dumps(body, indent=1).encode()


async def events(count: int = len(CHUNKS), pause_s: float = 0.0) -> AsyncIterator[bytes]:
    yield event({"role": "assistant", "content": ""})
    for position in range(count):
        if pause_s:
            await asyncio.sleep(pause_s)
        yield event({"content": CHUNKS[position % len(CHUNKS)]})
    yield event({}, "stop")
    yield b"data: [DONE]\n\n"


def _last_text(request: dict[str, Any]) -> str:
    messages = request.get("messages") or [{}]
    content = messages[-1].get("content")
    return content[:200] if isinstance(content, str) else "hello"


async def answer(
    line: Line, exchange: Headers, request: dict[str, Any], pause_s: float = 0.0
) -> None:
    if not request.get("stream"):
        line.whole(completion(f"You said: {_last_text(request)}", str(request.get("model"))))
        return
    line.head(200, _STREAM, None)
    count = int(request.get("max_tokens") or len(CHUNKS))
    async for part in events(count, pause_s):
        line.chunk(part)
    line.end()


async def tool_stream(line: Line, exchange: Headers, request: dict[str, Any]) -> None:
    """Streams the call of a tool, its arguments in as many pieces as ``max_tokens`` says."""
    line.head(200, _STREAM, None)
    call = {"index": 0, "id": "call_1", "type": "function"}
    line.chunk(event({"tool_calls": [{**call, "function": {"name": "find", "arguments": ""}}]}))
    for number in range(int(request.get("max_tokens") or len(CHUNKS))):
        piece = f'{{"n":{number}' if number == 0 else f',"k{number}":{number}'
        line.chunk(event({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}))
    line.chunk(event({"tool_calls": [{"index": 0, "function": {"arguments": "}"}}]}))
    line.chunk(event({}, "tool_calls"))
    line.chunk(b"data: [DONE]\n\n")
    line.end()


async def slow(line: Line, exchange: Headers, request: dict[str, Any]) -> None:
    if not request.get("stream"):
        await asyncio.sleep(0.5)
    await answer(line, exchange, request, pause_s=0.05)


async def status(line: Line, exchange: Headers, request: dict[str, Any]) -> None:
    code = int(request["model"].removeprefix("status-").partition("@")[0])
    headers = {"retry-after": "7", "x-ratelimit-remaining-requests": "0"} if code == 429 else {}
    error = {"message": f"scripted {code}", "type": "scripted", "param": None, "code": "scripted"}
    line.whole(json.dumps({"error": error}).encode(), code, headers)


async def hang(line: Line, exchange: Headers, request: dict[str, Any]) -> None:
    await asyncio.sleep(OPEN_S)
    line.abort()


async def hang_midstream(line: Line, exchange: Headers, request: dict[str, Any]) -> None:
    line.head(200, _STREAM, None)
    line.chunk(event({"role": "assistant", "content": ""}) + event({"content": "half"}))
    await hang(line, exchange, request)


async def die_midstream(line: Line, exchange: Headers, request: dict[str, Any]) -> None:
    line.head(200, _STREAM, None)
    line.chunk(event({"role": "assistant", "content": ""}) + event({"content": "half"}))
    await asyncio.sleep(0.1)
    line.chunk(event({"content": "torn"})[:25])
    await asyncio.sleep(0.05)
    line.reset()


async def end_midstream(line: Line, exchange: Headers, request: dict[str, Any]) -> None:
    line.head(200, _STREAM, None)
    line.chunk(event({"role": "assistant", "content": ""}) + event({"content": "half"}))
    await asyncio.sleep(0.05)
    line.end()


async def die_early(line: Line, exchange: Headers, request: dict[str, Any]) -> None:
    line.head(200, _STREAM, None)
    line.chunk(event({"role": "assistant", "content": ""}))
    await asyncio.sleep(0.05)
    line.reset()


async def die_in_answer(line: Line, exchange: Headers, request: dict[str, Any]) -> None:
    line.head(200, {"content-type": "application/json"}, 1000)
    line.raw(b'{"id": ')
    await asyncio.sleep(0.05)
    line.reset()


async def endless(line: Line, exchange: Headers, request: dict[str, Any]) -> None:
    line.head(200, _STREAM, None)
    line.chunk(event({"role": "assistant", "content": ""}))
    for _ in range(int(OPEN_S / 0.02)):
        line.chunk(event({"content": "more "}))
        await asyncio.sleep(0.02)
    line.abort()


async def error_event(line: Line, exchange: Headers, request: dict[str, Any]) -> None:
    line.head(200, _STREAM, None)
    error = {"message": "scripted overload", "type": "rate_limit_error", "code": "busy"}
    line.chunk(b"data: " + json.dumps({"error": error}).encode() + b"\n\n")
    line.end()


async def error_200(line: Line, exchange: Headers, request: dict[str, Any]) -> None:
    line.whole(b'{"error": {"message": "scripted error in a 200"}}')


async def json_for_stream(line: Line, exchange: Headers, request: dict[str, Any]) -> None:
    line.whole(completion("not a stream", "scripted"))


async def empty_stream(line: Line, exchange: Headers, request: dict[str, Any]) -> None:
    line.head(200, _STREAM, None)
    line.chunk(b"data: [DONE]\n\n")
    line.end()


async def no_choices(line: Line, exchange: Headers, request: dict[str, Any]) -> None:
    """Replies without a choice, and without a word why."""
    if not request.get("stream"):
        line.whole(b'{"id": "x", "object": "chat.completion", "choices": []}')
        return
    line.head(200, _STREAM, None)
    line.chunk(b'data: {"choices": []}\n\n')
    line.chunk(b"data: [DONE]\n\n")
    line.end()


async def failed_choice(line: Line, exchange: Headers, request: dict[str, Any]) -> None:
    """Replies with a choice that ended with an error, as OpenRouter documents it."""
    choice = {"index": 0, "finish_reason": "error", "error": {"code": 503, "message": "scripted"}}
    if not request.get("stream"):
        message = {"role": "assistant", "content": ""}
        line.whole(json.dumps({"choices": [{**choice, "message": message}]}).encode())
        return
    line.head(200, _STREAM, None)
    line.chunk(event({"role": "assistant", "content": ""}))
    if "@midway" in request["model"]:
        line.chunk(event({"content": "half"}))
        await asyncio.sleep(0.05)
    failed = json.dumps({"choices": [{**choice, "delta": {"content": ""}}]}).encode()
    line.chunk(b"data: " + failed + b"\n\n" + b"data: [DONE]\n\n")
    line.end()


async def role_and_done(line: Line, exchange: Headers, request: dict[str, Any]) -> None:
    line.head(200, _STREAM, None)
    line.chunk(event({"role": "assistant", "content": ""}) + b"data: [DONE]\n\n" * 2)
    line.end()


async def large_end(line: Line, exchange: Headers, request: dict[str, Any]) -> None:
    """Streams one event of more than a mebibyte, which has the finish reason, and no end marker."""
    line.head(200, _STREAM, None)
    whole = event({"role": "assistant", "content": "large " * 200_000}, "stop")
    for at in range(0, len(whole), 100_003):
        line.chunk(whole[at : at + 100_003])
        await asyncio.sleep(0)
    line.end()


async def odd_type(line: Line, exchange: Headers, request: dict[str, Any]) -> None:
    """Streams under the type that follows the ``@`` in the name."""
    kind = request["model"].partition("@")[2]
    line.head(200, {"content-type": kind} if kind else {}, None)
    async for part in events():
        line.chunk(part)
    line.end()


async def json_as_stream(line: Line, exchange: Headers, request: dict[str, Any]) -> None:
    line.whole(b'{"error": {"message": "scripted", "code": 429}}', 200, _STREAM)


async def no_done(line: Line, exchange: Headers, request: dict[str, Any]) -> None:
    line.head(200, _STREAM, None)
    line.chunk(event({"role": "assistant", "content": "all"}) + event({}, "stop"))
    line.end()


async def redirect(line: Line, exchange: Headers, request: dict[str, Any]) -> None:
    line.whole(b"", 307, {"location": "/v1/trap"})


async def html(line: Line, exchange: Headers, request: dict[str, Any]) -> None:
    line.whole(b"<html>Bad gateway</html>", 502, {"content-type": "text/html"})


async def chunked(line: Line, exchange: Headers, request: dict[str, Any]) -> None:
    line.head(200, {"content-type": "application/json"}, None)
    line.chunk(completion("in chunks", "scripted"))
    line.end()


async def big_headers(line: Line, exchange: Headers, request: dict[str, Any]) -> None:
    headers = {"x-ratelimit-limit-requests": "1", "x-big": "b" * 60_000, "set-cookie": "a=b"}
    line.whole(completion("hello", "scripted"), 200, headers)


async def leak(line: Line, exchange: Headers, request: dict[str, Any]) -> None:
    key = exchange.headers.get("authorization", "").removeprefix("Bearer ")
    line.whole(json.dumps({"error": {"message": f"bad key {key}"}}).encode(), 401)


async def leak_all(line: Line, exchange: Headers, request: dict[str, Any]) -> None:
    line.whole(json.dumps({"error": {"message": str(exchange.headers)}}).encode(), 400)


async def leak_in_200(line: Line, exchange: Headers, request: dict[str, Any]) -> None:
    """Replies with an error that contains the key, under status 200 or as an event."""
    message = f"bad key {exchange.headers.get('authorization', '')}"
    error = json.dumps({"error": {"message": message, "code": 401}}).encode()
    if not request.get("stream"):
        line.whole(error)
        return
    line.head(200, _STREAM, None)
    if "@midway" in request["model"]:
        line.chunk(event({"content": "half"}))
        await asyncio.sleep(0.05)
    line.chunk(b"data: " + error + b"\n\n")
    line.end()


async def decide(line: Line, exchange: Headers, request: dict[str, Any]) -> None:
    """Replies that every statement of a request for decisions is true."""
    answers = [
        {"type": "predicate", "name": question.get("name"), "probability": 1.0, "x_extra": "é"}
        for question in request["questions"]
    ]
    usage = {
        "input_tokens": 9,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 0,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 9,
    }
    body = {"model": request["model"], "answers": answers, "usage": usage}
    line.whole(json.dumps(body, indent=1).encode())


async def once_a_line(line: Line, exchange: Headers, request: dict[str, Any]) -> None:
    """Aborts a connection that is used again, like a server that drops idle connections."""
    if line.count > 1:
        line.abort()
    else:
        await answer(line, exchange, request)


async def reset_once(line: Line, exchange: Headers, request: dict[str, Any]) -> None:
    """Resets the first exchange of a tag, like a server that dropped an idle connection."""
    tag = str(request["model"])
    if tag not in _seen:
        _seen.add(tag)
        line.reset()
        return
    await answer(line, exchange, request)


_seen: set[str] = set()

SCRIPTS: dict[str, Script] = {
    "slow": slow,
    "tool-stream": tool_stream,
    "hang": hang,
    "hang-midstream": hang_midstream,
    "die-midstream": die_midstream,
    "end-midstream": end_midstream,
    "die-early": die_early,
    "die-in-answer": die_in_answer,
    "endless": endless,
    "error-event": error_event,
    "error-200": error_200,
    "json-for-stream": json_for_stream,
    "empty-stream": empty_stream,
    "no-done": no_done,
    "no-choices": no_choices,
    "failed-choice": failed_choice,
    "role-and-done": role_and_done,
    "large-end": large_end,
    "odd-type": odd_type,
    "json-as-stream": json_as_stream,
    "redirect": redirect,
    "html": html,
    "big-headers": big_headers,
    "chunked": chunked,
    "leak": leak,
    "leak-all": leak_all,
    "leak-in-200": leak_in_200,
    "decide": decide,
    "once-a-line": once_a_line,
    "reset-once": reset_once,
}


def script_of(name: str) -> Script:
    """The script of a model name; ``@`` and the rest only make names distinct."""
    word = name.partition("@")[0]
    return status if word.startswith("status-") else SCRIPTS.get(word, answer)
