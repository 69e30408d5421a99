"""A checkpoint of a language model as files, without weights that could be loaded."""

import json
from pathlib import Path
from typing import Any, Final

CONFIG: Final = {
    "architectures": ["Qwen2ForCausalLM"],
    "hidden_size": 1536,
    "num_hidden_layers": 28,
    "num_attention_heads": 12,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32768,
    "torch_dtype": "bfloat16",
}
TENSOR: Final = {
    "__metadata__": {"format": "pt"},
    "a": {"dtype": "U8", "shape": [8], "data_offsets": [0, 8]},
}


def write_checkpoint(folder: Path, **files: Any) -> Path:
    """Writes a valid checkpoint; ``name__suffix=content`` replaces a file, None leaves it out."""
    header = json.dumps(TENSOR).encode()
    content = {
        "config.json": CONFIG,
        "model.safetensors": len(header).to_bytes(8, "little") + header + bytes(8),
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
