"""Folders of tiny encoders and cross-encoders, whose results can be computed by hand."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing

from serve_app.domain import Json
from tests.unit.engines.embedding.tiny_onnx import INT64, Graph

Floats = npt.NDArray[np.float32]

WORDS: Final = ("a", "b", "red", "green", "blue", "query:", "passage:", "code", "poems", "talk")
DIMENSIONS: Final = 4
POSITIONS: Final = 20


@dataclass(frozen=True, slots=True)
class Family:
    """How a family of models marks texts."""

    name: str
    specials: tuple[str, ...]
    single: str
    pair: str
    has_types: bool
    first_position: int = 0

    @property
    def vocabulary(self) -> dict[str, int]:
        return {word: at for at, word in enumerate((*self.specials, *WORDS))}

    @property
    def size(self) -> int:
        return len(self.vocabulary)


BERT: Final = Family(
    "bert",
    ("[PAD]", "[UNK]", "[CLS]", "[SEP]"),
    "[CLS] $A [SEP]",
    "[CLS] $A [SEP] $B:1 [SEP]:1",
    has_types=True,
)
ROBERTA: Final = Family(
    "xlm-roberta",
    ("<s>", "<pad>", "</s>", "[UNK]"),
    "<s> $A </s>",
    "<s> $A </s> </s> $B </s>",
    has_types=False,
    first_position=2,
)
MODERN: Final = Family(
    "modernbert",
    ("[UNK]", "[CLS]", "[SEP]"),
    "[CLS] $A [SEP]",
    "[CLS] $A [SEP] $B [SEP]",
    has_types=False,
)
BARE: Final = Family("last", ("[UNK]", "<end>"), "$A <end>", "$A $B <end>", has_types=False)


def word_table(family: Family) -> Floats:
    """The vector of each token; none is like another."""
    return np.random.default_rng(1).normal(0.2, 1.0, (family.size, DIMENSIONS)).astype(np.float32)


def type_table() -> Floats:
    return np.array([[0.0, 0.5, 0.0, -0.5], [1.0, 0.0, -1.0, 0.0]], np.float32)


def position_table() -> Floats:
    return np.random.default_rng(2).normal(0.0, 0.5, (POSITIONS, DIMENSIONS)).astype(np.float32)


def ids_of(family: Family, text: str) -> list[int]:
    """The tokens of words and marks, written out."""
    vocabulary = family.vocabulary
    return [vocabulary.get(word, vocabulary["[UNK]"]) for word in text.split()]


def vectors(family: Family, text: str) -> Floats:
    """What the graph returns for a text that is written out with its marks."""
    ids = ids_of(family, text)
    found = word_table(family)[ids]
    if family.has_types:
        found = found + type_table()[0]
    start = family.first_position
    return np.asarray(found + position_table()[start : start + len(ids)], np.float32)


def unit(vector: Floats) -> Floats:
    return np.asarray(vector / np.linalg.norm(vector), np.float32)


def write_json(file: Path, value: Json) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(value), "utf-8")


def write_tokenizer(family: Family, file: Path) -> None:
    """A tokenizer of whole words, with truncation and padding that must not be applied."""
    vocabulary = family.vocabulary
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.post_processor = TemplateProcessing(
        single=family.single,
        pair=family.pair,
        special_tokens=[(mark, vocabulary[mark]) for mark in family.specials],
    )
    tokenizer.enable_truncation(6)
    tokenizer.enable_padding(length=6)
    file.parent.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(file))


def write_graph(
    family: Family,
    file: Path,
    *,
    outputs: Sequence[str] = ("last_hidden_state",),
    kind: int = INT64,
    extra: str = "",
) -> None:
    """A graph with a vector of each token: of its word, its type and its position.

    An output ``sentence_embedding`` is their largest values; any other is the vectors.
    """
    graph = Graph()
    names = ["input_ids", "attention_mask", "position_ids"]
    names += ["token_type_ids"] if family.has_types else []
    for name in [*names, *([extra] if extra else [])]:
        graph.add_input(name, ("batch", "length"), kind)
    graph.add_tensor("words", word_table(family))
    graph.add_tensor("types", type_table())
    graph.add_tensor("positions", position_table())
    graph.add_node("Gather", ["words", "input_ids"], "of_words")
    graph.add_node("Gather", ["positions", "position_ids"], "of_positions")
    graph.add_node("Add", ["of_words", "of_positions"], "sum")
    last = "sum"
    if family.has_types:
        graph.add_node("Gather", ["types", "token_type_ids"], "of_types")
        graph.add_node("Add", ["sum", "of_types"], "sum_of_three")
        last = "sum_of_three"
    graph.add_node("Cast", ["attention_mask"], "mask", to=1)
    graph.add_tensor("last_axis", np.array([2], np.int64))
    graph.add_node("Unsqueeze", ["mask", "last_axis"], "mask_of_rows")
    graph.add_node("Mul", [last, "mask_of_rows"], "masked")
    for name in outputs:
        if name == "sentence_embedding":
            graph.add_node("ReduceMax", ["masked"], name, axes=(1,), keepdims=0)
            graph.add_output(name, ("batch", DIMENSIONS))
        else:
            graph.add_node("Identity", ["masked"], name)
            graph.add_output(name, ("batch", "length", DIMENSIONS))
    graph.write(file)


def write_encoder(family: Family, folder: Path, *, config: Json = None) -> Path:
    """A folder as an export to ONNX lays it out, without a word about pooling."""
    write_graph(family, folder / "model.onnx")
    write_tokenizer(family, folder / "tokenizer.json")
    settings = {
        "model_type": family.name,
        "hidden_size": DIMENSIONS,
        "vocab_size": family.size,
        "max_position_embeddings": POSITIONS,
        "pad_token_id": 1,
    }
    write_json(folder / "config.json", {**settings, **(config or {})})
    return folder


def write_pooling(folder: Path, pooling: str, **more: Json) -> None:
    """``1_Pooling/config.json`` and ``modules.json`` as sentence-transformers writes them."""
    names = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")  # fmt: skip
    modes = {f"pooling_mode_{name}": name == pooling for name in names}
    settings = {"word_embedding_dimension": DIMENSIONS, **modes, "include_prompt": True, **more}
    write_json(folder / "1_Pooling/config.json", settings)
    kinds = (("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize"))
    write_json(
        folder / "modules.json",
        [
            {
                "idx": at,
                "name": str(at),
                "path": path,
                "type": f"sentence_transformers.models.{kind}",
            }
            for at, (kind, path) in enumerate(kinds)
        ],
    )


SCORES: Final = {"code": 3.0, "poems": -1.0, "talk": 0.5, "red": 0.25}
"""What a word adds to the logit of a cross-encoder; others add nothing."""


def write_cross_encoder(
    family: Family, folder: Path, *, logits: int = 1, output: str = "logits"
) -> Path:
    """A cross-encoder whose logit is the sum of the scores of the words.

    With types, those of the first text are not counted.
    """
    table = np.zeros((family.size, logits), np.float32)
    for word, score in SCORES.items():
        table[family.vocabulary[word]] = score
    graph = Graph()
    graph.add_input("input_ids", ("batch", "length"))
    graph.add_tensor("table", table)
    graph.add_node("Gather", ["table", "input_ids"], "scores")
    last = "scores"
    if family.has_types:
        graph.add_input("token_type_ids", ("batch", "length"))
        graph.add_node("Cast", ["token_type_ids"], "types", to=1)
        graph.add_tensor("last_axis", np.array([2], np.int64))
        graph.add_node("Unsqueeze", ["types", "last_axis"], "types_of_rows")
        graph.add_node("Mul", ["scores", "types_of_rows"], "counted")
        last = "counted"
    graph.add_tensor("axis", np.array([1], np.int64))
    graph.add_node("ReduceSum", [last, "axis"], output, keepdims=0)
    graph.add_output(output, ("batch", logits))
    graph.write(folder / "model.onnx")
    write_tokenizer(family, folder / "tokenizer.json")
    settings = {"model_type": family.name, "max_position_embeddings": 64, "pad_token_id": 1}
    write_json(folder / "config.json", settings)
    return folder
