"""The orchestrator with a language model, and the embedded engine as its fallback."""

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
from serve_app.engines.embedding.engine import EmbeddingEngine, EmbeddingSettings
from serve_app.engines.http import HttpEngine
from serve_app.engines.vllm.settings import VllmSettings
from serve_app.scoring.excerpt import recent
from serve_app.scoring.prompt import FAMILIES
from tests.unit.config.broken import V

ROUTES: Final = (
    Route("code", "writing, explaining and debugging code", ()),
    Route("poems", "poems, song lyrics and rhymes", ()),
)
SCORES: Final = Scores({"code": 0.7, "poems": 0.2}, 0.12, "code", doubt=0.1)
STARTING: Final = Unavailable(Reason.ORCHESTRATOR_BUSY, "the engine is starting; retry")
VLLM: Final = "engine: vllm, model: m"

Make = Callable[[str], Orchestrator]


class FakeVllm:
    """An engine that returns the result that a test sets."""

    made: "list[FakeVllm]" = []  # noqa: RUF012 - reset by the fixture

    def __init__(self, settings: VllmSettings, **others: Any) -> None:
        self.settings = settings
        self.others = others
        self.result: Scores | Unavailable = SCORES
        self.takes_s = 0.0
        self.questions: list[Question] = []
        self.closed = 0
        self.made.append(self)

    async def score(self, question: Question) -> Scores | Unavailable:
        self.questions.append(question)
        await asyncio.sleep(self.takes_s)
        return self.result

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Builds an orchestrator with this ``orchestrator`` section."""
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


async def test_orchestrator_builds_configured_engine(make: Make, tmp_path: Path) -> None:
    """The engine gets its settings and less than the deadline, so that the fallback has time to
    answer.
    """
    orchestrator = make(f"{VLLM}, max_num_seqs: 7, device: cuda")
    (engine,) = FakeVllm.made
    model = str(tmp_path / "m")
    expected = VllmSettings(model, FAMILIES["generic"], device="cuda", max_num_seqs=7)
    assert engine.settings == expected
    assert engine.others == {"routes": (), "deadline_s": 0.4, "gpu_share": 1.0}
    assert await orchestrator.score(question("Write a poem")) == replace(SCORES, tier="vllm")
    assert await orchestrator.decisions() == 1
    orchestrator.__del__()
    assert engine.closed == 1


async def test_embedded_engine_stands_in(make: Make) -> None:
    """While the language model is unavailable, the embedded engine answers with the reason, and its
    scores are not cached.
    """
    orchestrator = make(VLLM)
    (engine,) = FakeVllm.made
    engine.result = STARTING
    talk = question("Write a rhyme", Turn("user", "Hi"), Turn("assistant", "code " * 99))
    own = EmbeddingEngine(EmbeddingSettings())
    expected = own.score(replace(talk, turns=recent(talk.turns)), lambda: True)
    assert isinstance(expected, Scores)
    scores = await orchestrator.score(talk)
    assert isinstance(scores, Scores)
    assert (scores.routes, scores.none, scores.winner) == (
        expected.routes,
        expected.none,
        expected.winner,
    )
    assert (scores.stand_in, scores.threshold) == (STARTING.detail, expected.threshold)
    engine.result = SCORES
    assert await orchestrator.score(talk) == replace(SCORES, tier="vllm")
    assert engine.questions == [talk, talk]


async def test_embedded_engine_reads_the_excerpt(make: Make) -> None:
    """A language model gets the whole conversation; the fallback gets its last turn if that has
    enough words, so that its own scores for that turn are cached ones.
    """
    orchestrator = make(VLLM)
    FakeVllm.made[0].result = STARTING
    text = "Write a short poem with rhymes about the sea, the wind and the moon"
    scores = []
    for before in ((), (Turn("user", "Debug this"), Turn("assistant", "code " * 99))):
        talk = question(text, *before)
        assert len(recent(talk.turns)) == 1
        scores.append(await orchestrator.score(talk))
    assert isinstance(scores[0], Scores)
    assert scores[1] == replace(scores[0], cached=True, usage=None)


async def test_fallback_uses_its_own_thresholds(make: Make) -> None:
    """The fallback uses its own thresholds, because the configured ones apply to the model's
    probabilities.
    """
    orchestrator = make(f"{VLLM}, min_confidence: 0.9, min_margin: 0.5")
    FakeVllm.made[0].result = STARTING
    scores = await orchestrator.score(question("Write a rhyme"))
    assert isinstance(scores, Scores)
    assert (scores.winner, scores.threshold, scores.required_margin) == ("poems", 0.2, 0.0)


async def test_fallback_none_returns_engine_result(make: Make) -> None:
    """With `fallback: none`, the engine's own result is returned."""
    orchestrator = make(f"{VLLM}, fallback: none")
    FakeVllm.made[0].result = STARTING
    assert await orchestrator.score(question("Hello")) == STARTING


async def test_failed_fallback_is_reported_with_engine_fault(
    make: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """If the fallback fails too, the result names both faults, and the second one is logged."""

    def broken(_settings: object) -> None:
        raise MemoryError("too much")

    monkeypatch.setattr(deployment, "EmbeddingEngine", broken)
    orchestrator = make(VLLM)
    FakeVllm.made[0].result = STARTING
    both = f"{STARTING.detail}; the embedded engine is unavailable: MemoryError: too much"
    assert await orchestrator.score(question("Hello")) == replace(STARTING, detail=both)
    assert [r.levelno for r in caplog.records if "too much" in r.message] == [logging.WARNING]


async def test_fallback_gets_rest_of_deadline(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fallback gets most of the deadline if the engine fails at once, and little if the engine
    times out.
    """
    budgets: list[float] = []

    class Patient:
        def __init__(self, _settings: object) -> None: ...

        def prepare(self, _routes: object, _no_route: object) -> None: ...

        def score(self, question: Question, in_time: Callable[[], bool]) -> Scores:
            assert in_time()
            assert question.within_s is not None
            budgets.append(question.within_s)
            return SCORES

    monkeypatch.setattr(deployment, "EmbeddingEngine", Patient)
    orchestrator = make(f"{VLLM}, deadline_ms: 1000")
    (engine,) = FakeVllm.made
    engine.result = STARTING
    instead = replace(SCORES, stand_in=STARTING.detail, tier="embedding")
    assert await orchestrator.score(question("Hello")) == instead
    engine.takes_s = 2.0
    scores = await orchestrator.score(question("Hello again"))
    assert isinstance(scores, Scores)
    assert scores.stand_in == "timed out after 800 ms"
    at_once, late = budgets
    assert 0.6 < at_once <= 0.8
    assert 0 < late <= 0.16


async def test_failing_engine_is_skipped_after_five_failures(make: Make) -> None:
    """After five failures the engine is skipped for a while, and the fallback answers at once."""
    orchestrator = make(VLLM)
    (engine,) = FakeVllm.made
    engine.result = Unavailable(Reason.ORCHESTRATOR_TIMEOUT, "no answer")
    for number in range(8):
        scores = await orchestrator.score(question(f"Write a rhyme {number}"))
        assert isinstance(scores, Scores)
        assert scores.stand_in
    assert len(engine.questions) == 5


async def test_http_engine_falls_back_if_unreachable(make: Make) -> None:
    """The http engine gets its settings, and the fallback answers if its server is unreachable."""
    section = "engine: http, model: a, base_url: 'http://127.0.0.1:9', deadline_ms: 2000"
    orchestrator = make(f"{section}, family: arch-router, max_model_len: 1024")
    assert orchestrator._first is not None
    engine = orchestrator._first._inner
    assert isinstance(engine, HttpEngine)
    assert (engine._settings.deadline_s, engine._settings.budget_tokens) == (1.6, 1024)
    assert engine._settings.family == "arch-router"
    scores = await orchestrator.score(question("Write a rhyme"))
    await engine.close()
    assert isinstance(scores, Scores)
    assert "cannot connect to" in scores.stand_in
