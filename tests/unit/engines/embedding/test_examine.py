"""What ``fingerpost check`` says of the embedded engine's models."""

from pathlib import Path

import pytest

from serve_app.cli.summary import snapshot_warnings, summary
from serve_app.config.schema.orchestrator import OrchestratorSection
from serve_app.engines.embedding.examine import NOTHING_FOUND, examine
from tests.unit.config_texts import VERSION
from tests.unit.engines.embedding.encoders import BERT, write_cross_encoder, write_encoder
from tests.unit.fakes import snapshot_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_encoder(BERT, tmp_path / "encoder")
    write_cross_encoder(BERT, tmp_path / "reranker")
    return tmp_path


def section_of(folder: Path, **settings: str) -> OrchestratorSection:
    return OrchestratorSection.model_validate(
        {"model": str(folder / "encoder"), "max_query_tokens": 16, **settings}
    )


def test_models_are_described(folder: Path) -> None:
    """With a note that the confidence of the model was not measured."""
    warnings, facts = examine(section_of(folder, reranker=str(folder / "reranker")))
    assert warnings == ()
    encoder, note, reranker = facts
    assert encoder == (
        f"encoder {folder}/encoder: bert, model.onnx, mean over the tokens because no "
        "1_Pooling/config.json says otherwise, 4 dimensions, 16 tokens"
    )
    assert note == (
        f"note: orchestrator.model {folder}/encoder: its confidence was not measured; run "
        "`fingerpost eval SET --calibrate` and name the file in orchestrator.calibration"
    )
    assert reranker.startswith(f"reranker {folder}/reranker: bert, model.onnx; a second look takes")


def test_calibrated_model_has_no_note(folder: Path) -> None:
    """Its probabilities were measured."""
    facts = examine(section_of(folder, calibration="c.json")).facts
    assert [fact.split()[0] for fact in facts] == ["encoder"]


def test_faults_are_warnings(folder: Path) -> None:
    """On the machine of the engine the folder may be another one."""
    (folder / "encoder/tokenizer.json").unlink()
    (folder / "reranker/tokenizer.json").unlink()
    warnings, facts = examine(section_of(folder, reranker=str(folder / "reranker")))
    missing = "has no tokenizer.json and no vocab.txt; copy the model's own into it"
    assert warnings == (
        f"orchestrator.model, on this machine: {folder}/encoder {missing}",
        f"orchestrator.reranker, on this machine: {folder}/reranker {missing}",
    )
    assert facts == ()


@pytest.mark.parametrize("name", ["none", "x" * 300])
def test_missing_paths_are_left_to_the_configurations_warnings(name: str, folder: Path) -> None:
    """They are not named twice."""
    assert examine(section_of(folder, model=str(folder / name), reranker="/none")) == NOTHING_FOUND


def test_graph_without_a_tokenizer_has_no_prefixes(folder: Path) -> None:
    """Those of the configuration are ignored, with a warning."""
    (folder / "encoder/tokenizer.json").unlink()
    file = folder / "encoder/model.onnx"
    warnings, facts = examine(section_of(folder, model=str(file), query_prefix="q: "))
    assert warnings == (
        f"orchestrator.query_prefix is ignored: there is no tokenizer.json beside {file}; add it",
    )
    assert facts[0] == f"encoder {file}: a graph without a tokenizer.json"


def test_check_shows_facts_and_warnings(folder: Path) -> None:
    """Only for the embedded engine with a model of its own."""
    text = f"{VERSION}orchestrator: {{model: encoder, max_query_tokens: 16, reranker: encoder}}\n"
    snapshot = snapshot_of(folder, text)
    (warning,) = snapshot_warnings(snapshot)
    assert warning.startswith(
        f"orchestrator.reranker, on this machine: {folder}/encoder/model.onnx"
    )
    lines = summary(snapshot)
    assert f"warning: {warning}" in lines
    assert any(line.startswith(f"encoder {folder}/encoder: bert") for line in lines)
    assert any("was not measured" in line for line in lines)
    bundled = snapshot_of(folder, f"{VERSION}orchestrator: {{engine: embedding}}\n")
    assert not any("was not measured" in line for line in summary(bundled))
