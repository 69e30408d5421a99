"""Faults of checkpoints, and facts about their models."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from serve_app.engines.vllm.checkpoint import (
    INDEX,
    Checkpoint,
    architectures,
    faults,
    read_checkpoint,
)
from tests.unit.engines.vllm.checkpoints import safetensors, write_checkpoint


def test_complete_checkpoint_has_no_faults(tmp_path: Path) -> None:
    """It may have one file of weights, or several in an index."""
    assert faults(str(write_checkpoint(tmp_path / "one"))) == []
    two = write_checkpoint(
        tmp_path / "two",
        model__safetensors=None,
        **{"a.safetensors": safetensors(), "b.safetensors": safetensors()},
        **{INDEX: {"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}},
    )
    assert faults(str(two)) == []


@pytest.mark.parametrize(
    ("files", "fault"),
    [
        ({"config__json": None}, "{} has no config.json; use the whole folder of the model"),
        ({"config__json": b"{"}, "{}/config.json is not a JSON object; use the model's own"),
        ({"config__json": []}, "{}/config.json is not a JSON object; use the model's own"),
        ({"config__json": {}}, "{}/config.json lists no architectures; use the model's own"),
        ({"config__json": {"architectures": ["MPNetModel", 1]}}, "{}/config.json: vLLM does not support MPNetModel, 1; use another model"),
        ({"config__json": {"architectures": [{}]}}, "{}/config.json: vLLM does not support {{}}; use another model"),
        ({"config__json": {"architectures": ["BertModel"]}}, "{}/config.json: BertModel is an embedding model; set `task: embed` or use a chat model"),
        ({"model__safetensors": None}, "{} has no *.safetensors; use weights in this format"),
        ({"model__safetensors": safetensors()[:-1]}, "{}/model.safetensors is truncated or not a safetensors file; download it again"),
        ({"model__safetensors": b"version https://git-lfs.github.com/spec/v1"}, "{}/model.safetensors is truncated or not a safetensors file; download it again"),
        ({"model__safetensors": b""}, "{}/model.safetensors is truncated or not a safetensors file; download it again"),
        ({"model__safetensors": b"\2\0\0\0\0\0\0\0[]"}, "{}/model.safetensors is truncated or not a safetensors file; download it again"),
        ({INDEX: {"weight_map": {}}}, "{}/model.safetensors.index.json lists no weights; use the model's own"),
        ({INDEX: b"nothing"}, "{}/model.safetensors.index.json lists no weights; use the model's own"),
        ({INDEX: {"weight_map": {str(n): f"{n}.safetensors" for n in range(5)}}}, "{} lacks 0.safetensors, 1.safetensors, 2.safetensors and 2 more of model.safetensors.index.json; download it again"),
        ({INDEX: {"weight_map": {"a": "model.safetensors", "b": "b.safetensors"}}}, "{} lacks b.safetensors of model.safetensors.index.json; download it again"),
        ({"tokenizer__json": None}, "{} has no tokenizer; add tokenizer.json"),
        ({"tokenizer_config__json": None}, "{} has no chat template; use an instruct model, not a base model"),
        ({"tokenizer_config__json": {}}, "{} has no chat template; use an instruct model, not a base model"),
    ],
)  # fmt: skip
def test_each_fault_has_a_fix(files: dict[str, Any], fault: str, tmp_path: Path) -> None:
    """It also names the file."""
    assert faults(str(write_checkpoint(tmp_path, **files))) == [fault.format(tmp_path)]


def test_all_faults_are_reported_at_once(tmp_path: Path) -> None:
    """An empty folder lacks everything."""
    assert len(faults(str(tmp_path))) == 4


def test_embedding_model_needs_no_chat_template(tmp_path: Path) -> None:
    """Any language model may embed, too."""
    config = {"architectures": ["BertModel"]}
    bert = write_checkpoint(tmp_path, config__json=config, tokenizer_config__json=None)
    assert faults(str(bert), "embed") == []
    assert faults(str(write_checkpoint(tmp_path / "qwen")), "embed") == []


@pytest.mark.parametrize(
    ("make", "fault"),
    [
        (lambda path: path.touch(), "{} is a file; set the folder that contains config.json and the safetensors"),
        (lambda _: None, "there is no folder {}; check orchestrator.model, and set `download: true` if it is the id of a model on a hub"),
    ],
)  # fmt: skip
def test_missing_folder_is_a_fault(
    make: Callable[[Path], None], fault: str, tmp_path: Path
) -> None:
    """A file in its place is one, too."""
    make(tmp_path / "m")
    assert faults(str(tmp_path / "m")) == [fault.format(tmp_path / "m")]


def test_gguf_is_a_fault(tmp_path: Path) -> None:
    """Plano's manual names such a file."""
    (tmp_path / "m.gguf").touch()
    (fault,) = faults(str(tmp_path / "m.gguf"))
    assert fault.endswith("is GGUF, which vLLM no longer reads; use the safetensors of the model")


def test_unreadable_folder_is_a_fault() -> None:
    """Its name may be too long, for example."""
    assert faults("x" * 300) == [f"cannot read {'x' * 300}: File name too long"]


def test_checkpoint_has_sizes(tmp_path: Path) -> None:
    """They are those of the weights, the longest sequence, and a token in the cache."""
    size = len(safetensors())
    assert read_checkpoint(str(write_checkpoint(tmp_path))) == Checkpoint(
        size, 32768, 2 * 28 * 2 * 128, is_narrow=True
    )


def test_weights_that_no_index_lists_are_not_counted(tmp_path: Path) -> None:
    """Some models contain all weights a second time, in one file."""
    listed = {"x": "a.safetensors", "y": "b.safetensors"}
    files = {"a.safetensors": safetensors(), "b.safetensors": safetensors()}
    folder = write_checkpoint(tmp_path, **files, **{INDEX: {"weight_map": listed}})
    assert (folder / "model.safetensors").is_file()
    assert read_checkpoint(str(folder)).weight_bytes == 2 * len(safetensors())


@pytest.mark.parametrize(
    ("config", "narrow", "wide"),
    [
        ({"dtype": "float16"}, True, False),
        ({"torch_dtype": "float32"}, False, True),
        ({"text_config": {"dtype": "bfloat16"}}, True, False),
        ({"dtype": ["float32"], "text_config": ["dtype"]}, False, False),
        ({}, False, False),
    ],
)
def test_checkpoint_has_the_width_of_its_numbers(
    config: dict[str, Any], narrow: bool, wide: bool, tmp_path: Path
) -> None:
    """Both names of the key are read; other types are unknown."""
    found = read_checkpoint(str(write_checkpoint(tmp_path, config__json=config)))
    assert (found.is_narrow, found.is_wide) == (narrow, wide)


@pytest.mark.parametrize(
    ("config", "values"),
    [
        ({"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 64}, 2 * 2 * 4 * 16),
        ({"num_hidden_layers": 2, "num_attention_heads": 4, "head_dim": 80}, 2 * 2 * 4 * 80),
        ({"text_config": {"num_hidden_layers": 1, "num_attention_heads": 1, "head_dim": 8}}, 16),
        ({"num_hidden_layers": 2, "num_attention_heads": 4}, None),
        ({"num_hidden_layers": "2", "num_attention_heads": 4, "head_dim": 80}, None),
        ({}, None),
    ],
)
def test_missing_or_wrong_number_is_unknown(
    config: dict[str, Any], values: int | None, tmp_path: Path
) -> None:
    """Values of other types count as missing."""
    found = read_checkpoint(str(write_checkpoint(tmp_path, config__json=config)))
    assert (found.cache_values, found.context_tokens, found.is_narrow) == (values, None, False)


def test_documented_routing_models_are_supported() -> None:
    """They are those of the documentation and the tests."""
    known = architectures()
    for name in ("Qwen2ForCausalLM", "Qwen3ForCausalLM", "Qwen3MoeForCausalLM", "LlamaForCausalLM"):
        assert known[name] == "generate"
    assert known["BertModel"] == "embed"
