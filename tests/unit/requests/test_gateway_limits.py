"""Requests under the limits of entries: which model answers, who waits, when slots are free."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from serve_app.domain import Binding, ModelRef, Scores
from serve_app.exchange import Chunks, FaultKind, UpstreamReply, UpstreamRequest
from serve_app.requests.answer import Answer
from serve_app.requests.relay import Relay
from serve_app.snapshot import Snapshot
from serve_app.telemetry.metrics import Metric
from tests.unit.config.broken import V
from tests.unit.fakes import (
    COMPLETION,
    FakeChunks,
    FakeStore,
    broken,
    fault,
    headers_of,
    reply,
    snapshot_of,
)
from tests.unit.requests.chat_streams import DONE, ROLE, STOP, WORD
from tests.unit.requests.gateway_rig import make_rig

TEXT = f"""{V}
model_providers:
  - {{model: openai/a, default: true, limits: {{concurrent: 1}}}}
  - {{model: openai/b}}
  - {{model: openai/c, limits: {{concurrent: 1}}}}
  - {{model: vllm/*, base_url: "http://h:1", limits: {{requests_per_minute: 2}}}}
queue: {{max_waiting: 1, wait_s: 0.2}}
timeouts: {{total_s: 100}}
"""
SPENT = (("x-ratelimit-remaining-requests", "0"), ("x-ratelimit-reset-requests", "6m0s"))


@pytest.fixture
def snapshot(tmp_path: Path) -> Snapshot:
    """A configuration whose models have limits."""
    return snapshot_of(tmp_path, TEXT)


def streamed(*script: bytes | float | Exception) -> UpstreamReply:
    """A reply whose body is a stream; by default a complete one."""
    body: Chunks = FakeChunks(*(script or (ROLE + WORD, STOP + DONE)))
    return reply(body=body)


def stream_of(request: UpstreamRequest) -> UpstreamReply:
    """A new stream for each request."""
    del request
    return streamed()


def body_of(answer: Answer) -> Relay:
    """The stream of an answer."""
    assert answer.status == 200
    assert isinstance(answer.body, Relay)
    return answer.body


async def test_full_model_is_tried_last(snapshot: Snapshot) -> None:
    """While a stream holds the only slot, requests go to the next candidate at once."""
    rig = make_rig(snapshot, {"openai/a": stream_of, "openai/b": reply()})
    gateway = rig.gateway
    body = body_of(await rig.ask({"model": "a", "stream": True}, gateway=gateway))
    answer = await rig.ask({"model": "a", "models": ["b"]}, gateway=gateway)
    assert headers_of(answer)["x-fingerpost-model"] == "openai/b"
    assert headers_of(answer)["x-fingerpost-attempts"] == "1"
    async for _ in body:
        pass
    answer = await rig.ask({"model": "a", "models": ["b"], "stream": True}, gateway=gateway)
    assert headers_of(answer)["x-fingerpost-model"] == "openai/a"


@pytest.mark.parametrize("ends", ["read", "left", "broken"])
async def test_waiting_request_gets_the_slot_of_an_ended_stream(
    ends: str, snapshot: Snapshot
) -> None:
    """Whether it was read to its end, its client left, or its provider broke it off."""
    streams = [streamed(ROLE + WORD, broken())] if ends == "broken" else [stream_of]
    rig = make_rig(snapshot, {"openai/a": [*streams, reply()]})
    gateway = rig.gateway
    body = body_of(await rig.ask({"model": "a", "stream": True}, gateway=gateway))
    waiting = asyncio.create_task(rig.ask({"model": "a", "stream": True}, gateway=gateway))
    await asyncio.sleep(0.01)
    rig.clock.now += 2.0
    assert len(rig.upstream.requests) == 1
    if ends == "left":
        await body.aclose()
    else:
        async for _ in body:
            pass
    await waiting
    assert len(rig.upstream.requests) == 2
    assert rig.meter.observed(Metric.QUEUE_SECONDS)[0] == (2.0, ("chat",))
    assert all(value == 0 for value, _ in rig.meter.observed(Metric.OVERHEAD_SECONDS))


async def test_waiting_request_takes_whichever_is_free_first(snapshot: Snapshot) -> None:
    """The slot of a later candidate serves as well; the first one is tried after it."""
    script: dict[str, Any] = {"openai/a": stream_of, "openai/c": [stream_of, reply(500, b"{}")]}
    rig = make_rig(snapshot, script)
    gateway = rig.gateway
    first = body_of(await rig.ask({"model": "a", "stream": True}, gateway=gateway))
    second = body_of(await rig.ask({"model": "c", "stream": True}, gateway=gateway))
    asked = {"model": "a", "models": ["c"], "stream": True}
    waiting = asyncio.create_task(rig.ask(asked, gateway=gateway))
    await asyncio.sleep(0.01)
    await second.aclose()
    await asyncio.sleep(0.01)
    assert rig.upstream.models == ["openai/a", "openai/c", "openai/c"]
    await first.aclose()
    assert headers_of(await waiting)["x-fingerpost-model"] == "openai/a"


async def test_busy_gateway_says_when_to_come_back(snapshot: Snapshot) -> None:
    """A request whose wait ends gets 429 with `retry-after`, in the words of its dialect."""
    rig = make_rig(snapshot, {"openai/a": stream_of})
    gateway = rig.gateway
    await rig.ask({"model": "a", "stream": True}, gateway=gateway)
    answers = await asyncio.gather(*(rig.ask({"model": "a"}, gateway=gateway) for _ in range(3)))
    assert [answer.status for answer in answers] == [429] * 3
    headers = headers_of(answers[0])
    assert (headers["retry-after"], headers["x-fingerpost-attempts"]) == ("1", "0")
    bodies = [answer.body for answer in answers]
    assert all(isinstance(body, bytes) for body in bodies)
    errors = [json.loads(body)["error"] for body in bodies if isinstance(body, bytes)]
    assert {error["code"] for error in errors} == {"gateway_busy"}
    assert sum("1 requests wait already" in error["message"] for error in errors) == 2


async def test_failure_is_reported_rather_than_a_full_model(snapshot: Snapshot) -> None:
    """The client hears what a provider answered, if one was asked."""
    rig = make_rig(snapshot, {"openai/a": stream_of, "openai/b": reply(500, b"{}")})
    gateway = rig.gateway
    await rig.ask({"model": "a", "stream": True}, gateway=gateway)
    answer = await rig.ask({"model": "a", "models": ["b"]}, gateway=gateway)
    assert (answer.status, headers_of(answer)["x-fingerpost-model"]) == (500, "openai/b")


async def test_models_of_a_wildcard_share_its_rate(snapshot: Snapshot) -> None:
    """The third request within a minute is refused, whatever its model."""
    rig = make_rig(snapshot, {f"vllm/{name}": reply() for name in "xyz"})
    gateway = rig.gateway
    for name, status in (("x", 200), ("y", 200), ("z", 429)):
        answer = await rig.ask({"model": f"vllm/{name}"}, gateway=gateway)
        assert answer.status == status
    assert headers_of(answer)["retry-after"] == "60"
    rig.clock.now += 60
    assert (await rig.ask({"model": "vllm/z"}, gateway=gateway)).status == 200


async def test_slot_is_free_after_failures(snapshot: Snapshot) -> None:
    """Errors, faults and complete answers release it."""
    answers: list[Any] = [reply(500, b"{}"), fault(FaultKind.TIMEOUT), reply(400, b"{}"), reply()]
    rig = make_rig(snapshot, {"openai/a": answers})
    gateway = rig.gateway
    for _ in range(4):
        status = (await rig.ask({"model": "a"}, gateway=gateway)).status
        assert status != 429
    assert status == 200


class StuckStore(FakeStore):
    """Never answers."""

    async def bind(self, key: str, binding: Binding, *, instead_of: ModelRef | None) -> bool:
        del key, binding, instead_of
        await asyncio.sleep(60)
        return False


async def test_slot_is_free_after_client_left_before_its_stream(tmp_path: Path) -> None:
    """Cancelled between the commit of the stream and its first byte."""
    routes = "routing_preferences:\n  - {name: r, description: d, models: [openai/a]}\n"
    scores = Scores({"r": 0.9}, 0.1, "r")
    rig = make_rig(snapshot_of(tmp_path, TEXT + routes), {"openai/a": stream_of}, scores)
    rig.store = StuckStore()
    gateway = rig.gateway
    task = asyncio.create_task(
        rig.ask({"stream": True}, named={"x-model-affinity": "s"}, gateway=gateway)
    )
    for _ in range(500):  # the first request of a process takes longer
        await asyncio.sleep(0.01)
        if rig.upstream.requests:
            break
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(rig.upstream.requests) == 1
    assert (await rig.ask({"model": "a", "stream": True}, gateway=gateway)).status == 200


@pytest.mark.parametrize("status", [200, 429])
async def test_spent_quota_moves_the_next_request(status: int, snapshot: Snapshot) -> None:
    """After an answer that says so, the next one goes to another model, and no failure counts."""
    first = reply(status, COMPLETION if status == 200 else b"{}", SPENT)
    rig = make_rig(snapshot, {"openai/a": [first, reply()], "openai/b": reply()})
    gateway = rig.gateway
    for _ in range(2):
        assert (await rig.ask({"model": "a", "models": ["b"]}, gateway=gateway)).status == 200
    assert rig.upstream.models[-1] == "openai/b"
    assert rig.upstream.models.count("openai/a") == 1
    (rest,) = gateway.health.rests()
    assert rest.why == "rate_limited"
    assert 350 < rest.left_s <= 360


async def test_quota_of_a_clients_key_rests_nothing(tmp_path: Path) -> None:
    """Other clients have keys, and quotas, of their own."""
    text = f"{V}\nmodel_providers: [{{model: openai/a, passthrough_auth: true}}]\n"
    rig = make_rig(snapshot_of(tmp_path, text), {"openai/a": reply(headers=SPENT)})
    gateway = rig.gateway
    assert (await rig.ask({"model": "a"}, gateway=gateway)).status == 200
    assert len(gateway.health) == 0
