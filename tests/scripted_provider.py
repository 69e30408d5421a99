"""A provider on loopback that runs the script in the model's name; for tests, demo and benchmarks.

The name is a script of words: ``status-429``, ``hang``, ``die-midstream`` … (tests/scripts.py); any
other name is a well-behaved model that repeats the prompt. A ledger records every exchange: the
bytes received, the bytes answered, and whether the client disconnected before the end.

Runs in a thread of a test (``ScriptedProvider``), or as ``python -m tests.scripted_provider``.
"""

import argparse
import asyncio
import json
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self, cast

import httptools
import uvloop

from tests.scripts import Script, script_of

HEAD = b"HTTP/1.1 %d %s\r\n"


@dataclass
class Exchange:
    """One request and its reply."""

    path: str
    headers: dict[str, str]
    method: str = ""
    body: bytes = b""
    answered: bytes = b""
    """The reply's body, without chunk sizes."""
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
    """One connection: parses requests and runs a script for each in turn."""

    def __init__(self, ledger: Ledger | None, find: Callable[[str], Script] = script_of) -> None:
        self.ledger = ledger
        self.find = find
        self.parser = httptools.HttpRequestParser(self)
        self.transport: asyncio.Transport
        self.exchange: Exchange
        self.task: asyncio.Task[None] | None = None
        self.count = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's class is not a subclass
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
        self.exchange.method = self.parser.get_method().decode()
        self.exchange.body = b"".join(self.body)
        self.count += 1
        if self.ledger is not None:
            self.ledger.exchanges.append(self.exchange)
        self.task = asyncio.get_running_loop().create_task(self.run(self.exchange))

    async def run(self, exchange: Exchange) -> None:
        request = json.loads(exchange.body) if exchange.body else {}
        script = self.find(str(request.get("model", "")))
        await script(self, exchange, request)
        exchange.finished = True

    # the methods that scripts call

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

    def raw(self, data: bytes) -> None:
        self.transport.write(data)

    def abort(self) -> None:
        self.transport.abort()

    def end(self) -> None:
        self.transport.write(b"0\r\n\r\n")

    def reset(self) -> None:
        """Closes the connection with RST, so that the peer sees an error and not an end."""
        sock = self.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        self.transport.abort()


class ScriptedProvider:
    """Runs the provider in a thread: ``with ScriptedProvider() as provider: provider.url``.

    ``find`` gives the script for a model's name.
    """

    def __init__(self, port: int = 0, find: Callable[[str], Script] = script_of) -> None:
        self.ledger = Ledger()
        self._find = find
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
            lambda: _Connection(self.ledger, self._find), "127.0.0.1", self._wanted_port
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


async def serve(port: int, find: Callable[[str], Script] = script_of) -> None:
    """Serves until it is cancelled, and records nothing."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(None, find), "127.0.0.1", port)
    print(f"scripted provider on http://127.0.0.1:{port}/v1", flush=True)
    await server.serve_forever()


def main() -> None:
    """Serves until it is stopped."""
    parser = argparse.ArgumentParser(description="A provider on loopback, for trying things out.")
    parser.add_argument("--port", type=int, default=9009)
    uvloop.run(serve(parser.parse_args().port))


if __name__ == "__main__":
    main()
