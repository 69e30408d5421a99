"""A provider on loopback that does what the model's name says; for tests, demo and benchmarks.

The name is a script of words: ``status-429``, ``hang``, ``die-midstream`` … (SCRIPTS below); any
other name is a well-behaved model that says what it was asked. Every exchange goes into a ledger:
the bytes received, the bytes answered, and whether the client left before the end.

Runs in a thread of a test (``ScriptedProvider``), or alone: ``python -m tests.scripted_provider``.
"""

import argparse
import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Self, cast

import httptools
import uvloop

HEAD = b"HTTP/1.1 %d %s\r\n"
CHUNKS = ["Fin", "ger", "post", " says", " hello"]
OPEN_S = 30.0
"""How long a script that never ends goes on: everything here is bounded."""


@dataclass
class Exchange:
    """One request and what was answered."""

    path: str
    headers: dict[str, str]
    body: bytes = b""
    answered: bytes = b""
    """The answer's body, without chunk sizes."""
    client_left: bool = False
    finished: bool = False

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Ledger:
    """Exchanges in the order of their arrival."""

    exchanges: list[Exchange] = field(default_factory=list)
    open: set[asyncio.Transport] = field(default_factory=set)

    def last(self) -> Exchange:
        return self.exchanges[-1]


class _Connection(asyncio.Protocol):
    """One connection: parses requests, runs a script for each, one after another."""

    def __init__(self, ledger: Ledger | None) -> None:
        self.ledger = ledger
        self.parser = httptools.HttpRequestParser(self)
        self.transport: asyncio.Transport
        self.exchange: Exchange
        self.task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        if self.ledger is not None:
            self.ledger.open.add(self.transport)

    def connection_lost(self, error: Exception | None) -> None:
        del error
        if self.ledger is not None:
            self.ledger.open.discard(self.transport)
        if self.task is not None and not self.task.done():
            self.exchange.client_left = True
            self.task.cancel()

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_message_begin(self) -> None:
        self.exchange = Exchange("", {})
        self.body: list[bytes] = []

    def on_url(self, url: bytes) -> None:
        self.exchange.path += url.decode()

    def on_header(self, name: bytes, value: bytes) -> None:
        self.exchange.headers[name.decode().lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self.body.append(body)

    def on_message_complete(self) -> None:
        self.exchange.body = b"".join(self.body)
        if self.ledger is not None:
            self.ledger.exchanges.append(self.exchange)
        self.task = asyncio.get_running_loop().create_task(self.run(self.exchange))

    async def run(self, exchange: Exchange) -> None:
        request = json.loads(exchange.body) if exchange.body else {}
        name = str(request.get("model", ""))
        script = SCRIPTS.get(name.partition("@")[0], answer)
        if name.startswith("status-"):
            script = status
        await script(self, exchange, request)
        exchange.finished = True

    # what scripts are made of

    def head(self, status_code: int, headers: dict[str, str], length: int | None) -> None:
        lines = [HEAD % (status_code, b"Scripted")]
        framing = (
            {"content-length": str(length)}
            if length is not None
            else {"transfer-encoding": "chunked"}
        )
        for key, value in {**headers, **framing}.items():
            lines.append(f"{key}: {value}\r\n".encode())
        self.transport.write(b"".join(lines) + b"\r\n")

    def whole(
        self, body: bytes, status_code: int = 200, headers: dict[str, str] | None = None
    ) -> None:
        shown = {"content-type": "application/json", "x-request-id": "req_scripted"}
        self.exchange.answered = body
        self.head(status_code, {**shown, **(headers or {})}, len(body))
        self.transport.write(body)

    def chunk(self, data: bytes) -> None:
        self.exchange.answered += data
        self.transport.write(b"%x\r\n%b\r\n" % (len(data), data))

    def end(self) -> None:
        self.transport.write(b"0\r\n\r\n")

    def reset(self) -> None:
        """Closes with RST, so that the peer sees an error and not an end."""
        sock = self.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        self.transport.abort()


Script = Callable[[_Connection, Exchange, dict[str, Any]], Coroutine[Any, Any, None]]
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


def _said(request: dict[str, Any]) -> str:
    messages = request.get("messages") or [{}]
    content = messages[-1].get("content")
    return content[:200] if isinstance(content, str) else "hello"


async def answer(
    line: _Connection, exchange: Exchange, request: dict[str, Any], pause_s: float = 0.0
) -> None:
    if not request.get("stream"):
        line.whole(completion(f"You said: {_said(request)}", str(request.get("model"))))
        return
    line.head(200, _STREAM, None)
    count = int(request.get("max_tokens") or len(CHUNKS))
    async for part in events(count, pause_s):
        line.chunk(part)
    line.end()


async def slow(line: _Connection, exchange: Exchange, request: dict[str, Any]) -> None:
    if not request.get("stream"):
        await asyncio.sleep(0.5)
    await answer(line, exchange, request, pause_s=0.05)


async def status(line: _Connection, exchange: Exchange, request: dict[str, Any]) -> None:
    code = int(request["model"].removeprefix("status-").partition("@")[0])
    headers = {"retry-after": "7", "x-ratelimit-remaining-requests": "0"} if code == 429 else {}
    error = {"message": f"scripted {code}", "type": "scripted", "param": None, "code": "scripted"}
    line.whole(json.dumps({"error": error}).encode(), code, headers)


async def hang(line: _Connection, exchange: Exchange, request: dict[str, Any]) -> None:
    await asyncio.sleep(OPEN_S)
    line.transport.abort()


async def hang_midstream(line: _Connection, exchange: Exchange, request: dict[str, Any]) -> None:
    line.head(200, _STREAM, None)
    line.chunk(event({"role": "assistant", "content": ""}) + event({"content": "half"}))
    await hang(line, exchange, request)


async def die_midstream(line: _Connection, exchange: Exchange, request: dict[str, Any]) -> None:
    line.head(200, _STREAM, None)
    line.chunk(event({"role": "assistant", "content": ""}) + event({"content": "half"}))
    await asyncio.sleep(0.1)
    line.chunk(event({"content": "torn"})[:25])
    await asyncio.sleep(0.05)
    line.reset()


async def end_midstream(line: _Connection, exchange: Exchange, request: dict[str, Any]) -> None:
    line.head(200, _STREAM, None)
    line.chunk(event({"role": "assistant", "content": ""}) + event({"content": "half"}))
    await asyncio.sleep(0.05)
    line.end()


async def die_early(line: _Connection, exchange: Exchange, request: dict[str, Any]) -> None:
    line.head(200, _STREAM, None)
    line.chunk(event({"role": "assistant", "content": ""}))
    await asyncio.sleep(0.05)
    line.reset()


async def die_in_answer(line: _Connection, exchange: Exchange, request: dict[str, Any]) -> None:
    line.head(200, {"content-type": "application/json"}, 1000)
    line.transport.write(b'{"id": ')
    await asyncio.sleep(0.05)
    line.reset()


async def endless(line: _Connection, exchange: Exchange, request: dict[str, Any]) -> None:
    line.head(200, _STREAM, None)
    line.chunk(event({"role": "assistant", "content": ""}))
    for _ in range(int(OPEN_S / 0.02)):
        line.chunk(event({"content": "more "}))
        await asyncio.sleep(0.02)
    line.transport.abort()


async def error_event(line: _Connection, exchange: Exchange, request: dict[str, Any]) -> None:
    line.head(200, _STREAM, None)
    error = {"message": "scripted overload", "type": "rate_limit_error", "code": "busy"}
    line.chunk(b"data: " + json.dumps({"error": error}).encode() + b"\n\n")
    line.end()


async def error_200(line: _Connection, exchange: Exchange, request: dict[str, Any]) -> None:
    line.whole(b'{"error": {"message": "scripted error in a 200"}}')


async def json_for_stream(line: _Connection, exchange: Exchange, request: dict[str, Any]) -> None:
    line.whole(completion("not a stream", "scripted"))


async def empty_stream(line: _Connection, exchange: Exchange, request: dict[str, Any]) -> None:
    line.head(200, _STREAM, None)
    line.chunk(b"data: [DONE]\n\n")
    line.end()


async def no_done(line: _Connection, exchange: Exchange, request: dict[str, Any]) -> None:
    line.head(200, _STREAM, None)
    line.chunk(event({"role": "assistant", "content": "all"}) + event({}, "stop"))
    line.end()


async def redirect(line: _Connection, exchange: Exchange, request: dict[str, Any]) -> None:
    line.whole(b"", 307, {"location": "/v1/trap"})


async def html(line: _Connection, exchange: Exchange, request: dict[str, Any]) -> None:
    line.whole(b"<html>Bad gateway</html>", 502, {"content-type": "text/html"})


async def big_headers(line: _Connection, exchange: Exchange, request: dict[str, Any]) -> None:
    headers = {"x-ratelimit-limit-requests": "1", "x-big": "b" * 60_000, "set-cookie": "a=b"}
    line.whole(completion("hello", "scripted"), 200, headers)


async def leak(line: _Connection, exchange: Exchange, request: dict[str, Any]) -> None:
    key = exchange.headers.get("authorization", "").removeprefix("Bearer ")
    line.whole(json.dumps({"error": {"message": f"bad key {key}"}}).encode(), 401)


async def reset_once(line: _Connection, exchange: Exchange, request: dict[str, Any]) -> None:
    """As a server that gave an idle connection up: the first exchange of a tag is reset."""
    tag = str(request["model"])
    if tag not in _seen:
        _seen.add(tag)
        line.reset()
        return
    await answer(line, exchange, request)


_seen: set[str] = set()

SCRIPTS: dict[str, Script] = {
    "slow": slow,
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
    "redirect": redirect,
    "html": html,
    "big-headers": big_headers,
    "leak": leak,
    "reset-once": reset_once,
}


class ScriptedProvider:
    """The provider in a thread: ``with ScriptedProvider() as provider: provider.url``."""

    def __init__(self, port: int = 0) -> None:
        self.ledger = Ledger()
        self._wanted_port = port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        starting = asyncio.run_coroutine_threadsafe(self._start(), self._loop)
        self.port: int = starting.result(10)
        return self

    async def _start(self) -> int:
        server = await self._loop.create_server(
            lambda: _Connection(self.ledger), "127.0.0.1", self._wanted_port
        )
        self._server = server
        return int(server.sockets[0].getsockname()[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def __exit__(self, *_: object) -> None:
        async def stop() -> None:
            self._server.close()
            for transport in list(self.ledger.open):
                transport.abort()
            for task in asyncio.all_tasks():
                if task is not asyncio.current_task():
                    task.cancel()
            await asyncio.sleep(0.05)

        asyncio.run_coroutine_threadsafe(stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


async def _serve(port: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(None), "127.0.0.1", port)
    print(f"scripted provider on http://127.0.0.1:{port}/v1", flush=True)
    await server.serve_forever()


def main() -> None:
    """Serves until it is stopped."""
    parser = argparse.ArgumentParser(description="A provider on loopback, for trying things out.")
    parser.add_argument("--port", type=int, default=9009)
    uvloop.run(_serve(parser.parse_args().port))


if __name__ == "__main__":
    main()
