"""The hop to a provider client whose replicas die, start late or hang."""

import asyncio
from collections.abc import Callable, Generator
from typing import Any, Self, cast

import pytest
from ray.exceptions import RayActorError

from deployments import handles
from deployments.frame import encode_chunk, encode_reply
from deployments.handles import HandleUpstream
from serve_app.domain import ModelRef
from serve_app.exchange import (
    FaultKind,
    Operation,
    UpstreamFault,
    UpstreamReply,
    UpstreamRequest,
)
from tests.unit.fakes import FakeChunks

GOOD = encode_reply(UpstreamReply(200, (), b"{}"))
Step = bytes | float | Exception


class _Response:
    """The answer of a replica: bytes, an error, or nothing for so many seconds."""

    def __init__(self, step: Step) -> None:
        self._step = step
        self.cancelled = False

    def __await__(self) -> Generator[Any, None, bytes]:
        return self._answer().__await__()

    async def _answer(self) -> bytes:
        if isinstance(self._step, Exception):
            raise self._step
        if isinstance(self._step, bytes):
            return self._step
        await asyncio.sleep(self._step)
        return GOOD

    def cancel(self) -> None:
        self.cancelled = True


class _Stream:
    """A streamed answer: what a replica answers, then one chunk."""

    def __init__(self, step: Step) -> None:
        self._items = [_Response(encode_chunk(b"data")), _Response(step)]

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if not self._items:
            raise StopAsyncIteration
        return await self._items.pop()

    def cancel(self) -> None:
        self._items.clear()


class _Method:
    def __init__(self, steps: list[Step], make: Callable[[Step], Any]) -> None:
        self.steps = steps
        self.calls = 0
        self._make = make

    def remote(self, *_: object) -> Any:
        self.calls += 1
        return self._make(self.steps.pop(0) if len(self.steps) > 1 else self.steps[0])


class FakeHandle:
    """A deployment handle whose methods answer by script; the last step repeats."""

    def __init__(self, exchanges: list[Step], probes: list[Step]) -> None:
        self.unary = _Method(exchanges, _Response)
        self.stream = _Method(exchanges, _Stream)
        self.policy = _Method(probes, _Response)

    def options(self, **_: object) -> Self:
        return self


def died() -> Exception:
    return cast("Exception", RayActorError())


def upstream_of(handle: FakeHandle) -> HandleUpstream:
    return HandleUpstream(cast("Any", handle), None)


def request(*, stream: bool = False, attempt_s: float | None = None) -> UpstreamRequest:
    model = ModelRef("vllm", "x")
    path = "/chat/completions"
    return UpstreamRequest(
        "slug", model, Operation.CHAT, path, (), b"{}", stream, 30.0, attempt_s=attempt_s
    )


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handles, "_PROBE_PAUSE_S", 0.01)
    monkeypatch.setattr(handles, "_REPLICA_WAIT_S", 0.2)
    monkeypatch.setattr(handles, "_GRACE_S", 0.1)


@pytest.mark.parametrize("stream", [False, True])
async def test_second_try_waits_until_a_replica_answers(*, stream: bool) -> None:
    """A replica that died and one that is not there yet cost no request."""
    head = encode_reply(UpstreamReply(200, (), FakeChunks()))
    handle = FakeHandle([died(), head if stream else GOOD], [died(), OSError(), b"version"])
    reply = await upstream_of(handle).open(request(stream=stream))
    assert isinstance(reply, UpstreamReply)
    assert reply.status == 200
    assert handle.policy.calls == 3
    if not isinstance(reply.body, bytes):
        assert [chunk async for chunk in reply.body] == [b"data"]


async def test_second_try_is_made_even_if_no_replica_answers() -> None:
    """The wait has a bound, and two deaths are a fault of the hop."""
    handle = FakeHandle([died()], [died()])
    fault = await upstream_of(handle).open(request())
    assert fault == UpstreamFault(FaultKind.HOP, "the provider client died twice")
    assert handle.unary.calls == 2
    assert handle.policy.calls > 3


async def test_wait_for_a_replica_leaves_the_attempt_its_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The limit of the attempt counts, however long a replica might be waited for."""
    monkeypatch.setattr(handles, "_REPLICA_WAIT_S", 30.0)
    handle = FakeHandle([died()], [30.0])
    async with asyncio.timeout(5):
        fault = await upstream_of(handle).open(request(attempt_s=0.1))
    assert isinstance(fault, UpstreamFault)
    assert fault.kind is FaultKind.TIMEOUT


@pytest.mark.parametrize("stream", [False, True])
async def test_hop_that_hangs_ends_with_the_limit_of_the_attempt(*, stream: bool) -> None:
    """A hop without an answer leaves the rest of the time to other candidates."""
    handle = FakeHandle([30.0], [b"version"])
    async with asyncio.timeout(5):
        fault = await upstream_of(handle).open(request(stream=stream, attempt_s=0.1))
    detail = "the provider client did not answer in time"
    assert fault == UpstreamFault(FaultKind.TIMEOUT, detail)


@pytest.mark.parametrize(
    ("probes", "found"), [([b"version"], True), ([died(), b"v"], True), ([died()], False)]
)
async def test_replica_that_answers_is_remembered(probes: list[Step], *, found: bool) -> None:
    """Readiness asks once more only for clients that have not answered."""
    upstream = upstream_of(FakeHandle([GOOD], probes))
    assert not upstream.has_answered
    assert await upstream.wait_for_replica(0.1) is found
    assert upstream.has_answered is found


async def test_probe_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A replica that never answers a probe is asked again until the limit."""
    monkeypatch.setattr(handles, "_PROBE_S", 0.02)
    handle = FakeHandle([GOOD], [30.0])
    assert not await upstream_of(handle).wait_for_replica(0.1)
    assert handle.policy.calls > 1
