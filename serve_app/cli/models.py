"""``fingerpost models``: lists and downloads models for the embedded engine.

No other command downloads a model.
"""

import argparse
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import quote, urlsplit

from serve_app.cli.download import Downloader, DownloadError, RemoteFile
from serve_app.cli.output import say
from serve_app.domain import Json

LIST: Final = Path(__file__).parent / "model_list.json"
ENDPOINT: Final = "https://huggingface.co"
MAX_BYTES: Final = 4 << 30
"""Largest file of a model that is not listed."""

_OWN: Final = "hf:"
_REPOSITORY: Final = re.compile(r"hf:([\w.-]+/[\w.-]+)@([\w.-]+)", re.ASCII)
_HASHED: Final = re.compile(r"([\w.-]+(?:/[\w.-]+)*)=([0-9a-fA-F]{64})", re.ASCII)


@dataclass(frozen=True, slots=True)
class ListedFile:
    """A file of a model."""

    path: str
    sha256: str
    max_bytes: int


@dataclass(frozen=True, slots=True)
class ListedModel:
    """A model at a fixed revision, with the hashes of its files."""

    name: str
    use: str
    """The key of ``orchestrator`` that it is for: ``model`` or ``reranker``."""
    about: str
    licence: str
    repository: str
    revision: str
    files: tuple[ListedFile, ...]
    settings: Mapping[str, str]
    """Other keys of ``orchestrator`` that it needs."""

    @classmethod
    def from_json(cls, name: str, entry: Mapping[str, Json]) -> Self:
        """A model of the list."""
        files = tuple(
            ListedFile(file["path"], file["sha256"], file["bytes"]) for file in entry["files"]
        )
        settings = entry.get("settings", {})
        kept = {key: value for key, value in entry.items() if key not in {"files", "settings"}}
        return cls(name=name, files=files, settings=settings, **kept)

    @property
    def bytes(self) -> int:
        """The size of all files, at most."""
        return sum(file.max_bytes for file in self.files)


def listed_models() -> dict[str, ListedModel]:
    """The models of the list by name."""
    entries = json.loads(LIST.read_bytes())
    return {name: ListedModel.from_json(name, entry) for name, entry in entries.items()}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of ``fingerpost models``."""
    parser.set_defaults(usage_error=parser.error)
    parser.add_argument(
        "action", choices=("list", "pull"), help="list the known models, or download one"
    )
    parser.add_argument(
        "name",
        nargs="?",
        help="with pull: name of a known model, or hf:OWNER/NAME@REVISION for another one",
    )
    parser.add_argument(
        "--to", type=Path, metavar="DIR", help="folder of the model (default: models/NAME)"
    )
    parser.add_argument(
        "--sha256",
        nargs="+",
        default=[],
        metavar="FILE=HASH",
        help="files of a model that is not known, each with its SHA-256",
    )
    parser.add_argument(
        "--endpoint",
        metavar="URL",
        help=f"base URL of the hub (default: HF_ENDPOINT, or {ENDPOINT})",
    )


def execute(arguments: argparse.Namespace) -> bool:
    """Runs ``fingerpost models``. Raises DownloadError."""
    if arguments.action == "list":
        if arguments.name is not None or arguments.sha256 or arguments.to is not None:
            arguments.usage_error("list takes no other arguments")
        say("\n".join(_lines(listed_models().values())))
        return True
    if arguments.name is None:
        arguments.usage_error("name the model to pull")
    try:
        model = _model_of(arguments.name, arguments.sha256)
    except ValueError as error:
        arguments.usage_error(str(error))
    folder = arguments.to or Path("models") / model.name
    endpoint = arguments.endpoint or os.environ.get("HF_ENDPOINT") or ENDPOINT
    pull(model, folder, _checked_endpoint(endpoint))
    say(f"{folder}: {len(model.files)} files, hashes verified; licence {model.licence}")
    say("\n".join(_yaml(model, folder)))
    return True


def pull(model: ListedModel, folder: Path, endpoint: str) -> None:
    """Downloads the files of a model that the folder lacks. Raises DownloadError."""
    from tqdm import tqdm  # noqa: PLC0415 - slow to import, and only a download needs it

    downloader = Downloader(endpoint, token=os.environ.get("HF_TOKEN") or None)
    base = f"{endpoint}/{model.repository}/resolve/{quote(model.revision, safe='')}"
    for file in model.files:
        remote = RemoteFile(f"{base}/{quote(file.path)}", file.sha256, file.max_bytes)
        with tqdm(unit="B", unit_scale=True, desc=file.path, disable=None, leave=False) as bar:

            def show(done: int, bar: "tqdm[Any]" = bar) -> None:
                bar.update(done - bar.n)

            downloader.fetch(remote, folder / file.path, show)


def _model_of(name: str, hashed: Sequence[str]) -> ListedModel:
    """The model that is meant. Raises ValueError with what is wrong with the command line."""
    if name.startswith(_OWN):
        return _unlisted(name, hashed)
    if hashed:
        raise ValueError(f"the hashes of {name} are known; remove --sha256")
    models = listed_models()
    if name not in models:
        raise ValueError(
            f"unknown model {name!r}; name one of {', '.join(models)}, "
            "or another one as hf:OWNER/NAME@REVISION"
        )
    return models[name]


def _unlisted(name: str, hashed: Sequence[str]) -> ListedModel:
    match = _REPOSITORY.fullmatch(name)
    if match is None:
        raise ValueError(f"{name} is not of the form hf:OWNER/NAME@REVISION; correct it")
    repository, revision = match.groups()
    if not hashed:
        raise ValueError(f"{name} needs --sha256 FILE=HASH for each of its files; add them")
    files = {}
    for word in hashed:
        found = _HASHED.fullmatch(word)
        parts = [] if found is None else found[1].split("/")
        if found is None or {".", ".."} & set(parts):
            raise ValueError(
                f"--sha256 {word} is not FILE=HASH with a path in the repository and 64 hex "
                "digits; correct it"
            )
        files[found[1]] = ListedFile(found[1], found[2].lower(), MAX_BYTES)
    if {".", ".."} & {*repository.split("/"), revision}:
        raise ValueError(f"{name} is not of the form hf:OWNER/NAME@REVISION; correct it")
    ordered = sorted(files.values(), key=lambda file: file.path.endswith(".onnx"))
    return ListedModel(
        name=repository.partition("/")[2],
        use="model",
        about="",
        licence="as the repository says",
        repository=repository,
        revision=revision,
        files=tuple(ordered),
        settings={},
    )


def _checked_endpoint(text: str) -> str:
    """The endpoint without a slash at its end. Raises DownloadError if it is not a base URL."""
    try:
        parts = urlsplit(text)
        is_usable = parts.port != 0 and parts.scheme in {"http", "https"} and parts.hostname
    except ValueError:
        is_usable = False
        parts = urlsplit("")
    if not is_usable or parts.query or parts.fragment or "@" in parts.netloc:
        raise DownloadError(
            f"the endpoint is not a base URL such as {ENDPOINT}, without user and query; correct "
            "--endpoint or HF_ENDPOINT"
        )
    return text.rstrip("/")


def _yaml(model: ListedModel, folder: Path) -> list[str]:
    """What belongs into gateway.yaml."""
    path = json.dumps(str(folder.absolute()), ensure_ascii=False)
    settings = [f"  {name}: {json.dumps(value)}" for name, value in model.settings.items()]
    return ["", "orchestrator:", f"  {model.use}: {path}", *settings]


def _lines(models: Iterable[ListedModel]) -> list[str]:
    rows = [("name", "key", "MB", "licence", "repository", "")]
    rows += [
        (
            model.name,
            model.use,
            f"{model.bytes / 1e6:.0f}",
            model.licence,
            model.repository,
            model.about,
        )
        for model in models
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
