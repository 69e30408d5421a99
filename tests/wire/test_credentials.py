"""The keys that providers get, in which header, and that they appear nowhere else."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from serve_app.config import references
from serve_app.domain import ModelRef
from serve_app.exchange import (
    PATHS,
    FaultKind,
    Operation,
    UpstreamFault,
    UpstreamReply,
    UpstreamRequest,
)
from serve_app.providers.transport import Transport, fixed
from serve_app.snapshot import compile_snapshot
from tests.scripted_provider import ScriptedProvider
from tests.site import SECRET
from tests.unit.config.broken import V

OTHER = "sk-other-secret-9876543210"
CLIENTS = "sk-client-own-5555555555"
SIGN_IN = "sk-ant-oat01-of-a-subscription"
ENVIRON = {"KEY": SECRET, "TEAM": OTHER, "SHORT": "ab", "BROKEN": "sk-1\nx-evil: 1"}
Opener = Callable[..., Transport]


@pytest.fixture
async def opened(
    tmp_path: Path, providers: dict[str, ScriptedProvider]
) -> AsyncIterator[Callable[[str], Transport]]:
    """Opens a transport for one entry whose provider is on loopback."""
    made: list[Transport] = []

    def make(*entries: str) -> Transport:
        url = f", base_url: '{providers['shared'].url}'"
        lines = "".join(f"  - {{{e}{'' if 'base_url' in e else url}}}\n" for e in entries)
        file = tmp_path / "gateway.yaml"
        file.write_text(f"{V}model_providers:\n{lines}")
        snapshot = compile_snapshot(file)
        made.append(Transport(fixed(snapshot.providers, snapshot.config.timeouts), ENVIRON))
        return made[-1]

    yield make
    for transport in made:
        await transport.close()


def request_of(
    model: str, operation: Operation = Operation.CHAT, **more: object
) -> UpstreamRequest:
    ref = ModelRef.parse(model)
    body = b'{"model": "%s"}' % ref.name.encode()
    fields = {"stream": False, "deadline_s": 5.0, "headers": (("user-agent", "client"),), **more}
    fields |= {"operation": operation, "path": PATHS[operation]}
    return UpstreamRequest(provider="slug", model=ref, body=body, **fields)  # type: ignore[arg-type]


async def sent(
    transport: Transport, request: UpstreamRequest, providers: dict[str, ScriptedProvider]
) -> dict[str, str]:
    """The headers that the provider got."""
    reply = await transport.open(request)
    assert isinstance(reply, UpstreamReply), reply
    return providers["shared"].ledger.last().headers


@pytest.mark.parametrize(
    ("interface", "operation", "name", "value"),
    [
        ("openai", Operation.CHAT, "authorization", f"Bearer {CLIENTS}"),
        ("anthropic", Operation.MESSAGES, "x-api-key", CLIENTS),
        ("anthropic", Operation.MESSAGES, "authorization", f"Bearer {SIGN_IN}"),
        ("azure_openai", Operation.CHAT, "api-key", CLIENTS),
    ],
)
async def test_passthrough_key_is_sent_in_providers_header(
    interface: str, operation: Operation, name: str, value: str,
    opened: Opener, providers: dict[str, ScriptedProvider],
) -> None:  # fmt: skip
    """The header in which the client sent it does not matter."""
    transport = opened(f"model: mine/*, provider_interface: {interface}, passthrough_auth: true")
    request = request_of("mine/x", operation, credential=value.removeprefix("Bearer "))
    headers = await sent(transport, request, providers)
    assert headers[name] == value
    assert len({"authorization", "x-api-key", "api-key"} & set(headers)) == 1


async def test_passthrough_without_client_key_is_a_fault(opened: Opener) -> None:
    """The fault tells what to send and what to configure."""
    fault = await opened("model: vllm/*, passthrough_auth: true").open(request_of("vllm/x"))
    assert isinstance(fault, UpstreamFault)
    assert fault.kind is FaultKind.NO_KEY
    assert "send it as `Authorization: Bearer ...` or `x-api-key: ...`" in fault.detail
    assert "configure access_key" in fault.detail


async def test_client_key_is_not_sent_beside_own_key(
    opened: Opener, providers: dict[str, ScriptedProvider]
) -> None:
    """It is not sent even if another version of the configuration passes it through."""
    transport = opened("model: vllm/*, access_key: $KEY")
    request = request_of("vllm/x", credential=CLIENTS, endpoint=1)
    headers = await sent(transport, request, providers)
    assert headers["authorization"] == f"Bearer {SECRET}"
    assert CLIENTS not in "".join(headers.values())


async def test_endpoint_is_found_by_ordinal(
    opened: Opener, providers: dict[str, ScriptedProvider]
) -> None:
    """An ordinal out of range means the first one: two versions of a configuration may meet."""
    transport = opened("model: vllm/x, access_key: $KEY", "model: vllm/x, access_key: $TEAM")
    keys = []
    for ordinal in (0, 1, 2):
        headers = await sent(transport, request_of("vllm/x", endpoint=ordinal), providers)
        keys.append(headers["authorization"])
    assert keys == [f"Bearer {SECRET}", f"Bearer {OTHER}", f"Bearer {SECRET}"]


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ("{X-Team: $TEAM, x-plain: a b}", {"x-team": OTHER, "x-plain": "a b", "authorization": f"Bearer {SECRET}"}),
        ("{User-Agent: mine}", {"user-agent": "mine", "authorization": f"Bearer {SECRET}"}),
        ("{Authorization: Token $TEAM}", {"authorization": f"Token {OTHER}"}),
        ("{api-key: $TEAM}", {"api-key": OTHER}),
        ("{x-api-key: '${TEAM}'}", {"x-api-key": OTHER}),
    ],
)  # fmt: skip
async def test_configured_headers_win(
    headers: str, expected: dict[str, str], opened: Opener, providers: dict[str, ScriptedProvider]
) -> None:
    """They replace the client's, and a key among them replaces access_key."""
    transport = opened(f"model: vllm/*, access_key: $KEY, headers: {headers}")
    got = await sent(transport, request_of("vllm/x"), providers)
    assert {name: got[name] for name in expected} == expected
    auth = {"authorization", "x-api-key", "api-key"}
    assert auth & set(got) == auth & set(expected)


async def test_key_in_headers_replaces_access_key(
    opened: Opener, providers: dict[str, ScriptedProvider]
) -> None:
    """A provider that needs a key accepts it."""
    transport = opened("model: azure_openai/*, headers: {Authorization: Bearer $TEAM}")
    headers = await sent(transport, request_of("azure_openai/x"), providers)
    assert headers["authorization"] == f"Bearer {OTHER}"
    assert "api-key" not in headers


async def test_vendor_with_configured_address_needs_key(opened: Opener) -> None:
    """The fault tells which key: requests are not signed."""
    fault = await opened("model: amazon_bedrock/*").open(request_of("amazon_bedrock/x"))
    assert isinstance(fault, UpstreamFault)
    assert fault.kind is FaultKind.NO_KEY
    assert "add access_key to its model_providers entry (a Bedrock API key" in fault.detail
    assert "not signed with SigV4" in fault.detail


@pytest.mark.parametrize("name", [".", "..", "...", "\ud800"])
async def test_deployment_name_is_one_path_segment(name: str, opened: Opener) -> None:
    """For any other name nothing is sent."""
    transport = opened("model: azure_openai/*, access_key: $KEY, base_url: 'http://127.0.0.1'")
    fault = await transport.open(
        request_of("azure_openai/x")._replace(model=ModelRef("azure_openai", name))
    )
    detail = f"{name!r} is not a valid name of a deployment"
    assert fault == UpstreamFault(FaultKind.BAD_ANSWER, detail)


async def test_http_host_replaces_host_header(
    opened: Opener, providers: dict[str, ScriptedProvider]
) -> None:
    """The connection still goes to the host of the base URL."""
    transport = opened("model: vllm/*, http_host: 'api.example.com:8443'")
    headers = await sent(transport, request_of("vllm/x"), providers)
    assert headers["host"] == "api.example.com:8443"


@pytest.mark.parametrize("client", [(), (("anthropic-version", "2026-10-21"),)])
async def test_client_anthropic_version_is_kept(
    client: tuple[tuple[str, str], ...], opened: Opener, providers: dict[str, ScriptedProvider]
) -> None:
    """The gateway adds a version only if the client sends none."""
    transport = opened("model: mine/*, provider_interface: anthropic")
    request = request_of("mine/x", Operation.MESSAGES, headers=client)
    headers = await sent(transport, request, providers)
    assert headers["anthropic-version"] == (client[0][1] if client else "2023-06-01")


@pytest.mark.parametrize(
    ("entry", "where"),
    [
        ("access_key: $BROKEN", "access_key of vllm-127-0-0-1"),
        ("headers: {X-Team: $BROKEN}", "headers.x-team of vllm-127-0-0-1"),
    ],
)
async def test_control_character_in_header_is_a_fault(
    entry: str, where: str, opened: Opener
) -> None:
    """A line break in a variable adds no header; the fault names only the configuration key."""
    fault = await opened(f"model: vllm/*, {entry}").open(request_of("vllm/x"))
    assert isinstance(fault, UpstreamFault)
    assert fault.kind is FaultKind.NO_KEY
    assert fault.detail.startswith(where)
    assert "contains a line break" in fault.detail
    assert "sk-1" not in fault.detail
    assert "evil" not in fault.detail


@pytest.mark.parametrize(
    ("entry", "hidden", "shown"),
    [
        ("access_key: $KEY", SECRET, ""),
        ("access_key: 'file:key'", "sk-from-a-file", ""),
        ("access_key: $KEY, headers: {X-Team: $TEAM}", OTHER, ""),
        ("headers: {X-Team: 'Basic ${TEAM}'}", OTHER, "'x-team': '***'"),
        ("headers: {X-Team: 'file:key'}", "sk-from-a-file", ""),
        ("headers: {X-Team: written-out}", "", "written-out"),
        ("headers: {Authorization: Basic written-out}", "written-out", "'authorization': '***'"),
        ("headers: {X-Team: $SHORT}", "", "ab"),
    ],
)
async def test_error_of_provider_is_redacted(
    entry: str, hidden: str, shown: str, opened: Opener, tmp_path: Path
) -> None:
    """Keys and values of references are removed, values that the configuration shows are not."""
    (tmp_path / "key").write_text("sk-from-a-file\n")
    reply = await opened(f"model: vllm/*, {entry}").open(request_of("vllm/leak-all"))
    assert isinstance(reply, UpstreamReply)
    assert reply.status == 400
    assert isinstance(reply.body, bytes)
    assert not hidden or hidden.encode() not in reply.body
    assert shown.encode() in reply.body
    assert SECRET.encode() not in reply.body


async def test_missing_key_file_is_a_fault(opened: Opener, tmp_path: Path) -> None:
    """It is handled as an unset variable: the fault names the file, and nothing is sent."""
    fault = await opened("model: vllm/*, access_key: 'file:key'").open(request_of("vllm/x"))
    assert isinstance(fault, UpstreamFault)
    assert fault.kind is FaultKind.NO_KEY
    assert f"the file {tmp_path}/key is missing, unreadable or empty" in fault.detail


@pytest.mark.parametrize(("refresh_s", "expected"), [(0.02, "Bearer two"), (3600, "Bearer one")])
async def test_changed_key_file_is_read_again(
    refresh_s: float, expected: str, opened: Opener, providers: dict[str, ScriptedProvider],
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The file is read again after a while, but not for every request."""
    monkeypatch.setattr("serve_app.providers.outgoing.REFRESH_S", refresh_s)
    transport = opened("model: vllm/*, access_key: 'file:key', headers: {X-Team: 'file:team'}")
    (tmp_path / "team").write_text("red")
    (tmp_path / "key").write_text("one\n")
    headers = await sent(transport, request_of("vllm/x"), providers)
    assert (headers["authorization"], headers["x-team"]) == ("Bearer one", "red")
    (tmp_path / "key").write_text("two")
    await asyncio.sleep(0.05)
    headers = await sent(transport, request_of("vllm/x"), providers)
    assert headers["authorization"] == expected


def test_key_file_refresh_is_short() -> None:
    """A changed key is in use after at most this time."""
    assert references.REFRESH_S <= 2.0
