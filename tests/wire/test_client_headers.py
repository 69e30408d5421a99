"""Which of a client's headers a provider gets, by the operation that it is asked for."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from serve_app.domain import Headers, ModelRef
from serve_app.exchange import PATHS, Operation, UpstreamReply, UpstreamRequest
from serve_app.providers.transport import Transport, fixed
from serve_app.snapshot import compile_snapshot
from tests.scripted_provider import ScriptedProvider
from tests.site import Site
from tests.unit.config.broken import V

ANTHROPIC = (("anthropic-version", "2026-10-21"), ("anthropic-beta", "a"), ("anthropic-beta", "b"))
OPENAI = (("openai-beta", "responses=v1"),)
EVERYONE = (("user-agent", "client"), ("x-app", "cli"), ("x-stainless-lang", "python"))
IN_ANTHROPICS = [Operation.MESSAGES, Operation.COUNT_TOKENS]


@pytest.fixture
async def transport(
    tmp_path: Path, providers: dict[str, ScriptedProvider]
) -> AsyncIterator[Transport]:
    """A transport to a provider that has every operation, with a header of its own."""
    url = f"base_url: '{providers['shared'].url}', provider_interface"
    file = tmp_path / "gateway.yaml"
    file.write_text(
        f"{V}model_providers:\n"
        f"  - {{model: a/*, {url}: anthropic, access_key: sk-1}}\n"
        f"  - {{model: o/*, {url}: openai, access_key: sk-1}}\n"
        f"  - {{model: c/*, {url}: anthropic, access_key: sk-1, "
        "headers: {Anthropic-Version: '2024-01-01'}}\n"
    )
    snapshot = compile_snapshot(file)
    transport = Transport(fixed(snapshot.providers, snapshot.config.timeouts), {})
    yield transport
    await transport.close()


async def sent(
    transport: Transport,
    providers: dict[str, ScriptedProvider],
    provider: str,
    operation: Operation,
    headers: Headers,
) -> dict[str, str]:
    """The headers that the provider got."""
    request = UpstreamRequest(
        provider="slug",
        model=ModelRef(provider, "parrot"),
        operation=operation,
        path=PATHS[operation],
        headers=headers,
        body=b'{"model": "parrot"}',
        stream=False,
        deadline_s=5.0,
    )
    reply = await transport.open(request)
    assert isinstance(reply, UpstreamReply), reply
    return providers["shared"].ledger.last().headers


@pytest.mark.parametrize("operation", IN_ANTHROPICS)
async def test_anthropic_headers_go_to_its_own_operations(
    operation: Operation, transport: Transport, providers: dict[str, ScriptedProvider]
) -> None:
    """The client's version wins over the default one, and OpenAI's betas stay here."""
    headers = (*ANTHROPIC, *OPENAI, *EVERYONE)
    got = await sent(transport, providers, "a", operation, headers)
    assert got["anthropic-version"] == "2026-10-21"
    assert "anthropic-beta" in got
    assert "openai-beta" not in got
    assert {name: got[name] for name, _ in EVERYONE} == dict(EVERYONE)


@pytest.mark.parametrize(("provider", "version"), [("a", "2023-06-01"), ("c", "2024-01-01")])
async def test_version_is_the_default_without_one_of_the_client(
    provider: str, version: str, transport: Transport, providers: dict[str, ScriptedProvider]
) -> None:
    """A configured one wins over the default, and over the client's."""
    got = await sent(transport, providers, provider, Operation.MESSAGES, EVERYONE)
    assert got["anthropic-version"] == version
    if provider == "c":
        got = await sent(transport, providers, provider, Operation.MESSAGES, ANTHROPIC)
        assert got["anthropic-version"] == version


@pytest.mark.parametrize("operation", [Operation.CHAT, Operation.RESPONSES, Operation.EMBEDDINGS])
async def test_anthropic_headers_go_nowhere_else(
    operation: Operation, transport: Transport, providers: dict[str, ScriptedProvider]
) -> None:
    """A client of Anthropic may be answered by another provider, which gets OpenAI's headers."""
    got = await sent(transport, providers, "o", operation, (*ANTHROPIC, *OPENAI, *EVERYONE))
    assert not [name for name in got if name.startswith("anthropic-")]
    assert got["openai-beta"] == "responses=v1"
    assert {name: got[name] for name, _ in EVERYONE} == dict(EVERYONE)


KEPT_BACK = {
    "connection": "keep-alive",
    "cookie": "a=b",
    "forwarded": "for=1.2.3.4",
    "keep-alive": "timeout=5",
    "proxy-authorization": "Basic eDp5",
    "referer": "http://intranet/page",
    "te": "trailers",
    "via": "1.1 proxy",
    "x-fingerpost-key": "fp-1",
    "x-forwarded-for": "127.0.0.1",
    "x-forwarded-host": "h",
    "x-forwarded-proto": "https",
    "x-model-affinity": "chat-1",
    "x-real-ip": "1.2.3.4",
}


@pytest.mark.parametrize("data_path", ["dedicated", "inline"])
def test_headers_of_the_connection_stay_here(site: Site, data_path: str) -> None:
    """What belongs to a connection, to proxies, to browsers or to the gateway reaches no provider."""
    body = b'{"model": "%s/parrot", "messages": []}' % data_path.encode()
    assert site.send(body, headers={**KEPT_BACK, "x-app": "cli"}).status == 200
    got = site.exchange(data_path).headers
    assert got.get("x-app") == "cli"
    assert not set(KEPT_BACK) - {"connection"} & set(got)
    assert "fp-1" not in str(got)
