"""A provider that sends the events of a stream one by one, at a fixed rate, each with its moment.

    python -m benchmarks.lib.paced_provider --port PORT

The body's ``max_tokens`` is the number of events, ``seed`` the events per second of one stream.
Streams begin at a random part of their first interval, so that they do not beat together. A request
without ``stream`` gets a complete answer at once.
"""

import argparse
import asyncio
import json
import random
import time
from typing import Final, cast

import httptools
import uvloop

EVENT: Final = (
    'data: {{"id":"c","object":"chat.completion.chunk","model":"m","choices":[{{"index":0,'
    '"delta":{{"content":"{stamp} "}},"finish_reason":null}}]}}\n\n'
)
"""``stamp`` is the moment at which the event was sent, nanoseconds of the machine's clock."""
_END: Final = (
    b'data: {"id":"c","object":"chat.completion.chunk","model":"m","choices":[{"index":0,'
    b'"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
)
_HEAD: Final = b"HTTP/1.1 200 OK\r\ncontent-type: %s\r\n%s\r\n\r\n"
_COMPLETE: Final = (
    b'{"id":"c","object":"chat.completion","model":"m","choices":[{"index":0,'
    b'"message":{"role":"assistant","content":"Left."},"finish_reason":"stop"}]}'
)


class _Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._body: list[bytes] = []
        self._stream: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, error: Exception | None) -> None:
        del error
        if self._stream is not None:
            self._stream.cancel()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        asked = json.loads(b"".join(self._body) or b"{}")
        self._body.clear()
        if asked.get("stream"):
            self._stream = asyncio.ensure_future(self._send(asked["max_tokens"], asked["seed"]))
            return
        length = b"content-length: %d" % len(_COMPLETE)
        self._transport.write(_HEAD % (b"application/json", length) + _COMPLETE)

    async def _send(self, events: int, per_second: float) -> None:
        kind, chunked = b"text/event-stream", b"transfer-encoding: chunked"
        self._transport.write(_HEAD % (kind, chunked))
        loop, interval = asyncio.get_running_loop(), 1 / per_second
        due = loop.time() + interval * random.random()  # noqa: S311 - not for secrets
        for _ in range(events):
            await asyncio.sleep(max(0.0, due - loop.time()))
            self._chunk(EVENT.format(stamp=time.monotonic_ns()).encode())
            due += interval
        self._chunk(_END)
        self._transport.write(b"0\r\n\r\n")

    def _chunk(self, data: bytes) -> None:
        self._transport.write(b"%x\r\n%s\r\n" % (len(data), data))


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(_Connection, "127.0.0.1", port)
    await server.serve_forever()


def main() -> None:
    """Serves until it is stopped."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--port", type=int, required=True)
    uvloop.run(_serve(parser.parse_args().port))


if __name__ == "__main__":
    main()
