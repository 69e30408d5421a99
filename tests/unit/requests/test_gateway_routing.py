"""The use case: deciding by content, and what is recorded."""

from pathlib import Path
from typing import Any

import pytest

from serve_app.domain import Question, Reason, Scores, Turn, Unavailable
from serve_app.errors import InvalidRequest
from serve_app.exchange import FaultKind, UpstreamRequest
from serve_app.snapshot import Snapshot
from serve_app.telemetry.metrics import Metric
from tests.unit.fakes import FakeChunks, broken, fault, headers_of, reply, setup_of
from tests.unit.requests.gateway_rig import ROUTES, TEXT, rig

WORD = b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n'
SCORES = Scores({"code é": 0.87654}, 0.1, "code é")


@pytest.fixture
def snapshot(tmp_path: Path) -> Snapshot:
    return setup_of(tmp_path, TEXT + ROUTES)


async def test_the_winning_route_answers(snapshot: Snapshot) -> None:
    """Its models are asked in turn; its name and score are in the headers."""
    asking = rig(snapshot, {"openai/b": reply()}, SCORES)
    headers = headers_of(await asking.ask({"model": "auto"}))
    assert headers["x-fingerpost-model"] == "openai/b"
    assert headers["x-fingerpost-reason"] == "route"
    assert headers["x-fingerpost-route"] == "code %C3%A9"
    assert headers["x-fingerpost-confidence"] == "0.877"
    asked = Question((Turn("user", "Hello"),), snapshot.policy.routes, snapshot.policy.version)
    assert asking.orchestrator.asked == [asked]


async def test_a_route_falls_back_to_the_default(snapshot: Snapshot) -> None:
    """After the route's models comes the default."""
    down = fault(FaultKind.CONNECT)
    asking = rig(snapshot, {"openai/b": down, "vllm/c": down, "openai/a": reply()}, SCORES)
    headers = headers_of(await asking.ask({}))
    assert asking.upstream.asked == ["openai/b", "vllm/c", "openai/a"]
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
async def test_an_orchestrator_in_trouble_fails_no_request(
    reason: Reason, snapshot: Snapshot
) -> None:
    """The default answers, and the header says why."""
    asking = rig(snapshot, {"openai/a": reply()}, Unavailable(reason, "x"))
    headers = headers_of(await asking.ask({"model": ""}))
    assert headers["x-fingerpost-model"] == "openai/a"
    assert headers["x-fingerpost-reason"] == reason.value
    assert "x-fingerpost-confidence" not in headers


async def test_no_match_is_the_default(snapshot: Snapshot) -> None:
    """Nothing fits, so the default answers."""
    asking = rig(snapshot, {"openai/a": reply()}, Scores({"code é": 0.1}, 0.9, None))
    headers = headers_of(await asking.ask({"model": "none"}))
    assert headers["x-fingerpost-reason"] == "no_match"
    assert "x-fingerpost-route" not in headers


@pytest.mark.parametrize(("model", "hint"), [("openai/a", None), ("fast", None), ("auto", "a")])
async def test_a_name_asks_no_orchestrator(
    model: str, hint: str | None, snapshot: Snapshot
) -> None:
    """Explicit stays explicit."""
    asking = rig(snapshot, {"openai/a": reply(), "openai/b": reply()}, SCORES)
    await asking.ask({"model": model}, hint=hint)
    assert asking.orchestrator.asked == []


async def test_messages_that_can_not_be_read_are_refused(snapshot: Snapshot) -> None:
    """Deciding by content needs to read them, and names the place that is wrong."""
    with pytest.raises(InvalidRequest) as caught:
        await rig(snapshot, {}, SCORES).ask({"messages": [{"role": "user"}, 1]})
    assert caught.value.param == "messages[1]"


@pytest.mark.parametrize("role", [["user"], {"a": 1}, 1, None])
async def test_an_odd_role_fails_no_request(role: Any, snapshot: Snapshot) -> None:
    """What a message's role is, is the provider's to judge; what nobody said, nobody scores."""
    asking = rig(snapshot, {"openai/a": reply()}, SCORES)
    answer = await asking.ask({"messages": [{"role": role, "content": "x"}]})
    assert (answer.status, asking.orchestrator.asked) == (200, [])
    assert headers_of(answer)["x-fingerpost-reason"] == "no_match"


async def test_a_good_answer_is_recorded(snapshot: Snapshot) -> None:
    """One request, one attempt, its duration, and what the gateway itself took of it."""
    asking = rig(snapshot, {})

    def slow(request: UpstreamRequest) -> Any:
        asking.clock.now += 3
        return reply()

    asking.upstream = rig(snapshot, {"openai/a": slow}).upstream
    answer = await asking.ask({"model": "a"})
    meter = asking.meter
    assert meter.counted(Metric.REQUESTS) == [("chat", "200", "explicit")]
    assert meter.counted(Metric.ATTEMPTS) == [("openai", "openai/a", "ok")]
    assert meter.observed(Metric.REQUEST_SECONDS) == [(3.0, ("chat", "openai", "openai/a", ""))]
    assert meter.observed(Metric.OVERHEAD_SECONDS) == [(0.0, ("chat",))]
    assert meter.observed(Metric.FIRST_TOKEN_SECONDS) == []
    timing = headers_of(answer)["server-timing"]
    assert timing == "decide;dur=0.00, upstream;dur=3000.00, gateway;dur=0.00"


async def test_a_failed_answer_is_recorded(snapshot: Snapshot) -> None:
    """With the status that the client got, as the kind of error."""
    asking = rig(snapshot, {"openai/a": fault(FaultKind.CONNECT)})
    await asking.ask({"model": "a"})
    meter = asking.meter
    assert meter.counted(Metric.REQUESTS) == [("chat", "502", "explicit")]
    assert meter.observed(Metric.REQUEST_SECONDS)[0][1] == ("chat", "openai", "openai/a", "502")


@pytest.mark.parametrize("name", ["vllm/whatever", "vllm/another"])
async def test_names_of_wildcards_are_no_labels(name: str, snapshot: Snapshot) -> None:
    """Labels are bounded: what only a wildcard knows is called other."""
    asking = rig(snapshot, {name: [fault(FaultKind.RESET), reply()]})
    await asking.ask({"model": name})
    said = [labels for _, labels in asking.meter.counts]
    said += [labels for _, _, labels in asking.meter.values]
    assert not any(name in labels for labels in said)
    assert asking.meter.counted(Metric.ATTEMPTS)[-1] == ("vllm", "other", "ok")


@pytest.mark.parametrize(
    ("script", "error", "broke"),
    [
        ([WORD, b"data: [DONE]\n\n"], "", 0),
        ([WORD], "broken", 1),
        ([WORD, broken()], "broken", 1),
    ],
)
async def test_a_stream_is_recorded_at_its_end(
    script: list[Any], error: str, broke: int, snapshot: Snapshot
) -> None:
    """Its commit when it commits, its duration and how it went when it ends."""
    body = FakeChunks(*script)
    asking = rig(snapshot, {"openai/a": reply(200, body)})
    asking.clock.now += 1
    answer = await asking.ask({"model": "a", "stream": True})
    meter = asking.meter
    labels = ("chat", "openai", "openai/a")
    assert meter.observed(Metric.FIRST_TOKEN_SECONDS) == [(0.0, labels)]
    assert meter.observed(Metric.REQUEST_SECONDS) == []
    asking.clock.now += 5
    assert not isinstance(answer.body, bytes)
    async for _ in answer.body:
        pass
    await answer.body.aclose()
    assert meter.observed(Metric.REQUEST_SECONDS) == [(5.0, (*labels, error))]
    assert meter.counted(Metric.BROKEN_STREAMS) == [("openai",)] * broke
    assert meter.counted(Metric.REQUESTS) == [("chat", "200", "explicit")]


async def test_a_client_that_leaves_is_no_broken_stream(snapshot: Snapshot) -> None:
    """Who hangs up is told apart from who was hung up on."""
    asking = rig(snapshot, {"openai/a": reply(200, FakeChunks(WORD, WORD))})
    answer = await asking.ask({"model": "a", "stream": True})
    assert not isinstance(answer.body, bytes)
    await answer.body.aclose()
    ((_, labels),) = asking.meter.observed(Metric.REQUEST_SECONDS)
    assert labels[-1] == "client_gone"
    assert asking.meter.counted(Metric.BROKEN_STREAMS) == []


@pytest.mark.parametrize(
    ("n", "error"), [(1, ""), (2, "broken"), (None, ""), ("2", ""), (True, "")]
)
async def test_all_choices_asked_for_have_to_finish(n: Any, error: str, snapshot: Snapshot) -> None:
    """With n of two, one choice's finish is not the end of the stream."""
    other = b'data: {"choices":[{"index":1,"delta":{"content":"y"}}]}\n\n'
    stop = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
    asking = rig(snapshot, {"openai/a": reply(200, FakeChunks(WORD, other, stop))})
    answer = await asking.ask({"model": "a", "stream": True, "n": n})
    assert not isinstance(answer.body, bytes)
    async for _ in answer.body:
        pass
    ((_, labels),) = asking.meter.observed(Metric.REQUEST_SECONDS)
    assert labels[-1] == error
