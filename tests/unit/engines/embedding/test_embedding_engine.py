"""The embedding engine with the model that it ships with."""

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from shutil import copyfile

import numpy as np
import pytest

from serve_app.config.schema.orchestrator import OrchestratorSection
from serve_app.domain import Question, Reason, Route, Scores, TokenUsage, Turn, Unavailable
from serve_app.engines.embedding import engine as embedding
from serve_app.engines.embedding.engine import (
    PACKAGE,
    VOCABULARY,
    EmbeddingEngine,
    EmbeddingModel,
    EmbeddingSettings,
)
from serve_app.engines.embedding.minilm import READOUT
from serve_app.engines.faults import EngineFaultError
from serve_app.scoring.calibration import DecisionRule
from serve_app.scoring.readout import GENERIC

ROUTES = (
    Route("code", "writing, explaining and debugging code", ()),
    Route("poems", "poems, song lyrics and rhymes", ()),
    Route("translation", "translating texts from one language into another", ()),
)
NUMBERS = [
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
]


@pytest.fixture(scope="module")
def engine() -> EmbeddingEngine:
    return EmbeddingEngine(EmbeddingSettings())


def question(*texts: str, routes: tuple[Route, ...] = ROUTES) -> Question:
    return Question(tuple(Turn("user", text) for text in texts), routes, "key")


def winner(engine: EmbeddingEngine, *texts: str) -> str | None:
    result = engine.score(question(*texts), lambda: True)
    assert isinstance(result, Scores)
    return result.winner


ODD = {
    "empty": "",
    "spaces": " \n\t ",
    "nul": "\0",
    "controls": "\x01\x7f\x85\u2028",
    "emoji": "🙂👩\u200d👩\u200d👧",
    "half a pair": "\ud800 and \udfff",
    "marks": "e" + "\u0301" * 500,
    "right to left": "\u202e\u05e9\u05dc\u05d5\u05dd",
    "chinese": "请帮我写一个函数" * 100,
    "special tokens": "[CLS] [SEP] [MASK] [PAD] [UNK]",
}
HUGE = {
    "one word of a megabyte": "x" * 1_000_000,
    "a megabyte of words": "word " * 200_000,
}


@pytest.mark.parametrize("text", [*ODD.values(), *HUGE.values()], ids=[*ODD, *HUGE])
def test_text_becomes_a_unit_vector(text: str, engine: EmbeddingEngine) -> None:
    """It is so for any text."""
    vector = engine.model.embed(text)
    assert vector.shape == (384,)
    assert vector.dtype == np.float32
    assert float(np.linalg.norm(vector)) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("text", ODD.values(), ids=ODD)
def test_unusual_texts_are_scored(text: str, engine: EmbeddingEngine) -> None:
    """They may be written by users or in descriptions."""
    odd = Route(text or " ", text or " ", (), examples=(text or " ",))
    result = engine.score(question(text, routes=(*ROUTES, odd)), lambda: True)
    assert isinstance(result, Scores)
    assert result.none is not None
    assert sum(result.routes.values()) + result.none == pytest.approx(1, abs=1e-5)
    assert result.winner == odd.name or not text


def test_unpaired_surrogate_counts_as_question_mark(engine: EmbeddingEngine) -> None:
    """JSON can contain it; the key of the question treats it the same."""
    assert np.array_equal(engine.model.embed("a \ud800 b"), engine.model.embed("a ? b"))


def test_equal_texts_have_equal_vectors(engine: EmbeddingEngine) -> None:
    """They are equal to the last bit, whatever was embedded before, in any case of letters."""
    first = engine.model.embed("Write a poem about the sea")
    engine.model.embed("something else, much longer than that " * 20)
    assert np.array_equal(engine.model.embed("Write a poem about the sea"), first)
    assert np.array_equal(engine.model.embed("WRITE A POEM ABOUT THE SEA"), first)


def test_similar_meaning_is_near(engine: EmbeddingEngine) -> None:
    """It is nearer than a text that only shares words."""
    embed = engine.model.embed
    asked = embed("How do I cook rice?")
    assert asked @ embed("preparing rice in a pot") > asked @ embed("How do I fix my car?") + 0.2


@pytest.mark.parametrize(
    ("limit", "head", "tail"), [(8, 3, 3), (9, 4, 3), (10, 4, 4), (13, 6, 5), (14, 12, 0)]
)
def test_long_text_keeps_head_and_tail(
    limit: int, head: int, tail: int, engine: EmbeddingEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tokens between are dropped; two of the limit are the marks at its ends."""
    kept = NUMBERS[:head] + NUMBERS[len(NUMBERS) - tail :]
    expected = engine.model.embed(" ".join(kept))
    monkeypatch.setattr(engine.model, "_limit", limit)
    assert np.array_equal(engine.model.embed(" ".join(NUMBERS)), expected)


def test_limit_of_tokens_is_a_setting(engine: EmbeddingEngine) -> None:
    """62 words fit into 64 tokens; of more, the first 31 and the last 31 count."""
    embed = engine.model.embed
    text = ["start"] * 31 + ["end"] * 31
    assert np.array_equal(embed(" ".join([*text[:31], "word", *text[31:]])), embed(" ".join(text)))
    assert not np.array_equal(embed(" ".join(text[1:])), embed(" ".join(text)))


@pytest.mark.parametrize(
    ("texts", "route"),
    [
        (["Why does this Python function raise a KeyError?"], "code"),
        pytest.param(
            ["Write a SQL query that counts the orders per customer"],
            "code",
            marks=pytest.mark.xfail(strict=True, reason="the encoder knows SQL as data, not code"),
        ),
        (["Write me a sonnet about autumn"], "poems"),
        (["Give me four lines that rhyme, for a birthday card"], "poems"),
        (["How do you say good morning in Japanese?"], "translation"),
        (["Translate this letter into German, please"], "translation"),
        (["Write a haiku about the sea", "and one about the moon"], "poems"),
        (["Write a bash script that renames files", "now in Go"], "code"),
    ],
)
def test_obvious_questions_find_their_route(
    texts: list[str], route: str, engine: EmbeddingEngine
) -> None:
    """There are three routes with short descriptions and no examples."""
    assert winner(engine, *texts) == route


@pytest.mark.parametrize(
    "text", ["How much is the rent of a flat in Oslo?", "Which planet has the most moons?"]
)
def test_unrelated_text_finds_no_route(
    text: str, engine: EmbeddingEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The best route does not reach the threshold."""
    monkeypatch.setattr(engine.scorer, "_rule", DecisionRule(0.2))
    assert winner(engine, text) is None


def test_engine_out_of_time_is_busy(engine: EmbeddingEngine) -> None:
    """New routes are not embedded after the deadline; known ones need no time."""
    routes = (Route("gardening", "plants, flowers and vegetables", ()),)
    asked = question("How do I prune roses?", routes=routes)
    result = engine.score(asked, lambda: False)
    assert isinstance(result, Unavailable)
    assert result.reason is Reason.ORCHESTRATOR_BUSY
    engine.scorer.prepare(routes)
    scored = engine.score(asked, lambda: False)
    assert isinstance(scored, Scores)
    assert scored.winner == "gardening"


def test_examples_of_no_route_count(engine: EmbeddingEngine) -> None:
    """Those of a question raise its none; the same question without them has the first scores."""
    asked = question("Which planet has the most moons?")
    texts = ("How many moons has Mars?", "Which planet is the largest?", "Who found Neptune?")
    plain = engine.score(asked, lambda: True)
    other = engine.score(replace(asked, no_route_examples=texts), lambda: True)
    assert isinstance(plain, Scores)
    assert isinstance(other, Scores)
    assert (other.none or 0) > (plain.none or 0)
    assert all(other.routes[name] < plain.routes[name] for name in plain.routes)
    again = engine.score(asked, lambda: True)
    assert isinstance(again, Scores)
    assert replace(again, usage=None) == replace(plain, usage=None)


def test_usage_counts_tokens_that_are_embedded(engine: EmbeddingEngine) -> None:
    """Those of the conversation and of new texts of routes, none for what was embedded before."""
    routes = (Route("whales", "whales and dolphins", ()), Route("stars", "stars at night", ()))
    asked = Question((Turn("user", "Which whale sings best?"),), routes, "usage")
    first, second = engine.score(asked, lambda: True), engine.score(asked, lambda: True)
    assert isinstance(first, Scores)
    assert isinstance(second, Scores)
    assert first.usage is not None
    assert first.usage.input_tokens > 20
    assert first.usage.output_tokens == 0
    assert second.usage == TokenUsage(0)
    other = engine.score(replace(asked, turns=(Turn("user", "whales"),)), lambda: True)
    assert isinstance(other, Scores)
    assert other.usage == TokenUsage(3)  # the word between two marks


def test_examples_of_no_route_are_prepared(engine: EmbeddingEngine) -> None:
    """Like routes, they need no time afterwards; others do."""
    texts = ("How many moons has Venus?",)
    asked = replace(question("Which planet is it?"), no_route_examples=texts)
    assert isinstance(engine.score(asked, lambda: False), Unavailable)
    engine.prepare(ROUTES, texts)
    assert isinstance(engine.score(asked, lambda: False), Scores)


def test_order_of_routes_changes_nothing(engine: EmbeddingEngine) -> None:
    """Every probability is the same to the last digit, whichever route comes first."""
    routes = (*ROUTES, Route("tidy_up", "cleaning", ()), Route("tidy-up", "cleaning", ()))
    for text in ("How do I clean a carpet?", "Write a rhyme", "hm"):
        results = [
            engine.score(question(text, routes=order), lambda: True)
            for order in (routes, routes[::-1], (*routes[2:], *routes[:2]))
        ]
        first, *others = results
        assert isinstance(first, Scores)
        assert first.routes["tidy_up"] == first.routes["tidy-up"]
        for other in others:
            assert isinstance(other, Scores)
            assert dict(other.routes) == dict(first.routes)
            assert (other.none, other.winner) == (first.none, first.winner)


def test_section_has_every_setting() -> None:
    """They are all settings of the section for this engine."""
    section = OrchestratorSection(
        model="/m.onnx", threads=3, max_query_tokens=9, min_confidence=0.3, min_margin=0.1
    )
    assert EmbeddingSettings.from_section(section) == EmbeddingSettings(
        Path("/m.onnx"), 3, 9, 0.3, 0.1
    )
    assert EmbeddingSettings.from_section(OrchestratorSection()) == EmbeddingSettings()


def shipped() -> Path:
    found = find_spec(PACKAGE)
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent / "model.onnx"


def fault(settings: EmbeddingSettings) -> str:
    """Why no model comes of these settings."""
    with pytest.raises(EngineFaultError) as caught:
        EmbeddingModel(settings)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "file"), [("MODEL_SHA256", shipped()), ("VOCABULARY_SHA256", VOCABULARY)]
)
def test_file_with_other_hash_is_refused(
    name: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message has its path and hash."""
    expected = getattr(embedding, name)
    monkeypatch.setattr(embedding, name, "0" * 64)
    assert fault(EmbeddingSettings()) == (
        f"{file} is not the pinned file: its SHA-256 is {expected}; reinstall the package"
    )


def test_missing_package_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message has two fixes."""
    monkeypatch.setattr(embedding, "PACKAGE", "no_such_package")
    assert fault(EmbeddingSettings()) == (
        "the package no-such-package is not installed; "
        "install requirements/base.txt, or set orchestrator.model"
    )


def test_package_without_the_file_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message has the expected path and the reason of the system."""
    monkeypatch.setattr(embedding, "PACKAGE", "serve_app")
    expected = VOCABULARY.parents[2] / "model.onnx"
    assert fault(EmbeddingSettings()) == f"cannot read {expected}: No such file or directory"


def test_missing_model_is_a_fault(tmp_path: Path) -> None:
    """The message names the key of the configuration."""
    file = tmp_path / "own.onnx"
    assert (
        fault(EmbeddingSettings(model=file)) == f"there is no file {file}; check orchestrator.model"
    )


@pytest.mark.parametrize("content", [b"", b"hello", b"\x08\x01" * 50])
def test_file_that_is_not_onnx_is_a_fault(content: bytes, tmp_path: Path) -> None:
    """The message has its path."""
    file = tmp_path / "own.onnx"
    file.write_bytes(content)
    assert fault(EmbeddingSettings(model=file)).startswith(f"{file} is not a usable ONNX model: ")


@pytest.mark.parametrize("content", [b"", b"hello\n", b"\xff\xfe"])
def test_invalid_vocabulary_is_a_fault(content: bytes, tmp_path: Path) -> None:
    """The message has the path of the file beside the model."""
    (tmp_path / "own.onnx").symlink_to(shipped())
    file = tmp_path / "vocab.txt"
    file.write_bytes(content)
    assert fault(EmbeddingSettings(model=tmp_path / "own.onnx")).startswith(
        f"{file} is not a BERT vocabulary: "
    )


def test_other_weights_are_supported(engine: EmbeddingEngine, tmp_path: Path) -> None:
    """Their hash is not checked, and a vocabulary beside them is used."""
    text = "Write me a sonnet about autumn"
    (tmp_path / "own.onnx").symlink_to(shipped())
    ours = EmbeddingModel(EmbeddingSettings(model=tmp_path / "own.onnx")).embed(text)
    assert 0.3 < ours @ engine.model.embed(text) < 0.99  # the same words, other layers
    copyfile(VOCABULARY, tmp_path / "vocab.txt")
    same = EmbeddingModel(EmbeddingSettings(model=tmp_path / "own.onnx")).embed(text)
    assert np.array_equal(ours, same)
    lines = VOCABULARY.read_text("utf-8").splitlines()
    (tmp_path / "vocab.txt").write_text("\n".join([*lines[:1000], *lines[:999:-1]]), "utf-8")
    other = EmbeddingModel(EmbeddingSettings(model=tmp_path / "own.onnx")).embed(text)
    assert ours @ other < 0.9


def test_readout_belongs_to_the_model(engine: EmbeddingEngine, tmp_path: Path) -> None:
    """The bundled one is fitted with the bundled weights; others get the one for any encoder."""
    (tmp_path / "own.onnx").symlink_to(shipped())
    assert engine.model.readout is READOUT
    assert EmbeddingModel(EmbeddingSettings(model=tmp_path / "own.onnx")).readout is GENERIC


def test_script_that_is_not_read_matches_no_route(engine: EmbeddingEngine) -> None:
    """The bundled model would guess; an example in the script lets it compare."""
    asked = question("Напиши стихотворение про море")
    scores = engine.score(asked, lambda: True)
    assert isinstance(scores, Scores)
    assert (scores.winner, scores.unreadable) == (None, True)
    example = replace(ROUTES[1], examples=("Напиши стихотворение про море",) * 3)
    routes = (ROUTES[0], example, ROUTES[2])
    scores = engine.score(replace(asked, routes=routes), lambda: True)
    assert isinstance(scores, Scores)
    assert not scores.unreadable
