"""The gateways of chaos.py, what is behind them, and the processes that it kills.

Two applications on one cluster: ``fingerpost`` has its sessions in Redis, ``memory`` in Affinity.
Each model has two endpoints, at two providers; only the first is switched.
"""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.request import ProxyHandler, build_opener

import psutil
import yaml

from benchmarks.lib.clients import Clients, RequestKind
from benchmarks.lib.cluster import HERE, serving
from benchmarks.lib.nodes import wait_until
from benchmarks.lib.ports import free_ports
from benchmarks.lib.processes import Server, temporary_folder
from benchmarks.lib.switches import SlowRelay, SwitchedScripts
from tests.scripted_provider import ScriptedProvider
from tests.unit.affinity import redis_server

SESSIONS: Final = 6
"""Sessions of each application."""
RETRY_ON: Final = "conn-failure empty-response"
"""HAProxy sends a request again if the ingress closed the connection without a byte of an answer."""
IN_REDIS, IN_MEMORY = "fingerpost", "memory"
_PREFIXES: Final = {IN_REDIS: "", IN_MEMORY: "/memory"}
_MODELS: Final = ("vllm/slow", "vllm/slow@code", "vllm/slow@writing")
_ROUTES: Final = (
    ("code", "writing, explaining and debugging code", _MODELS[1]),
    ("writing", "stories, letters and other texts", _MODELS[2]),
)
_TIMEOUTS: Final = {"connect_s": 1, "first_byte_s": 2, "idle_s": 2, "attempt_s": 2, "total_s": 30}
_START_S: Final = 180.0
_open = build_opener(ProxyHandler({})).open


def session_kinds(application: str) -> list[RequestKind]:
    """Returns a kind of request for each session."""
    return [
        RequestKind(f"session {number}", "auto", 0, f"s-{number}", _PREFIXES[application])
        for number in range(SESSIONS)
    ]


@dataclass(frozen=True, slots=True)
class Arena:
    """The running cluster and its surroundings."""

    server: Server
    port: int
    redis: redis_server.Server
    relay: SlowRelay
    switch: SwitchedScripts

    def clients(self) -> Clients:
        """Returns clients of the cluster's HAProxy."""
        return Clients([self.port], "unused")

    def replicas(self) -> dict[str, list[int]]:
        """Returns the process ids of running replicas, by ``application:deployment``."""
        with _open(f"{self.server.dashboard()}/api/serve/applications/", timeout=10) as response:
            applications = json.load(response)["applications"]
        return {
            f"{application}:{name}": [
                replica["pid"]
                for replica in deployment["replicas"]
                if replica["state"] == "RUNNING" and psutil.pid_exists(replica["pid"])
            ]
            for application, about in applications.items()
            for name, deployment in about.get("deployments", {}).items()
        }

    def replica(self, name: str) -> psutil.Process:
        """Returns the process of a replica whose deployment's name begins with ``name``."""
        for deployment, pids in self.replicas().items():
            if deployment.startswith(name) and pids:
                return psutil.Process(pids[0])
        raise RuntimeError(f"{name}: no replica runs")


@contextmanager
def running_arena(retry_on: str) -> Iterator[Arena]:
    """Runs Redis, the providers and the cluster; waits until all replicas run.

    ``retry_on``: after which failures HAProxy sends a request again.
    """
    with ExitStack() as stack:
        folder = stack.enter_context(temporary_folder())
        redis = stack.enter_context(redis_server.running(folder))
        relay = stack.enter_context(SlowRelay(redis.port))
        switch = SwitchedScripts()
        first = stack.enter_context(ScriptedProvider(find=switch.script))
        second = stack.enter_context(ScriptedProvider())
        caches = {
            IN_REDIS: {"type": "redis", "url": f"redis://127.0.0.1:{relay.port}"},
            IN_MEMORY: {"type": "memory"},
        }
        applications = [
            application(folder, name, cache, (first, second)) for name, cache in caches.items()
        ]
        (port,) = free_ports(1)
        server = stack.enter_context(
            serving(applications, port, {"RAY_SERVE_HAPROXY_RETRY_ON": retry_on})
        )
        server.wait_for(f"http://127.0.0.1:{port}/healthz", _START_S)
        server.wait_for(f"http://127.0.0.1:{port}/memory/healthz", _START_S)
        arena = Arena(server, port, redis, relay, switch)
        wait_until(lambda: all(arena.replicas().values()), _START_S, "all deployments run")
        yield arena


def application(
    folder: Path,
    name: str,
    cache: dict[str, str],
    servers: tuple[ScriptedProvider, ScriptedProvider],
) -> dict[str, Any]:
    """Returns an application whose models have an endpoint at both servers; writes its file."""
    paths = ("dedicated", "shared") if name == IN_REDIS else ("inline", "inline")
    providers = [
        {"model": model, "base_url": provider.url, "data_path": path}
        for model in _MODELS
        for provider, path in zip(servers, paths, strict=True)
    ]
    providers[0]["default"] = True  # type: ignore[assignment]
    config = {
        "version": "v0.4.0",
        "model_providers": providers,
        "routing_preferences": [
            {"name": route, "description": description, "models": [model]}
            for route, description, model in _ROUTES
        ],
        "routing": {"session_cache": cache},
        "orchestrator": {"min_confidence": 0.2},
        "timeouts": _TIMEOUTS,
    }
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(config))
    two = {"num_replicas": 2, "autoscaling_config": None}
    deployments = [{"name": "Ingress", **two}]
    if name == IN_REDIS:
        deployments.append({"name": f"provider-vllm-127-0-0-1-{servers[0].port}", **two})
    return {
        **HERE.serve_config()["applications"][0],
        "name": name,
        "route_prefix": _PREFIXES[name] or "/",
        "args": {"config": str(file)},
        "deployments": deployments,
    }
