"""What follows a changed configuration in a replica, and what does not."""

from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from deployments.frame import decode_reply, encode_request
from deployments.handles import DataPaths
from deployments.meter import ServeMeter
from deployments.provider import ProviderClient
from deployments.reload import needs_restart, transport, watch
from serve_app.config import watch as watching
from serve_app.domain import ModelRef
from serve_app.exchange import (
    FaultKind,
    Operation,
    UpstreamFault,
    UpstreamReply,
    UpstreamRequest,
)
from tests.unit.fakes import FakeUpstream, fault, reply, setup_of

FILE: Final = """version: v0.4.0
model_providers:
  - {model: vllm/a, base_url: "http://127.0.0.1:9", data_path: shared}
"""
MORE: Final = """  - {model: vllm/b, base_url: "http://127.0.0.1:9", data_path: shared}
"""
ASKED: Final = UpstreamRequest(
    "vllm-127-0-0-1-9", ModelRef("vllm", "a"), Operation.CHAT, "/chat/completions", (), b"{}", stream=False,
    deadline_s=1.0,
)  # fmt: skip


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "SETTLED_S", 0.001)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "gateway.yaml"
    path.write_text(FILE)
    return path


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("  - {model: vllm/b, base_url: 'http://x:1'}\n", "provider vllm-x-1 was added"),
        ("orchestrator: {min_confidence: 0.3}\n", "orchestrator has changed"),
        ("overrides: {upstream_tls_ca_path: /x}\n", "overrides.upstream_tls_ca_path has changed"),
        ("routing: {session_ttl_seconds: 5}\n", "routing.session_ttl_seconds has changed"),
        ("routing: {session_cache: {type: redis, url: 'redis://x'}}\n", "routing.session_cache"),
        ("  - {model: openai/b}\n", None),
        ("limits: {body_bytes: 5}\nallow_anonymous: true\n", None),
        ("routing: {route_on_user_only: true}\n", None),
    ],
)
def test_what_needs_a_restart_is_named(tmp_path: Path, more: str, said: str | None) -> None:
    """What hangs on deployments, engines and stores; everything else is in force at once."""
    started, now = setup_of(tmp_path, FILE), setup_of(tmp_path, FILE + more)
    lines = needs_restart(started, now, {"openai"})
    if said is None:
        assert lines == []
    else:
        (line,) = lines
        assert line.startswith(said)
        assert "restart" in line


def test_a_request_ends_on_the_version_it_began_with(file: Path) -> None:
    """While it is kept; an unknown version means the newest."""
    looking = watch(str(file), ServeMeter())
    looking.close()
    first = looking.current
    file.write_text(FILE + MORE)
    assert looking.look()
    source = transport(looking)._source
    assert source(first.version)[0] is first.providers
    assert source("")[0] is looking.current.providers
    assert source(looking.current.version)[0].endpoint(ModelRef("vllm", "b")) is not None


async def test_a_provider_client_catches_up_with_the_ingress(file: Path) -> None:
    """A version that it has not seen makes it look at the file at once, but not all the time."""
    client = ProviderClient(str(file))
    client._watch.close()
    new = setup_of(file.parent, FILE + MORE)
    asked = replace(ASKED, model=ModelRef("vllm", "b"), policy=new.version)
    said, _ = decode_reply(await client.unary(encode_request(asked)))
    assert isinstance(said, UpstreamFault)
    assert said.kind is FaultKind.CONNECT
    assert await client.policy() == new.version
    looked = client._last_look
    await client.unary(encode_request(replace(asked, policy="unheard-of")))
    assert client._last_look == looked
    await client._transport.close()


async def test_who_knows_the_model_carries_it() -> None:
    """A provider client that does not is asked once, and then the ingress does it itself."""
    knows_not = fault(FaultKind.STALE_POLICY)
    inline = FakeUpstream({"vllm/a": [reply(), reply(), reply()]})
    own = FakeUpstream({"vllm/a": [knows_not, fault(FaultKind.CONNECT)]})
    shared = FakeUpstream({"vllm/a": [reply(), knows_not]})
    paths = DataPaths({ASKED.provider: own}, shared, inline)
    assert isinstance(await paths.open(ASKED), UpstreamReply)
    assert [len(upstream.requests) for upstream in (own, shared, inline)] == [1, 0, 1]
    assert await paths.open(ASKED) == fault(FaultKind.CONNECT)
    other = replace(ASKED, provider="of-a-reload")
    assert isinstance(await paths.open(other), UpstreamReply)
    assert isinstance(await paths.open(other), UpstreamReply)
    assert isinstance(await paths.open(replace(ASKED, inline=True)), UpstreamReply)
    assert [len(upstream.requests) for upstream in (own, shared, inline)] == [2, 2, 3]
