"""All servers of the overhead benchmark, up at the same time, and their CPU time."""

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.lib.cluster import HERE, Checkout, fingerpost, mock, serving
from benchmarks.lib.loadgen import Figures, Generator, Load, generating
from benchmarks.lib.machine import busy_seconds
from benchmarks.lib.peers import PEERS
from benchmarks.lib.ports import free_ports
from benchmarks.lib.processes import Server, cpu_between, temporary_folder
from benchmarks.lib.report import Window
from benchmarks.lib.variants import CHAT_PATH, MODELS, ROUTES

_START_S = 120.0


@dataclass(frozen=True, slots=True)
class CpuCount:
    """CPU times at one moment."""

    at: float
    used: dict[str, dict[int, tuple[str, float]]]
    elsewhere_s: float
    """CPU time of processes outside the benchmark."""

    def until(self, later: "CpuCount") -> Window:
        """Returns the difference to a later moment."""
        used = {name: cpu_between(self.used[name], later.used[name]) for name in self.used}
        return Window(later.at - self.at, used, round(later.elsewhere_s - self.elsewhere_s, 3))


@dataclass(frozen=True, slots=True)
class Testbed:
    """The servers by name, their ports, and the load generator."""

    servers: dict[str, Server]
    ports: dict[str, int]
    generator: Generator

    def count(self) -> CpuCount:
        """Returns the CPU time that all processes have used so far."""
        used = {name: server.cpu_seconds() for name, server in self.servers.items()}
        benchmark_s = sum(spent for server in used.values() for _, spent in server.values())
        benchmark_s += self.generator.cpu_seconds() + time.process_time()
        return CpuCount(time.monotonic(), used, busy_seconds() - benchmark_s)

    def idle(self, seconds: float, server: str = "serve") -> float:
        """Waits without a request. Returns the CPU seconds of a server in a second."""
        window = self.rest(seconds)
        return window.cpu_s(server) / window.seconds

    def put(self, server: str, load: Load, idle: float) -> tuple[float, Figures]:
        """Sends a load to a server.

        Returns the CPU seconds of a request, without the idle work, and the figures. Raises
        RuntimeError if an answer was wrong, or none came.
        """
        before = self.count()
        figures = self.generator.put(load)
        window = before.until(self.count())
        if figures.errors or not figures.requests:
            raise RuntimeError(f"{server}, {load.path}: {figures.first_error or 'no answer'}")
        return window.cpu_s(server, idle) / figures.requests, figures

    def rest(self, seconds: float) -> Window:
        """Waits without a request. Returns the CPU time of all servers in that time."""
        before = self.count()
        time.sleep(seconds)
        return before.until(self.count())


@contextmanager
def running_testbed(
    needed: Collection[str],
    other: Checkout | None,
    provider: Callable[[int], AbstractContextManager[Server]] = mock,
) -> Iterator[Testbed]:
    """Runs the servers ``needed`` and the mock, all on free ports.

    ``provider`` runs the mock on a port, by default the scripted provider.

    The server ``other`` is a cluster with the same applications and the code of that checkout.
    """
    names = ("mock", "serve", "other", *PEERS)
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    with ExitStack() as stack:
        servers = {"mock": stack.enter_context(provider(ports["mock"]))}
        for name, checkout in (("serve", HERE), ("other", other)):
            if name in needed and checkout is not None:
                cluster = gateway(checkout, ports[name], ports["mock"])
                servers[name] = stack.enter_context(cluster)
        for name, peer in PEERS.items():
            if name in needed:
                servers[name] = stack.enter_context(peer.proxying(ports["mock"], ports[name]))
        yield Testbed(servers, ports, stack.enter_context(generating()))


@contextmanager
def gateway(
    checkout: Checkout,
    port: int,
    mock_port: int,
    environ: Mapping[str, str] | None = None,
    options: Mapping[str, Any] | None = None,
    *,
    relays: bool = True,
) -> Iterator[Server]:
    """Runs a cluster with Fingerpost and the applications that only relay, and waits for all.

    ``relays`` False: without the latter. ``environ`` adds to its environment; ``options`` are for all its applications, in place of
    their own.
    """
    checkout.check_imports()
    with temporary_folder() as folder:
        applications = _applications(checkout, folder / "gateway.yaml", mock_port)
        applications = [{**one, **(options or {})} for one in applications]
        paths = ["/healthz", "/raw-inline/unary", "/raw-hop/unary"]
        if not relays:
            applications, paths = applications[-1:], paths[:1]
        with serving(applications, port, environ, checkout=checkout) as server:
            for path in paths:
                server.wait_for(f"http://127.0.0.1:{port}{path}", _START_S)
            yield server


def _applications(checkout: Checkout, config: Path, mock_port: int) -> list[dict[str, Any]]:
    raw = [
        {
            "name": name,
            "route_prefix": f"/{name}",
            "import_path": f"benchmarks.lib.raw_echo:{builder}",
            "args": {"url": f"http://127.0.0.1:{mock_port}{CHAT_PATH}"},
        }
        for name, builder in (("raw-inline", "build_inline"), ("raw-hop", "build_hop"))
    ]
    hosts = {"inline": "127.0.0.1", "dedicated": "localhost"}  # two providers
    models = {
        model: (f"http://{hosts[path]}:{mock_port}/v1", path) for model, path in MODELS.items()
    }
    return [*raw, fingerpost(config, models, ROUTES, checkout=checkout)]
