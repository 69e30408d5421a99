"""The orchestrator's deployment without Serve: its engine, its faults and its bounds."""

import asyncio
import gc
import logging
import threading
from collections.abc import Callable, Iterator, Sized
from importlib.util import find_spec
from pathlib import Path
from shutil import copyfile
from typing import Final

import numpy as np
import pytest

from deployments import orchestrator as deployment
from deployments.orchestrator import Orchestrator
from serve_app.config import watch as watching
from serve_app.config.locations import ConfigError
from serve_app.domain import Question, Reason, Route, Scores, Turn, Unavailable
from serve_app.engines.embedding.engine import PACKAGE
from serve_app.engines.guard import CACHE_ENTRIES, MAX_FLIGHTS, Guard
from serve_app.scoring.embedding import MAX_ROWS, MAX_TEXTS, EmbeddingScorer, Vector
from tests.unit.config.broken import V
from tests.unit.fakes import FakeClock

ROUTES: Final = (
    Route("code", "writing, explaining and debugging code", ()),
    Route("poems", "poems, song lyrics and rhymes", ()),
)
PREFERENCES: Final = "".join(
    f"  - {{name: {route.name}, description: '{route.description}', models: [openai/a]}}\n"
    for route in ROUTES
)
TEXT: Final = (
    f"{V}model_providers:\n  - model: openai/a\n"
    f"routing_preferences:\n{PREFERENCES}"
    "orchestrator: {deadline_ms: 30000"
)
"""Left open for more keys; the long deadline keeps a busy machine from timing out."""

CONVERSATIONS: Final = 100_000

Make = Callable[[str], Orchestrator]


def question(text: str, key: str = "v1") -> Question:
    return Question((Turn("user", text),), ROUTES, key)


def retrying() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "engine-retry"]


def end(orchestrator: Orchestrator) -> None:
    """Ends the orchestrator as Serve ends a replica, and waits for its threads."""
    orchestrator.__del__()
    for thread in retrying():
        thread.join(10)
    assert retrying() == []


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Builds an orchestrator whose ``orchestrator`` section has these keys."""
    orchestrators: list[Orchestrator] = []

    def run(section: str) -> Orchestrator:
        file = tmp_path / "gateway.yaml"
        file.write_text(f"{TEXT}{section}}}\n", "utf-8")
        orchestrators.append(Orchestrator(str(file)))
        return orchestrators[-1]

    yield run
    for orchestrator in orchestrators:
        end(orchestrator)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Orchestrator:
    """An orchestrator with the default model, for all tests that do not change it."""
    file = tmp_path_factory.mktemp("orchestrator") / "gateway.yaml"
    file.write_text(TEXT + "}\n", "utf-8")
    return Orchestrator(str(file))


async def scored(orchestrator: Orchestrator, text: str) -> Scores:
    scores = await orchestrator.score(question(text))
    assert isinstance(scores, Scores)
    return scores


async def down(orchestrator: Orchestrator) -> str:
    """The detail of the Unavailable that a question gets."""
    scores = await orchestrator.score(question("Hello"))
    assert isinstance(scores, Unavailable)
    assert scores.reason is Reason.ORCHESTRATOR_ERROR
    return scores.detail


@pytest.mark.parametrize(
    ("text", "winner"),
    [("Write a Python function", "code"), ("Write a sonnet about autumn", "poems")],
)
async def test_orchestrator_scores_configured_routes(
    text: str, winner: str, running: Orchestrator
) -> None:
    """The configured engine scores the routes, and no retry thread runs."""
    scores = await scored(running, text)
    assert (scores.winner, list(scores.routes)) == (winner, ["code", "poems"])
    assert not scores.cached
    assert retrying() == []


async def test_orchestrator_scores_inline_routes(running: Orchestrator) -> None:
    """The orchestrator scores the routes of a question instead of the configured ones."""
    routes = (Route("sea", "ships and sailors", ()), Route("hills", "hikes and huts", ()))
    scores = await running.score(
        Question((Turn("user", "Which boat sails fastest?"),), routes, "x")
    )
    assert isinstance(scores, Scores)
    assert scores.winner == "sea"


async def test_equal_concurrent_questions_are_one_decision(running: Orchestrator) -> None:
    """Equal concurrent questions count as one decision, each different question as one more, and a
    cached one is not counted.
    """
    before = await running.decisions()
    results = await asyncio.gather(*[running.score(question("forty")) for _ in range(40)])
    assert len(set(map(id, results))) == 1
    assert await running.decisions() == before + 1
    assert (await scored(running, "forty")).cached
    assert await running.decisions() == before + 1
    await asyncio.gather(*[running.score(question(f"forty {number}")) for number in range(5)])
    assert await running.decisions() == before + 6


async def test_missing_model_file_does_not_fail_replica(tmp_path: Path, make: Make) -> None:
    """With a missing model file, the replica answers with the path and the configuration key."""
    orchestrator = make(", model: own.onnx")
    assert await down(orchestrator) == (
        f"the embedded engine is unavailable: there is no file {tmp_path}/own.onnx; check orchestrator.model"
    )
    assert await orchestrator.decisions() == 0


async def test_invalid_model_file_does_not_fail_replica(tmp_path: Path, make: Make) -> None:
    """With an invalid model file, the replica answers with the path and the error of onnxruntime."""
    (tmp_path / "own.onnx").write_bytes(b"hello")
    start = f"the embedded engine is unavailable: {tmp_path}/own.onnx is not a usable ONNX model: "
    assert (await down(make(", model: own.onnx"))).startswith(start)


async def test_engine_exception_does_not_fail_replica(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unexpected exception of the engine is reported with its type, and the replica stays up."""

    def broken(_settings: object) -> None:
        raise MemoryError("too much")

    monkeypatch.setattr(deployment, "EmbeddingEngine", broken)
    assert await down(make("")) == "the embedded engine is unavailable: MemoryError: too much"


async def test_orchestrator_retries_failed_engine(
    tmp_path: Path,
    make: Make,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A thread retries a failed engine, logs the fault once, and ends when the engine has started."""
    monkeypatch.setattr(deployment, "FIRST_RETRY_S", 0.05)
    monkeypatch.setattr(deployment, "LONGEST_RETRY_S", 0.1)
    orchestrator = make(", model: own.onnx")
    assert "there is no file" in await down(orchestrator)
    await asyncio.sleep(0.4)  # several retries
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    spec = find_spec(PACKAGE)
    assert spec is not None
    assert spec.origin is not None
    copyfile(Path(spec.origin).parent / "model.onnx", tmp_path / "whole.onnx")
    (tmp_path / "whole.onnx").rename(tmp_path / "own.onnx")
    for thread in retrying():
        await asyncio.to_thread(thread.join, 30)
    assert retrying() == []
    assert (await scored(orchestrator, "Write a Python function")).winner == "code"
    assert await orchestrator.decisions() == 1


@pytest.mark.parametrize(
    ("first_s", "longest_s", "pauses"),
    [(5.0, 300.0, [5, 10, 20, 40, 80, 160, 300, 300]), (1.0, 3.0, [1, 2, 3, 3, 3, 3, 3, 3])],
)
def test_retry_pauses_double_up_to_longest(
    first_s: float,
    longest_s: float,
    pauses: list[float],
    make: Make,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The pause between retries doubles up to the longest one, and a closing replica stops
    retrying.
    """
    monkeypatch.setattr(deployment, "FIRST_RETRY_S", first_s)
    monkeypatch.setattr(deployment, "LONGEST_RETRY_S", longest_s)
    orchestrator = make(", model: own.onnx")
    end(orchestrator)
    waited = Waits(len(pauses))
    monkeypatch.setattr(orchestrator, "_closing", waited)
    orchestrator._retry()
    assert waited.pauses == [*pauses, longest_s]


class Waits:
    """An event that is set after a number of waits, which return at once."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.pauses: list[float] = []

    def wait(self, pause_s: float) -> bool:
        self.pauses.append(pause_s)
        return len(self.pauses) > self.count

    def set(self) -> None:
        pass


async def test_configured_texts_are_prepared(
    tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine embeds the configured routes and the examples of no route at the start, and those
    of a changed configuration when it is read.
    """
    prepared: list[tuple[list[str], tuple[str, ...]]] = []

    class Preparing:
        def __init__(self, _settings: object) -> None: ...

        def prepare(self, routes: tuple[Route, ...], no_route: tuple[str, ...]) -> None:
            prepared.append(([route.name for route in routes], no_route))

        def score(self, _question: Question, _in_time: object) -> Scores:
            return Scores({}, 0.0, None)

    monkeypatch.setattr(deployment, "EmbeddingEngine", Preparing)
    monkeypatch.setattr(watching, "SETTLED_S", 0.001)
    orchestrator = make("}\nno_route_examples: [hello, bye]\nlimits: {")
    assert prepared == [(["code", "poems"], ("hello", "bye"))]
    file = tmp_path / "gateway.yaml"
    file.write_text(file.read_text("utf-8").replace("[hello, bye]", "[thanks]"), "utf-8")
    assert orchestrator._watch.look()
    await scored(orchestrator, "anything")  # after all that was queued before it
    assert prepared[1:] == [(["code", "poems"], ("thanks",))]


def test_invalid_configuration_fails_replica(tmp_path: Path) -> None:
    """An invalid configuration raises ConfigError, because a retry cannot fix it, and leaves no
    thread running.
    """
    file = tmp_path / "gateway.yaml"
    file.write_text(V + "zzz: 1\n", "utf-8")
    with pytest.raises(ConfigError):
        Orchestrator(str(file))
    gc.collect()
    assert retrying() == []


class Inner:
    """An orchestrator that returns the same scores for every question once its gate is open."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()

    async def score(self, question: Question) -> Scores | Unavailable:
        await self.gate.wait()
        return Scores({"code": 0.9}, 0.1, "code")


def sizes(thing: object) -> dict[str, int]:
    """The sizes of the non-empty containers among an object's attributes."""
    held = {name: len(value) for name, value in vars(thing).items() if isinstance(value, Sized)}
    return {name: size for name, size in held.items() if size}


async def test_guard_stays_bounded_after_many_conversations() -> None:
    """After a hundred thousand conversations, the guard's cache and its pending questions are
    within their bounds.
    """
    inner = Inner()
    guard = Guard(inner, deadline_s=3600.0, clock=FakeClock())
    tasks = [
        asyncio.create_task(guard.score(question(f"at once {number}"))) for number in range(2000)
    ]
    await asyncio.sleep(0)
    assert sizes(guard)["_flights"] == MAX_FLIGHTS
    inner.gate.set()
    results = await asyncio.gather(*tasks)
    assert sum(isinstance(one, Scores) for one in results) == MAX_FLIGHTS
    assert sizes(guard) == {"_cache": MAX_FLIGHTS}
    for number in range(CONVERSATIONS):
        await guard.score(question(str(number)))
    assert sizes(guard) == {"_cache": CACHE_ENTRIES}
    assert guard.asked == MAX_FLIGHTS + CONVERSATIONS


def test_scorer_stays_bounded_after_many_routes() -> None:
    """After thousands of inline routes, the scorer's texts and rows are within their bounds."""

    def embed(text: str) -> Vector:
        vector = np.zeros(8, np.float32)
        vector[len(text) % 8] = 1.0
        return vector

    scorer = EmbeddingScorer(embed, min_confidence=0.1)
    for number in range(3500):
        route = Route(f"r{number}", f"a{number}, b{number}", (), examples=(f"c{number}",))
        scorer.score(embed("Hello"), (route,))
    assert sizes(scorer) == {"_texts": MAX_TEXTS, "_sets": MAX_ROWS // 5}
    assert MAX_ROWS - 5 < scorer._rows <= MAX_ROWS
