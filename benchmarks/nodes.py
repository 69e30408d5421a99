"""A Ray cluster of several nodes on this machine, each of which can be lost as a whole.

A node is a `ray start` of its own: raylet, agents, workers, and Serve's HAProxy once it has
replicas. It carries a marker of its own, so all of it can be killed at once. Its ports are fixed by
its name: a node that comes back is a machine that has its address again.

The head keeps what it knows in a real Redis, as on Kubernetes: without it no worker survives its
head. All ports are below those that the kernel gives out, for what is killed has to find them free.
"""

import json
import secrets
import subprocess
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
from cluster import Server, folder, free_range, redis_server, serve_environment

HEAD: Final = "head"
_BIN: Final = Path(sys.executable).parent
_START_S: Final = 60.0
_COMMAND_S: Final = 60.0
_LOOK_S: Final = 0.5
_RANGE: Final = 100
_BLOCK: Final = 20
"""How many ports belong to a name."""
_PORTS: Final = (
    *("node-manager-port", "object-manager-port", "runtime-env-agent-port"),
    *("dashboard-agent-listen-port", "dashboard-agent-grpc-port", "metrics-export-port"),
)
_OBJECT_STORE_BYTES: Final = 100_000_000
_open = build_opener(ProxyHandler({})).open


class Node:
    """A raylet and all that runs on it."""

    def __init__(self, name: str, server: Server, http_port: int) -> None:
        self.name = name
        self.http_port = http_port
        """Where its HAProxy listens."""
        self._server = server

    def pids(self) -> set[int]:
        """What runs on it."""
        return {process.pid for process in self._server.processes()}

    def process(self, name: str) -> psutil.Process | None:
        """The first of its processes with that name, if there is one."""
        for process in self._server.processes():
            with suppress(psutil.Error):
                if process.name() == name:
                    return process
        return None

    def wait(self, within_s: float) -> None:
        """Returns when its command says that it is up."""
        self._server.wait(within_s)

    def kill(self) -> float:
        """Ends all of it at once, as if the machine had lost its power; when that was."""
        return self._server.kill()


class Cluster:
    """Nodes by name, and Serve's commands for them. See ``clustered``."""

    def __init__(self, place: Path, redis: int, environ: Mapping[str, str]) -> None:
        self.nodes: dict[str, Node] = {}
        self._place = place
        self._redis = f"127.0.0.1:{redis}"
        token = secrets.token_hex(32)
        own = {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": token,  # as on every real cluster
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        self._environ = {**serve_environment(place), **own, **environ}
        # what a benchmark without rolling upgrades sets; here it is what production has
        del self._environ["RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S"]
        taken = int(self._environ["RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT"])
        self._first = next(iter({free_range(_RANGE) for _ in range(50)} - {taken}))
        self._names: list[str] = []
        self._count = 0
        (self._gcs, self._dashboard, *_) = self._block(HEAD)
        self._authorization = f"Bearer {token}"
        self.api = f"http://127.0.0.1:{self._dashboard}"
        """Of the dashboard, which is Serve's for who deploys."""

    def _block(self, name: str) -> Sequence[int]:
        """The ports of a name, the same each time."""
        if name not in self._names:
            self._names.append(name)
        first = self._first + self._names.index(name) * _BLOCK
        return range(first, first + _BLOCK)

    def start(self, name: str, cpus: int, resources: Mapping[str, float] | None = None) -> Node:
        """Begins to start a node, and returns at once; see ``wait``.

        It finds its folder empty, like a new machine: what it has to remember is in Redis.
        """
        self._count += 1
        place = self._place / f"{name}.{self._count}"
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
            *(f"--object-store-memory={_OBJECT_STORE_BYTES}", f"--temp-dir={place}"),
            *(f"--{option}={next(ports)}" for option in _PORTS),
        ]
        log = self._place / f"{place.name}.log"
        self.nodes[name] = Node(name, Server(command, environ, log), http)
        return self.nodes[name]

    def wait(self, name: str) -> None:
        """Returns when the node is part of the cluster."""
        self.nodes[name].wait(_START_S)

    def owners(self) -> dict[int, str]:
        """The node's name of every process that lives on one."""
        return {pid: node.name for node in self.nodes.values() for pid in node.pids()}

    def deploy(self, config: Mapping[str, Any], file: Path) -> None:
        """`serve deploy`. Raises RuntimeError where Serve does not take it."""
        file.write_text(yaml.safe_dump(dict(config)))
        ended = self._serve("deploy", str(file))
        if ended.returncode != 0:
            raise RuntimeError(f"serve deploy failed:\n{(ended.stdout + ended.stderr)[-3000:]}")

    def status(self) -> dict[str, Any] | None:
        """What `serve status` prints; None where it fails."""
        ended = self._serve("status")
        if ended.returncode != 0:
            return None
        said: dict[str, Any] = yaml.safe_load(ended.stdout)
        return said

    def _serve(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [str(_BIN / "serve"), words[0], f"--address={self.api}", *words[1:]]
        try:
            return subprocess.run(
                command,
                env=self._environ,
                cwd=self._place,
                capture_output=True,
                text=True,
                timeout=_COMMAND_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return subprocess.CompletedProcess(command, -1, "", "it took too long")

    def application(self, name: str) -> dict[str, Any]:
        """What Serve says of an application; empty while nobody answers."""
        request = Request(f"{self.api}/api/serve/applications/")  # noqa: S310 - always http
        request.add_header("Authorization", self._authorization)
        try:
            with _open(request, timeout=5) as response:
                said: dict[str, Any] = json.load(response)
        except (URLError, OSError, ValueError):
            return {}
        found: dict[str, Any] = said.get("applications", {}).get(name, {})
        return found

    def stop(self) -> None:
        """Ends all nodes; nobody is asked, for nobody is served any more."""
        for node in reversed(self.nodes.values()):
            node.kill()


def restart_alone(process: psutil.Process, down_s: float, log: Path) -> None:
    """Kills one process, and starts it again by the same command and in the same environment."""
    command, environ, cwd = process.cmdline(), process.environ(), process.cwd()
    process.kill()
    process.wait(10)
    time.sleep(down_s)
    with log.open("ab") as output:
        subprocess.Popen(
            command,
            env=environ,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def until(holds: Callable[[], bool], within_s: float, what: str) -> None:
    """Returns when it holds. Raises RuntimeError when it does not in time."""
    began = time.monotonic()
    while not holds():
        if time.monotonic() - began > within_s:
            raise RuntimeError(f"not within {within_s:g} s: {what}")
        time.sleep(_LOOK_S)


@contextmanager
def clustered(environ: Mapping[str, str]) -> Iterator[tuple[Cluster, Path]]:
    """A head without work, its Redis, and a folder; ``environ`` is for all nodes.

    The variable ``AFFINITY_URL`` of all nodes is another database of the same Redis.
    """
    with ExitStack() as stack:
        place = stack.enter_context(folder())
        redis = stack.enter_context(redis_server(place))
        url = f"redis://127.0.0.1:{redis}/1"
        cluster = Cluster(place, redis, {**environ, "AFFINITY_URL": url})
        stack.callback(cluster.stop)
        cluster.start(HEAD, 0)
        cluster.wait(HEAD)
        yield cluster, place
