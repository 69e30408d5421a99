"""The embedded engine with an encoder in a folder, and with a second look at close calls."""

from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import pytest

from serve_app.config.schema.orchestrator import OrchestratorSection
from serve_app.domain import Question, Route, Scores, Turn
from serve_app.engines.embedding.encoder import FolderEncoder
from serve_app.engines.embedding.engine import (
    EmbeddingEngine,
    EmbeddingModel,
    EmbeddingSettings,
    open_model,
)
from serve_app.engines.embedding.reranker import RerankerFaultError
from tests.unit.engines.embedding.encoders import (
    BERT,
    write_cross_encoder,
    write_encoder,
    write_json,
)

ROUTES: Final = (Route("code", "code", ()), Route("poems", "poems", ()), Route("talk", "talk", ()))


@pytest.fixture
def settings(tmp_path: Path) -> EmbeddingSettings:
    """Any decision is a close call."""
    return EmbeddingSettings(
        model=write_encoder(BERT, tmp_path / "encoder"),
        max_query_tokens=16,
        min_confidence=0.0,
        reranker=write_cross_encoder(BERT, tmp_path / "reranker"),
        reranker_below=1.0,
    )


def question(text: str = "red", within_s: float | None = None) -> Question:
    return Question((Turn("user", text),), ROUTES, "key", within_s)


def scores_of(settings: EmbeddingSettings, asked: Question) -> Scores:
    scores = EmbeddingEngine(settings).score(asked, lambda: True)
    assert isinstance(scores, Scores)
    return scores


def test_folder_is_an_encoder(settings: EmbeddingSettings) -> None:
    """So is a graph beside a tokenizer; a graph alone is used as it always was."""
    assert settings.model is not None
    assert isinstance(open_model(settings), FolderEncoder)
    file = settings.model / "model.onnx"
    named = open_model(replace(settings, model=file))
    assert np.array_equal(named.embed("red"), open_model(settings).embed("red"))
    (settings.model / "tokenizer.json").unlink()
    assert isinstance(open_model(replace(settings, model=file)), EmbeddingModel)


def test_examples_are_embedded_as_queries(settings: EmbeddingSettings, tmp_path: Path) -> None:
    """An example that is what the user says is as near as can be, whatever the prefixes."""
    write_json(
        tmp_path / "encoder/config_sentence_transformers.json",
        {"prompts": {"query": "query: ", "passage": "passage: blue"}},
    )
    engine = EmbeddingEngine(replace(settings, reranker=None))
    example = engine.embed_example("red green")
    assert np.allclose(engine.model.embed_turns((Turn("user", "red green"),)), example)
    assert not np.allclose(engine.model.embed("red green"), example, atol=1e-3)
    taught = (replace(ROUTES[2], examples=("red green",)), *ROUTES[:2])
    engine.prepare(taught)
    ((_, vector),) = [item for item in engine.scorer._texts.items() if item[0][1]]
    assert np.array_equal(vector, example)


def test_second_look_prefers_the_route_that_the_reranker_prefers(
    settings: EmbeddingSettings,
) -> None:
    """Here it is always ``code``: what the user says is not counted."""
    first = scores_of(replace(settings, reranker=None), question())
    second = scores_of(settings, question())
    assert max(second.routes, key=lambda name: second.routes[name]) == "code"
    assert second.routes["code"] > first.routes["code"]
    assert second.routes["poems"] < first.routes["poems"]
    assert list(second.routes) == list(first.routes)
    assert second.required_margin == first.required_margin


def test_clear_decision_stands(settings: EmbeddingSettings) -> None:
    """The limit is a setting."""
    clear = replace(settings, reranker_below=0.01)
    first = scores_of(replace(settings, reranker=None), question())
    assert scores_of(clear, question()) == first


@pytest.mark.parametrize(("within_s", "is_looked"), [(60.0, True), (1e-9, False)])
def test_second_look_keeps_the_deadline(
    within_s: float, *, is_looked: bool, settings: EmbeddingSettings
) -> None:
    """Without enough time the first look stands."""
    first = scores_of(replace(settings, reranker=None), question())
    assert (scores_of(settings, question(within_s=within_s)) != first) is is_looked


def test_faulty_reranker_is_a_fault_of_its_own(settings: EmbeddingSettings) -> None:
    """The engine can be made without it."""
    assert settings.reranker is not None
    (settings.reranker / "tokenizer.json").unlink()
    with pytest.raises(RerankerFaultError, match=r"has no tokenizer\.json"):
        EmbeddingEngine(settings)


def test_section_has_the_settings_of_encoders() -> None:
    """Another engine's stand-in has none of them."""
    section = OrchestratorSection(
        model="/e", query_prefix="q: ", passage_prefix="", reranker="/r", reranker_below=0.3
    )
    assert EmbeddingSettings.from_section(section) == EmbeddingSettings(
        Path("/e"), query_prefix="q: ", passage_prefix="", reranker=Path("/r"), reranker_below=0.3
    )
    other = OrchestratorSection(engine="vllm", model="/v", reranker="/r")
    assert EmbeddingSettings.from_section(other).reranker is None
