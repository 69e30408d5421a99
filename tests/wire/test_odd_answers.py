"""The transport against servers that speak HTTP in odd ways: what arrives is an answer or a fault."""

import asyncio
import gc
import gzip
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from socket import SO_LINGER, SOL_SOCKET
from typing import Any

import pytest

from serve_app.domain import ModelRef
from serve_app.exchange import (
    FaultKind,
    Operation,
    StreamBrokenError,
    UpstreamFault,
    UpstreamReply,
    UpstreamRequest,
)
from serve_app.providers.transport import MAX_ANSWER_BYTES, Transport, fixed
from serve_app.snapshot import compile_snapshot

KEY = "ordinary"
CONFIG = """
version: v0.4.0
model_providers:
  - {{model: vllm/*, base_url: "{url}", access_key: $KEY}}
timeouts: {{connect_s: 0.3, first_byte_s: 2, idle_s: 2, total_s: 4}}
"""
GOOD = b'{"choices": []}'
PAUSE = b"<pause>"
"""In what a server says: what follows comes a little later."""

Speaker = Callable[[int], bytes | None]
"""What a server writes for an exchange, by its number on the connection; None hangs up."""


def told(body: bytes, *lines: str, status: int = 200) -> bytes:
    """An answer with a length."""
    head = [f"HTTP/1.1 {status} Odd", *lines, f"content-length: {len(body)}"]
    return "\r\n".join([*head, "", ""]).encode() + body


def request(*, stream: bool = False, fresh: bool = False) -> UpstreamRequest:
    model = ModelRef("vllm", "m")
    return UpstreamRequest(
        "slug", model, Operation.CHAT, "/chat/completions", (), b"{}", stream, 4.0, fresh=fresh
    )


@asynccontextmanager
async def served(speak: Speaker) -> AsyncIterator[str]:
    """The URL of a server that says what it is told to."""
    open_lines: set[asyncio.StreamWriter] = set()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_lines.add(writer)
        number = 0
        while await reader.read(65536):  # a request is one small write
            said = speak(number)
            if said is None:
                break
            number += 1
            for part in said.split(PAUSE):
                writer.write(part)
                await asyncio.sleep(0.03)
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for writer in open_lines:
            writer.close()
        await asyncio.sleep(0.02)


@asynccontextmanager
async def opened(
    folder: Path, url: str, max_answer_bytes: int = MAX_ANSWER_BYTES
) -> AsyncIterator[Transport]:
    """A transport to one server."""
    file = folder / "gateway.yaml"
    file.write_text(CONFIG.format(url=url))
    snapshot = compile_snapshot(file)
    source = fixed(snapshot.providers, snapshot.config.timeouts)
    transport = Transport(source, {"KEY": KEY}, max_answer_bytes=max_answer_bytes)
    try:
        yield transport
    finally:
        await transport.close()


@pytest.fixture
def asked(tmp_path: Path) -> Callable[..., Awaitable[Any]]:
    """Asks a server once; gives the fault, or the reply with its body read."""

    async def ask(
        speak: Speaker, *, stream: bool = False, max_bytes: int = MAX_ANSWER_BYTES
    ) -> Any:
        async with served(speak) as url, opened(tmp_path, url, max_bytes) as transport:
            reply = await transport.open(request(stream=stream))
            if isinstance(reply, UpstreamFault) or isinstance(reply.body, bytes):
                return reply
            body = [chunk async for chunk in reply.body]
            return UpstreamReply(reply.status, reply.headers, b"".join(body))

    return ask


@pytest.mark.parametrize("status", [101, 600, 999])
async def test_a_status_that_answers_nothing_is_a_fault(asked: Any, status: int) -> None:
    """No client could be given it."""
    fault = await asked(lambda _: told(b"{}", status=status))
    assert fault.kind is FaultKind.BAD_ANSWER
    assert f"status {status}" in fault.detail


async def test_size_limit_counts_decompressed_bytes(asked: Any) -> None:
    """A small body that grows over the limit by decompression is too large."""
    packed = gzip.compress(bytes(8 << 20))
    fault = await asked(lambda _: told(packed, "content-encoding: gzip"), max_bytes=1 << 20)
    detail = "the answer of vllm is larger than 1048576 bytes"
    assert fault == UpstreamFault(FaultKind.BAD_ANSWER, detail)
    packed = gzip.compress(GOOD)
    small = await asked(lambda _: told(packed, "content-encoding: gzip"), max_bytes=1 << 20)
    assert small.body == GOOD


async def test_many_small_headers_are_read(asked: Any) -> None:
    """It is their size that counts."""
    reply = await asked(lambda _: told(GOOD, *(f"x-odd-{n}: {n}" for n in range(500))))
    assert (reply.status, reply.body) == (200, GOOD)


@pytest.mark.parametrize("kind", ["text/plain; charset=utf-8", "application/octet-stream", None])
async def test_a_stream_may_lack_its_type(asked: Any, kind: str | None) -> None:
    """SDKs do not look at it either."""
    lines = [] if kind is None else [f"content-type: {kind}"]
    events = b'data: {"choices":[{"delta":{"content":"a"}}]}\n\ndata: [DONE]\n\n'
    reply = await asked(lambda _: told(events, *lines), stream=True)
    assert reply.body == events


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("said", "passed"),
    [
        (b'{"error": {"message": "bad key ordinary"}}', b'{"error": {"message": "bad key ***"}}'),
        (b'{"error":"bad key ordinary"}', b'{"error":"bad key ***"}'),
        (b'{"choices":["ordinary words"],"error":null}', None),
        (b'{"choices":["an ordinary \\"error\\": {"]}', None),
    ],
)
async def test_an_error_inside_a_200_does_not_repeat_our_key(
    asked: Any, said: bytes, passed: bytes | None, stream: bool
) -> None:
    """While a good answer keeps each of its bytes, words that are keys here included."""
    before, after, kind = (b"data: ", b"\n\n", "event-stream") if stream else (b"", b"", "json")
    whole = before + said + after
    reply = await asked(lambda _: told(whole, f"content-type: text/{kind}"), stream=stream)
    assert reply.body == before + (said if passed is None else passed) + after


@pytest.mark.parametrize("stream", [False, True])
async def test_a_header_does_not_repeat_our_key(asked: Any, stream: bool) -> None:
    """It is left out, whatever the answer is."""
    lines = ["content-type: text/event-stream", "X-Request-Id: Bearer ordinary", "x-other: 1"]
    reply = await asked(lambda _: told(b"data: [DONE]\n\n", *lines), stream=stream)
    names = [name for name, _ in reply.headers]
    assert "x-request-id" not in names
    assert "x-other" in names


async def test_after_a_reset_no_kept_connection_is_trusted(tmp_path: Path) -> None:
    """However many lie idle, and have been given up by the server without a word."""

    def once(number: int) -> bytes | None:
        return told(GOOD) if number == 0 else None

    async with served(once) as url, opened(tmp_path, url) as transport:
        first = await asyncio.gather(*(transport.open(request()) for _ in range(4)))
        assert all(isinstance(reply, UpstreamReply) for reply in first)
        stale = await transport.open(request())
        assert isinstance(stale, UpstreamFault)
        assert stale.kind is FaultKind.RESET
        for _ in range(2):
            again = await transport.open(request(fresh=True))
            assert isinstance(again, UpstreamReply)


async def test_a_kept_connection_may_end_with_an_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody waits for it any more, and nobody is told."""
    lines: list[asyncio.StreamWriter] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines.append(writer)
        await reader.read(65536)
        writer.write(told(GOOD)[: -len(GOOD)])
        await asyncio.sleep(0.03)  # so that there is somebody who waits for the body
        writer.write(GOOD)

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with opened(tmp_path, url) as transport:
        for _ in range(2):
            reply = await transport.open(request())
            assert isinstance(reply, UpstreamReply)
            line = lines[-1]
            line.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, bytes([1] + [0] * 7))
            line.transport.abort()
            await asyncio.sleep(0.05)
    server.close()
    gc.collect()
    await asyncio.sleep(0)
    assert not caplog.records


async def test_looking_a_name_up_is_part_of_connecting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name server that says nothing costs no more time than a host that says nothing."""
    loop, asked_for = asyncio.get_running_loop(), asyncio.Event()

    async def silent(*_: Any, **__: Any) -> list[Any]:
        asked_for.set()
        await asyncio.sleep(1.0)
        return []

    monkeypatch.setattr(loop, "getaddrinfo", silent)
    async with opened(tmp_path, "http://models.example") as transport:
        began = loop.time()
        fault = await transport.open(request())
        assert loop.time() - began < 0.9
        assert asked_for.is_set()
        detail = "connecting to vllm timed out after 0.3 s"
        assert fault == UpstreamFault(FaultKind.CONNECT, detail)


@pytest.mark.parametrize("stream", [False, True])
async def test_what_is_no_chunk_ends_the_wait(asked: Any, stream: bool) -> None:
    """Not only the exchange's whole time does, and it is a break in the middle of an answer."""
    head = b"HTTP/1.1 200 Odd\r\ncontent-type: %b\r\ntransfer-encoding: chunked\r\n\r\n"
    said = head % (b"text/event-stream" if stream else b"application/json")
    began = asyncio.get_running_loop().time()
    if stream:
        with pytest.raises(StreamBrokenError) as caught:
            await asked(lambda _: said + b"3\r\na\n\n\r\n<pause>no size\r\n", stream=True)
        fault = caught.value.fault
    else:
        fault = await asked(lambda _: said + b"3\r\n{  \r\n<pause>no size\r\n")
    assert fault.kind is FaultKind.BROKEN
    assert asyncio.get_running_loop().time() - began < 1
