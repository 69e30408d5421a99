"""Writes checkpoints for tests: small files, but complete."""

import json
from pathlib import Path
from typing import Any, Final

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
    """A file with one tensor of ``size`` bytes."""
    entry = {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}
    header = json.dumps({"__metadata__": {"format": "pt"}, "a": entry}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(size)


def write_checkpoint(folder: Path, **files: Any) -> Path:
    """A checkpoint without faults; ``name__suffix`` replaces a file, None leaves it out."""
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
