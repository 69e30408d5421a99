"""Host names of providers that mean addresses of a cloud's metadata."""

import socket
from pathlib import Path
from typing import Any

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from serve_app.exchange import FaultKind, UpstreamFault, UpstreamReply
from serve_app.providers.resolver import ForbiddenAddressError, SafeResolver
from serve_app.providers.transport import Transport, fixed
from tests.scripted_provider import ScriptedProvider
from tests.unit.config.broken import V
from tests.unit.fakes import snapshot_of
from tests.wire.test_tls import REQUEST

METADATA = [
    "169.254.169.254",
    "169.254.170.2",
    "fe80::1%1",
    "::ffff:169.254.169.254",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "fd00:ec2::254",
]
OTHERS = ["127.0.0.1", "10.0.0.1", "192.168.1.1", "8.8.8.8", "::1", "fd00::1", "2001:db8::1"]


class Names(AbstractResolver):
    """Finds the same addresses for every name."""

    def __init__(self, *addresses: str) -> None:
        self._addresses = addresses
        self.closed = False

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(hostname=host, host=text, port=port, family=family, proto=0, flags=0)
            for text in self._addresses
        ]

    async def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize("address", METADATA)
async def test_address_of_metadata_is_left_out(address: str) -> None:
    """Alone it is an error; other addresses of the name stay."""
    with pytest.raises(ForbiddenAddressError):
        await SafeResolver(Names(address)).resolve("h", 80)
    found = await SafeResolver(Names(address, "10.0.0.1")).resolve("h", 80)
    assert [result["host"] for result in found] == ["10.0.0.1"]


async def test_other_addresses_stay() -> None:
    """Providers may be on this machine and in private networks."""
    inner = Names(*OTHERS)
    resolver = SafeResolver(inner)
    assert [result["host"] for result in await resolver.resolve("h")] == OTHERS
    assert await SafeResolver(Names()).resolve("h") == []
    await resolver.close()
    assert inner.closed


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Addresses that the system's lookup finds for names."""
    found: dict[str, str] = {}
    usual = socket.getaddrinfo

    def lookup(host: Any, *options: Any, **more: Any) -> Any:
        return usual(found.get(host, host), *options, **more)

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    return found


async def test_provider_behind_such_a_name_is_not_called(
    names: dict[str, str], providers: dict[str, ScriptedProvider], tmp_path: Path
) -> None:
    """The fault says what to correct, and names no address; an honest name is called."""
    port = providers["shared"].port
    names |= {"evil.test": "169.254.169.254", "good.test": "127.0.0.1"}
    for host in ("evil.test", "good.test"):
        entry = f"{{model: vllm/*, base_url: 'http://{host}:{port}'}}"
        snapshot = snapshot_of(tmp_path, f"{V}model_providers:\n  - {entry}\n")
        transport = Transport(fixed(snapshot.providers, snapshot.config.timeouts), {})
        try:
            result = await transport.open(REQUEST)
        finally:
            await transport.close()
        if host == "good.test":
            assert isinstance(result, UpstreamReply)
            continue
        assert isinstance(result, UpstreamFault)
        assert result.kind is FaultKind.CONNECT
        assert result.detail.startswith("the host of vllm is a link-local address")
        assert "write the address itself" in result.detail
