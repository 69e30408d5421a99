"""Checkpoints as files: what is wrong with a folder, and what it says."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from serve_app.engines.vllm.checkpoint import (
    INDEX,
    Checkpoint,
    architectures,
    faults,
    read_checkpoint,
)

QWEN: Final = {
    "architectures": ["Qwen2ForCausalLM"],
    "hidden_size": 1536,
    "num_hidden_layers": 28,
    "num_attention_heads": 12,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32768,
    "torch_dtype": "bfloat16",
}


def safetensors(size: int = 8) -> bytes:
    """A file with one tensor of so many bytes."""
    entry = {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}
    header = json.dumps({"__metadata__": {"format": "pt"}, "a": entry}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(size)


def write(folder: Path, **files: Any) -> Path:
    """A sound checkpoint; ``name__suffix`` in place of a file, None without it."""
    content = {
        "config.json": QWEN,
        "model.safetensors": safetensors(),
        "tokenizer.json": {},
        "tokenizer_config.json": {"chat_template": "{{ messages }}"},
        **{name.replace("__", "."): value for name, value in files.items()},
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in content.items():
        if value is not None:
            raw = value if isinstance(value, bytes) else json.dumps(value).encode()
            (folder / name).write_bytes(raw)
    return folder


def test_a_sound_checkpoint_has_no_faults(tmp_path: Path) -> None:
    """Neither with one file of weights nor with several that an index lists."""
    assert faults(str(write(tmp_path / "one"))) == []
    two = write(
        tmp_path / "two",
        model__safetensors=None,
        **{"a.safetensors": safetensors(), "b.safetensors": safetensors()},
        **{INDEX: {"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}},
    )
    assert faults(str(two)) == []


@pytest.mark.parametrize(
    ("files", "fault"),
    [
        ({"config__json": None}, "{} has no config.json; take the whole folder of the model"),
        ({"config__json": b"{"}, "{}/config.json is no JSON object; take the model's own"),
        ({"config__json": []}, "{}/config.json is no JSON object; take the model's own"),
        ({"config__json": {}}, "{}/config.json names no architectures; take the model's own"),
        ({"config__json": {"architectures": ["MPNetModel", 1]}}, "{}/config.json: vLLM knows no architecture MPNetModel, 1; take another model"),
        ({"config__json": {"architectures": [{}]}}, "{}/config.json: vLLM knows no architecture {{}}; take another model"),
        ({"config__json": {"architectures": ["BertModel"]}}, "{}/config.json: BertModel is an embedding model; set `task: embed`, or take a chat model"),
        ({"model__safetensors": None}, "{} has no *.safetensors; other forms of weights are not loaded"),
        ({"model__safetensors": safetensors()[:-1]}, "{}/model.safetensors is cut short, or is no safetensors file; fetch it again"),
        ({"model__safetensors": b"version https://git-lfs.github.com/spec/v1"}, "{}/model.safetensors is cut short, or is no safetensors file; fetch it again"),
        ({"model__safetensors": b""}, "{}/model.safetensors is cut short, or is no safetensors file; fetch it again"),
        ({"model__safetensors": b"\2\0\0\0\0\0\0\0[]"}, "{}/model.safetensors is cut short, or is no safetensors file; fetch it again"),
        ({INDEX: {"weight_map": {}}}, "{}/model.safetensors.index.json lists no weights; take the model's own"),
        ({INDEX: b"nothing"}, "{}/model.safetensors.index.json lists no weights; take the model's own"),
        ({INDEX: {"weight_map": {str(n): f"{n}.safetensors" for n in range(5)}}}, "{} lacks 0.safetensors, 1.safetensors, 2.safetensors and 2 more, which model.safetensors.index.json lists"),
        ({INDEX: {"weight_map": {"a": "model.safetensors", "b": "b.safetensors"}}}, "{} lacks b.safetensors, which model.safetensors.index.json lists"),
        ({"tokenizer__json": None}, "{} has no tokenizer; it needs tokenizer.json"),
        ({"tokenizer_config__json": None}, "{} has no chat template; take an instruct model, not a base model"),
        ({"tokenizer_config__json": {}}, "{} has no chat template; take an instruct model, not a base model"),
    ],
)  # fmt: skip
def test_each_fault_has_a_way_out(files: dict[str, Any], fault: str, tmp_path: Path) -> None:
    """And names the file."""
    assert faults(str(write(tmp_path, **files))) == [fault.format(tmp_path)]


def test_all_faults_come_at_once(tmp_path: Path) -> None:
    """An empty folder lacks everything."""
    assert len(faults(str(tmp_path))) == 4


def test_an_embedding_model_needs_no_chat_template(tmp_path: Path) -> None:
    """Any language model may embed, too."""
    config = {"architectures": ["BertModel"]}
    bert = write(tmp_path, config__json=config, tokenizer_config__json=None)
    assert faults(str(bert), "embed") == []
    assert faults(str(write(tmp_path / "qwen")), "embed") == []


@pytest.mark.parametrize(
    ("make", "fault"),
    [
        (lambda path: path.touch(), "{} is a file; name the folder that has config.json and the safetensors"),
        (lambda _: None, "there is no folder {}; see orchestrator.model, and set `download: true` if it is the id of a model on a hub"),
    ],
)  # fmt: skip
def test_what_is_no_folder(make: Callable[[Path], None], fault: str, tmp_path: Path) -> None:
    """Nothing there, or a file."""
    make(tmp_path / "m")
    assert faults(str(tmp_path / "m")) == [fault.format(tmp_path / "m")]


def test_gguf_is_read_no_more(tmp_path: Path) -> None:
    """Plano's manual names such a file."""
    (tmp_path / "m.gguf").touch()
    (fault,) = faults(str(tmp_path / "m.gguf"))
    assert fault.endswith("is GGUF, which vLLM reads no more; take the safetensors of the model")


def test_what_can_t_be_read_is_a_fault() -> None:
    """Too long a name, for one."""
    assert faults("x" * 300) == [f"{'x' * 300} can't be read: File name too long"]


def test_a_checkpoint_says_how_large_it_is(tmp_path: Path) -> None:
    """Its weights, the longest sequence, and what a token leaves in the cache."""
    size = len(safetensors())
    assert read_checkpoint(str(write(tmp_path))) == Checkpoint(
        size, 32768, 2 * 28 * 2 * 128, is_narrow=True
    )


def test_weights_that_no_index_lists_are_not_counted(tmp_path: Path) -> None:
    """Some models bring all of them a second time, in one file."""
    listed = {"x": "a.safetensors", "y": "b.safetensors"}
    files = {"a.safetensors": safetensors(), "b.safetensors": safetensors()}
    folder = write(tmp_path, **files, **{INDEX: {"weight_map": listed}})
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
def test_a_checkpoint_says_how_wide_its_numbers_are(
    config: dict[str, Any], narrow: bool, wide: bool, tmp_path: Path
) -> None:
    """In either word for it; of any other kind nothing is known."""
    found = read_checkpoint(str(write(tmp_path, config__json=config)))
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
def test_what_a_config_does_not_say_is_not_known(
    config: dict[str, Any], values: int | None, tmp_path: Path
) -> None:
    """Wrong types are no numbers."""
    found = read_checkpoint(str(write(tmp_path, config__json=config)))
    assert (found.cache_values, found.context_tokens, found.is_narrow) == (values, None, False)


def test_the_routing_models_are_known() -> None:
    """Those that the documentation names, and the tests use."""
    known = architectures()
    for name in ("Qwen2ForCausalLM", "Qwen3ForCausalLM", "Qwen3MoeForCausalLM", "LlamaForCausalLM"):
        assert known[name] == "generate"
    assert known["BertModel"] == "embed"
