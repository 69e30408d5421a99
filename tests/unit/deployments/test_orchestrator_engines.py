"""The orchestrator with a language model, and the embedded engine in its place."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from deployments import orchestrator as deployment
from deployments.orchestrator import Orchestrator
from serve_app.domain import Question, Reason, Route, Scores, Turn, Unavailable
from serve_app.engines.http import HttpEngine
from serve_app.engines.vllm.settings import VllmSettings
from serve_app.scoring.prompt import FAMILIES
from tests.unit.config.broken import V

ROUTES: Final = (
    Route("code", "writing, explaining and debugging code", ()),
    Route("poems", "poems, song lyrics and rhymes", ()),
)
SCORES: Final = Scores({"code": 0.7, "poems": 0.2}, 0.12, "code", doubt=0.1)
STARTING: Final = Unavailable(Reason.ORCHESTRATOR_BUSY, "the engine is starting; ask again")
VLLM: Final = "engine: vllm, model: m"

Make = Callable[[str], Orchestrator]


class FakeVllm:
    """An engine that says what it is told to."""

    made: "list[FakeVllm]" = []  # noqa: RUF012 - of the test

    def __init__(self, settings: VllmSettings, **others: Any) -> None:
        self.settings = settings
        self.others = others
        self.said: Scores | Unavailable = SCORES
        self.takes_s = 0.0
        self.asked: list[Question] = []
        self.closed = 0
        self.made.append(self)

    async def score(self, question: Question) -> Scores | Unavailable:
        self.asked.append(question)
        await asyncio.sleep(self.takes_s)
        return self.said

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Makes the orchestrator of a configuration with this as its ``orchestrator`` section."""
    monkeypatch.setattr(deployment, "VllmEngine", FakeVllm)
    monkeypatch.setattr(FakeVllm, "made", [])
    made: list[Orchestrator] = []

    def run(section: str) -> Orchestrator:
        file = tmp_path / "gateway.yaml"
        file.write_text(f"{V}orchestrator: {{{section}}}\n", "utf-8")
        made.append(Orchestrator(str(file)))
        return made[-1]

    yield run
    for orchestrator in made:
        orchestrator.__del__()


def question(text: str, *before: Turn) -> Question:
    return Question((*before, Turn("user", text)), ROUTES, "v1")


async def test_the_configuration_makes_the_engine(make: Make, tmp_path: Path) -> None:
    """With its settings, and less than the deadline, so that there is time to stand in."""
    orchestrator = make(f"{VLLM}, max_num_seqs: 7, device: cuda")
    (engine,) = FakeVllm.made
    model = str(tmp_path / "m")
    expected = VllmSettings(model, FAMILIES["generic"], device="cuda", max_num_seqs=7)
    assert engine.settings == expected
    assert engine.others == {"routes": (), "deadline_s": 0.4, "gpu_share": 1.0}
    assert await orchestrator.score(question("Write a poem")) == SCORES
    assert await orchestrator.decisions() == 1
    orchestrator.__del__()
    assert engine.closed == 1


async def test_the_embedded_engine_stands_in(make: Make) -> None:
    """It says why, and nothing that it says is remembered for longer than it stands in."""
    orchestrator = make(VLLM)
    (engine,) = FakeVllm.made
    engine.said = STARTING
    talk = question("Write a rhyme", Turn("user", "Hi"), Turn("assistant", "code " * 99))
    said = await orchestrator.score(talk)
    assert isinstance(said, Scores)
    assert (said.winner, said.stand_in, said.threshold) == ("poems", STARTING.detail, 0.12)
    engine.said = SCORES
    assert await orchestrator.score(talk) == SCORES
    assert engine.asked == [talk, talk]


async def test_the_stand_in_has_thresholds_of_its_own(make: Make) -> None:
    """Those of the configuration are for the model's probabilities."""
    orchestrator = make(f"{VLLM}, min_confidence: 0.9, min_margin: 0.5")
    FakeVllm.made[0].said = STARTING
    said = await orchestrator.score(question("Write a rhyme"))
    assert isinstance(said, Scores)
    assert (said.winner, said.threshold, said.required_margin) == ("poems", 0.12, 0.0)


async def test_nothing_stands_in_where_the_configuration_says_so(make: Make) -> None:
    """The engine's own words are the answer."""
    orchestrator = make(f"{VLLM}, fallback: none")
    FakeVllm.made[0].said = STARTING
    assert await orchestrator.score(question("Hello")) == STARTING


async def test_a_stand_in_with_a_fault_is_none(
    make: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What the engine said holds, with the other fault, which is in the log as well."""

    def broken(_settings: object) -> None:
        raise MemoryError("too much")

    monkeypatch.setattr(deployment, "EmbeddingEngine", broken)
    orchestrator = make(VLLM)
    FakeVllm.made[0].said = STARTING
    both = f"{STARTING.detail}; the embedded engine is unavailable: MemoryError: too much"
    assert await orchestrator.score(question("Hello")) == replace(STARTING, detail=both)
    assert [r.levelno for r in caplog.records if "too much" in r.message] == [logging.WARNING]


async def test_the_stand_in_has_what_is_left_of_the_deadline(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nearly all of it where the engine was away, and little where it used up its time."""
    given: list[float] = []

    class Patient:
        def __init__(self, _settings: object) -> None: ...

        def prepare(self, _routes: object) -> None: ...

        def score(self, asked: Question, in_time: Callable[[], bool]) -> Scores:
            assert in_time()
            assert asked.within_s is not None
            given.append(asked.within_s)
            return SCORES

    monkeypatch.setattr(deployment, "EmbeddingEngine", Patient)
    orchestrator = make(f"{VLLM}, deadline_ms: 1000")
    (engine,) = FakeVllm.made
    engine.said = STARTING
    assert await orchestrator.score(question("Hello")) == replace(SCORES, stand_in=STARTING.detail)
    engine.takes_s = 2.0
    said = await orchestrator.score(question("Hello again"))
    assert isinstance(said, Scores)
    assert said.stand_in == "timed out after 800 ms"
    at_once, late = given
    assert 0.6 < at_once <= 0.8
    assert 0 < late <= 0.16


async def test_an_engine_that_fails_again_and_again_is_left_alone(make: Make) -> None:
    """For a while; the embedded one answers at once."""
    orchestrator = make(VLLM)
    (engine,) = FakeVllm.made
    engine.said = Unavailable(Reason.ORCHESTRATOR_TIMEOUT, "no answer")
    for number in range(8):
        said = await orchestrator.score(question(f"Write a rhyme {number}"))
        assert isinstance(said, Scores)
        assert said.stand_in
    assert len(engine.asked) == 5


async def test_a_server_may_decide(make: Make) -> None:
    """The engine http; here nobody listens, so the embedded one answers."""
    section = "engine: http, model: a, base_url: 'http://127.0.0.1:9', deadline_ms: 2000"
    orchestrator = make(f"{section}, family: arch-router, max_model_len: 1024")
    assert orchestrator._first is not None
    engine = orchestrator._first._inner
    assert isinstance(engine, HttpEngine)
    assert (engine._settings.deadline_s, engine._settings.budget_tokens) == (1.6, 1024)
    assert engine._settings.family == "arch-router"
    said = await orchestrator.score(question("Write a rhyme"))
    await engine.close()
    assert isinstance(said, Scores)
    assert "cannot connect to" in said.stand_in
