"""What the files of an encoder say, and what is wrong with a folder."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from serve_app.domain import Json
from serve_app.engines.embedding.encoder_files import (
    GRAPHS,
    is_encoder,
    read_cross_encoder,
    read_encoder,
)
from serve_app.engines.faults import EngineFaultError
from tests.unit.engines.embedding.encoders import (
    BERT,
    ROBERTA,
    write_encoder,
    write_json,
    write_pooling,
    write_tokenizer,
)

POINTER: Final = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_encoder(BERT, tmp_path / "encoder")


def fault(path: Path) -> str:
    with pytest.raises(EngineFaultError) as caught:
        read_encoder(path)
    return str(caught.value)


def test_export_without_other_files_pools_by_the_mean(folder: Path) -> None:
    """The mean is a guess, and marked as one; texts get no prefixes."""
    files = read_encoder(folder)
    assert (files.pooling, files.is_pooling_stated) == ("mean", False)
    assert (files.query_prefix, files.passage_prefix) == ("", "")
    assert (files.dimensions, files.dimensions_from) == (4, str(folder / "config.json"))
    assert files.other_modules == ()
    model = files.model
    assert (model.graph, model.tokenizer) == (folder / "model.onnx", folder / "tokenizer.json")
    assert (model.model_type, model.max_tokens, model.first_position) == ("bert", 20, 0)
    assert not model.lower_case


@pytest.mark.parametrize("first", range(len(GRAPHS) - 1))
def test_graphs_have_an_order(first: int, folder: Path) -> None:
    """Of two graphs the one that is documented first is used; the folder comes before ``onnx/``."""
    graph = folder / "model.onnx"
    graph.rename(folder / "graph")
    for name in (GRAPHS[first], GRAPHS[-1]):
        (folder / "onnx").mkdir(exist_ok=True)
        (folder / "onnx" / name).touch()
    assert read_encoder(folder).model.graph == folder / "onnx" / GRAPHS[first]
    (folder / GRAPHS[first]).touch()
    assert read_encoder(folder).model.graph == folder / GRAPHS[first]


def test_single_graph_may_have_any_name(folder: Path) -> None:
    """With several of unknown names, one has to be named."""
    (folder / "model.onnx").rename(folder / "encoder_O3.onnx")
    assert read_encoder(folder).model.graph == folder / "encoder_O3.onnx"
    (folder / "onnx").mkdir()
    (folder / "onnx" / "other.onnx").touch()
    assert fault(folder) == (
        f"{folder} has several graphs: encoder_O3.onnx, onnx/other.onnx; "
        "name one of them in orchestrator.model"
    )
    assert read_encoder(folder / "onnx/other.onnx").model.tokenizer == folder / "tokenizer.json"


@pytest.mark.parametrize("name", ["tokenizer.json", "config.json"])
def test_graph_in_the_folder_onnx_uses_the_folder_above(name: str, folder: Path) -> None:
    """It is so if the model's other files are there."""
    (folder / "onnx").mkdir()
    (folder / "model.onnx").rename(folder / "onnx/model_O4.onnx")
    write_pooling(folder, "cls_token")
    if name == "config.json":
        (folder / "tokenizer.json").rename(folder / "onnx/tokenizer.json")
    path = folder / "onnx/model_O4.onnx"
    assert is_encoder(path)
    assert read_encoder(path).pooling == "cls"


def test_export_may_have_all_files_in_onnx(folder: Path) -> None:
    """Tokenizer and configuration are found there."""
    inner = folder / "onnx"
    inner.mkdir()
    for file in list(folder.iterdir()):
        if file.is_file():
            file.rename(inner / file.name)
    files = read_encoder(folder)
    assert (files.model.tokenizer, files.model.model_type) == (inner / "tokenizer.json", "bert")


def test_file_without_a_tokenizer_is_not_an_encoder(folder: Path) -> None:
    """Such a file is used as it always was; a path that does not exist is an encoder's fault."""
    assert is_encoder(folder)
    assert is_encoder(folder / "model.onnx")
    (folder / "tokenizer.json").unlink()
    assert not is_encoder(folder / "model.onnx")
    assert is_encoder(folder / "missing")


@pytest.mark.parametrize(
    ("name", "pooling"),
    [
        ("cls_token", "cls"),
        ("mean_tokens", "mean"),
        ("max_tokens", "max"),
        ("lasttoken", "last"),
        ("mean_sqrt_len_tokens", "mean_sqrt"),
    ],
)
def test_pooling_is_that_of_sentence_transformers(name: str, pooling: str, folder: Path) -> None:
    """Its file says the dimensions, too."""
    write_pooling(folder, name, word_embedding_dimension=8)
    files = read_encoder(folder)
    assert (files.pooling, files.is_pooling_stated) == (pooling, True)
    assert files.dimensions == 8
    assert files.dimensions_from == str(folder / "1_Pooling/config.json")


@pytest.mark.parametrize(
    ("value", "pooling"),
    [("mean", "mean"), ("cls", "cls"), ("max", "max"), ("lasttoken", "last")],
)
def test_newer_form_of_pooling_is_read(value: str, pooling: str, folder: Path) -> None:
    """It has one key with a name."""
    write_json(folder / "1_Pooling/config.json", {"embedding_dimension": 4, "pooling_mode": value})
    files = read_encoder(folder)
    assert (files.pooling, files.dimensions) == (pooling, 4)


def test_folders_of_modules_are_those_of_modules_json(folder: Path) -> None:
    """Older models have the transformer in a folder of its own."""
    write_pooling(folder, "cls_token")
    (folder / "1_Pooling").rename(folder / "2_Pool")
    (folder / "0_Transformer").mkdir()
    for name in ("config.json", "tokenizer.json"):
        (folder / name).rename(folder / "0_Transformer" / name)
    modules = [("Transformer", "0_Transformer"), ("Pooling", "2_Pool"), ("Dense", "3_Dense")]
    write_json(
        folder / "modules.json",
        [{"type": f"sentence_transformers.models.{kind}", "path": path} for kind, path in modules],
    )
    files = read_encoder(folder)
    assert files.pooling == "cls"
    assert files.model.tokenizer == folder / "0_Transformer/tokenizer.json"
    assert files.other_modules == ("Dense",)


PROMPTS: Final = "config_sentence_transformers.json"


@pytest.mark.parametrize(
    ("settings", "query", "passage"),
    [
        ({}, "", ""),
        ({"prompts": {"query": "query: ", "passage": "passage: "}}, "query: ", "passage: "),
        ({"prompts": {"query": "q: ", "document": "d: "}}, "q: ", "d: "),
        ({"prompts": {"query": "", "document": ""}, "default_prompt_name": None}, "", ""),
        ({"prompts": {"sts": "s: ", "query": "q: "}, "default_prompt_name": "sts"}, "q: ", "s: "),
        ({"prompts": {"x": "x: "}, "default_prompt_name": "missing"}, "", ""),
        ({"prompts": None}, "", ""),
    ],
)
def test_prefixes_are_the_models_prompts(
    settings: Json, query: str, passage: str, folder: Path
) -> None:
    """The prompt of the default name stands for one that is missing."""
    write_json(folder / PROMPTS, settings)
    files = read_encoder(folder)
    assert (files.query_prefix, files.passage_prefix) == (query, passage)


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        ("sentence_bert_config.json", {"max_seq_length": 9}, 9),
        ("sentence_bert_config.json", {"max_seq_length": None}, 20),
        ("tokenizer_config.json", {"model_max_length": 12}, 12),
        ("tokenizer_config.json", {"model_max_length": 10**30}, 20),
        ("tokenizer_config.json", {"model_max_length": True}, 20),
    ],
)
def test_shortest_length_counts(name: str, settings: Json, expected: int, folder: Path) -> None:
    """Numbers that mean "unlimited" do not count."""
    write_json(folder / name, settings)
    assert read_encoder(folder).model.max_tokens == expected


def test_roberta_has_fewer_positions(tmp_path: Path) -> None:
    """It numbers them from the token of padding on; without a number of it, from 2 on."""
    model = read_encoder(write_encoder(ROBERTA, tmp_path, config={"pad_token_id": 3})).model
    assert (model.first_position, model.max_tokens) == (4, 16)
    model = read_encoder(write_encoder(ROBERTA, tmp_path, config={"pad_token_id": None})).model
    assert (model.first_position, model.max_tokens) == (0, 20)


def test_folder_without_lengths_has_no_limit(folder: Path) -> None:
    """The configured limit applies alone."""
    (folder / "config.json").unlink()
    model = read_encoder(folder).model
    assert (model.max_tokens, model.vocabulary, model.model_type) == (None, None, "")


@pytest.mark.parametrize(("settings", "expected"), [({}, True), ({"do_lower_case": False}, False)])
def test_list_of_words_is_lower_case_by_default(
    settings: Json, expected: bool, folder: Path
) -> None:
    """``vocab.txt`` is used where there is no ``tokenizer.json``."""
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").touch()
    write_json(folder / "tokenizer_config.json", settings)
    model = read_encoder(folder).model
    assert (model.tokenizer.name, model.lower_case) == ("vocab.txt", expected)


def test_sentence_transformers_may_ask_for_lower_case(folder: Path) -> None:
    """Older models do so beside their tokenizer."""
    write_json(folder / "sentence_bert_config.json", {"do_lower_case": True})
    assert read_encoder(folder).model.lower_case


def without(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


def with_content(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content)


def with_pooling(name: str, **more: Json) -> Callable[[Path], object]:
    return lambda folder: write_pooling(folder, name, **more)


FAULTS: Final[list[tuple[Callable[[Path], object], str]]] = [
    (
        without("model.onnx"),
        (
            "{} has no model.onnx and no onnx/model.onnx; export the model to ONNX, or use a folder "
            "that has the export"
        ),
    ),
    (
        without("tokenizer.json"),
        "{} has no tokenizer.json and no vocab.txt; copy the model's own into it",
    ),
    (
        with_content("model.onnx", POINTER),
        "{}/model.onnx is a pointer of Git LFS; run `git lfs pull` in its folder",
    ),
    (
        with_content("tokenizer.json", POINTER),
        "{}/tokenizer.json is a pointer of Git LFS; run `git lfs pull` in its folder",
    ),
    (with_content("config.json", b"{"), "{}/config.json is not valid JSON; use the model's own"),
    (
        with_content("config.json", b"[]"),
        "{}/config.json is not a JSON object; use the model's own",
    ),
    (
        with_content("modules.json", b"[1]"),
        "{}/modules.json is not a list of modules with type and path; use the model's own",
    ),
    (
        with_pooling("weightedmean_tokens"),
        (
            "{}/1_Pooling/config.json: the pooling weightedmean_tokens is not supported; use a model "
            "that pools by cls, mean, max, last, mean_sqrt"
        ),
    ),
    (
        with_pooling("none"),
        "{}/1_Pooling/config.json sets 0 poolings; exactly one is supported, set one of them",
    ),
    (
        with_pooling("cls_token", pooling_mode_max_tokens=True),
        "{}/1_Pooling/config.json sets 2 poolings; exactly one is supported, set one of them",
    ),
]


@pytest.mark.parametrize(("change", "message"), FAULTS, ids=[text[:40] for _, text in FAULTS])
def test_faulty_folder_is_named(
    change: Callable[[Path], object], message: str, folder: Path
) -> None:
    """The message has the file, the cause and what to do."""
    change(folder)
    assert fault(folder) == message.format(folder)


def test_pooling_without_the_prompt_is_not_supported(folder: Path) -> None:
    """It matters only if the model has prompts."""
    write_pooling(folder, "mean_tokens", include_prompt=False)
    assert read_encoder(folder).pooling == "mean"
    write_json(folder / PROMPTS, {"prompts": {"query": "q: "}})
    assert fault(folder) == (
        f"{folder}/1_Pooling/config.json: include_prompt false is not supported; "
        "use a model whose pooling includes its prompts"
    )


@pytest.mark.parametrize(("name", "kind"), [("x.onnx", "file"), ("x", "file or folder")])
def test_missing_path_is_named(name: str, kind: str, tmp_path: Path) -> None:
    """The message names the key of the configuration, too."""
    path = tmp_path / name
    assert fault(path) == f"there is no {kind} {path}; check orchestrator.model"


@pytest.mark.parametrize("name", ["config.json", "model.onnx"])
def test_unreadable_file_is_a_fault(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message has the reason of the system."""

    def refuse(self: Path, *_arguments: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes" if name == "config.json" else "open", refuse)
    assert fault(folder) == f"cannot read {folder / name}: Permission denied"


def test_cross_encoder_needs_a_tokenizer_file(folder: Path) -> None:
    """A list of words has no template for two texts; the other files are read as those of encoders."""
    files = read_cross_encoder(folder)
    assert (files.graph, files.max_tokens) == (folder / "model.onnx", 20)
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").touch()
    with pytest.raises(EngineFaultError) as caught:
        read_cross_encoder(folder)
    assert str(caught.value) == (
        f"{folder} has no tokenizer.json, which a reranker needs; copy the model's own into it"
    )
    with pytest.raises(EngineFaultError, match=r"check orchestrator\.reranker"):
        read_cross_encoder(folder / "missing")


def test_cross_encoder_may_be_named_by_its_graph(folder: Path) -> None:
    """So one of several graphs is chosen."""
    write_tokenizer(BERT, folder / "onnx/tokenizer.json")
    (folder / "model.onnx").rename(folder / "onnx/model_O2.onnx")
    files = read_cross_encoder(folder / "onnx/model_O2.onnx")
    assert files.tokenizer == folder / "tokenizer.json"
