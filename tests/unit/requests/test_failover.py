"""Which candidates are tried after a failure, in which order, and what the client hears."""

import gc
from pathlib import Path

import pytest

from serve_app.exchange import FaultKind
from serve_app.requests.progress import RequestProgress
from serve_app.snapshot import Snapshot
from tests.unit.fakes import Scripted, fault, headers_of, reply, snapshot_of
from tests.unit.requests.gateway_rig import TEXT, make_rig

RESET, CONNECT = fault(FaultKind.RESET), fault(FaultKind.CONNECT)


@pytest.fixture
def snapshot(tmp_path: Path) -> Snapshot:
    """A configuration with six models."""
    return snapshot_of(tmp_path, TEXT)


@pytest.mark.parametrize("status", [401, 402, 403, 404, 408, 413, 429, 500, 503, 529])
async def test_gateway_tries_next_candidate_for_its_own_affairs(
    status: int, snapshot: Snapshot
) -> None:
    """Keys, balance, access, the choice of the model and a provider's state are the gateway's."""
    body = b'{"error": {"message": "no", "type": "x", "code": null}}'
    rig = make_rig(snapshot, {"openai/a": reply(status, body), "openai/b": reply()})
    answer = await rig.ask({"model": "a", "models": ["b"]})
    assert (answer.status, rig.upstream.models) == (200, ["openai/a", "openai/b"])


@pytest.mark.parametrize("off", [{"fallbacks": []}, {}])
async def test_gateway_does_not_fall_back_if_the_client_forbids_it(
    off: dict[str, object], snapshot: Snapshot
) -> None:
    """An empty list of fallbacks, or a header, leaves the first candidate alone."""
    named = {} if off else {"x-fingerpost-fallback": "off"}
    rig = make_rig(snapshot, {"openai/a": reply(401, b"{}"), "openai/b": reply()})
    answer = await rig.ask({"model": "a", "models": ["b"], **off}, named=named)
    assert (answer.status, rig.upstream.models) == (401, ["openai/a"])


async def test_gateway_reports_the_error_that_passes(snapshot: Snapshot) -> None:
    """A key of the gateway's that is refused is not what the client hears, if there is more."""
    rig = make_rig(snapshot, {"openai/a": reply(503, b"{}"), "openai/b": reply(401, b"{}")})
    answer = await rig.ask({"model": "a", "models": ["b"]})
    assert answer.status == 503
    assert headers_of(answer)["x-fingerpost-model"] == "openai/a"
    assert rig.upstream.models == ["openai/a", "openai/b", "openai/a"]


async def test_gateway_asks_once_more_after_a_pause(snapshot: Snapshot) -> None:
    """A fault that may have passed is tried once more when all candidates have failed."""
    rig = make_rig(snapshot, {"openai/a": [reply(500, b"{}"), reply()], "openai/b": RESET})
    answer = await rig.ask({"model": "a", "models": ["b"]})
    assert answer.status == 200
    assert rig.upstream.models == ["openai/a", "openai/b", "openai/b", "openai/a"]
    timing = headers_of(answer)["server-timing"]
    assert 'try1;desc="openai/a 500"' in timing
    assert 'try4;desc="openai/a ok"' in timing


async def test_unreachable_provider_leaves_the_tries_to_others(snapshot: Snapshot) -> None:
    """After three failures to connect, the next candidate of another provider comes first."""
    script: dict[str, Scripted] = {
        "openai/a": CONNECT,
        "openai/b": CONNECT,
        "openai/d": CONNECT,
        "vllm/c": reply(),
    }
    rig = make_rig(snapshot, script)
    answer = await rig.ask({"model": "a", "models": ["b", "d", "e", "vllm/c"]})
    assert answer.status == 200
    assert rig.upstream.models == ["openai/a", "openai/b", "openai/d", "vllm/c"]


@pytest.mark.parametrize("other", ["b", "vllm/c"])
async def test_resting_candidate_is_tried_last(other: str, snapshot: Snapshot) -> None:
    """After a key was refused, requests go to the next candidate at once, until it has rested."""
    full = other if "/" in other else f"openai/{other}"
    rig = make_rig(snapshot, {"openai/a": [reply(401, b"{}"), reply()], full: reply()})
    gateway, body = rig.gateway, {"model": "a", "models": [other]}
    for _ in range(2):
        assert (await rig.ask(body, gateway=gateway)).status == 200
    assert rig.upstream.models == ["openai/a", full, full]
    assert {report.why for report in gateway.health.rests()} == {"bad_key"}
    rig.clock.now += 61
    assert (await rig.ask(body, gateway=gateway)).status == 200
    assert rig.upstream.models[-1] == "openai/a"
    assert gateway.health.rests() == []


async def test_request_is_freed_at_its_end(snapshot: Snapshot) -> None:
    """Nothing of a request, whose body may be large, waits for the garbage collector."""
    rig = make_rig(snapshot, {"openai/a": reply(500, b"{}"), "openai/b": reply()})
    gateway = rig.gateway
    await rig.ask({"model": "a", "models": ["b"]}, gateway=gateway)
    gc.collect()
    gc.disable()
    try:
        for _ in range(5):
            await rig.ask({"model": "a", "models": ["b"]}, gateway=gateway)
        left = [one for one in gc.get_objects() if isinstance(one, RequestProgress)]
    finally:
        gc.enable()
    assert left == []
