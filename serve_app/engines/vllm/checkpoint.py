"""Faults of a checkpoint's folder, and facts about its model, read from its files.

No weights are loaded, so this takes milliseconds and does not need vLLM: ``fingerpost check`` can
use it on any machine.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final, Literal, TypeAlias

from serve_app.domain import Json

Task: TypeAlias = Literal["generate", "embed"]

KNOWN: Final = Path(__file__).parent / "architectures.txt"

INDEX: Final = "model.safetensors.index.json"
_TOKENIZERS: Final = (("tokenizer.json",), ("tokenizer.model",), ("vocab.json", "merges.txt"))
_TEMPLATES: Final = ("chat_template.jinja", "chat_template.json")
_LENGTH_BYTES: Final = 8
_MAX_HEADER: Final = 100 << 20
_MAX_LISTED: Final = 3


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Facts about the model of a checkpoint."""

    weight_bytes: int
    context_tokens: int | None
    """Tokens of the longest sequence that the model supports."""
    cache_values: int | None
    """Numbers per token in the KV cache: keys and values of all layers."""
    is_narrow: bool = False
    """Its weights are 16-bit numbers."""
    is_wide: bool = False
    """Its weights are 32-bit numbers."""


def faults(model: str, task: Task = "generate") -> list[str]:
    """Why vLLM cannot run the checkpoint in this folder: one line each, with a fix."""
    folder = Path(model)
    try:
        if not folder.is_dir():
            return [_not_a_folder(folder)]
        return [*_config_faults(folder, task), *_weight_faults(folder), *_text_faults(folder, task)]
    except OSError as error:
        return [f"cannot read {model}: {error.strerror or type(error).__name__}"]


def read_checkpoint(model: str) -> Checkpoint:
    """The facts about the model of a checkpoint without faults."""
    folder = Path(model)
    config = _object(folder / "config.json") or {}
    inner = config.get("text_config")
    config |= inner if isinstance(inner, dict) else {}
    size, layers = _number(config, "hidden_size"), _number(config, "num_hidden_layers")
    heads = _number(config, "num_attention_heads")
    width = _number(config, "head_dim") or (size // heads if size and heads else None)
    heads = _number(config, "num_key_value_heads") or heads
    kind = str(config.get("dtype") or config.get("torch_dtype"))
    files = [folder / name for name in _listed(folder) or _found(folder)]
    return Checkpoint(
        weight_bytes=sum(file.stat().st_size for file in files if file.is_file()),
        context_tokens=_number(config, "max_position_embeddings"),
        cache_values=2 * layers * heads * width if layers and heads and width else None,
        is_narrow=kind in {"bfloat16", "float16"},
        is_wide=kind == "float32",
    )


def _listed(folder: Path) -> list[str]:
    """The files of weights in the index: vLLM loads these and no others."""
    listed = (_object(folder / INDEX) or {}).get("weight_map")
    return sorted({str(name) for name in listed.values()}) if isinstance(listed, dict) else []


def _found(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.glob("*.safetensors"))


def _number(config: Mapping[str, Json], name: str) -> int | None:
    value = config.get(name)
    return value if isinstance(value, int) else None


@cache
def architectures() -> Mapping[str, Task]:
    """The classes that vLLM supports, and their tasks; a newer vLLM may support more."""
    lines = KNOWN.read_text("ascii").splitlines()[1:]
    return {name: task for task, name in map(str.split, lines)}  # type: ignore[misc]


def _not_a_folder(folder: Path) -> str:
    if folder.is_file():
        if folder.suffix == ".gguf":
            return f"{folder} is GGUF, which vLLM no longer reads; use the safetensors of the model"
        return f"{folder} is a file; set the folder that contains config.json and the safetensors"
    return (
        f"there is no folder {folder}; check orchestrator.model, "
        "and set `download: true` if it is the id of a model on a hub"
    )


def _config_faults(folder: Path, task: Task) -> Iterator[str]:
    file = folder / "config.json"
    if not file.is_file():
        yield f"{folder} has no config.json; use the whole folder of the model"
        return
    config = _object(file)
    if config is None:
        yield f"{file} is not a JSON object; use the model's own"
        return
    names = config.get("architectures")
    if not isinstance(names, list) or not names:
        yield f"{file} lists no architectures; use the model's own"
        return
    known = [architectures()[name] for name in map(str, names) if name in architectures()]
    if not known:
        yield f"{file}: vLLM does not support {', '.join(map(str, names))}; use another model"
    elif task == "generate" and "generate" not in known:
        yield f"{file}: {names[0]} is an embedding model; set `task: embed` or use a chat model"


def _weight_faults(folder: Path) -> Iterator[str]:
    index = folder / INDEX
    if index.is_file():
        names = _listed(folder)
        if not names:
            yield f"{index} lists no weights; use the model's own"
            return
    else:
        names = _found(folder)
        if not names:
            yield f"{folder} has no *.safetensors; use weights in this format"
            return
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        more = f" and {len(missing) - _MAX_LISTED} more" if len(missing) > _MAX_LISTED else ""
        yield f"{folder} lacks {', '.join(missing[:_MAX_LISTED])}{more} of {INDEX}; download it again"
    for name in names:
        if name not in missing and not _is_whole(folder / name):
            yield f"{folder / name} is truncated or not a safetensors file; download it again"


def _is_whole(file: Path) -> bool:
    """True if the file has the size in its header. An unresolved pointer of Git LFS has not."""
    size = file.stat().st_size
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(_LENGTH_BYTES), "little")
        if not 1 < length <= min(size, _MAX_HEADER):
            return False
        try:
            header = json.loads(opened.read(length))
            ends = [entry["data_offsets"][1] for name, entry in header.items() if name[:2] != "__"]
        except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
            return False
    return size == _LENGTH_BYTES + length + max(ends, default=0)


def _text_faults(folder: Path, task: Task) -> Iterator[str]:
    if not any(all((folder / name).is_file() for name in names) for names in _TOKENIZERS):
        yield f"{folder} has no tokenizer; add tokenizer.json"
    if task == "generate" and not any((folder / name).is_file() for name in _TEMPLATES):
        config = _object(folder / "tokenizer_config.json") or {}
        if not config.get("chat_template"):
            yield f"{folder} has no chat template; use an instruct model, not a base model"


def _object(file: Path) -> dict[str, Json] | None:
    try:
        value = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
