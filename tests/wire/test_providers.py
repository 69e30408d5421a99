"""Requests to every provider in every operation, byte for byte."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from serve_app.domain import ModelRef
from serve_app.exchange import (
    PATHS,
    FaultKind,
    Operation,
    UpstreamFault,
    UpstreamReply,
    UpstreamRequest,
)
from serve_app.providers.address import target_url
from serve_app.providers.table import ANTHROPIC_OPERATIONS, INTERFACES, PROVIDERS
from serve_app.providers.transport import Transport, fixed
from tests.scripted_provider import ScriptedProvider
from tests.site import SECRET
from tests.unit.config.broken import V
from tests.unit.fakes import snapshot_of
from tests.wire.transcripts import MODEL, TRANSCRIPTS, Transcript

BODY = b'{ "model": "some/model-1", "x": "\xc3\xa9" }'
SUPPORTED = {(line.provider, line.operation) for line in TRANSCRIPTS}
UNSUPPORTED = [
    (name, operation)
    for name in INTERFACES
    for operation in Operation
    if operation not in PROVIDERS[name].operations
]


@asynccontextmanager
async def transport_of(directory: Path, entry: str) -> AsyncIterator[Transport]:
    """A transport for one entry of ``model_providers``, in YAML's flow style."""
    snapshot = snapshot_of(directory, f"{V}model_providers:\n  - {{{entry}}}\n")
    opened = Transport(fixed(snapshot.providers, snapshot.config.timeouts), {"KEY": SECRET})
    try:
        yield opened
    finally:
        await opened.close()


def request_of(provider: str, operation: Operation) -> UpstreamRequest:
    headers = (("user-agent", "client/1.0"), ("anthropic-beta", "a,b"))
    model = ModelRef(provider, MODEL)
    path = PATHS[operation]
    return UpstreamRequest(
        "slug", model, operation, path, headers, BODY, stream=False, deadline_s=5.0
    )


def test_every_operation_of_every_provider_has_a_transcript() -> None:
    """A provider or operation that is added to the table is added to the transcripts."""
    assert {
        (name, operation) for name in INTERFACES for operation in PROVIDERS[name].operations
    } == SUPPORTED


@pytest.mark.parametrize("line", TRANSCRIPTS, ids=lambda line: f"{line.provider}-{line.operation}")
async def test_request_to_provider_matches_transcript(
    line: Transcript, providers: dict[str, ScriptedProvider], tmp_path: Path
) -> None:
    """The request line, host, authentication, headers and body are as the transcript has them."""
    server = providers["shared"]
    where = f"http://127.0.0.1:{server.port}"
    entry = f"model: {line.provider}/*, access_key: $KEY, base_url: '{where}{line.base}'"
    async with transport_of(tmp_path, entry) as transport:
        reply = await transport.open(request_of(line.provider, line.operation))
    assert isinstance(reply, UpstreamReply)
    assert reply.status == 200
    exchange = server.ledger.last()
    assert exchange.path == line.target
    assert exchange.body == BODY
    assert exchange.headers == {
        "host": f"127.0.0.1:{server.port}",
        "user-agent": "client/1.0",
        **({"anthropic-beta": "a,b"} if line.operation in ANTHROPIC_OPERATIONS else {}),
        "content-type": "application/json",
        "accept-encoding": "identity",
        "content-length": str(len(BODY)),
        **line.shown,
    }


@pytest.mark.parametrize("line", TRANSCRIPTS, ids=lambda line: f"{line.provider}-{line.operation}")
def test_default_address_is_the_vendors(line: Transcript, tmp_path: Path) -> None:
    """With only the required configuration, requests go to the vendor's address."""
    where = "" if line.base_url is None else f", base_url: '{line.base_url}{line.base}'"
    text = f"{V}model_providers:\n  - {{model: {line.provider}/*{where}}}\n"
    endpoint = snapshot_of(tmp_path, text).providers.endpoint(ModelRef(line.provider, MODEL))
    assert endpoint is not None
    assert line.operation in endpoint.operations
    url = target_url(endpoint.base_url, endpoint.interface, line.operation, MODEL)
    assert url == line.address


@pytest.mark.parametrize(("provider", "operation"), UNSUPPORTED)
async def test_unsupported_operation_is_a_fault(
    provider: str, operation: Operation, tmp_path: Path
) -> None:
    """The fault names the provider, the path and the way out, and nothing is sent."""
    entry = f"model: {provider}/*, access_key: $KEY, base_url: 'http://127.0.0.1:1'"
    async with transport_of(tmp_path, entry) as transport:
        fault = await transport.open(request_of(provider, operation))
    assert isinstance(fault, UpstreamFault)
    assert fault.kind is FaultKind.UNSUPPORTED
    told = f" does not support {PATHS[operation]}; name a model whose provider does"
    assert fault.detail.endswith(told)


@pytest.mark.parametrize(
    ("entry", "operation"),
    [
        ("model: deepseek/*, base_url: 'http://127.0.0.1:1/v2'", Operation.MESSAGES),
        ("model: deepseek/*, base_url: $URL", Operation.MESSAGES),
        ("model: azure_openai/*, base_url: 'http://127.0.0.1:1'", Operation.RESPONSES),
        ("model: azure_openai/*, base_url: $URL", Operation.RESPONSES),
    ],
)
async def test_unknown_base_path_disables_operations_elsewhere(
    entry: str, operation: Operation, tmp_path: Path
) -> None:
    """If the path of a base URL is not the provider's own, other paths are not guessed."""
    async with transport_of(tmp_path, f"{entry}, access_key: $KEY") as transport:
        provider = entry.removeprefix("model: ").partition("/")[0]
        fault = await transport.open(request_of(provider, operation))
    assert isinstance(fault, UpstreamFault)
    assert fault.kind is FaultKind.UNSUPPORTED
    assert f"does not support {PATHS[operation]}" in fault.detail
