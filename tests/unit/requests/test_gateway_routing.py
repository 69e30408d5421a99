"""The use case: decides by content, and records metrics."""

from pathlib import Path
from typing import Any

import pytest

from serve_app.domain import Question, Reason, Scores, Turn, Unavailable
from serve_app.errors import InvalidRequest
from serve_app.exchange import FaultKind, UpstreamRequest
from serve_app.snapshot import Snapshot
from serve_app.telemetry.metrics import Metric
from tests.unit.fakes import FakeChunks, broken, fault, headers_of, reply, snapshot_of
from tests.unit.requests.gateway_rig import ROUTES, TEXT, make_rig

WORD = b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n'
SCORES = Scores({"code é": 0.87654}, 0.1, "code é")


@pytest.fixture
def snapshot(tmp_path: Path) -> Snapshot:
    return snapshot_of(tmp_path, TEXT + ROUTES)


async def test_winning_route_selects_model(snapshot: Snapshot) -> None:
    """The gateway calls the winning route's model and returns the route's name and score as
    headers.
    """
    rig = make_rig(snapshot, {"openai/b": reply()}, SCORES)
    headers = headers_of(await rig.ask({"model": "auto"}))
    assert headers["x-fingerpost-model"] == "openai/b"
    assert headers["x-fingerpost-reason"] == "route"
    assert headers["x-fingerpost-route"] == "code %C3%A9"
    assert headers["x-fingerpost-confidence"] == "0.877"
    question = Question((Turn("user", "Hello"),), snapshot.policy.routes, snapshot.policy.version)
    assert rig.orchestrator.questions == [question]


async def test_route_falls_back_to_default_model(snapshot: Snapshot) -> None:
    """When all models of a route have failed, the gateway calls the default model."""
    down = fault(FaultKind.CONNECT)
    rig = make_rig(snapshot, {"openai/b": down, "vllm/c": down, "openai/a": reply()}, SCORES)
    headers = headers_of(await rig.ask({}))
    assert rig.upstream.models == ["openai/b", "vllm/c", "openai/a"]
    assert (headers["x-fingerpost-reason"], headers["x-fingerpost-route"]) == (
        "failover",
        "code %C3%A9",
    )


@pytest.mark.parametrize(
    "reason",
    [
        Reason.ORCHESTRATOR_TIMEOUT,
        Reason.ORCHESTRATOR_ERROR,
        Reason.ORCHESTRATOR_BUSY,
        Reason.BREAKER_OPEN,
    ],
)
async def test_unavailable_orchestrator_falls_back_to_default(
    reason: Reason, snapshot: Snapshot
) -> None:
    """When the orchestrator is unavailable, the default model answers and a header names the
    reason.
    """
    rig = make_rig(snapshot, {"openai/a": reply()}, Unavailable(reason, "x"))
    headers = headers_of(await rig.ask({"model": ""}))
    assert headers["x-fingerpost-model"] == "openai/a"
    assert headers["x-fingerpost-reason"] == reason.value
    assert "x-fingerpost-confidence" not in headers


async def test_question_without_match_goes_to_default(snapshot: Snapshot) -> None:
    """When no route matches, the default model answers."""
    rig = make_rig(snapshot, {"openai/a": reply()}, Scores({"code é": 0.1}, 0.9, None))
    headers = headers_of(await rig.ask({"model": "none"}))
    assert headers["x-fingerpost-reason"] == "no_match"
    assert "x-fingerpost-route" not in headers


@pytest.mark.parametrize(("model", "hint"), [("openai/a", None), ("fast", None), ("auto", "a")])
async def test_named_model_skips_orchestrator(
    model: str, hint: str | None, snapshot: Snapshot
) -> None:
    """A request that names a model, an alias or a hint is not scored."""
    rig = make_rig(snapshot, {"openai/a": reply(), "openai/b": reply()}, SCORES)
    await rig.ask({"model": model}, hint=hint)
    assert rig.orchestrator.questions == []


async def test_gateway_rejects_malformed_messages(snapshot: Snapshot) -> None:
    """Malformed messages are rejected with their position when the gateway decides by content."""
    with pytest.raises(InvalidRequest) as caught:
        await make_rig(snapshot, {}, SCORES).ask({"messages": [{"role": "user"}, 1]})
    assert caught.value.param == "messages[1]"


@pytest.mark.parametrize("role", [["user"], {"a": 1}, 1, None])
async def test_unknown_role_is_passed_to_provider(role: Any, snapshot: Snapshot) -> None:
    """A message with an invalid role is not scored and goes to the provider, which judges it."""
    rig = make_rig(snapshot, {"openai/a": reply()}, SCORES)
    answer = await rig.ask({"messages": [{"role": role, "content": "x"}]})
    assert (answer.status, rig.orchestrator.questions) == (200, [])
    assert headers_of(answer)["x-fingerpost-reason"] == "no_match"


async def test_good_answer_is_recorded(snapshot: Snapshot) -> None:
    """A good answer is recorded with one request, one attempt, its duration and the gateway's
    overhead.
    """
    rig = make_rig(snapshot, {})

    def slow(request: UpstreamRequest) -> Any:
        rig.clock.now += 3
        return reply()

    rig.upstream = make_rig(snapshot, {"openai/a": slow}).upstream
    answer = await rig.ask({"model": "a"})
    meter = rig.meter
    assert meter.counted(Metric.REQUESTS) == [("chat", "200", "explicit")]
    assert meter.counted(Metric.ATTEMPTS) == [("openai", "openai/a", "ok")]
    assert meter.observed(Metric.REQUEST_SECONDS) == [(3.0, ("chat", "openai", "openai/a", ""))]
    assert meter.observed(Metric.OVERHEAD_SECONDS) == [(0.0, ("chat",))]
    assert meter.observed(Metric.FIRST_TOKEN_SECONDS) == []
    timing = headers_of(answer)["server-timing"]
    assert timing == "decide;dur=0.00, upstream;dur=3000.00, gateway;dur=0.00"


async def test_failed_answer_is_recorded_with_its_status(snapshot: Snapshot) -> None:
    """A failed answer is recorded with the client's status as its error type."""
    rig = make_rig(snapshot, {"openai/a": fault(FaultKind.CONNECT)})
    await rig.ask({"model": "a"})
    meter = rig.meter
    assert meter.counted(Metric.REQUESTS) == [("chat", "502", "explicit")]
    assert meter.observed(Metric.REQUEST_SECONDS)[0][1] == ("chat", "openai", "openai/a", "502")


@pytest.mark.parametrize("name", ["vllm/whatever", "vllm/another"])
async def test_wildcard_names_are_not_metric_labels(name: str, snapshot: Snapshot) -> None:
    """A model that only a wildcard matches has the label `other`, so that the number of labels is
    bounded.
    """
    rig = make_rig(snapshot, {name: [fault(FaultKind.RESET), reply()]})
    await rig.ask({"model": name})
    recorded = [labels for _, labels in rig.meter.counts]
    recorded += [labels for _, _, labels in rig.meter.values]
    assert not any(name in labels for labels in recorded)
    assert rig.meter.counted(Metric.ATTEMPTS)[-1] == ("vllm", "other", "ok")


@pytest.mark.parametrize(
    ("script", "error", "broke"),
    [
        ([WORD, b"data: [DONE]\n\n"], "", 0),
        ([WORD], "broken", 1),
        ([WORD, broken()], "broken", 1),
    ],
)
async def test_stream_is_recorded_at_its_end(
    script: list[Any], error: str, broke: int, snapshot: Snapshot
) -> None:
    """The time to the commit is recorded at the commit; the duration and the outcome at the end of
    the stream.
    """
    body = FakeChunks(*script)
    rig = make_rig(snapshot, {"openai/a": reply(200, body)})
    rig.clock.now += 1
    answer = await rig.ask({"model": "a", "stream": True})
    meter = rig.meter
    labels = ("chat", "openai", "openai/a")
    assert meter.observed(Metric.FIRST_TOKEN_SECONDS) == [(0.0, labels)]
    assert meter.observed(Metric.REQUEST_SECONDS) == []
    rig.clock.now += 5
    assert not isinstance(answer.body, bytes)
    async for _ in answer.body:
        pass
    await answer.body.aclose()
    assert meter.observed(Metric.REQUEST_SECONDS) == [(5.0, (*labels, error))]
    assert meter.counted(Metric.BROKEN_STREAMS) == [("openai",)] * broke
    assert meter.counted(Metric.REQUESTS) == [("chat", "200", "explicit")]


async def test_disconnected_client_is_not_a_broken_stream(snapshot: Snapshot) -> None:
    """A stream that the client closes is recorded as `client_gone`, not as broken."""
    rig = make_rig(snapshot, {"openai/a": reply(200, FakeChunks(WORD, WORD))})
    answer = await rig.ask({"model": "a", "stream": True})
    assert not isinstance(answer.body, bytes)
    await answer.body.aclose()
    ((_, labels),) = rig.meter.observed(Metric.REQUEST_SECONDS)
    assert labels[-1] == "client_gone"
    assert rig.meter.counted(Metric.BROKEN_STREAMS) == []


@pytest.mark.parametrize(
    ("n", "error"), [(1, ""), (2, "broken"), (None, ""), ("2", ""), (True, "")]
)
async def test_stream_is_complete_when_all_choices_finish(
    n: Any, error: str, snapshot: Snapshot
) -> None:
    """A stream with `n` of two is broken if only one choice has finished."""
    other = b'data: {"choices":[{"index":1,"delta":{"content":"y"}}]}\n\n'
    stop = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
    rig = make_rig(snapshot, {"openai/a": reply(200, FakeChunks(WORD, other, stop))})
    answer = await rig.ask({"model": "a", "stream": True, "n": n})
    assert not isinstance(answer.body, bytes)
    async for _ in answer.body:
        pass
    ((_, labels),) = rig.meter.observed(Metric.REQUEST_SECONDS)
    assert labels[-1] == error
