"""Reads a serve.yaml and a serve.env."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from serve_app.config.locations import ConfigError, Problem
from serve_app.packaged_files import find_packaged

LAST_PORT: Final = 65535


@dataclass(frozen=True, slots=True)
class ServeFile:
    """What the launcher needs to know of a serve.yaml."""

    path: Path
    host: str
    port: int
    config: Path | None
    """None: without a file, for the keys in the environment."""

    @property
    def url(self) -> str:
        """Where the gateway answers."""
        host = "127.0.0.1" if self.host == "0.0.0.0" else self.host  # noqa: S104 - a comparison
        host = f"[{host}]" if ":" in host else host
        return f"http://{host}:{self.port}"


def read_serve_file(path: Path) -> ServeFile:
    """The address and the configuration that a serve.yaml names. Raises ConfigError.

    Both files may be relative, and then of those that the program comes with.
    """
    path = find_packaged(path)
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
        args = content["applications"][0].get("args") or {}
        config = find_packaged(Path(args["config"]).expanduser()) if "config" in args else None
    except OSError as error:
        problem = Problem(0, "", f"can't be read: {error.strerror}")
        raise ConfigError(str(path), (problem,)) from error
    except (yaml.YAMLError, AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        message = "needs an application, best with `args: {config: PATH}`; see configs/serve.yaml"
        raise ConfigError(str(path), (Problem(0, "applications", message),)) from error
    http: Any = content.get("http_options") or {}
    if not isinstance(http, dict):
        http = {"port": None}
    host, port = http.get("host", "0.0.0.0"), http.get("port", 8000)  # noqa: S104 - Serve's own
    if not isinstance(host, str) or not _is_port(port):
        message = f"needs a host, and a port up to {LAST_PORT}: `{{host: 127.0.0.1, port: 8000}}`"
        raise ConfigError(str(path), (Problem(0, "http_options", message),))
    return ServeFile(path, host, int(port), config)


def _is_port(port: Any) -> bool:  # noqa: ANN401 - whatever stands there
    return str(port).isdecimal() and 0 < int(port) <= LAST_PORT


def read_env_file(path: Path) -> dict[str, str]:
    """The variables of a file of ``NAME=value`` lines; blank lines and ``#`` lines are none."""
    lines = (line.strip() for line in find_packaged(path).read_text("utf-8").splitlines())
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#"))
    return {name: value for name, _, value in pairs}
