"""The orchestrator's deployment without Serve: its engine, its faults, and what it keeps."""

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
"""To be closed; a busy machine is no reason for a timeout."""

CONVERSATIONS: Final = 100_000

Make = Callable[[str], Orchestrator]


def question(text: str, key: str = "v1") -> Question:
    return Question((Turn("user", text),), ROUTES, key)


def retrying() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "engine-retry"]


def end(orchestrator: Orchestrator) -> None:
    """As Serve ends a replica; its threads are gone when this returns."""
    orchestrator.__del__()
    for thread in retrying():
        thread.join(10)
    assert retrying() == []


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Makes the orchestrator of a configuration with this in its ``orchestrator`` section."""
    made: list[Orchestrator] = []

    def run(section: str) -> Orchestrator:
        file = tmp_path / "gateway.yaml"
        file.write_text(f"{TEXT}{section}}}\n", "utf-8")
        made.append(Orchestrator(str(file)))
        return made[-1]

    yield run
    for orchestrator in made:
        end(orchestrator)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Orchestrator:
    """One with the default model, for all tests that do it no harm."""
    file = tmp_path_factory.mktemp("orchestrator") / "gateway.yaml"
    file.write_text(TEXT + "}\n", "utf-8")
    return Orchestrator(str(file))


async def scored(orchestrator: Orchestrator, text: str) -> Scores:
    said = await orchestrator.score(question(text))
    assert isinstance(said, Scores)
    return said


async def down(orchestrator: Orchestrator) -> str:
    """Why there are no scores."""
    said = await orchestrator.score(question("Hello"))
    assert isinstance(said, Unavailable)
    assert said.reason is Reason.ORCHESTRATOR_ERROR
    return said.detail


@pytest.mark.parametrize(
    ("text", "winner"),
    [("Write a Python function", "code"), ("Write a sonnet about autumn", "poems")],
)
async def test_routes_are_scored(text: str, winner: str, running: Orchestrator) -> None:
    """By the engine of the configuration, which needs no thread that tries again."""
    said = await scored(running, text)
    assert (said.winner, list(said.routes)) == (winner, ["code", "poems"])
    assert not said.cached
    assert retrying() == []


async def test_other_routes_than_the_configured_ones_are_scored(running: Orchestrator) -> None:
    """Those that a request brings along."""
    routes = (Route("sea", "ships and sailors", ()), Route("hills", "hikes and huts", ()))
    said = await running.score(Question((Turn("user", "Which boat sails fastest?"),), routes, "x"))
    assert isinstance(said, Scores)
    assert said.winner == "sea"


async def test_forty_equal_questions_at_once_are_one_decision(running: Orchestrator) -> None:
    """Whoever asks; each different one is one more, and a remembered one is none."""
    before = await running.decisions()
    said = await asyncio.gather(*[running.score(question("forty")) for _ in range(40)])
    assert len(set(map(id, said))) == 1
    assert await running.decisions() == before + 1
    assert (await scored(running, "forty")).cached
    assert await running.decisions() == before + 1
    await asyncio.gather(*[running.score(question(f"forty {number}")) for number in range(5)])
    assert await running.decisions() == before + 6


async def test_a_model_that_is_not_there_fails_no_replica(tmp_path: Path, make: Make) -> None:
    """Questions are answered with the path and the key of the configuration that names it."""
    orchestrator = make(", model: own.onnx")
    assert await down(orchestrator) == (
        f"the embedded engine is unavailable: there is no file {tmp_path}/own.onnx; see orchestrator.model"
    )
    assert await orchestrator.decisions() == 0


async def test_a_file_that_is_no_model_fails_no_replica(tmp_path: Path, make: Make) -> None:
    """The path, and what onnxruntime says of it."""
    (tmp_path / "own.onnx").write_bytes(b"hello")
    start = (
        f"the embedded engine is unavailable: {tmp_path}/own.onnx is no ONNX model that runs here: "
    )
    assert (await down(make(", model: own.onnx"))).startswith(start)


async def test_whatever_an_engine_raises_fails_no_replica(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error that nobody expected is told with its kind."""

    def broken(_settings: object) -> None:
        raise MemoryError("too much")

    monkeypatch.setattr(deployment, "EmbeddingEngine", broken)
    assert await down(make("")) == "the embedded engine is unavailable: MemoryError: too much"


async def test_an_engine_comes_back(
    tmp_path: Path,
    make: Make,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A thread tries again, tells of a fault once, and ends when the engine is there."""
    monkeypatch.setattr(deployment, "FIRST_RETRY_S", 0.05)
    monkeypatch.setattr(deployment, "LONGEST_RETRY_S", 0.1)
    orchestrator = make(", model: own.onnx")
    assert "there is no file" in await down(orchestrator)
    await asyncio.sleep(0.4)  # several tries
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    found = find_spec(PACKAGE)
    assert found is not None
    assert found.origin is not None
    copyfile(Path(found.origin).parent / "model.onnx", tmp_path / "whole.onnx")
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
def test_pauses_between_tries_grow(
    first_s: float,
    longest_s: float,
    pauses: list[float],
    make: Make,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Twice as long each time, up to the longest; a replica that ends tries no more."""
    monkeypatch.setattr(deployment, "FIRST_RETRY_S", first_s)
    monkeypatch.setattr(deployment, "LONGEST_RETRY_S", longest_s)
    orchestrator = make(", model: own.onnx")
    end(orchestrator)
    waited = Waits(len(pauses))
    monkeypatch.setattr(orchestrator, "_closing", waited)
    orchestrator._retry()
    assert waited.pauses == [*pauses, longest_s]


class Waits:
    """An event that is set after so many waits, none of which takes any time."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.pauses: list[float] = []

    def wait(self, pause_s: float) -> bool:
        self.pauses.append(pause_s)
        return len(self.pauses) > self.count

    def set(self) -> None:
        pass


def test_a_configuration_that_can_not_be_used_is_an_error(tmp_path: Path) -> None:
    """Serve's own: no other try could mend it. Nothing is left behind that fails later."""
    file = tmp_path / "gateway.yaml"
    file.write_text(V + "zzz: 1\n", "utf-8")
    with pytest.raises(ConfigError):
        Orchestrator(str(file))
    gc.collect()
    assert retrying() == []


class Inner:
    """Scores everything alike, once its gate is open."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()

    async def score(self, question: Question) -> Scores | Unavailable:
        await self.gate.wait()
        return Scores({"code": 0.9}, 0.1, "code")


def sizes(thing: object) -> dict[str, int]:
    """How much each container that belongs to an object holds, where it holds anything."""
    held = {name: len(value) for name, value in vars(thing).items() if isinstance(value, Sized)}
    return {name: size for name, size in held.items() if size}


async def test_a_hundred_thousand_conversations_leave_a_bounded_guard() -> None:
    """As many scores as it may remember; of what is under way never more than its bound."""
    inner = Inner()
    guard = Guard(inner, deadline_s=3600.0, clock=FakeClock())
    tasks = [
        asyncio.create_task(guard.score(question(f"at once {number}"))) for number in range(2000)
    ]
    await asyncio.sleep(0)
    assert sizes(guard)["_flights"] == MAX_FLIGHTS
    inner.gate.set()
    said = await asyncio.gather(*tasks)
    assert sum(isinstance(one, Scores) for one in said) == MAX_FLIGHTS
    assert sizes(guard) == {"_cache": MAX_FLIGHTS}
    for number in range(CONVERSATIONS):
        await guard.score(question(str(number)))
    assert sizes(guard) == {"_cache": CACHE_ENTRIES}
    assert guard.asked == MAX_FLIGHTS + CONVERSATIONS


def test_thousands_of_routes_leave_a_bounded_scorer() -> None:
    """As many texts and rows as it may keep, whatever requests bring along."""

    def embed(text: str) -> Vector:
        vector = np.zeros(8, np.float32)
        vector[len(text) % 8] = 1.0
        return vector

    scorer = EmbeddingScorer(embed, min_confidence=0.1, archetypes=())
    for number in range(3500):
        route = Route(f"r{number}", f"a{number}, b{number}", (), examples=(f"c{number}",))
        scorer.score("Hello", (route,))
    assert sizes(scorer) == {"_texts": MAX_TEXTS, "_sets": MAX_ROWS // 5}
    assert MAX_ROWS - 5 < scorer._rows <= MAX_ROWS
