"""What a changed configuration does in a running replica, and what needs a restart."""

from pathlib import Path
from typing import Final

import pytest

from deployments.exchanges import transport
from deployments.frame import decode_reply, encode_request
from deployments.handles import DataPaths
from deployments.meter import ServeMeter
from deployments.provider import ProviderClient
from deployments.reload import needs_restart, watch
from serve_app.config import watch as watching
from serve_app.domain import ModelRef
from serve_app.exchange import (
    FaultKind,
    Operation,
    UpstreamFault,
    UpstreamReply,
    UpstreamRequest,
)
from serve_app.telemetry.metrics import Meters
from tests.unit.fakes import FakeUpstream, fault, reply, snapshot_of

LIMITS = "teams: {t: {limits: {concurrent: 1}}}\n"
FILE: Final = """version: v0.4.0
model_providers:
  - {model: vllm/a, base_url: "http://127.0.0.1:9", data_path: shared}
"""
MORE: Final = """  - {model: vllm/b, base_url: "http://127.0.0.1:9", data_path: shared}
"""
REQUEST: Final = UpstreamRequest(
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
    ("more", "start"),
    [
        ("  - {model: vllm/b, base_url: 'http://x:1'}\n", "provider vllm-x-1 was added"),
        ("orchestrator: {min_confidence: 0.3}\n", "orchestrator has changed"),
        ("telemetry: {traces: {sample: 0.5}}\n", "telemetry has changed"),
        ("tracing: {random_sampling: 5}\n", "telemetry has changed"),
        ("overrides: {upstream_tls_ca_path: /x}\n", "overrides.upstream_tls_ca_path has changed"),
        ("logs: {access: {to: stderr}}\n", "logs has changed"),
        ("routing: {session_ttl_seconds: 5}\n", "routing.session_ttl_seconds has changed"),
        ("routing: {session_cache: {type: redis, url: 'redis://x'}}\n", "routing.session_cache"),
        ("  - {model: openai/b}\n", None),
        ("limits: {body_bytes: 5}\nallow_anonymous: true\n", None),
        ("routing: {route_on_user_only: true}\n", None),
        (LIMITS, None),
        (LIMITS + "limit_storage: {type: redis, url: 'redis://h'}\n", "limit_storage"),
    ],
)
def test_needs_restart_names_changed_keys(tmp_path: Path, more: str, start: str | None) -> None:
    """Changes of deployments, engines and stores are named as needing a restart; all others apply
    at once.
    """
    started, now = snapshot_of(tmp_path, FILE), snapshot_of(tmp_path, FILE + more)
    lines = needs_restart(started, now, {"openai"})
    if start is None:
        assert lines == []
    else:
        (line,) = lines
        assert line.startswith(start)
        assert "restart" in line


def test_request_keeps_its_configuration_version(file: Path) -> None:
    """A request uses the version that it began with while that is kept; an unknown version means
    the newest one.
    """
    config_watch = watch(str(file), Meters(ServeMeter()))
    config_watch.close()
    first = config_watch.current
    file.write_text(FILE + MORE)
    assert config_watch.look()
    source = transport(config_watch)._source
    assert source(first.version)[0] is first.providers
    assert source("")[0] is config_watch.current.providers
    assert source(config_watch.current.version)[0].endpoint(ModelRef("vllm", "b")) is not None


async def test_provider_client_reloads_on_unknown_version(file: Path) -> None:
    """A provider client reads the file at once for an unknown version, but not again within a short
    time.
    """
    client = ProviderClient(str(file))
    client._watch.close()
    new = snapshot_of(file.parent, FILE + MORE)
    request = REQUEST._replace(model=ModelRef("vllm", "b"), policy=new.version)
    result, _ = decode_reply(await client.unary(encode_request(request)))
    assert isinstance(result, UpstreamFault)
    assert result.kind is FaultKind.CONNECT
    assert await client.policy() == new.version
    last_look = client._last_look
    await client.unary(encode_request(request._replace(policy="unheard-of")))
    assert client._last_look == last_look
    await client._transport.close()


async def test_data_path_falls_back_to_inline() -> None:
    """If a provider client does not know the model, the ingress calls the provider itself."""
    stale = fault(FaultKind.STALE_POLICY)
    inline = FakeUpstream({"vllm/a": [reply(), reply(), reply()]})
    own = FakeUpstream({"vllm/a": [stale, fault(FaultKind.CONNECT)]})
    shared = FakeUpstream({"vllm/a": [reply(), stale]})
    paths = DataPaths({REQUEST.provider: own}, shared, inline)
    assert isinstance(await paths.open(REQUEST), UpstreamReply)
    assert [len(upstream.requests) for upstream in (own, shared, inline)] == [1, 0, 1]
    assert await paths.open(REQUEST) == fault(FaultKind.CONNECT)
    other = REQUEST._replace(provider="of-a-reload")
    assert isinstance(await paths.open(other), UpstreamReply)
    assert isinstance(await paths.open(other), UpstreamReply)
    assert isinstance(await paths.open(REQUEST._replace(inline=True)), UpstreamReply)
    assert [len(upstream.requests) for upstream in (own, shared, inline)] == [2, 2, 3]
