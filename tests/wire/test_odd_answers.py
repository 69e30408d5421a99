"""The transport against servers with unusual HTTP: the result is an answer or a fault."""

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
"""In an answer of a server: the rest is sent a little later."""

Script = Callable[[int], bytes | None]
"""The answer of a server, by the number of the exchange on its connection; None hangs up."""


def answer(body: bytes, *lines: str, status: int = 200) -> bytes:
    """An answer with a length."""
    head = [f"HTTP/1.1 {status} Odd", *lines, f"content-length: {len(body)}"]
    return "\r\n".join([*head, "", ""]).encode() + body


def request(*, stream: bool = False, fresh: bool = False) -> UpstreamRequest:
    model = ModelRef("vllm", "m")
    return UpstreamRequest(
        "slug", model, Operation.CHAT, "/chat/completions", (), b"{}", stream, 4.0, fresh=fresh
    )


@asynccontextmanager
async def served(script: Script) -> AsyncIterator[str]:
    """The URL of a server that answers as ``script`` returns."""
    open_lines: set[asyncio.StreamWriter] = set()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_lines.add(writer)
        number = 0
        while await reader.read(65536):  # a request is one small write
            reply = script(number)
            if reply is None:
                break
            number += 1
            for part in reply.split(PAUSE):
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
def ask_once(tmp_path: Path) -> Callable[..., Awaitable[Any]]:
    """Sends one request; returns the fault, or the reply with its body read."""

    async def ask(
        script: Script, *, stream: bool = False, max_bytes: int = MAX_ANSWER_BYTES
    ) -> Any:
        async with served(script) as url, opened(tmp_path, url, max_bytes) as transport:
            reply = await transport.open(request(stream=stream))
            if isinstance(reply, UpstreamFault) or isinstance(reply.body, bytes):
                return reply
            body = [chunk async for chunk in reply.body]
            return UpstreamReply(reply.status, reply.headers, b"".join(body))

    return ask


@pytest.mark.parametrize("status", [101, 600, 999])
async def test_status_out_of_range_is_a_fault(ask_once: Any, status: int) -> None:
    """A client cannot receive such a status."""
    fault = await ask_once(lambda _: answer(b"{}", status=status))
    assert fault.kind is FaultKind.BAD_ANSWER
    assert f"status {status}" in fault.detail


async def test_size_limit_counts_decompressed_bytes(ask_once: Any) -> None:
    """A small body that grows over the limit by decompression is too large."""
    packed = gzip.compress(bytes(8 << 20))
    fault = await ask_once(lambda _: answer(packed, "content-encoding: gzip"), max_bytes=1 << 20)
    detail = "the answer of vllm is larger than 1048576 bytes"
    assert fault == UpstreamFault(FaultKind.BAD_ANSWER, detail)
    packed = gzip.compress(GOOD)
    small = await ask_once(lambda _: answer(packed, "content-encoding: gzip"), max_bytes=1 << 20)
    assert small.body == GOOD


async def test_many_small_headers_are_read(ask_once: Any) -> None:
    """The limit applies to the size of the headers, not to their number."""
    reply = await ask_once(lambda _: answer(GOOD, *(f"x-odd-{n}: {n}" for n in range(500))))
    assert (reply.status, reply.body) == (200, GOOD)


EVENTS = b'data: {"choices":[{"delta":{"content":"a"}}]}\n\ndata: [DONE]\n\n'
ODD_TYPES = ["text/plain; charset=utf-8", "application/octet-stream", "application/json", None]


def typed(kind: str | None) -> list[str]:
    """The header line of a content type."""
    return [] if kind is None else [f"content-type: {kind}"]


async def opened_body(folder: Path, script: Script) -> bytes | None:
    """The body of a complete answer to a request for a stream; None if it is a stream."""
    async with served(script) as url, opened(folder, url) as transport:
        reply = await transport.open(request(stream=True))
        assert isinstance(reply, UpstreamReply)
        if isinstance(reply.body, bytes):
            return reply.body
        await reply.body.aclose()
        return None


@pytest.mark.parametrize("kind", ODD_TYPES)
@pytest.mark.parametrize(
    "events",
    [
        EVENTS,
        b": hi\n\n" + EVENTS,
        b"\r\n\r\nevent: x\r\n" + EVENTS,
        b"\xef\xbb\xbfid: 1\n" + EVENTS,
        b"da<pause>ta: 1\n\n" + EVENTS,
        b"\n<pause>r<pause>etry: 1\n" + EVENTS,
    ],
)
async def test_stream_may_have_any_type(ask_once: Any, kind: str | None, events: bytes) -> None:
    """Its first bytes say what it is; SDKs do not check the type either."""
    whole = events.replace(PAUSE, b"")
    head = answer(whole, *typed(kind))[: -len(whole)]
    reply = await ask_once(lambda _: head + events, stream=True)
    assert reply.body == whole


@pytest.mark.parametrize("kind", ODD_TYPES)
@pytest.mark.parametrize("body", [GOOD, b"  \n" + GOOD, b"<html>", b"dat", b"", b" " * (100 << 10)])
async def test_answer_that_is_not_a_stream_is_read_whole(
    tmp_path: Path, kind: str | None, body: bytes
) -> None:
    """Whatever its type, it is judged like any complete answer; nothing of it is lost."""
    assert await opened_body(tmp_path, lambda _: answer(body, *typed(kind))) == body
    packed = gzip.compress(body)
    script = answer(packed, "content-encoding: gzip", *typed(kind))
    assert await opened_body(tmp_path, lambda _: script) == body


async def test_event_stream_begins_before_its_first_bytes(tmp_path: Path) -> None:
    """Where the type says what comes, nothing waits for it."""
    head = answer(GOOD, "content-type: text/event-stream")[: -len(GOOD)]
    assert await opened_body(tmp_path, lambda _: head) is None


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("content", "redacted"),
    [
        (b'{"error": {"message": "bad key ordinary"}}', b'{"error": {"message": "bad key ***"}}'),
        (b'{"error":"bad key ordinary"}', b'{"error":"bad key ***"}'),
        (b'{"choices":["ordinary words"],"error":null}', None),
        (b'{"choices":["an ordinary \\"error\\": {"]}', None),
    ],
)
async def test_error_in_successful_answer_is_redacted(
    ask_once: Any, content: bytes, redacted: bytes | None, stream: bool
) -> None:
    """A good answer keeps each of its bytes, including words that are keys here."""
    before, after, kind = (b"data: ", b"\n\n", "event-stream") if stream else (b"", b"", "json")
    whole = before + content + after
    reply = await ask_once(lambda _: answer(whole, f"content-type: text/{kind}"), stream=stream)
    assert reply.body == before + (content if redacted is None else redacted) + after


@pytest.mark.parametrize("stream", [False, True])
async def test_header_with_key_is_removed(ask_once: Any, stream: bool) -> None:
    """It is left out of every answer."""
    lines = ["content-type: text/event-stream", "X-Request-Id: Bearer ordinary", "x-other: 1"]
    reply = await ask_once(lambda _: answer(b"data: [DONE]\n\n", *lines), stream=stream)
    names = [name for name, _ in reply.headers]
    assert "x-request-id" not in names
    assert "x-other" in names


async def test_fresh_request_opens_a_new_connection(tmp_path: Path) -> None:
    """It ignores idle connections, which the server may have closed without notice."""

    def once(number: int) -> bytes | None:
        return answer(GOOD) if number == 0 else None

    async with served(once) as url, opened(tmp_path, url) as transport:
        first = await asyncio.gather(*(transport.open(request()) for _ in range(4)))
        assert all(isinstance(reply, UpstreamReply) for reply in first)
        stale = await transport.open(request())
        assert isinstance(stale, UpstreamFault)
        assert stale.kind is FaultKind.RESET
        for _ in range(2):
            again = await transport.open(request(fresh=True))
            assert isinstance(again, UpstreamReply)


async def test_idle_connection_may_end_with_an_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing waits for it any more, and nothing is logged."""
    lines: list[asyncio.StreamWriter] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines.append(writer)
        await reader.read(65536)
        writer.write(answer(GOOD)[: -len(GOOD)])
        await asyncio.sleep(0.03)  # so that the body is awaited
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


async def test_connect_timeout_includes_dns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A DNS server that does not respond costs no more time than such a host."""
    loop, resolving = asyncio.get_running_loop(), asyncio.Event()

    async def silent(*_: Any, **__: Any) -> list[Any]:
        resolving.set()
        await asyncio.sleep(1.0)
        return []

    monkeypatch.setattr(loop, "getaddrinfo", silent)
    async with opened(tmp_path, "http://models.example") as transport:
        began = loop.time()
        fault = await transport.open(request())
        assert loop.time() - began < 0.9
        assert resolving.is_set()
        detail = "connecting to vllm timed out after 0.3 s"
        assert fault == UpstreamFault(FaultKind.CONNECT, detail)


@pytest.mark.parametrize("stream", [False, True])
async def test_invalid_chunk_ends_the_exchange_at_once(ask_once: Any, stream: bool) -> None:
    """The fault is an answer that broke off, long before the exchange times out."""
    head = b"HTTP/1.1 200 Odd\r\ncontent-type: %b\r\ntransfer-encoding: chunked\r\n\r\n"
    start = head % (b"text/event-stream" if stream else b"application/json")
    began = asyncio.get_running_loop().time()
    if stream:
        with pytest.raises(StreamBrokenError) as caught:
            await ask_once(lambda _: start + b"3\r\na\n\n\r\n<pause>no size\r\n", stream=True)
        fault = caught.value.fault
    else:
        fault = await ask_once(lambda _: start + b"3\r\n{  \r\n<pause>no size\r\n")
    assert fault.kind is FaultKind.BROKEN
    assert asyncio.get_running_loop().time() - began < 1
