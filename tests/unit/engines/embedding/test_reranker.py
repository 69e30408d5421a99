"""The second look: pairs of a conversation and a route, and the time that it may take."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from serve_app.domain import Turn
from serve_app.engines.embedding.encoder_files import read_cross_encoder
from serve_app.engines.embedding.reranker import Reranker, RerankerFaultError
from serve_app.engines.embedding.text_tokens import TextTokens, pair
from tests.unit.engines.embedding.encoders import (
    BARE,
    BERT,
    MODERN,
    ROBERTA,
    SCORES,
    Family,
    ids_of,
    write_cross_encoder,
    write_encoder,
    write_json,
)
from tests.unit.fakes import FakeClock

TURNS: Final = (Turn("user", "red"), Turn("assistant", "blue"), Turn("user", "green"))
TEXTS: Final = ("code", "poems talk", "a")


def opened(
    folder: Path, clock: Callable[[], float] | None = None, longest_s: float = math.inf
) -> Reranker:
    own = {} if clock is None else {"clock": clock}
    return Reranker(folder, threads=1, query_tokens=8, longest_s=longest_s, **own)


def fault(folder: Path) -> str:
    with pytest.raises(RerankerFaultError) as caught:
        opened(folder)
    return str(caught.value)


@pytest.mark.parametrize("family", [BERT, ROBERTA, MODERN, BARE], ids=lambda family: family.name)
def test_logit_is_that_of_the_graph(family: Family, tmp_path: Path) -> None:
    """A family with types tells the texts apart; others read one after the other."""
    reranker = opened(write_cross_encoder(family, tmp_path))
    of_query = 0.0 if family.has_types else SCORES["red"]
    assert reranker.logits(TURNS, TEXTS) == pytest.approx(
        [3.0 + of_query, -0.5 + of_query, 0.0 + of_query]
    )


@pytest.mark.parametrize(
    ("family", "written", "types"),
    [
        (BERT, "[CLS] red green [SEP] code [SEP]", [0, 0, 0, 0, 1, 1]),
        (ROBERTA, "<s> red green </s> </s> code </s>", [0] * 7),
        (MODERN, "[CLS] red green [SEP] code [SEP]", [0] * 6),
        (BARE, "red green code <end>", [0] * 4),
    ],
    ids=lambda value: value.name if isinstance(value, Family) else None,
)
def test_pair_follows_the_tokenizers_template(
    family: Family, written: str, types: list[int], tmp_path: Path
) -> None:
    """The family of RoBERTa has two marks between the texts."""
    tokens = TextTokens(read_cross_encoder(write_cross_encoder(family, tmp_path)))
    query, passage = ids_of(family, "red green"), ids_of(family, "code")
    assert pair(tokens.pair_template(), query, passage, 32) == (ids_of(family, written), types)


@pytest.mark.parametrize(
    ("query", "passage", "kept"),
    [
        ("a a a a a b b b b b", "code", "a a a b b [SEP] code"),
        ("a b", "code code code code code code", "a b [SEP] code code code code"),
        ("a a a b b b", "code code code code code", "a a b [SEP] code code code"),
        ("", "code code code code code code code", "[SEP] code code code code code code"),
    ],
)
def test_pair_fits_into_the_limit(query: str, passage: str, kept: str, tmp_path: Path) -> None:
    """The passage loses its end, and the query its middle; each has half of the room."""
    tokens = TextTokens(read_cross_encoder(write_cross_encoder(BERT, tmp_path)))
    ids, types = pair(tokens.pair_template(), ids_of(BERT, query), ids_of(BERT, passage), 9)
    assert ids == ids_of(BERT, f"[CLS] {kept} [SEP]")
    assert len(types) == len(ids) <= 9


def test_query_and_passage_are_cut(tmp_path: Path) -> None:
    """Only the first tokens of a long passage count, and both ends of a long conversation."""
    reranker = opened(write_cross_encoder(MODERN, tmp_path))
    words = " ".join(["red"] * 100)
    assert reranker.logits((Turn("user", words),), ["code"]) == pytest.approx([3.0 + 8 * 0.25])
    passage = " ".join(["a"] * 96 + ["code"])
    assert reranker.logits((Turn("user", "a"),), [passage]) == pytest.approx([0.0])


class TickingClock(FakeClock):
    """Each look at it takes as long as ``step``."""

    step = 0.0

    def __call__(self) -> float:
        self.now += self.step
        return self.now


def test_second_look_is_left_out_if_there_is_no_time(tmp_path: Path) -> None:
    """What one token takes is measured at the start; a second look needs the time for all pairs."""
    clock = TickingClock()
    clock.step = 1.0
    reranker = opened(write_cross_encoder(BERT, tmp_path), clock)
    clock.step = 0.0
    tokens = 64  # of the pair that was measured, in a second
    needed_s = 1.25 * sum(len(f"[CLS] green red blue [SEP] {text} [SEP]".split()) for text in TEXTS)
    needed_s /= tokens
    assert reranker.logits(TURNS, TEXTS, within_s=0.99 * needed_s) is None
    assert reranker.logits(TURNS, TEXTS, within_s=1.01 * needed_s) is not None
    assert reranker.logits(TURNS, TEXTS) is not None


def test_slow_moment_does_not_end_all_second_looks(tmp_path: Path) -> None:
    """The expected time shrinks with each refusal, to a quarter of that at the start."""
    clock = TickingClock()
    clock.step = 1.0
    reranker = opened(write_cross_encoder(BERT, tmp_path), clock)
    clock.step = 0.0
    needed_s = 1.25 * 22 / 64
    assert reranker.logits(TURNS, TEXTS, within_s=needed_s / 2) is None
    tries = next(
        number
        for number in range(100)
        if reranker.logits(TURNS, TEXTS, within_s=needed_s / 2) is not None
    )
    assert tries in {12, 13}
    clock.step = 1.0
    assert reranker.logits(TURNS, TEXTS) is not None  # which takes long
    clock.step = 0.0
    for _ in range(500):
        assert reranker.logits(TURNS, TEXTS, within_s=needed_s / 10) is None
    assert reranker.logits(TURNS, TEXTS, within_s=needed_s / 3) is not None


def test_second_look_ends_when_the_caller_has_left(tmp_path: Path) -> None:
    """It is checked before each pair."""
    reranker = opened(write_cross_encoder(BERT, tmp_path))
    left = [True, True, False]
    assert reranker.logits(TURNS, TEXTS, in_time=lambda: left.pop(0)) is None
    assert left == []


def test_slow_pairs_end_a_second_look(tmp_path: Path) -> None:
    """A machine that became slower is noticed after a pair."""
    clock = TickingClock()
    reranker = opened(write_cross_encoder(BERT, tmp_path), clock)
    clock.step = 0.1
    assert reranker.logits(TURNS, TEXTS, within_s=0.35) is None


@pytest.mark.parametrize(
    ("share", "read"), [(1.01, 3), (0.99, 2), (0.70, 2), (0.66, None)], ids=str
)
def test_likeliest_routes_are_read_if_time_is_short(
    share: float, read: int | None, tmp_path: Path
) -> None:
    """At least two, whose pairs are 15 of the 22 tokens here; else none."""
    clock = TickingClock()
    clock.step = 1.0
    reranker = opened(write_cross_encoder(BERT, tmp_path), clock, share * 1.25 * 22 / 64)
    clock.step = 0.0
    logits = reranker.logits(TURNS, TEXTS, within_s=9.0)
    assert (None if logits is None else len(logits)) == read


@pytest.mark.parametrize(
    ("longest_s", "end"),
    [
        (0.06, "up to 40 ms on this machine"),
        (0.03, ", and orchestrator.reranker_ms is 30: of long texts, the likeliest 2 are read"),
        (0.02, " is 20: long texts get none; raise that, or use a smaller reranker"),
    ],
)
def test_description_says_what_the_limit_leaves(longest_s: float, end: str, tmp_path: Path) -> None:
    """A limit that is too short is not found out by waiting for second looks."""
    clock = TickingClock()
    clock.step = 0.01
    assert opened(write_cross_encoder(BERT, tmp_path), clock, longest_s).description.endswith(end)


def test_description_has_the_time(tmp_path: Path) -> None:
    """It is that of four pairs of the maximum length."""
    clock = TickingClock()
    clock.step = 0.01
    assert opened(write_cross_encoder(BERT, tmp_path), clock).description == (
        "bert, model.onnx; a second look takes up to 40 ms on this machine"
    )


@pytest.mark.parametrize("logits", [2, 3])
def test_classifier_of_several_labels_is_a_fault(logits: int, tmp_path: Path) -> None:
    """Such as a model for inference between sentences."""
    write_cross_encoder(BERT, tmp_path, logits=logits)
    assert fault(tmp_path) == (
        f"{tmp_path}/model.onnx returns {logits} logits for a pair; a reranker has one, "
        "so use a cross-encoder for relevance"
    )


def test_only_output_may_have_any_name(tmp_path: Path) -> None:
    """An output per token is no logit."""
    assert opened(write_cross_encoder(BERT, tmp_path, output="relevance")).logits(TURNS, TEXTS)


def test_encoder_is_not_a_reranker(tmp_path: Path) -> None:
    """The message says which export is needed."""
    assert fault(write_encoder(BERT, tmp_path)) == (
        f"{tmp_path}/model.onnx has the outputs last_hidden_state, none of which is logits; "
        "use an export for text classification of a cross-encoder"
    )


def test_tokenizer_without_a_template_of_pairs_is_a_fault(tmp_path: Path) -> None:
    """Its texts could not be told apart."""
    write_cross_encoder(BERT, tmp_path)
    file = tmp_path / "tokenizer.json"
    settings = json.loads(file.read_text("utf-8"))
    settings["post_processor"]["pair"] = [{"Sequence": {"id": "A", "type_id": 0}}]
    write_json(file, settings)
    assert fault(tmp_path) == (f"{file} has no template for two texts; use another model")


def test_too_few_tokens_are_a_fault(tmp_path: Path) -> None:
    """The message names the keys that limit them."""
    write_cross_encoder(BERT, tmp_path)
    write_json(tmp_path / "config.json", {"max_position_embeddings": 9})
    assert fault(tmp_path) == (
        f"{tmp_path} allows 9 tokens, too few for two texts; "
        "correct model_max_length or max_position_embeddings in its files"
    )


def test_missing_folder_is_a_fault(tmp_path: Path) -> None:
    """The message names the key of the configuration."""
    path = tmp_path / "none"
    assert fault(path) == f"there is no file or folder {path}; check orchestrator.reranker"
