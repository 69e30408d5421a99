"""Reads which files an encoder consists of, and what they say about it; loads no model.

An encoder is a folder as sentence-transformers lays it out, or an export to ONNX: a graph, a
tokenizer, and JSON files about pooling, prompts and lengths. Or it is a graph in such a folder.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias

from serve_app.domain import Json
from serve_app.engines.faults import EngineFaultError

Pooling: TypeAlias = Literal["cls", "mean", "max", "last", "mean_sqrt"]
"""How one vector is made of those of the tokens; ``mean_sqrt`` is the sum over a root of n."""

GRAPHS: Final = (
    "model.onnx",
    "model_quantized.onnx",
    "model_int8.onnx",
    "model_qint8_avx512_vnni.onnx",
    "model_qint8_avx512.onnx",
    "model_quint8_avx2.onnx",
    "model_qint8_arm64.onnx",
    "model_uint8.onnx",
    "model_fp16.onnx",
)
"""Names of graphs; the first one that exists is used, in the folder itself before ``onnx/``."""

_EXPORTS: Final = "onnx"
_MODULES: Final = "modules.json"
_POOLING_FILE: Final = "config.json"
_KEY: Final = "pooling_mode_"
_POOLINGS: Final[Mapping[str, Pooling]] = {
    "cls_token": "cls",
    "mean_tokens": "mean",
    "max_tokens": "max",
    "lasttoken": "last",
    "mean_sqrt_len_tokens": "mean_sqrt",
    "cls": "cls",
    "mean": "mean",
    "max": "max",
    "mean_sqrt_len": "mean_sqrt",
}
"""Poolings by their names in older and newer files of sentence-transformers."""

_PADDED_POSITIONS: Final = frozenset(
    {"camembert", "data2vec-text", "mpnet", "roberta", "xlm-roberta", "xlm-roberta-xl"}
)
"""Families that number positions from the token of padding on, so that fewer are left."""

_LONGEST: Final = 1_000_000
"""Tokenizers write larger numbers where they do not know a maximum length."""

_POINTER: Final = b"version https://git-lfs"


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """The files of a model, and what limits its input."""

    graph: Path
    tokenizer: Path
    """``tokenizer.json`` or ``vocab.txt``."""
    lower_case: bool
    """Texts are turned into lower case, in addition to what ``tokenizer.json`` does."""
    model_type: str
    """The family that ``config.json`` names, such as ``bert``; empty if unknown."""
    max_tokens: int | None
    """Tokens of the longest text, with the tokens that the model adds."""
    first_position: int
    """The number of the first position; not 0 in the families of RoBERTa."""
    vocabulary: int | None
    """Number of tokens that the model knows."""


@dataclass(frozen=True, slots=True)
class EncoderFiles:
    """The files of an encoder, and how a text becomes a vector."""

    model: ModelFiles
    pooling: Pooling
    is_pooling_stated: bool
    """False: no file says it, and the mean is a guess."""
    dimensions: int | None
    """Length of a vector, if a file says it."""
    dimensions_from: str
    """The file that says it."""
    other_modules: tuple[str, ...]
    """Modules after pooling, such as ``Dense``; the graph has to contain them."""
    query_prefix: str
    passage_prefix: str


def read_encoder(path: Path) -> EncoderFiles:
    """What the files of an encoder say. Raises EngineFaultError with the file and the fix."""
    graph, folder = _graph_of(path, "orchestrator.model")
    modules = _modules(folder / _MODULES)
    base = folder / _path_of(modules, "Transformer", "")
    config_file, config = _first_object([base, folder, graph.parent], "config.json")
    pooling_file = folder / _path_of(modules, "Pooling", "1_Pooling") / _POOLING_FILE
    settings = _object(pooling_file)
    pooling: Pooling = "mean"
    dimensions, source = _number(config, "hidden_size"), config_file
    if settings is not None:
        pooling = _pooling_of(settings, pooling_file)
        names = ("word_embedding_dimension", "embedding_dimension")
        width = next((found for name in names if (found := _number(settings, name))), None)
        if width is not None:
            dimensions, source = width, pooling_file
    query, passage = _prompts(folder / "config_sentence_transformers.json")
    if settings is not None and settings.get("include_prompt") is False and (query or passage):
        raise EngineFaultError(
            f"{pooling_file}: include_prompt false is not supported; "
            "use a model whose pooling includes its prompts"
        )
    known = {"Transformer", "Pooling", "Normalize"}
    return EncoderFiles(
        model=_model_files(folder, base, graph, config),
        pooling=pooling,
        is_pooling_stated=settings is not None,
        dimensions=dimensions,
        dimensions_from=str(source),
        other_modules=tuple(kind for kind, _ in modules if kind not in known),
        query_prefix=query,
        passage_prefix=passage,
    )


def read_cross_encoder(path: Path) -> ModelFiles:
    """What the files of a cross-encoder say. Raises EngineFaultError with the file and the fix."""
    graph, folder = _graph_of(path, "orchestrator.reranker")
    _, config = _first_object([folder, graph.parent], "config.json")
    files = _model_files(folder, folder, graph, config)
    if files.tokenizer.suffix != ".json":
        raise EngineFaultError(
            f"{folder} has no tokenizer.json, which a reranker needs; copy the model's own into it"
        )
    return files


def is_encoder(path: Path) -> bool:
    """True unless the path is an ONNX file without a ``tokenizer.json`` in its folder.

    The folder of a file in ``onnx/`` is the one above, if the other files are there.
    """
    places = {_folder_of(path), path.parent}
    return not path.is_file() or any((place / "tokenizer.json").is_file() for place in places)


def _folder_of(graph: Path) -> Path:
    above = graph.parent.parent
    has_others = any((above / name).is_file() for name in ("tokenizer.json", "config.json"))
    return above if graph.parent.name == _EXPORTS and has_others else graph.parent


def _graph_of(path: Path, key: str) -> tuple[Path, Path]:
    """The graph, and the folder that the other files are in."""
    if path.is_file():
        return _whole(path), _folder_of(path)
    if not path.is_dir():
        kind = "file" if path.suffix == ".onnx" else "file or folder"
        raise EngineFaultError(f"there is no {kind} {path}; check {key}")
    for name in GRAPHS:
        for file in (path / name, path / _EXPORTS / name):
            if file.is_file():
                return _whole(file), path
    found = sorted([*path.glob("*.onnx"), *(path / _EXPORTS).glob("*.onnx")])
    if not found:
        raise EngineFaultError(
            f"{path} has no model.onnx and no onnx/model.onnx; export the model to ONNX, "
            "or use a folder that has the export"
        )
    if len(found) > 1:
        names = ", ".join(str(file.relative_to(path)) for file in found)
        raise EngineFaultError(f"{path} has several graphs: {names}; name one of them in {key}")
    return _whole(found[0]), path


def _whole(file: Path) -> Path:
    """The file; a pointer of Git LFS, which is there in place of it, is a fault."""
    try:
        with file.open("rb") as opened:
            is_pointer = opened.read(len(_POINTER)) == _POINTER
    except OSError as error:
        raise EngineFaultError(f"cannot read {file}: {error.strerror}") from error
    if is_pointer:
        raise EngineFaultError(f"{file} is a pointer of Git LFS; run `git lfs pull` in its folder")
    return file


def _model_files(folder: Path, base: Path, graph: Path, config: Mapping[str, Json]) -> ModelFiles:
    places = [base, folder, graph.parent]
    names = ("tokenizer.json", "vocab.txt")
    found = (place / name for name in names for place in places if (place / name).is_file())
    tokenizer = next(found, None)
    if tokenizer is None:
        raise EngineFaultError(
            f"{folder} has no tokenizer.json and no vocab.txt; copy the model's own into it"
        )
    _, own = _first_object(places, "tokenizer_config.json")
    _, lengths = _first_object(places, "sentence_bert_config.json")
    family = config.get("model_type")
    padding = config.get("pad_token_id", 1)
    first = padding + 1 if family in _PADDED_POSITIONS and isinstance(padding, int) else 0
    positions = _number(config, "max_position_embeddings")
    limits = (
        _number(lengths, "max_seq_length"),
        _number(own, "model_max_length"),
        None if positions is None else positions - first,
    )
    is_list = tokenizer.suffix == ".txt"
    return ModelFiles(
        graph=graph,
        tokenizer=_whole(tokenizer),
        lower_case=lengths.get("do_lower_case") is True
        or (is_list and own.get("do_lower_case") is not False),
        model_type=family if isinstance(family, str) else "",
        max_tokens=min((limit for limit in limits if limit is not None), default=None),
        first_position=first,
        vocabulary=_number(config, "vocab_size"),
    )


def _modules(file: Path) -> list[tuple[str, str]]:
    """The kinds of a model's modules, and their folders; empty without the file."""
    value = _json(file)
    if value is None:
        return []
    try:
        return [(str(entry["type"]).rpartition(".")[2], str(entry["path"])) for entry in value]
    except (TypeError, LookupError) as error:
        raise EngineFaultError(
            f"{file} is not a list of modules with type and path; use the model's own"
        ) from error


def _path_of(modules: list[tuple[str, str]], kind: str, default: str) -> str:
    return next((path for name, path in modules if name == kind), default)


def _pooling_of(settings: Mapping[str, Json], file: Path) -> Pooling:
    value = settings.get("pooling_mode")
    names = [str(value)] if value is not None else []
    names += [
        name.removeprefix(_KEY)
        for name, is_set in settings.items()
        if name.startswith(_KEY) and is_set is True
    ]
    for name in names:
        if name not in _POOLINGS:
            raise EngineFaultError(
                f"{file}: the pooling {name} is not supported; use a model that pools by "
                f"{', '.join(dict.fromkeys(_POOLINGS.values()))}"
            )
    chosen = list(dict.fromkeys(_POOLINGS[name] for name in names))
    if len(chosen) != 1:
        raise EngineFaultError(
            f"{file} sets {len(chosen)} poolings; exactly one is supported, set one of them"
        )
    return chosen[0]


def _prompts(file: Path) -> tuple[str, str]:
    """What is put before a query and before a passage, as sentence-transformers chooses it."""
    settings = _object(file) or {}
    found = settings.get("prompts")
    prompts = found if isinstance(found, dict) else {}
    default = prompts.get(settings.get("default_prompt_name"), "")

    def prompt(*names: str) -> str:
        return str(next((prompts[name] for name in names if prompts.get(name)), default))

    return prompt("query"), prompt("passage", "document", "corpus")


def _first_object(places: list[Path], name: str) -> tuple[Path, Mapping[str, Json]]:
    """The first of these files that exists; or where it should be, and an empty object."""
    for place in dict.fromkeys(places):
        value = _object(place / name)
        if value is not None:
            return place / name, value
    return places[0] / name, {}


def _object(file: Path) -> Mapping[str, Json] | None:
    value = _json(file)
    if value is not None and not isinstance(value, dict):
        raise EngineFaultError(f"{file} is not a JSON object; use the model's own")
    return value


def _json(file: Path) -> Json:
    """The content of a JSON file; None without the file."""
    if not file.is_file():
        return None
    try:
        return json.loads(_whole(file).read_bytes())
    except OSError as error:
        raise EngineFaultError(f"cannot read {file}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise EngineFaultError(f"{file} is not valid JSON; use the model's own") from error


def _number(settings: Mapping[str, Json], name: str) -> int | None:
    """A positive integer; None also for one that only means "unlimited"."""
    value = settings.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if 0 < value <= _LONGEST else None
