"""Encoders from folders: their vectors, computed by hand from the tables of tiny graphs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

from serve_app.domain import Turn
from serve_app.engines.embedding.encoder import FolderEncoder
from serve_app.engines.faults import EngineFaultError
from serve_app.scoring.readout import GENERIC
from tests.unit.engines.embedding.encoders import (
    BARE,
    BERT,
    DIMENSIONS,
    MODERN,
    ROBERTA,
    Family,
    Floats,
    unit,
    vectors,
    write_encoder,
    write_graph,
    write_json,
    write_pooling,
    write_tokenizer,
)
from tests.unit.engines.embedding.tiny_onnx import FLOAT, INT32, Graph

FAMILIES: Final = {
    BERT: ("[CLS]", "[SEP]"),
    ROBERTA: ("<s>", "</s>"),
    MODERN: ("[CLS]", "[SEP]"),
    BARE: ("", "<end>"),
}
POOL: Final[dict[str, Callable[[Floats], Floats]]] = {
    "cls_token": lambda rows: rows[0],
    "mean_tokens": lambda rows: np.asarray(rows.mean(axis=0)),
    "max_tokens": lambda rows: np.asarray(rows.max(axis=0)),
    "lasttoken": lambda rows: rows[-1],
    "mean_sqrt_len_tokens": lambda rows: np.asarray(rows.sum(axis=0) / len(rows) ** 0.5),
}


def opened(folder: Path, max_tokens: int = 16, **options: Any) -> FolderEncoder:
    return FolderEncoder(folder, threads=1, max_tokens=max_tokens, **options)


def fault(folder: Path) -> str:
    with pytest.raises(EngineFaultError) as caught:
        opened(folder)
    return str(caught.value)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
@pytest.mark.parametrize("pooling", POOL)
def test_vector_is_pooled_and_of_unit_length(family: Family, pooling: str, tmp_path: Path) -> None:
    """Special tokens are those of the tokenizer's template; types and positions are the family's."""
    write_pooling(write_encoder(family, tmp_path), pooling)
    first, last = FAMILIES[family]
    vector = opened(tmp_path).embed("red green blue")
    expected = unit(POOL[pooling](vectors(family, f"{first} red green blue {last}")))
    assert vector.dtype == np.float32
    assert np.allclose(vector, expected, atol=1e-6)
    assert float(np.linalg.norm(vector)) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_turns_are_separated_by_the_families_own_mark(family: Family, tmp_path: Path) -> None:
    """The last turn comes first, then the earlier one, then the answer; one mark after each."""
    first, last = FAMILIES[family]
    turns = (Turn("user", "red"), Turn("assistant", "blue"), Turn("user", "green"))
    vector = opened(write_encoder(family, tmp_path)).embed_turns(turns)
    written = f"{first} green {last} red {last} blue {last}"
    assert np.allclose(vector, unit(vectors(family, written).mean(axis=0)), atol=1e-6)


def test_long_text_keeps_both_ends_within_the_models_positions(tmp_path: Path) -> None:
    """The family of RoBERTa has two positions fewer than its file says."""
    encoder = opened(write_encoder(ROBERTA, tmp_path), max_tokens=64)
    assert encoder.max_tokens == 18
    text = " ".join(["red"] * 30 + ["blue"] * 30)
    written = " ".join(["<s>", *["red"] * 8, *["blue"] * 8, "</s>"])
    expected = unit(vectors(ROBERTA, written).mean(axis=0))
    assert np.allclose(encoder.embed(text), expected, atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
@pytest.mark.parametrize("text", ["", " ", "\ud800", "unknown words", "[SEP] </s>"])
def test_unusual_text_has_a_vector(family: Family, text: str, tmp_path: Path) -> None:
    """Even a model that marks nothing gets a token."""
    vector = opened(write_encoder(family, tmp_path)).embed(text)
    assert float(np.linalg.norm(vector)) == pytest.approx(1.0, abs=1e-5)


def test_prefixes_of_the_folder_are_applied(tmp_path: Path) -> None:
    """Routes get the one for passages; examples and conversations the one for queries."""
    write_encoder(BERT, tmp_path)
    prompts = {"query": "query: ", "passage": "passage: "}
    write_json(tmp_path / "config_sentence_transformers.json", {"prompts": prompts})
    encoder = opened(tmp_path)
    query = unit(vectors(BERT, "[CLS] query: red [SEP]").mean(axis=0))
    passage = unit(vectors(BERT, "[CLS] passage: red [SEP]").mean(axis=0))
    assert np.allclose(encoder.embed("red"), passage, atol=1e-6)
    assert np.allclose(encoder.embed_example("red"), query, atol=1e-6)
    assert np.allclose(encoder.embed_turns((Turn("user", "red"),)), query, atol=1e-6)
    own = opened(tmp_path, query_prefix="", passage_prefix="blue ")
    plain = unit(vectors(BERT, "[CLS] red [SEP]").mean(axis=0))
    other = unit(vectors(BERT, "[CLS] blue red [SEP]").mean(axis=0))
    assert np.allclose(own.embed_example("red"), plain, atol=1e-6)
    assert np.allclose(own.embed("red"), other, atol=1e-6)


def test_lower_case_is_applied(tmp_path: Path) -> None:
    """It is so if a file of sentence-transformers asks for it."""
    encoder = opened(write_encoder(BERT, tmp_path))
    assert not np.allclose(encoder.embed("RED"), encoder.embed("red"), atol=1e-3)
    write_json(tmp_path / "sentence_bert_config.json", {"do_lower_case": True})
    encoder = opened(tmp_path)
    assert np.allclose(encoder.embed("RED"), encoder.embed("red"), atol=1e-6)


def test_list_of_words_is_a_tokenizer(tmp_path: Path) -> None:
    """``vocab.txt`` in BERT's form has BERT's marks."""
    write_encoder(BERT, tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "vocab.txt").write_text("\n".join(BERT.vocabulary), "utf-8")
    expected = unit(vectors(BERT, "[CLS] red green [SEP]").mean(axis=0))
    assert np.allclose(opened(tmp_path).embed("Red green"), expected, atol=1e-6)


def test_pooled_output_of_the_graph_is_used(tmp_path: Path) -> None:
    """It wins over those of the tokens and over the pooling of the files."""
    write_pooling(write_encoder(BERT, tmp_path), "cls_token")
    write_graph(BERT, tmp_path / "model.onnx", outputs=("last_hidden_state", "sentence_embedding"))
    encoder = opened(tmp_path)
    expected = unit(vectors(BERT, "[CLS] red green [SEP]").max(axis=0))
    assert np.allclose(encoder.embed("red green"), expected, atol=1e-6)
    assert encoder.description == ("bert, model.onnx, pooled by the graph, 4 dimensions, 16 tokens")


@pytest.mark.parametrize(
    "outputs",
    [("token_embeddings",), ("1234",), ("pooler_output", "last_hidden_state")],
    ids=lambda outputs: outputs[0],
)
def test_output_of_the_tokens_is_found(outputs: tuple[str, ...], tmp_path: Path) -> None:
    """By a known name, or because it is the only output."""
    write_graph(BERT, write_encoder(BERT, tmp_path) / "model.onnx", outputs=outputs)
    expected = unit(vectors(BERT, "[CLS] red [SEP]").mean(axis=0))
    assert np.allclose(opened(tmp_path).embed("red"), expected, atol=1e-6)


def test_inputs_may_be_of_32_bits(tmp_path: Path) -> None:
    """Some exports are."""
    write_graph(BERT, write_encoder(BERT, tmp_path) / "model.onnx", kind=INT32)
    expected = unit(vectors(BERT, "[CLS] red [SEP]").mean(axis=0))
    assert np.allclose(opened(tmp_path).embed("red"), expected, atol=1e-6)


def test_description_says_what_is_known(tmp_path: Path) -> None:
    """Family, graph, pooling, lengths and prefixes."""
    write_pooling(write_encoder(BERT, tmp_path), "mean_tokens")
    encoder = opened(tmp_path, query_prefix="q: ", passage_prefix="p: ")
    assert encoder.readout == GENERIC
    assert encoder.dimensions == DIMENSIONS
    assert encoder.description == (
        "bert, model.onnx, mean over the tokens, 4 dimensions, 16 tokens, query prefix 'q: ', "
        "passage prefix 'p: '"
    )
    (tmp_path / "1_Pooling/config.json").unlink()
    (tmp_path / "config.json").unlink()
    assert opened(tmp_path).description.startswith(
        "unknown family, model.onnx, mean over the tokens because no 1_Pooling/config.json says "
    )


def test_unknown_outputs_are_a_fault(tmp_path: Path) -> None:
    """The message lists them."""
    file = write_encoder(BERT, tmp_path) / "model.onnx"
    write_graph(BERT, file, outputs=("one", "two"))
    assert fault(tmp_path) == (
        f"{file} has the outputs one, two, none of which is known; "
        "use an export with sentence_embedding or last_hidden_state"
    )


def test_classifier_is_a_fault(tmp_path: Path) -> None:
    """The message says where a cross-encoder belongs."""
    file = write_encoder(BERT, tmp_path) / "model.onnx"
    write_graph(BERT, file, outputs=("logits",))
    assert fault(tmp_path) == (
        f"{file} returns logits, as a classifier or a cross-encoder does; use an export for "
        "feature extraction, or set a cross-encoder as orchestrator.reranker"
    )


@pytest.mark.parametrize(("name", "kind"), [("pixel_values", "int64"), ("input_ids", "float")])
def test_unknown_input_is_a_fault(name: str, kind: str, tmp_path: Path) -> None:
    """The message has its name and type."""
    file = write_encoder(BERT, tmp_path) / "model.onnx"
    if kind == "float":
        graph = Graph()
        graph.add_input("input_ids", ("batch", "length"), FLOAT)
        graph.add_node("Identity", ["input_ids"], "last_hidden_state")
        graph.add_output("last_hidden_state", ("batch", "length"))
        graph.write(file)
    else:
        write_graph(BERT, file, extra=name)
    assert fault(tmp_path) == (
        f"{file} asks for the input {name} (tensor({kind})), which is not supported; use an "
        "export with input_ids, attention_mask, token_type_ids, position_ids, or some of them"
    )


@pytest.mark.parametrize("name", ["config.json", "1_Pooling/config.json"])
def test_other_dimensions_are_a_fault(name: str, tmp_path: Path) -> None:
    """The message has the file that says otherwise."""
    write_encoder(BERT, tmp_path, config={"hidden_size": 8})
    if name != "config.json":
        write_pooling(tmp_path, "mean_tokens", word_embedding_dimension=8)
    assert fault(tmp_path) == (
        f"{tmp_path}/model.onnx returns 4 dimensions, {tmp_path / name} says 8; "
        "use the files of one model"
    )


def test_module_that_the_graph_lacks_is_a_fault(tmp_path: Path) -> None:
    """A graph with the output of the whole model contains it."""
    write_encoder(BERT, tmp_path, config={"hidden_size": 8})
    modules = [("Transformer", ""), ("Pooling", "1_Pooling"), ("Dense", "2_Dense")]
    write_pooling(tmp_path, "mean_tokens")
    write_json(tmp_path / "modules.json", [{"type": kind, "path": at} for kind, at in modules])
    assert fault(tmp_path) == (
        f"{tmp_path}/model.onnx lacks the module Dense of modules.json; "
        "export the whole model, with the output sentence_embedding"
    )
    write_graph(BERT, tmp_path / "model.onnx", outputs=("sentence_embedding",))
    assert opened(tmp_path).dimensions == DIMENSIONS


def test_tokenizer_of_another_model_is_a_fault(tmp_path: Path) -> None:
    """It has more tokens than the model."""
    write_encoder(BERT, tmp_path, config={"vocab_size": 9})
    assert fault(tmp_path) == (
        f"{tmp_path}/tokenizer.json has 14 tokens, config.json says 9; "
        "use the tokenizer of the same model"
    )


def test_positions_that_the_graph_lacks_are_a_fault(tmp_path: Path) -> None:
    """They are found at the start, with a text of the maximum length."""
    write_encoder(BERT, tmp_path, config={"max_position_embeddings": 64})
    with pytest.raises(EngineFaultError) as caught:
        opened(tmp_path, max_tokens=30)
    text = str(caught.value)
    assert text.startswith(f"{tmp_path}/model.onnx fails on 30 tokens: ")
    assert text.endswith("; use the files of one model, or lower orchestrator.max_query_tokens")


def test_values_that_are_not_finite_are_a_fault(tmp_path: Path) -> None:
    """Some graphs in 16 bits overflow on a CPU."""
    file = write_encoder(BERT, tmp_path) / "model.onnx"
    graph = Graph()
    graph.add_input("input_ids", ("batch", "length"))
    graph.add_tensor("table", np.full((14, DIMENSIONS), np.nan, np.float32))
    graph.add_node("Gather", ["table", "input_ids"], "last_hidden_state")
    graph.add_output("last_hidden_state", ("batch", "length", DIMENSIONS))
    graph.write(file)
    assert fault(tmp_path) == (
        f"{file} returns values that are not finite; use another export of the model"
    )


def test_output_of_more_dimensions_is_a_fault(tmp_path: Path) -> None:
    """Such as all layers in one."""
    file = write_encoder(BERT, tmp_path) / "model.onnx"
    graph = Graph()
    graph.add_input("input_ids", ("batch", "length"))
    graph.add_tensor("table", np.ones((14, 2, DIMENSIONS), np.float32))
    graph.add_node("Gather", ["table", "input_ids"], "layers")
    graph.add_output("layers", ("batch", "length", 2, DIMENSIONS))
    graph.write(file)
    assert fault(tmp_path) == (
        f"{file}: the output layers has 4 dimensions; use an export for feature extraction"
    )


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("model.onnx", b"hello", "{}/model.onnx is not a usable ONNX model: "),
        ("tokenizer.json", b"{}", "{}/tokenizer.json is not a usable tokenizer: "),
    ],
)
def test_invalid_file_is_named(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    """The text of the library follows."""
    (write_encoder(BERT, tmp_path) / name).write_bytes(content)
    assert fault(tmp_path).startswith(message.format(tmp_path))


def test_template_with_several_marks_is_a_fault(tmp_path: Path) -> None:
    """The order of query and marks would be a guess."""
    write_encoder(BERT, tmp_path)
    marks = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
    family = Family("bert", marks, "[CLS] [CLS] $A [SEP]", "$A $B", has_types=True)
    write_tokenizer(family, tmp_path / "tokenizer.json")
    assert fault(tmp_path) == (
        f"{tmp_path}/tokenizer.json puts 2 tokens before and 1 after a text; "
        "at most one on each side is supported, use another model"
    )


def test_too_few_tokens_are_a_fault(tmp_path: Path) -> None:
    """The message names the keys that limit them."""
    write_encoder(BERT, tmp_path)
    write_json(tmp_path / "sentence_bert_config.json", {"max_seq_length": 3})
    assert fault(tmp_path) == (
        f"{tmp_path} allows 3 tokens, too few for a text; "
        "correct max_seq_length, model_max_length or max_position_embeddings in its files"
    )
