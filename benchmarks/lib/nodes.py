"""A Ray cluster of several nodes on this machine, each of which can be killed as a whole.

A node is a `ray start` of its own: raylet, agents, workers, and Serve's HAProxy once it has
replicas. Its processes carry a marker, so they can be killed together. Its name determines its
ports: a node that starts again is like a machine that keeps its address.

The head keeps its state in a real Redis, as on Kubernetes: without it no worker survives the head.
All ports are below the ephemeral range, so that they are still free when a node starts again.
"""

import json
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Final
from urllib.error import URLError
from urllib.request import ProxyHandler, Request, build_opener

import psutil
import yaml

from benchmarks.lib.cluster import redis_server, serve_environment
from benchmarks.lib.ports import free_range
from benchmarks.lib.processes import Server, output_of, start_detached, temporary_folder

HEAD: Final = "head"
_BIN: Final = Path(sys.executable).parent
_START_S: Final = 60.0
_COMMAND_S: Final = 60.0
_POLL_S: Final = 0.5
_RANGE: Final = 100
_BLOCK: Final = 20
"""Number of ports of a node."""
_PORTS: Final = (
    *("node-manager-port", "object-manager-port", "runtime-env-agent-port"),
    *("dashboard-agent-listen-port", "dashboard-agent-grpc-port", "metrics-export-port"),
)
_OBJECT_STORE_BYTES: Final = 100_000_000
_open = build_opener(ProxyHandler({})).open


class Node:
    """A raylet and all processes on it."""

    def __init__(self, name: str, server: Server, http_port: int) -> None:
        self.name = name
        self.http_port = http_port
        """Port of its HAProxy."""
        self._server = server

    def pids(self) -> set[int]:
        """Returns the process ids on the node."""
        return {process.pid for process in self._server.processes()}

    def process(self, name: str) -> psutil.Process | None:
        """Returns its first process with this name; None if there is none."""
        for process in self._server.processes():
            with suppress(psutil.Error):
                if process.name() == name:
                    return process
        return None

    def wait(self, within_s: float) -> None:
        """Waits until its start command ends."""
        self._server.wait(within_s)

    def kill(self) -> float:
        """Kills all its processes, like a power failure; returns the time when the last one ended."""
        return self._server.kill()


class Cluster:
    """Nodes by name, and Serve's commands for them; ``running_cluster`` creates it."""

    def __init__(self, folder: Path, redis: int, environ: Mapping[str, str]) -> None:
        self.nodes: dict[str, Node] = {}
        self._folder = folder
        self._redis = f"127.0.0.1:{redis}"
        token = secrets.token_hex(32)
        own = {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": token,  # as on every real cluster
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        self._environ = {**serve_environment(folder), **own, **environ}
        # serve_environment shortens it; an upgrade needs the value of production
        del self._environ["RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S"]
        taken = int(self._environ["RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT"])
        self._first = next(iter({free_range(_RANGE) for _ in range(50)} - {taken}))
        self._names: list[str] = []
        self._count = 0
        (self._gcs, self._dashboard, *_) = self._block(HEAD)
        self._authorization = f"Bearer {token}"
        self.api = f"http://127.0.0.1:{self._dashboard}"
        """Address of the dashboard, which serves the API for deployments."""

    def _block(self, name: str) -> Sequence[int]:
        """Returns the ports of a node, the same each time."""
        if name not in self._names:
            self._names.append(name)
        first = self._first + self._names.index(name) * _BLOCK
        return range(first, first + _BLOCK)

    def start(self, name: str, cpus: int, resources: Mapping[str, float] | None = None) -> Node:
        """Begins to start a node; ``wait`` waits for it.

        Its folder is empty, like that of a new machine: the state of the cluster is in Redis.
        """
        self._count += 1
        folder = self._folder / f"{name}.{self._count}"
        ports = iter(self._block(name))
        gcs, dashboard, client, http = (next(ports) for _ in range(4))
        environ = {
            **self._environ,
            "RAY_SERVE_WORKER_PROXY_HTTP_PORT": str(http),
            "RAY_SERVE_HAPROXY_STATS_PORT": str(next(ports)),
            "RAY_SERVE_HAPROXY_METRICS_PORT": str(next(ports)),
            "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(next(ports)),
            "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": str(next(ports)),
        }
        role = [f"--address=127.0.0.1:{self._gcs}"]
        if name == HEAD:
            role = ["--head", f"--port={gcs}", f"--dashboard-port={dashboard}"]
            role += ["--dashboard-host=127.0.0.1", f"--ray-client-server-port={client}"]
            environ["RAY_REDIS_ADDRESS"] = self._redis
        command = [
            *(str(_BIN / "ray"), "start", "--disable-usage-stats", *role),
            *(f"--num-cpus={cpus}", f"--resources={json.dumps(dict(resources or {}))}"),
            *(f"--object-store-memory={_OBJECT_STORE_BYTES}", f"--temp-dir={folder}"),
            *(f"--{option}={next(ports)}" for option in _PORTS),
        ]
        log = self._folder / f"{folder.name}.log"
        self.nodes[name] = Node(name, Server(command, environ, log), http)
        return self.nodes[name]

    def wait(self, name: str) -> None:
        """Waits until the node is part of the cluster."""
        self.nodes[name].wait(_START_S)

    def owners(self) -> dict[int, str]:
        """Returns the node's name by process id."""
        return {pid: node.name for node in self.nodes.values() for pid in node.pids()}

    def deploy(self, config: Mapping[str, Any], file: Path) -> None:
        """Runs `serve deploy`. Raises RuntimeError if it fails."""
        file.write_text(yaml.safe_dump(dict(config)))
        status, output = self._serve("deploy", str(file))
        if status != 0:
            raise RuntimeError(f"serve deploy failed:\n{output[-3000:]}")

    def status(self) -> dict[str, Any] | None:
        """Returns the output of `serve status`; None if the command fails."""
        exit_status, output = self._serve("status", with_errors=False)
        if exit_status != 0:
            return None
        content: dict[str, Any] = yaml.safe_load(output)
        return content

    def _serve(self, *words: str, with_errors: bool = True) -> tuple[int, str]:
        command = [str(_BIN / "serve"), words[0], f"--address={self.api}", *words[1:]]
        return output_of(
            command, self._environ, self._folder, within_s=_COMMAND_S, with_errors=with_errors
        )

    def application(self, name: str) -> dict[str, Any]:
        """Returns Serve's details of an application; empty if the API does not answer."""
        request = Request(f"{self.api}/api/serve/applications/")  # noqa: S310 - always http
        request.add_header("Authorization", self._authorization)
        try:
            with _open(request, timeout=5) as response:
                details: dict[str, Any] = json.load(response)
        except (URLError, OSError, ValueError):
            return {}
        application: dict[str, Any] = details.get("applications", {}).get(name, {})
        return application

    def stop(self) -> None:
        """Kills all nodes; no client is left."""
        for node in reversed(self.nodes.values()):
            node.kill()


def restart_alone(process: psutil.Process, down_s: float, log: Path) -> None:
    """Kills one process and starts it again with the same command and environment."""
    command, environ, cwd = process.cmdline(), process.environ(), process.cwd()
    process.kill()
    process.wait(10)
    time.sleep(down_s)
    with log.open("ab") as output:
        start_detached(command, environ, cwd, output)


def wait_until(holds: Callable[[], bool], within_s: float, what: str) -> None:
    """Waits until ``holds`` returns true. Raises RuntimeError if it does not in time."""
    began = time.monotonic()
    while not holds():
        if time.monotonic() - began > within_s:
            raise RuntimeError(f"{what}: not within {within_s:g} s")
        time.sleep(_POLL_S)


@contextmanager
def running_cluster(environ: Mapping[str, str]) -> Iterator[tuple[Cluster, Path]]:
    """Runs a head without replicas and its Redis; yields the cluster and a folder.

    All nodes get ``environ``; their ``AFFINITY_URL`` is another database of the same Redis.
    """
    with ExitStack() as stack:
        folder = stack.enter_context(temporary_folder())
        redis = stack.enter_context(redis_server(folder))
        url = f"redis://127.0.0.1:{redis}/1"
        cluster = Cluster(folder, redis, {**environ, "AFFINITY_URL": url})
        stack.callback(cluster.stop)
        cluster.start(HEAD, 0)
        cluster.wait(HEAD)
        yield cluster, folder
