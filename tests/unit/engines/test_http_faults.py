"""What goes wrong with a routing model behind a server, and that nobody's secret is told."""

import asyncio
import logging
import socket

import pytest
from aiohttp import web

from serve_app.domain import Reason, Unavailable
from serve_app.engines.http import MAX_DECISION_BYTES, HttpEngineSettings
from serve_app.engines.servers import own_server
from tests.site import closed_port
from tests.unit.engines.chat_server import (
    SECRET,
    Answer,
    Make,
    Server,
    breaks_off,
    dies,
    hangs,
    question,
    raw,
    says,
    thinks,
    won,
)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (raw(b"oops " + SECRET.encode(), 500), "returned an error (status 500)"),
        (raw(b"", 503), "returned an error (status 503)"),
        (raw(b"", 401), "rejected the key (status 401); set orchestrator.access_key"),
        (raw(b"", 403), "rejected the key (status 403); set orchestrator.access_key"),
        (raw(b"", 404), "has no such model or path (status 404); check orchestrator.model and base_url"),
        (raw(b"", 429), "is overloaded (status 429)"),
        (raw(b"", 302, location="http://127.0.0.1:9/"), "redirects (302); set base_url to the new address"),
        (raw(b"", 204), "returned an error (status 204)"),
        (raw(b"<html>"), "returned an answer that is not a chat completion"),
        (raw(b"[" * 100_000), "returned an answer that is not a chat completion"),
        (raw(b"null"), "returned an answer that is not a chat completion"),
        (raw(b'{"choices": []}'), "returned an answer that is not a chat completion"),
        (raw(b'{"choices": [null]}'), "returned an answer that is not a chat completion"),
        (raw(b'{"choices": [{"text": "code"}]}'), "returned an answer that is not a chat completion"),
        (says(None), "returned an answer without text"),
        (says(""), "returned an answer without text"),
        (says([{"type": "image_url"}, "code", {"text": None}]), "returned an answer without text"),
        (says({"text": "code"}), "returned an answer without text"),
        (raw(b'{"error": {"message": "no"}}'), "returned an answer that is not a chat completion"),
        (thinks, "ran out of tokens before answering; turn reasoning off for this model"),
        (says("I would love to"), "returned an unusable answer: found no route in its 15 characters"),
        (dies, "closed the connection without an answer"),
        (breaks_off, "closed the connection in the middle of its answer"),
    ],
)  # fmt: skip
async def test_faults_are_values(server: Server, make: Make, answer: Answer, text: str) -> None:
    """They name the server and what it did, and nothing of its answer."""
    server.answer = answer
    expected = Unavailable(Reason.ORCHESTRATOR_ERROR, f"{server.place} {text}")
    assert await make().score(question()) == expected


async def test_an_answer_over_the_limit_is_a_fault(server: Server, make: Make) -> None:
    """The rest of it is not read."""
    server.answer = raw(b" " * (MAX_DECISION_BYTES + 1))
    detail = f"the answer of {server.place} is larger than 1048576 bytes"
    assert await make().score(question()) == Unavailable(Reason.ORCHESTRATOR_ERROR, detail)


async def test_answer_without_http_is_a_fault(make: Make) -> None:
    """Another kind of server listens on the port."""

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        result = await make(base_url=f"http://127.0.0.1:{port}").score(question())
    assert result == Unavailable(
        Reason.ORCHESTRATOR_ERROR, f"127.0.0.1:{port} sent an answer that is not HTTP"
    )


async def test_refused_connection_is_a_fault(make: Make) -> None:
    """No server listens on the port."""
    port = closed_port()
    result = await make(base_url=f"http://127.0.0.1:{port}/v1").score(question())
    expected = f"cannot connect to 127.0.0.1:{port}"
    assert result == Unavailable(Reason.ORCHESTRATOR_ERROR, expected)


@pytest.mark.parametrize("host", ["nowhere", "a..b", "x" * 70])
async def test_unresolved_host_is_a_fault(
    host: str, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name is unknown, or not valid."""

    async def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    if host == "nowhere":
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", unknown)
    result = await make(base_url=f"http://{host}:1").score(question())
    detail = f"cannot resolve the host name of {host}:1; check its base_url"
    assert result == Unavailable(Reason.ORCHESTRATOR_ERROR, detail)


async def test_server_without_tls_is_a_fault(server: Server, make: Make) -> None:
    """The scheme is the likely mistake."""
    result = await make(base_url=f"https://{server.place}").score(question())
    detail = f"{server.place} does not speak TLS; change https to http in its base_url"
    assert result == Unavailable(Reason.ORCHESTRATOR_ERROR, detail)


async def test_closed_kept_connection_costs_no_answer(server: Server, make: Make) -> None:
    """The question is sent once more, on a new connection; a first exchange is not repeated."""
    engine = make()
    together = asyncio.Barrier(3)

    async def joins(request: web.Request) -> web.StreamResponse:
        await together.wait()
        return await says("code")(request)

    server.answer = joins
    await asyncio.gather(*(engine.score(question(f"number {n}")) for n in range(3)))
    assert len(server.peers) == 3
    old = set(server.peers)

    async def forgets(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        kept = request.transport.get_extra_info("peername") in old
        return await (dies if kept else says("travel"))(request)

    server.answer, asked = forgets, len(server.requests)
    assert await engine.score(question()) == won("travel")
    assert len(server.requests) - asked == 2
    fresh, server.answer, asked = make(), dies, len(server.requests)
    assert isinstance(await fresh.score(question()), Unavailable)
    assert len(server.requests) - asked == 1


async def test_deadline_closes_the_connection(server: Server, make: Make) -> None:
    """The fault has the deadline."""
    server.answer = hangs
    result = await make(deadline_s=0.2).score(question())
    detail = f"{server.place} timed out after 0.2 s"
    assert result == Unavailable(Reason.ORCHESTRATOR_TIMEOUT, detail)
    await asyncio.wait_for(server.left.wait(), 5)


async def test_connect_timeout_has_its_own_text(make: Make) -> None:
    """The queue of the listener is full, so the connection itself gets no answer."""
    full = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0, start_serving=False)  # fmt: skip
    (listening,) = full.sockets
    listening._sock.listen(0)  # type: ignore[attr-defined]
    address = listening.getsockname()
    waiting = [asyncio.create_task(asyncio.open_connection(*address)) for _ in range(4)]
    await asyncio.sleep(0.1)
    try:
        result = await make(base_url=f"http://127.0.0.1:{address[1]}", deadline_s=0.4).score(
            question()
        )
    finally:
        for task in waiting:
            task.cancel()
        for streams in await asyncio.gather(*waiting, return_exceptions=True):
            if not isinstance(streams, BaseException):
                streams[1].close()
        full.close()
    assert isinstance(result, Unavailable)
    assert result.reason is Reason.ORCHESTRATOR_TIMEOUT
    assert result.detail == f"connecting to 127.0.0.1:{address[1]} timed out after 0.2 s"


async def test_cancelled_question_closes_its_connection(server: Server, make: Make) -> None:
    """The server notices, and the next question is answered."""
    server.answer = hangs
    engine = make()
    task = asyncio.create_task(engine.score(question()))
    await asyncio.wait_for(server.asked.wait(), 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(server.left.wait(), 5)
    server.answer = says("code")
    assert await engine.score(question()) == won("code")


@pytest.mark.parametrize(
    ("base_url", "access_key", "environ", "detail"),
    [
        ("$URL", None, {}, "the server at $URL: the environment variable URL is not set where the gateway runs"),
        ("http://127.0.0.1:1", "$KEY", {}, "127.0.0.1:1: the environment variable KEY is not set where the gateway runs"),
        ("$URL", None, {"URL": SECRET}, "base_url of the server at $URL is not a valid URL after expanding its variables"),
        ("http://u:$URL@127.0.0.1:1", None, {"URL": SECRET}, "base_url of the server at $URL is not a valid URL after expanding its variables"),
        (f"http://u:{SECRET}@127.0.0.1:1", None, {}, "base_url of the server is not a valid URL after expanding its variables"),
    ],
)  # fmt: skip
async def test_faults_of_references_contain_no_secret(
    make: Make, base_url: str, access_key: str | None, environ: dict[str, str], detail: str
) -> None:
    """They name the variable, not its value."""
    engine = make(base_url=base_url, access_key=access_key, environ=environ)
    assert await engine.score(question()) == Unavailable(Reason.ORCHESTRATOR_ERROR, detail)


async def test_key_with_line_break_is_not_sent(server: Server, make: Make) -> None:
    """It adds no header, and the fault does not contain it."""
    engine = make(access_key="$KEY", environ={"KEY": f"{SECRET}\r\nx: y"})
    detail = f"access_key of {server.place} contains a line break or another control character"
    assert await engine.score(question()) == Unavailable(Reason.ORCHESTRATOR_ERROR, detail)
    assert not server.requests


async def test_refused_key_is_neither_shown_nor_logged(
    server: Server, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """It stays hidden even if the server repeats it."""
    server.answer = raw(f"bad key {SECRET}".encode(), 401)
    engine = make(access_key="$KEY", environ={"KEY": SECRET})
    with caplog.at_level(logging.DEBUG):
        result = await engine.score(question())
    assert isinstance(result, Unavailable)
    assert SECRET not in result.detail + caplog.text + repr(engine) + repr(
        vars(engine)["_settings"]
    )


async def test_engine_repr_shows_its_server_and_schemas(server: Server, make: Make) -> None:
    """An operator sees where questions go, and what the server accepted; no key."""
    engine = make(access_key="$KEY", environ={"KEY": SECRET})
    model = f"{server.place}/Arch-Router-1.5B"
    transport = "<Transport targets: {}, connections: 0 in use, {} idle>"
    assert repr(engine) == f"<HttpEngine {model}: schemas unknown, {transport.format(0, 0)}>"
    await engine.score(question())
    assert repr(engine) == f"<HttpEngine {model}: schemas accepted, {transport.format(1, 1)}>"


def test_settings_repr_shows_no_secret() -> None:
    """Addresses may contain passwords, and keys may be written out."""
    settings = HttpEngineSettings(own_server(f"http://u:{SECRET}@x", "m", SECRET))
    assert repr(settings).startswith("HttpEngineSettings(family=None")
