"""Reads a serve.yaml and a serve.env."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from serve_app.cli.serve_yaml.tree import enclosing
from serve_app.config.load import read_yaml
from serve_app.config.locations import ConfigError, Location, Problem, path_text
from serve_app.domain import Json
from serve_app.packaged_files import find_packaged

LAST_PORT: Final = 65535
ANY_HOST: Final = "0.0.0.0"  # noqa: S104 - Serve's default
DEFAULT_PORT: Final = 8000


@dataclass(frozen=True, slots=True)
class ServeDocument:
    """A serve.yaml as it is written."""

    path: Path
    content: Mapping[str, Json]
    lines: Mapping[Location, int]

    def problem(self, location: Location, message: str) -> Problem:
        """A problem at a location, with the line of the part that contains it."""
        return Problem(self.lines[enclosing(self.lines, location)], path_text(location), message)


@dataclass(frozen=True, slots=True)
class ServeFile:
    """The address and the configuration of a serve.yaml."""

    path: Path
    host: str
    port: int
    config: Path | None
    """None: the gateway is configured by the keys in the environment."""

    @property
    def url(self) -> str:
        """The address of the gateway, as seen from this machine."""
        host = "127.0.0.1" if self.host == ANY_HOST else self.host
        host = f"[{host}]" if ":" in host else host
        return f"http://{host}:{self.port}"


def read_document(path: Path) -> ServeDocument:
    """Reads a serve.yaml. Raises ConfigError with every problem of its YAML."""
    return ServeDocument(path, *read_yaml(str(path), "applications:"))


def read_serve_file(path: Path) -> ServeFile:
    """The address and the configuration that a serve.yaml names. Raises ConfigError.

    Both files may be relative to the current folder, or else to the packaged files.
    """
    return serve_file_of(read_document(find_packaged(path)))


def serve_file_of(document: ServeDocument) -> ServeFile:
    """The address and the configuration of a document. Raises ConfigError where one is invalid."""
    problems: list[Problem] = []
    config = _config(document, problems)
    host, port = _address(document, problems)
    if problems:
        raise ConfigError(str(document.path), tuple(problems))
    return ServeFile(document.path, host, port, config)


def _config(document: ServeDocument, problems: list[Problem]) -> Path | None:
    listed = document.content.get("applications")
    first = listed[0] if isinstance(listed, list) and listed else None
    args = (first.get("args") or {}) if isinstance(first, dict) else None
    name = args.get("config", "-") if isinstance(args, dict) else None
    if not isinstance(args, dict) or not isinstance(name, str):
        message = "must be a list of applications, each with `args: {config: PATH}` or no args"
        problems.append(document.problem(("applications",), f"{message}; see configs/serve.yaml"))
        return None
    return find_packaged(Path(name).expanduser()) if "config" in args else None


def _address(document: ServeDocument, problems: list[Problem]) -> tuple[str, int]:
    http = document.content.get("http_options") or {}
    host: Json = ANY_HOST
    port: Json = DEFAULT_PORT
    if isinstance(http, dict):
        host, port = http.get("host", host), http.get("port", port)
    valid = isinstance(http, dict) and isinstance(host, str) and _is_port(port)
    if not valid:
        message = f"must have a host, and a port from 1 to {LAST_PORT}"
        example = "write `{host: 127.0.0.1, port: 8000}`"
        problems.append(document.problem(("http_options",), f"{message}; {example}"))
        return ANY_HOST, DEFAULT_PORT
    return host, int(port)


def _is_port(port: Json) -> bool:
    return str(port).isdecimal() and 0 < int(port) <= LAST_PORT


def read_env_file(path: Path) -> dict[str, str]:
    """The variables in a file of ``NAME=value`` lines; blank lines and ``#`` lines are skipped."""
    lines = (line.strip() for line in find_packaged(path).read_text("utf-8").splitlines())
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#"))
    return {name: value for name, _, value in pairs}
