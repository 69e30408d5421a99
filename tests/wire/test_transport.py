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
from serve_app.providers import transport as module
from serve_app.providers.transport import Transport, fixed
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
Asker = Callable[..., UpstreamRequest]


def request(name: str, *, stream: bool = False, provider: str = "vllm") -> UpstreamRequest:
    """A request for one of the scripts."""
    body = b'{"model": "%s", "stream": %s}' % (name.encode(), b"true" if stream else b"false")
    model = ModelRef(provider, name)
    return UpstreamRequest(
        "slug", model, Operation.CHAT, "/chat/completions", (), body, stream, 5.0
    )


@pytest.fixture
async def transport(
    tmp_path: Path, providers: dict[str, ScriptedProvider]
) -> AsyncIterator[Transport]:
    """A transport whose key is set and whose other variables are not."""
    file = tmp_path / "gateway.yaml"
    file.write_text(CONFIG.format(url=providers["shared"].url, port=closed_port()))
    snapshot = compile_snapshot(file)
    opened = Transport(fixed(snapshot.providers, snapshot.config.timeouts), {"KEY": SECRET})
    yield opened
    await opened.close()


@pytest.mark.parametrize(
    ("provider", "name", "kind", "said"),
    [
        ("nobody", "x", FaultKind.STALE_POLICY, "nobody/x"),
        ("openai", "keyless", FaultKind.NO_KEY, "add access_key"),
        ("ollama", "far", FaultKind.NO_KEY, "FAR is not set"),
        ("dead", "gone", FaultKind.CONNECT, "could not be connected to"),
        ("vllm", "hang", FaultKind.TIMEOUT, "within 1 s"),
        ("vllm", "die-in-answer", FaultKind.BROKEN, "broke off"),
        ("vllm", "redirect", FaultKind.BAD_ANSWER, "redirects (307)"),
    ],
)
async def test_what_goes_wrong_is_a_value(
    transport: Transport, provider: str, name: str, kind: FaultKind, said: str
) -> None:
    """Each fault has its kind and a text that says what to do, and none of our key."""
    fault = await transport.open(request(name, provider=provider))
    assert isinstance(fault, UpstreamFault)
    assert fault.kind is kind
    assert said in fault.detail
    assert SECRET not in fault.detail


async def test_a_reference_that_makes_no_address_is_not_repeated(
    tmp_path: Path, providers: dict[str, ScriptedProvider]
) -> None:
    """Whoever puts a key where an address belongs does not read it in an error."""
    file = tmp_path / "gateway.yaml"
    file.write_text(CONFIG.format(url=providers["shared"].url, port=1))
    snapshot = compile_snapshot(file)
    opened = Transport(fixed(snapshot.providers, snapshot.config.timeouts), {"FAR": SECRET})
    fault = await opened.open(request("far", provider="ollama"))
    assert isinstance(fault, UpstreamFault)
    assert SECRET not in fault.detail
    assert "ollama-far" in fault.detail


@pytest.mark.parametrize("name", ["parrot", "chunked"])
async def test_an_answer_has_a_largest_size(
    transport: Transport, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer over the bound is a fault, whether its length is announced or not."""
    good = await transport.open(request(name))
    assert isinstance(good, UpstreamReply)
    assert isinstance(good.body, bytes)
    monkeypatch.setattr(module, "MAX_ANSWER_BYTES", len(good.body) - 1)
    fault = await transport.open(request(name))
    assert isinstance(fault, UpstreamFault)
    assert fault.kind is FaultKind.BAD_ANSWER
    assert "larger than" in fault.detail


async def test_a_stream_that_is_given_up_unread_closes_its_connection(
    transport: Transport, providers: dict[str, ScriptedProvider]
) -> None:
    """Closing a body of which nothing was read closes the exchange, more than once if need be."""
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
