"""The digits that identify what the embedded engine runs."""

from pathlib import Path
from typing import Any

import pytest

from serve_app.config.schema.orchestrator import OrchestratorSection
from serve_app.engines.embedding import identity
from serve_app.engines.embedding.identity import engine_hash
from tests.unit.engines.embedding.encoders import BERT, write_cross_encoder, write_encoder


def hashed(**fields: Any) -> str | None:
    return engine_hash(OrchestratorSection.model_validate(fields))


@pytest.fixture
def bundled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in place of the package's, with a bundled model of two files."""
    folder = tmp_path / "bundled"
    folder.mkdir()
    (folder / "minilm.onnx").write_bytes(b"graph")
    (folder / "minilm_readout.json").write_bytes(b"{}")
    monkeypatch.setattr(identity, "FOLDER", folder)
    monkeypatch.setattr(identity, "ERROR_CURVE", folder / "minilm_error_curve.json")
    return folder


def test_bundled_model_is_all_of_its_files(bundled: Path) -> None:
    """Its code and its error curve are not part of it: the curve has the hash inside."""
    before = hashed()
    assert before is not None
    assert (len(before), hashed(threads=4, min_confidence=0.9)) == (16, before)
    for name in ("minilm.py", "minilm_error_curve.json", "engine.py"):
        (bundled / name).write_bytes(b"x")
    assert hashed() == before
    (bundled / "minilm_readout.json").write_bytes(b"{1}")
    assert hashed() not in {None, before}


def test_settings_that_change_probabilities_change_the_hash(bundled: Path, tmp_path: Path) -> None:
    """So does a reranker, and what was tuned."""
    reranker = str(write_cross_encoder(BERT, tmp_path / "reranker"))
    (tmp_path / "tuned.json").write_bytes(b"{}")
    hashes = [
        hashed(),
        hashed(max_query_tokens=128),
        hashed(reranker=reranker),
        hashed(reranker=reranker, reranker_below=0.9),
        hashed(tuned=str(tmp_path / "tuned.json")),
    ]
    assert len({*hashes, None}) == len(hashes) + 1
    assert hashed(reranker_below=0.9) == hashed()


def test_own_model_is_its_file_or_folder(tmp_path: Path) -> None:
    """The path does not matter, but for the weights at its end."""
    for name in ("a.onnx", "b.onnx", "c.onnx"):
        (tmp_path / name).write_bytes(b"other" if name == "c.onnx" else b"same")
    one, two, three = (
        hashed(model=str(tmp_path / name)) for name in ("a.onnx", "b.onnx", "c.onnx")
    )
    assert one == two != three
    folder = write_encoder(BERT, tmp_path / "encoder")
    assert hashed(model=str(folder)) not in {None, one}


def test_missing_file_has_no_hash(tmp_path: Path) -> None:
    """On this machine there may be none; the same holds for a broken folder."""
    (tmp_path / "folder").mkdir()
    assert hashed(model=str(tmp_path / "no.onnx")) is None
    assert hashed(model=str(tmp_path / "folder")) is None


def test_other_engine_has_no_hash() -> None:
    """Its weights are not on this machine, or too large to read for this."""
    assert hashed(engine="vllm", model="/w/router") is None
