"""The transport against a real provider on loopback: faults as values, bounds, no key returned."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from serve_app.domain import ModelRef
from serve_app.exchange import (
    Chunks,
    FaultKind,
    Operation,
    UpstreamFault,
    UpstreamReply,
    UpstreamRequest,
)
from serve_app.providers.transport import MAX_ANSWER_BYTES, Transport, fixed
from serve_app.snapshot import compile_snapshot
from tests.scripted_provider import ScriptedProvider
from tests.site import SECRET, closed_port

CONFIG = """
version: v0.4.0
model_providers:
  - {{model: vllm/*, base_url: "{url}", access_key: $KEY}}
  - {{model: openai/keyless}}
  - {{model: ollama/far, base_url: $FAR}}
  - {{model: dead/gone, base_url: "http://127.0.0.1:{port}", provider_interface: vllm}}
timeouts: {{connect_s: 1, first_byte_s: 0.4, idle_s: 0.4, total_s: 1}}
"""
Opener = Callable[..., Transport]


def request(name: str, *, stream: bool = False, provider: str = "vllm") -> UpstreamRequest:
    """A request for one of the scripts."""
    body = b'{"model": "%s", "stream": %s}' % (name.encode(), b"true" if stream else b"false")
    model = ModelRef(provider, name)
    return UpstreamRequest(
        "slug", model, Operation.CHAT, "/chat/completions", (), body, stream, 5.0
    )


@pytest.fixture
async def make_transport(
    tmp_path: Path, providers: dict[str, ScriptedProvider]
) -> AsyncIterator[Opener]:
    """Makes transports with the given environment; all are closed at the end."""
    file = tmp_path / "gateway.yaml"
    file.write_text(CONFIG.format(url=providers["shared"].url, port=closed_port()))
    snapshot = compile_snapshot(file)
    made: list[Transport] = []

    def make(environ: dict[str, str], max_answer_bytes: int = MAX_ANSWER_BYTES) -> Transport:
        source = fixed(snapshot.providers, snapshot.config.timeouts)
        made.append(Transport(source, environ, max_answer_bytes=max_answer_bytes))
        return made[-1]

    yield make
    for transport in made:
        await transport.close()


@pytest.fixture
def transport(make_transport: Opener) -> Transport:
    """A transport whose key is set and whose other variables are not."""
    return make_transport({"KEY": SECRET})


@pytest.mark.parametrize(
    ("provider", "name", "kind", "text"),
    [
        ("nobody", "x", FaultKind.STALE_POLICY, "nobody/x"),
        ("openai", "keyless", FaultKind.NO_KEY, "add access_key"),
        ("ollama", "far", FaultKind.NO_KEY, "FAR is not set"),
        ("dead", "gone", FaultKind.CONNECT, "cannot connect to dead"),
        ("vllm", "hang", FaultKind.TIMEOUT, "timed out after 1 s"),
        ("vllm", "die-in-answer", FaultKind.BROKEN, "closed the connection in the middle"),
        ("vllm", "redirect", FaultKind.BAD_ANSWER, "redirects (307)"),
    ],
)
async def test_fault_has_kind_and_detail(
    transport: Transport, provider: str, name: str, kind: FaultKind, text: str
) -> None:
    """Each fault has its kind and a text that tells what to do, without the gateway's key."""
    fault = await transport.open(request(name, provider=provider))
    assert isinstance(fault, UpstreamFault)
    assert fault.kind is kind
    assert text in fault.detail
    assert SECRET not in fault.detail


async def test_base_url_that_expands_to_a_key_is_not_repeated(make_transport: Opener) -> None:
    """A key that is set in place of an address does not appear in the error."""
    fault = await make_transport({"FAR": SECRET}).open(request("far", provider="ollama"))
    detail = "base_url of ollama-far is not a valid URL after expanding its variables"
    assert fault == UpstreamFault(FaultKind.CONNECT, detail)


@pytest.mark.parametrize("name", ["parrot", "chunked"])
async def test_answer_over_the_limit_is_a_fault(make_transport: Opener, name: str) -> None:
    """Whether its length is announced or not."""
    good = await make_transport({"KEY": SECRET}).open(request(name))
    assert isinstance(good, UpstreamReply)
    assert isinstance(good.body, bytes)
    limit = len(good.body) - 1
    fault = await make_transport({"KEY": SECRET}, max_answer_bytes=limit).open(request(name))
    assert fault == UpstreamFault(
        FaultKind.BAD_ANSWER, f"the answer of vllm is larger than {limit} bytes"
    )


async def test_closing_an_unread_stream_closes_its_connection(
    transport: Transport, providers: dict[str, ScriptedProvider]
) -> None:
    """Closing a body before anything is read closes the exchange; closing it again does no harm."""
    reply = await transport.open(request("endless", stream=True))
    assert isinstance(reply, UpstreamReply)
    assert not isinstance(reply.body, bytes)
    body: Chunks = reply.body
    await body.aclose()
    await body.aclose()
    again = await transport.open(request("parrot"))  # gives the loop time, and still works
    assert isinstance(again, UpstreamReply)
    exchanges = providers["shared"].ledger.exchanges
    assert exchanges[-2].client_left


async def test_transport_repr_shows_targets_and_connections(transport: Transport) -> None:
    """An operator sees what is open, and no key or address."""
    closed = "<Transport targets: 0, connections: 0 in use, 0 idle>"
    assert repr(transport) == closed
    await transport.open(request("parrot"))
    assert repr(transport) == "<Transport targets: 1, connections: 0 in use, 1 idle>"
    reply = await transport.open(request("endless", stream=True))
    assert repr(transport) == "<Transport targets: 1, connections: 1 in use, 0 idle>"
    assert isinstance(reply, UpstreamReply)
    assert not isinstance(reply.body, bytes)
    await reply.body.aclose()
    assert repr(transport) == "<Transport targets: 1, connections: 0 in use, 0 idle>"


async def test_path_of_one_answer_is_not_cached(
    transport: Transport, providers: dict[str, ScriptedProvider]
) -> None:
    """Its id is in it; the method and an empty body reach the provider as they are."""
    for method in ("GET", "DELETE", "POST"):
        path = f"/chat/completions/{method}"
        asked = request("parrot")._replace(path=path, body=b"", method=method)
        await transport.open(asked)
        sent = providers["shared"].ledger.last()
        assert (sent.method, sent.path, sent.body) == (method, f"/v1{path}", b"")
        assert sent.headers.get("content-length", "0") == "0"
    assert "targets: 0," in repr(transport)
