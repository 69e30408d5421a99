"""The tokens that the embedding engine's model gets of a conversation."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serve_app.domain import Turn
from serve_app.engines.embedding.engine import (
    PACKAGE,
    VOCABULARY,
    EmbeddingModel,
    EmbeddingSettings,
)


class RecordedSession:
    """A model whose vectors do not matter; it keeps the tokens that it is given."""

    def __init__(self) -> None:
        self.rows: list[list[int]] = []

    def run(self, _outputs: None, feeds: dict[str, Any]) -> list[Any]:
        (row,) = next(iter(feeds.values()))
        self.rows.append(row.tolist())
        return [np.ones((1, 384), np.float32)]


@pytest.fixture(scope="module")
def model() -> EmbeddingModel:
    return EmbeddingModel(EmbeddingSettings())


@pytest.fixture
def session(model: EmbeddingModel, monkeypatch: pytest.MonkeyPatch) -> RecordedSession:
    """Takes the place of the model's session."""
    recorded = RecordedSession()
    monkeypatch.setattr(model, "_session", recorded)
    return recorded


def turns_of(*texts: str) -> tuple[Turn, ...]:
    """Turns of the user; those of the assistant begin with ``>``."""
    return tuple(
        Turn("assistant", text[1:]) if text.startswith(">") else Turn("user", text)
        for text in texts
    )


def test_turn_alone_is_embedded_as_a_text(model: EmbeddingModel) -> None:
    """It is compared as the examples of the routes are."""
    text = "Write a poem about the sea"
    assert np.array_equal(model.embed_turns(turns_of(text)), model.embed(text))


def test_turns_are_parts_of_the_query(model: EmbeddingModel, session: RecordedSession) -> None:
    """The last turn comes first, then the earlier ones together, then the answer, with marks."""
    for text in ("five", "one two three", "four"):
        model.embed(text)
    (first, *five, last), (_, *earlier, _), (_, *answer, _) = session.rows
    model.embed_turns(turns_of("one two", "three", ">four", "five"))
    model.embed_turns(turns_of("one two", "three", "five"))
    assert session.rows[3:] == [
        [first, *five, last, *earlier, last, *answer, last],
        [first, *five, last, *earlier, last],
    ]
    assert (first, last) == (101, 102)


@pytest.mark.parametrize("limit", [8, 9, 10, 16, 31, 64, 65, 128, 511, 512])
@pytest.mark.parametrize(
    "texts",
    [
        ["word " * 700],
        ["word " * 700, "word " * 700],
        ["word " * 700, ">" + "word " * 700, "word " * 700],
        ["word", ">" + "word " * 700, "word"],
        ["word", ">" + "🙂", "\u200b"],
    ],
    ids=["alone", "two", "all long", "long answer", "unusual"],
)
def test_query_keeps_the_limit(
    limit: int,
    texts: list[str],
    model: EmbeddingModel,
    session: RecordedSession,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The model never gets more tokens than configured; where the turn is long it gets them all."""
    monkeypatch.setattr(model, "_limit", limit)
    model.embed_turns(turns_of(*texts))
    (row,) = session.rows
    assert 2 <= len(row) <= limit
    assert len(row) == limit or len(texts) == 2 or "word " not in texts[-1]


def test_vocabulary_names_the_marks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those around a text are tokens of the vocabulary beside the model, wherever they stand in it."""
    shipped = find_spec(PACKAGE)
    assert shipped is not None
    assert shipped.origin is not None
    (tmp_path / "own.onnx").symlink_to(Path(shipped.origin).parent / "model.onnx")
    lines = VOCABULARY.read_text("utf-8").splitlines()
    (tmp_path / "vocab.txt").write_text("\n".join(lines[::-1]), "utf-8")
    model, recorded = (
        EmbeddingModel(EmbeddingSettings(model=tmp_path / "own.onnx")),
        RecordedSession(),
    )
    monkeypatch.setattr(model, "_session", recorded)
    model.embed("hello")
    (row,) = recorded.rows
    assert [lines[::-1][token] for token in row] == ["[CLS]", "hello", "[SEP]"]
