"""The orchestrator with a calibration: every decision is that of its rule."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from deployments import orchestrator as deployment
from deployments.orchestrator import Orchestrator
from serve_app.domain import Question, Reason, Route, Scores, Turn, Unavailable
from serve_app.engines import threshold
from serve_app.engines.vllm.settings import VllmSettings
from tests.unit.config.broken import V
from tests.unit.config.calibrations import point, write_calibration_file

ROUTES: Final = (
    Route("code", "writing, explaining and debugging code", ()),
    Route("poems", "poems, song lyrics and rhymes", ()),
)
QUESTION: Final = Question((Turn("user", "Write a sonnet about autumn"),), ROUTES, "v1")
SCORES: Final = Scores({"code": 0.6, "poems": 0.1}, 0.3, "code", none=0.3)
VLLM: Final = "engine: vllm, model: m, calibration: calibration.json"

Make = Callable[[str], Orchestrator]


class OneAnswer:
    """A language model that always answers the same, or is always busy."""

    result: Scores | Unavailable = SCORES
    settings: list[VllmSettings] = []  # noqa: RUF012 - reset by the fixture

    def __init__(self, settings: VllmSettings, **others: Any) -> None:
        self.settings.append(settings)

    async def score(self, question: Question) -> Scores | Unavailable:
        return self.result

    def close(self) -> None:
        """Nothing is open."""


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Builds an orchestrator with this ``orchestrator`` section, beside its calibration."""
    monkeypatch.setattr(deployment, "VllmEngine", OneAnswer)
    monkeypatch.setattr(OneAnswer, "result", SCORES)
    monkeypatch.setattr(OneAnswer, "settings", [])
    made: list[Orchestrator] = []

    def run(section: str) -> Orchestrator:
        file = tmp_path / "gateway.yaml"
        file.write_text(f"{V}orchestrator: {{deadline_ms: 30000, {section}}}\n", "utf-8")
        made.append(Orchestrator(str(file)))
        return made[-1]

    yield run
    for orchestrator in made:
        orchestrator.__del__()


async def scores_of(orchestrator: Orchestrator) -> Scores:
    scores = await orchestrator.score(QUESTION)
    assert isinstance(scores, Scores)
    return scores


async def test_scores_of_the_language_model_are_corrected(make: Make, tmp_path: Path) -> None:
    """A shift of no route turns its decision away; cached scores are corrected once."""
    write_calibration_file(tmp_path, engine="vllm", model="m", none_shift=2.0)
    orchestrator = make(VLLM)
    first, second = await scores_of(orchestrator), await scores_of(orchestrator)
    assert first.winner is None
    assert first.none == pytest.approx(0.76, abs=0.01)
    assert (second.cached, second.routes) == (True, first.routes)
    assert OneAnswer.settings[0].mode == "trie"


async def test_scores_of_the_embedded_engine_are_corrected(make: Make, tmp_path: Path) -> None:
    """Of equal probabilities none wins, however sure the engine was."""
    write_calibration_file(tmp_path, temperature=20.0, none_shift=20.0)
    scores = await scores_of(make("calibration: calibration.json"))
    assert scores.winner is None
    assert scores.none == pytest.approx(1.0, abs=1e-6)


async def test_threshold_for_a_wanted_error_decides(make: Make, tmp_path: Path) -> None:
    """0.4 lets the decision through, and 0.8 does not."""
    write_calibration_file(tmp_path, engine="vllm", model="m")
    assert (await scores_of(make(f"{VLLM}, max_error: 0.1"))).winner == "code"
    strict = await scores_of(make(f"{VLLM}, max_error: 0.05"))
    assert (strict.winner, strict.threshold) == (None, 0.8)


async def test_stand_in_keeps_the_wanted_error_by_its_own_curve(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The calibration of the language model does not apply to it."""
    (tmp_path / "packaged").mkdir()
    curve = [point(0.0, 1000, 900), point(1.0, 500, 5)]
    packaged = write_calibration_file(tmp_path / "packaged", curve=curve, temperature=20.0)
    monkeypatch.setattr(threshold, "ERROR_CURVE", packaged)
    write_calibration_file(tmp_path, engine="vllm", model="m", none_shift=20.0)
    OneAnswer.result = Unavailable(Reason.ORCHESTRATOR_BUSY, "starting")
    plain = await scores_of(make(VLLM))
    strict = await scores_of(make(f"{VLLM}, max_error: 0.1"))
    assert (plain.stand_in, strict.stand_in) == ("starting", "starting")
    assert plain.routes != strict.routes
    assert max(strict.routes.values()) < 1
    assert (plain.threshold < 1, strict.threshold, strict.winner) == (True, 1.0, None)
