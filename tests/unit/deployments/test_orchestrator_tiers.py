"""The orchestrator with a better engine for close calls, and with embeddings of a server."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Final

import pytest

from deployments import orchestrator as deployment
from deployments.orchestrator import Orchestrator
from serve_app.domain import Question, Reason, Route, Scores, Turn, Unavailable
from serve_app.engines import decision, http
from serve_app.engines.decision import DecisionEngine, DecisionSettings
from serve_app.engines.http import HttpEngine, HttpEngineSettings
from serve_app.snapshot import compile_snapshot
from serve_app.telemetry.metrics import Metric
from tests.unit.config_texts import VERSION
from tests.unit.deployments.test_orchestrator_engines import SCORES, FakeVllm
from tests.unit.engines.chat_server import SECRET, Answer, Server, embeddings, hangs, raw, says
from tests.unit.engines.decision_server import NONE, refuses, system_one
from tests.unit.fakes import FakeMeter

ROUTES: Final = (
    Route("code", "writing, explaining and debugging code", ()),
    Route("poems", "poems, song lyrics and rhymes", ()),
)
PREFERENCES: Final = "".join(
    f"  - {{name: {route.name}, description: '{route.description}', models: [vllm/m]}}\n"
    for route in ROUTES
)
POEMS: Final = says('{"route": "poems"}', usage={"prompt_tokens": 100, "completion_tokens": 10})
ALWAYS: Final = "below: 1"
"""No engine is quite sure of anything."""


class Meter(FakeMeter):
    """Serve's meter as far as a replica uses it."""

    def set(self, metric: Metric, value: float, labels: tuple[str, ...]) -> None: ...


Make = Callable[[str], Orchestrator]


@pytest.fixture
def meter(monkeypatch: pytest.MonkeyPatch) -> Meter:
    own = Meter()
    monkeypatch.setattr(deployment, "ServeMeter", lambda: own)
    return own


@pytest.fixture
async def make(
    server: Server, meter: Meter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Make]:
    """Builds an orchestrator with this section and a provider at the server."""
    monkeypatch.setattr(deployment, "VllmEngine", FakeVllm)
    monkeypatch.setattr(FakeVllm, "made", [])
    monkeypatch.setenv("TIERS_KEY", SECRET)
    made: list[Orchestrator] = []
    engines: list[HttpEngine] = []

    class Recorded(HttpEngine):
        def __init__(self, settings: HttpEngineSettings, environ: Mapping[str, str]) -> None:
            super().__init__(settings, environ)
            engines.append(self)

    monkeypatch.setattr(http, "HttpEngine", Recorded)

    def run(section: str) -> Orchestrator:
        file = tmp_path / "gateway.yaml"
        entry = f"{{model: vllm/m, base_url: '{server.url}', access_key: $TIERS_KEY}}"
        text = f"{VERSION}model_providers: [{entry}]\nrouting_preferences:\n{PREFERENCES}"
        text += "prices: {vllm/m: {input: 2, output: 10}}\n"
        file.write_text(f"{text}orchestrator: {{{section}}}\n", "utf-8")
        made.append(Orchestrator(str(file)))
        return made[-1]

    yield run
    for orchestrator in made:
        await asyncio.to_thread(orchestrator.__del__)
    for engine in engines:
        await engine.close()


def question(text: str, *before: Turn) -> Question:
    return Question((*before, Turn("user", text)), ROUTES, "v1")


async def scored(orchestrator: Orchestrator, *asked: Question) -> Scores:
    scores = await orchestrator.score(asked[0] if asked else question("Write a Python function"))
    assert isinstance(scores, Scores)
    return scores


def unsure(keys: str = "engine: http, model: vllm/m", below: str = ALWAYS) -> str:
    return f"when_unsure: {{{keys}, {below}}}"


async def test_close_call_is_decided_by_the_provider(
    make: Make, server: Server, meter: Meter
) -> None:
    """The model of the provider decides, with the key of its entry, and its cost is counted once."""
    server.answer = POEMS
    orchestrator = make(unsure())
    first = await scored(orchestrator)
    assert (first.winner, first.tier, first.routes) == ("poems", "when_unsure", {})
    assert server.requests[0].headers["authorization"] == f"Bearer {SECRET}"
    again = await scored(orchestrator)
    assert (again.winner, again.cached) == ("poems", True)
    assert len(server.bodies) == 1
    tier = ("when_unsure", "vllm/m")
    assert meter.counted(Metric.TIER_QUESTIONS) == [(*tier, "scored"), (*tier, "cached")]
    assert meter.amounts[Metric.TIER_COST, tier] == pytest.approx(300 / 1e6)
    assert SECRET not in repr(orchestrator._tiers)


async def test_clear_call_is_not_sent(make: Make, server: Server, meter: Meter) -> None:
    """The embedded engine is always as sure as this limit asks for."""
    scores = await scored(make(unsure(below="below: 0.0001")))
    assert (scores.tier, list(scores.routes)) == ("embedding", ["code", "poems"])
    assert (server.bodies, meter.counted(Metric.TIER_QUESTIONS)) == ([], [])


async def test_whole_conversation_is_for_the_language_model(make: Make, server: Server) -> None:
    """The embedded engine compares the last turns only."""
    server.answer = POEMS
    talk = question("And now a sonnet about the sea, with a moral at its end and a title, please, and a second one for my mother", Turn("user", "Hi"), Turn("assistant", "Hello"))  # fmt: skip
    orchestrator = make(unsure())
    await scored(orchestrator, talk)
    assert '"Hello"' in server.bodies[0]["messages"][0]["content"]
    alone = Question(talk.turns[-1:], ROUTES, "v1")
    assert orchestrator._guard is not None
    shorter = await orchestrator._guard.score(alone)
    assert isinstance(shorter, Scores)
    assert shorter.cached


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (raw(b"", 503), "returned an error (status 503)"),
        (says("Okay. Possible route: poems, but let me", finish_reason="length"), "ran out of tokens before answering; turn reasoning off for this model"),
        (says("I cannot say"), "returned an unusable answer: found no route in its 12 characters"),
    ],
)  # fmt: skip
async def test_embedded_decision_stands_after_a_fault(
    make: Make, server: Server, meter: Meter, answer: Answer, why: str
) -> None:
    """The scores say what went wrong, and the fall-back is counted."""
    server.answer = answer
    scores = await scored(make(unsure()))
    assert (scores.tier, scores.stand_in) == ("embedding", "")
    assert scores.fell_back.endswith(why)
    assert [labels[-1] for labels in meter.counted(Metric.TIER_QUESTIONS)] == ["orchestrator_error"]


async def test_slow_provider_does_not_delay_the_decision(make: Make, server: Server) -> None:
    """The embedded decision is there within the deadline, and after five faults at once."""
    server.answer = hangs
    orchestrator = make(f"deadline_ms: 500, {unsure()}")
    started = time.monotonic()
    scores = await scored(orchestrator)
    assert 0.2 < time.monotonic() - started < 0.5
    assert (scores.tier, "timed out after " in scores.fell_back) == ("embedding", True)
    await asyncio.gather(*(orchestrator.score(question(f"poem {n}")) for n in range(5)))
    started = time.monotonic()
    scores = await scored(orchestrator, question("one more"))
    assert time.monotonic() - started < 0.2
    assert scores.fell_back.startswith("the orchestrator.when_unsure failed several times in a row")


async def test_own_deadline_is_kept(make: Make, server: Server) -> None:
    """It may be shorter than what is left."""
    server.answer = hangs
    started = time.monotonic()
    scores = await scored(make(unsure("engine: http, model: vllm/m, deadline_ms: 200")))
    assert time.monotonic() - started < 1.5
    assert "timed out after " in scores.fell_back


async def test_better_engine_may_be_vllm(make: Make) -> None:
    """It gets the routes at start, and is closed with the replica."""
    orchestrator = make(unsure("engine: vllm, model: m"))
    (engine,) = FakeVllm.made
    scores = await scored(orchestrator)
    assert (scores.winner, scores.routes, scores.tier) == ("code", SCORES.routes, "when_unsure")
    assert [route.name for route in engine.others["routes"]] == ["code", "poems"]
    assert engine.others["deadline_s"] == pytest.approx(4.8)
    orchestrator.__del__()
    assert engine.closed == 1


async def test_stand_in_may_be_unsure(make: Make, server: Server) -> None:
    """While the first engine is away, close calls of the embedded one go to the better engine, too."""
    server.answer = POEMS
    orchestrator = make(f"engine: vllm, model: m, {unsure()}")
    FakeVllm.made[0].result = Unavailable(Reason.ORCHESTRATOR_BUSY, "it is starting")
    scores = await scored(orchestrator)
    assert (scores.winner, scores.tier) == ("poems", "when_unsure")
    server.answer = raw(b"", 503)
    scores = await scored(orchestrator, question("else"))
    assert (scores.tier, scores.stand_in) == ("embedding", "it is starting")
    assert scores.fell_back.endswith("returned an error (status 503)")


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110 - what is waited for happens on another thread
            await asyncio.sleep(0.01)


async def test_embeddings_of_a_server_decide(
    make: Make, server: Server, meter: Meter, tmp_path: Path
) -> None:
    """The texts of routes are sent at start and after a reload, a question is one request."""
    server.answer = embeddings
    orchestrator = make("engine: embeddings, model: vllm/m")
    await until(lambda: len(server.bodies) == 1)
    scores = await scored(orchestrator, question("poems and rhymes"))
    assert (scores.winner, scores.tier) == ("poems", "embeddings")
    assert [body["input"] for body in server.bodies[1:]] == [["poems and rhymes"]]
    assert await orchestrator.decisions() == 1
    file = tmp_path / "gateway.yaml"
    file.write_text(file.read_text("utf-8").replace("song lyrics", "ballads"), "utf-8")
    orchestrator._adopt(compile_snapshot(file))
    await until(lambda: len(server.bodies) == 3)
    assert "ballads" in server.bodies[2]["input"]
    tokens = (Metric.TIER_TOKENS, ("embeddings", "vllm/m", "input"))
    assert meter.amounts[tokens] == len("poems and rhymes")


@pytest.fixture
async def decisions(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """Closes the engines `decision` that a test makes."""
    made: list[DecisionEngine] = []

    class Recorded(DecisionEngine):
        def __init__(self, settings: DecisionSettings, environ: Mapping[str, str]) -> None:
            super().__init__(settings, environ)
            made.append(self)

    monkeypatch.setattr(decision, "DecisionEngine", Recorded)
    yield
    for engine in made:
        await engine.close()


JEV: Final = "engine: decision, model: vllm/m, api: systemone"


@pytest.mark.usefixtures("decisions")
async def test_server_of_decisions_decides(make: Make, server: Server, meter: Meter) -> None:
    """It reads the whole conversation, its cost is counted, and equal questions are cached."""
    server.answer = system_one({"code": 0.2, "poems": 0.7, NONE: 0.1})
    orchestrator = make(JEV)
    talk = question("and now with rhymes", Turn("user", "Hi"), Turn("assistant", "Hello"))
    scores = await scored(orchestrator, talk)
    assert (scores.winner, scores.tier, scores.none) == ("poems", "decision", 0.1)
    assert "assistant: Hello" in server.bodies[0]["state"]
    assert server.requests[0].headers["authorization"] == f"Bearer {SECRET}"
    assert (await scored(orchestrator, talk)).cached
    tier = ("decision", "vllm/m")
    assert meter.counted(Metric.TIER_QUESTIONS) == [(*tier, "scored"), (*tier, "cached")]
    assert meter.amounts[Metric.TIER_COST, tier] == pytest.approx((2 * 318 + 10 * 34) / 1e6)


@pytest.mark.usefixtures("decisions")
async def test_embedded_engine_stands_in_for_decisions(make: Make, server: Server) -> None:
    """Until the server is back; refusals do not open the breaker, failures do."""
    orchestrator = make(JEV)
    server.answer = refuses
    for number in range(7):
        scores = await scored(orchestrator, question(f"Write a rhyme {number}"))
        assert (scores.tier, scores.winner) == ("embedding", "poems")
        assert scores.stand_in.endswith("refused to decide about this conversation")
    assert len(server.bodies) == 7
    server.answer = raw(b"", 503)
    for number in range(7):
        scores = await scored(orchestrator, question(f"Write a poem {number}"))
        assert scores.tier == "embedding"
    assert len(server.bodies) == 12


@pytest.mark.usefixtures("decisions")
async def test_decisions_decide_close_calls(make: Make, server: Server) -> None:
    """The embedded engine's call is close, and the better engine's probabilities win."""
    server.answer = system_one({"code": 0.05, "poems": 0.9, NONE: 0.05})
    scores = await scored(make(unsure(JEV)))
    assert (scores.winner, scores.tier, scores.routes["poems"]) == ("poems", "when_unsure", 0.9)


async def test_embedded_engine_stands_in_for_embeddings(make: Make, server: Server) -> None:
    """A failing server does not leave questions undecided; the thread ends with the replica."""
    server.answer = raw(b"", 503)
    orchestrator = make("engine: embeddings, model: vllm/m")
    scores = await scored(orchestrator)
    assert scores.tier == "embedding"
    assert scores.stand_in.endswith("returned an error (status 503)")
    await asyncio.to_thread(orchestrator.__del__)
    assert "embeddings-engine" not in [thread.name for thread in threading.enumerate()]
