"""``fingerpost models``: the list, and pulling a model from a hub."""

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
import yaml

from serve_app.cli import models
from serve_app.cli.main import main
from serve_app.cli.models import LIST, listed_models
from tests.unit.cli.hub import Hub, Scripted, running_hub

FILES: Final = {"tokenizer.json": b"{}", "onnx/model.onnx": b"graph"}
HASHES: Final = {path: hashlib.sha256(body).hexdigest() for path, body in FILES.items()}
REVISION: Final = "0123abcd"
BASE: Final = f"/owner/tiny/resolve/{REVISION}"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def hub() -> Iterator[Hub]:
    with running_hub() as running:
        for path, body in FILES.items():
            running.script(f"{BASE}/{path}", Scripted(body))
        yield running


@pytest.fixture
def known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a model in a list of its own."""
    files = [
        {"path": path, "bytes": len(body), "sha256": HASHES[path]} for path, body in FILES.items()
    ]
    entry = {
        "use": "model",
        "about": "tiny",
        "licence": "MIT",
        "repository": "owner/tiny",
        "revision": REVISION,
        "settings": {"query_prefix": "query: "},
        "files": files,
    }
    (tmp_path / "list.json").write_text(json.dumps({"tiny": entry}), "utf-8")
    monkeypatch.setattr(models, "LIST", tmp_path / "list.json")
    return "tiny"


def hashed(**changes: str) -> list[str]:
    """The option ``--sha256`` with all files."""
    return ["--sha256", *(f"{path}={value}" for path, value in {**HASHES, **changes}.items())]


def usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as caught:
        main(["models", *arguments])
    assert caught.value.code == 2
    return capsys.readouterr().err.rpartition("error: ")[2].strip()


def test_list_has_fixed_revisions_and_hashes() -> None:
    """Each model is for a key of the configuration, and its graph comes last."""
    for model in listed_models().values():
        assert model.use in {"model", "reranker"}
        assert re.fullmatch("[0-9a-f]{40}", model.revision)
        assert all(re.fullmatch("[0-9a-f]{64}", file.sha256) for file in model.files)
        assert all(0 < file.max_bytes < 1 << 30 for file in model.files)
        assert model.files[-1].path.endswith(".onnx")
        assert {"tokenizer.json", "config.json"} < {file.path for file in model.files}
        assert set(model.settings) <= {"query_prefix", "passage_prefix"}


def test_list_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """A line for each model, with its size and its licence."""
    assert main(["models", "list"]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["name", "key", "MB", "licence", "repository"]
    assert [line.split()[0] for line in lines] == list(json.loads(LIST.read_bytes()))
    assert lines[0].split()[1:4] == ["model", "91", "Apache-2.0"]


def test_known_model_is_pulled(
    known: str, hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Into a folder of its name; the output has what belongs into the configuration."""
    assert main(["models", "pull", known, "--endpoint", f"{hub.url}/"]) == 0
    folder = tmp_path / "models/tiny"
    assert {path: (folder / path).read_bytes() for path in FILES} == FILES
    first, _, rest = capsys.readouterr().out.partition("\n")
    assert first == "models/tiny: 2 files, hashes verified; licence MIT"
    section = {"model": str(folder), "query_prefix": "query: "}
    assert yaml.safe_load(rest) == {"orchestrator": section}
    hub.requests.clear()
    assert main(["models", "pull", known, "--endpoint", hub.url]) == 0
    assert hub.requests == []


def test_other_model_is_pulled_with_its_hashes(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The endpoint and a token may be in the environment; the graph comes last."""
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("HF_TOKEN", "secret")
    upper = {"onnx/model.onnx": HASHES["onnx/model.onnx"].upper()}
    arguments = ["models", "pull", f"hf:owner/tiny@{REVISION}", "--to", "own", *hashed(**upper)]
    assert main(arguments) == 0
    assert (tmp_path / "own/onnx/model.onnx").read_bytes() == b"graph"
    assert [path for path, _ in hub.requests] == [f"{BASE}/{path}" for path in FILES]
    assert {headers["authorization"] for _, headers in hub.requests} == {"Bearer secret"}


def test_wrong_hash_fails(hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The file is not left, and the status is 1."""
    wrong = hashed(**{"tokenizer.json": "0" * 64})
    arguments = ["pull", f"hf:owner/tiny@{REVISION}", "--endpoint", hub.url, *wrong]
    assert main(["models", *arguments]) == 1
    assert "is another file" in capsys.readouterr().err
    assert not (tmp_path / "models/tiny/tokenizer.json").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["pull"], "name the model to pull"),
        (["list", "x"], "list takes no other arguments"),
        (
            ["pull", "none"],
            (
                "unknown model 'none'; name one of all-minilm-l6-v2, multilingual-e5-small, "
                "ms-marco-minilm-l6-v2, or another one as hf:OWNER/NAME@REVISION"
            ),
        ),
        (
            ["pull", "all-minilm-l6-v2", "--sha256", f"a={'0' * 64}"],
            "the hashes of all-minilm-l6-v2 are known; remove --sha256",
        ),
        (
            ["pull", "hf:a/b@c"],
            "hf:a/b@c needs --sha256 FILE=HASH for each of its files; add them",
        ),
        *(
            (
                ["pull", name, "--sha256", f"a={'0' * 64}"],
                f"{name} is not of the form hf:OWNER/NAME@REVISION; correct it",
            )
            for name in ("hf:a/b", "hf:a@b", "hf:a/b@c/d", "hf:../b@c", "hf:a/b@..", "hf:a/b c@d")
        ),
        *(
            (
                ["pull", "hf:a/b@c", "--sha256", word],
                (
                    f"--sha256 {word} is not FILE=HASH with a path in the repository and 64 hex "
                    "digits; correct it"
                ),
            )
            for word in (f"../a={'0' * 64}", f"/a={'0' * 64}", f"a//b={'0' * 64}", "a=0", "a")
        ),
    ],
)
def test_command_line_is_checked(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is requested, and paths stay in the folder."""
    assert " ".join(usage(arguments, capsys).split()) == message


@pytest.mark.parametrize(
    "endpoint",
    ["hub.example", "ftp://h", "https://", "https://u:p@h", "https://h/?q", "https://h:bad"],
)
def test_endpoint_is_checked(endpoint: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The message does not repeat it, because it may contain a password."""
    assert main(["models", "pull", "all-minilm-l6-v2", "--endpoint", endpoint]) == 1
    assert capsys.readouterr().err.strip() == (
        "the endpoint is not a base URL such as https://huggingface.co, without user and query; "
        "correct --endpoint or HF_ENDPOINT"
    )
