"""The orchestrator's deployment with an encoder in a folder and with a reranker."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from deployments.orchestrator import Orchestrator
from serve_app.domain import Question, Route, Scores, Turn
from tests.unit.config.broken import V
from tests.unit.engines.embedding.encoders import BERT, write_cross_encoder, write_encoder

ROUTES: Final = (Route("code", "code", ()), Route("poems", "poems", ()))
TEXT: Final = (
    f"{V}model_providers:\n  - model: openai/a\nrouting_preferences:\n"
    "  - {name: code, description: code, models: [openai/a]}\n"
    "  - {name: poems, description: poems, models: [openai/a]}\n"
    "orchestrator: {deadline_ms: 30000, max_query_tokens: 16, min_confidence: 0.0"
)

Make = Callable[[str], Orchestrator]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Builds an orchestrator whose section has these keys, in a folder with tiny models."""
    write_encoder(BERT, tmp_path / "encoder")
    write_cross_encoder(BERT, tmp_path / "reranker")
    made: list[Orchestrator] = []

    def run(keys: str) -> Orchestrator:
        (tmp_path / "gateway.yaml").write_text(f"{TEXT}{keys}}}\n", "utf-8")
        made.append(Orchestrator(str(tmp_path / "gateway.yaml")))
        return made[-1]

    yield run
    for orchestrator in made:
        orchestrator.__del__()


async def scores_of(orchestrator: Orchestrator) -> Scores:
    scores = await orchestrator.score(Question((Turn("user", "red"),), ROUTES, "key"))
    assert isinstance(scores, Scores)
    return scores


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.levelno == logging.WARNING]


async def test_model_that_was_not_measured_is_logged(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Once, at the start; it decides all the same."""
    orchestrator = make(", model: encoder")
    await scores_of(orchestrator)
    assert warnings(caplog) == [
        (
            f"orchestrator.model {tmp_path}/encoder: its confidence was not measured; run "
            "`fingerpost eval SET --calibrate` and name the file in orchestrator.calibration"
        )
    ]


async def test_bundled_model_was_measured(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is logged about it."""
    make("")
    assert warnings(caplog) == []


async def test_second_look_has_the_time_of_the_deadline(make: Make) -> None:
    """The engine's thread tells the engine how long a request waits."""
    first = await scores_of(make(", model: encoder"))
    looked = await scores_of(make(", model: encoder, reranker: reranker, reranker_below: 1.0"))
    assert looked.routes["code"] > first.routes["code"]
    assert looked.routes["poems"] < first.routes["poems"]


async def test_faulty_reranker_is_left_out(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The engine decides without a second look, and the log says why."""
    (tmp_path / "reranker/model.onnx").unlink()
    first = await scores_of(make(", model: encoder"))
    caplog.clear()
    assert await scores_of(make(", model: encoder, reranker: reranker")) == first
    assert warnings(caplog)[0] == (
        f"second look unavailable until the next start: {tmp_path}/reranker has no model.onnx and "
        "no onnx/model.onnx; export the model to ONNX, or use a folder that has the export"
    )
