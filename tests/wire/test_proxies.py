"""Exchanges through an HTTP proxy: as the environment or the entry says, and how one fails."""

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from deployments.orchestrator import Orchestrator
from serve_app.domain import ModelRef, Question, Route, Turn, Unavailable
from serve_app.engines.http import HttpEngine
from serve_app.exchange import (
    FaultKind,
    Operation,
    UpstreamFault,
    UpstreamReply,
    UpstreamRequest,
)
from serve_app.providers.transport import Transport, fixed
from tests.scripted_provider import ScriptedProvider
from tests.site import closed_port
from tests.unit.config.broken import V
from tests.unit.fakes import snapshot_of
from tests.wire.proxy_server import ProxyServer, running_proxy
from tests.wire.test_tls import Server, server

__all__ = ["server"]  # a fixture

PASSWORD = "pa55-w0rd-of-proxy"
CREDENTIALS = b"Basic " + b64encode(f"user:{PASSWORD}".encode())
Open = Callable[..., "asyncio.Future[UpstreamReply | UpstreamFault]"]


def request_of(model: str, *, stream: bool = False) -> UpstreamRequest:
    body = b'{"model": "%s", "stream": %s}' % (model.encode(), b"true" if stream else b"false")
    ref = ModelRef("vllm", model)
    return UpstreamRequest(
        "slug", ref, Operation.CHAT, "/chat/completions", (), body, stream=stream, deadline_s=5.0
    )


@pytest.fixture
async def proxy() -> AsyncIterator[ProxyServer]:
    """A proxy that knows provider.test, and no certificate of its own."""
    async with running_proxy() as running:
        yield running


@pytest.fixture
async def make_transport(tmp_path: Path) -> AsyncIterator[Callable[..., Transport]]:
    """Makes a transport to a base URL; all are closed at the end."""
    made: list[Transport] = []

    def make(
        base_url: str, environ: dict[str, str], more: str = "", ca: Path | None = None
    ) -> Transport:
        entry = f"{{model: vllm/*, base_url: '{base_url}'{more}}}"
        text = f"{V}model_providers: [{entry}]\ntimeouts: {{connect_s: 0.3}}\n"
        snapshot = snapshot_of(tmp_path, text)
        source = fixed(snapshot.providers, snapshot.config.timeouts)
        made.append(Transport(source, environ, None if ca is None else str(ca)))
        return made[-1]

    yield make
    for transport in made:
        await transport.close()
    await asyncio.sleep(0.05)  # the connections' last callbacks


@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"])
async def test_http_provider_is_reached_through_the_environments_proxy(
    variable: str,
    make_transport: Callable[..., Transport],
    proxy: ProxyServer,
    providers: dict[str, ScriptedProvider],
) -> None:
    """The proxy resolves the host, gets the whole address and its credentials; answers come back.

    The provider gets none of the credentials, and kept connections carry them again.
    """
    proxy.addresses["provider.test"] = providers["shared"].port
    url = proxy.url.replace("//", f"//user:{PASSWORD}@")
    transport = make_transport("http://provider.test/v1", {variable: url})
    for stream in (False, True):
        reply = await transport.open(request_of("parrot", stream=stream))
        assert isinstance(reply, UpstreamReply)
        assert reply.status == 200
        if not isinstance(reply.body, bytes):
            assert b"".join([chunk async for chunk in reply.body]).endswith(b"[DONE]\n\n")
    assert proxy.requests[0] == b"POST http://provider.test/v1/chat/completions HTTP/1.1"
    assert proxy.credentials[0] == CREDENTIALS
    exchange = providers["shared"].ledger.last()
    assert exchange.path == "/v1/chat/completions"
    assert exchange.headers["host"] == "provider.test"
    assert "proxy-authorization" not in exchange.headers


@pytest.mark.parametrize("more", ["", ", proxy: $PROXY"])
async def test_https_provider_is_reached_through_connect(
    more: str, make_transport: Callable[..., Transport], proxy: ProxyServer, server: Server
) -> None:
    """TLS is spoken with the provider itself, so only CONNECT is for the proxy."""
    url = proxy.url.replace("//", f"//user:{PASSWORD}@")
    environ = {"PROXY": url} if more else {"https_proxy": url}
    base_url = f"https://localhost:{server.port}"
    transport = make_transport(base_url, environ, more, server.certificate)
    for _ in range(2):
        reply = await transport.open(request_of("x"))
        assert isinstance(reply, UpstreamReply), reply
    assert proxy.requests == [f"CONNECT localhost:{server.port} HTTP/1.1".encode()] * 2
    assert proxy.credentials == [CREDENTIALS] * 2
    assert server.names == ["localhost"] * 2


@pytest.mark.parametrize(
    ("exceptions", "more", "seen"),
    [
        ("127.0.0.0/8", "", 0),
        ("localhost,127.0.0.1", "", 0),
        ("example.com", "", 1),
        ("", ", proxy: off", 0),
        ("*", ", proxy: $PROXY", 1),
    ],
)
async def test_exceptions_and_the_entry_decide_whether_there_is_a_proxy(
    exceptions: str,
    more: str,
    seen: int,
    make_transport: Callable[..., Transport],
    proxy: ProxyServer,
    providers: dict[str, ScriptedProvider],
) -> None:
    """NO_PROXY exempts from the environment's proxy; the entry's own key counts before both."""
    environ = {"HTTP_PROXY": proxy.url, "NO_PROXY": exceptions, "PROXY": proxy.url}
    transport = make_transport(providers["shared"].url, environ, more)
    assert isinstance(await transport.open(request_of("parrot")), UpstreamReply)
    assert len(proxy.requests) == seen


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    ("refuses", "text"),
    [
        (b"407 Proxy Authentication Required", "the proxy of vllm refused the connection (status 407); check the user and the password in its URL"),
        (b"403 Forbidden", "the proxy of vllm refused the connection (status 403); allow the address there, or name it in NO_PROXY"),
    ],
)  # fmt: skip
async def test_refusal_of_the_proxy_is_a_fault_of_the_connection(
    scheme: str,
    refuses: bytes,
    text: str,
    make_transport: Callable[..., Transport],
    proxy: ProxyServer,
) -> None:
    """The next candidate is asked, and the password appears in nothing that goes back."""
    proxy.refuses = refuses
    url = proxy.url.replace("//", f"//user:{PASSWORD}@")
    transport = make_transport(f"{scheme}://provider.test/v1", {"ALL_PROXY": url})
    outcome = await transport.open(request_of("x"))
    assert PASSWORD not in repr(outcome)
    assert CREDENTIALS.decode() not in repr(outcome)
    if scheme == "http" and not refuses.startswith(b"407"):  # may be the provider's own
        assert isinstance(outcome, UpstreamReply)
        assert (outcome.status, outcome.body) == (403, b"<html>Basic ***")
    else:
        assert outcome == UpstreamFault(FaultKind.CONNECT, text)


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("http://127.0.0.1:{closed}", "cannot connect to the proxy of vllm; check its URL"),
        ("http://proxy.invalid:1", "cannot connect to the proxy of vllm; check its URL"),
        ("socks5://127.0.0.1:{closed}", "cannot reach {slug}: the environment variable ALL_PROXY has the scheme 'socks5'; only HTTP proxies are supported, such as http://host:port, or set `proxy: off` in its entry"),
    ],
)  # fmt: skip
async def test_unusable_proxy_is_a_fault_of_the_connection(
    scheme: str, url: str, text: str, make_transport: Callable[..., Transport]
) -> None:
    """The provider is not asked directly instead, and the fault says what to change."""
    closed = closed_port()
    transport = make_transport(f"{scheme}://h.test/v1", {"ALL_PROXY": url.format(closed=closed)})
    outcome = await transport.open(request_of("x"))
    slug = "vllm-h-test-80" if scheme == "http" else "vllm-h-test"
    assert outcome == UpstreamFault(FaultKind.CONNECT, text.format(slug=slug))


async def test_silent_proxy_ends_with_the_limit_of_connecting(
    make_transport: Callable[..., Transport], proxy: ProxyServer
) -> None:
    """A tunnel that is not opened counts as a connection that is not made."""
    proxy.is_silent = True
    transport = make_transport("https://provider.test/v1", {"https_proxy": proxy.url})
    outcome = await transport.open(request_of("x"))
    detail = "connecting to vllm (through its proxy) timed out after 0.3 s"
    assert outcome == UpstreamFault(FaultKind.CONNECT, detail)


async def test_proxy_with_an_unset_variable_is_a_missing_setting(
    make_transport: Callable[..., Transport],
) -> None:
    """Nothing is sent without the proxy, because its variable is missing."""
    transport = make_transport("http://h.test/v1", {}, ", proxy: $EGRESS")
    outcome = await transport.open(request_of("x"))
    detail = "vllm-h-test-80: the environment variable EGRESS is not set where the gateway runs"
    assert outcome == UpstreamFault(FaultKind.NO_KEY, detail)


async def test_engine_http_uses_the_same_proxy(
    proxy: ProxyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The routing model's server is reached through the environment's proxy, too."""
    monkeypatch.setenv("http_proxy", proxy.url)
    proxy.refuses = b"500 No"
    section = "{engine: http, model: m, base_url: 'http://router.test'}"
    snapshot_of(tmp_path, f"{V}orchestrator: {section}\n")
    deployment = Orchestrator(str(tmp_path / "gateway.yaml"))
    assert deployment._first is not None
    engine = deployment._first._inner
    assert isinstance(engine, HttpEngine)
    try:
        question = Question((Turn("user", "hi"),), (Route("code", "writing code", ()),), "v1")
        result = await engine.score(question)
    finally:
        await engine.close()
        await asyncio.sleep(0.05)  # the connection's last callbacks
        deployment.__del__()
    assert isinstance(result, Unavailable)
    assert set(proxy.requests) == {b"POST http://router.test/v1/chat/completions HTTP/1.1"}
