"""Starts ``serve run`` with the environment that it needs, and stops all of its processes.

``serve run`` alone leaves the environment, the waiting and the cleaning up to the user. Here it
runs in its own session and temporary folder, and all processes of the session end with it.
"""

import errno
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from http.client import HTTPException
from pathlib import Path
from types import FrameType
from typing import Final

import psutil

from serve_app.cli.errors import LaunchError
from serve_app.cli.haproxy import VARIABLE, write_wrapper
from serve_app.cli.serve_yaml.read import ServeFile
from serve_app.domain import Json, Reason

_PORTS: Final = {
    "RAY_SERVE_HAPROXY_METRICS_PORT": 9101,
    "RAY_SERVE_HAPROXY_STATS_PORT": 8404,
    "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": 8500,
}
_HOP_EXEMPT: Final = "no_grpc_proxy"
"""What gRPC reaches without a proxy: every address, as configs/serve.env has it."""
START_S: Final = 180.0
ORCHESTRATOR_S: Final = 30.0
"""Seconds to wait for the orchestrator once the ingress answers; its engine loads a model."""

STOP_S: Final = 15.0
_SHOWN_LINES: Final = 25

open_directly: Final = urllib.request.build_opener(urllib.request.ProxyHandler({})).open
"""Like ``urlopen`` without a proxy, because the gateway runs on this machine."""


def cluster_environment(
    base: Mapping[str, str], settings: Mapping[str, str], home: Path
) -> dict[str, str]:
    """The environment of a Serve cluster that shares no file with another one on the machine.

    Variables of ``base`` take precedence over ``settings``, but for the list of what is reached
    without a proxy: that has the entries of both. HAProxy does not splice, unless ``base`` names the
    program. Ray's folder is always ``home``: with
    one of an earlier cluster ``serve run`` waits for that cluster without end. So is the folder of
    temporary files, because processes that are killed leave theirs.
    """
    proxy = home / "haproxy"
    wrapper = None if VARIABLE in base else write_wrapper(home)
    if wrapper is not None:
        settings = {**settings, VARIABLE: str(wrapper)}
    ports = {name: str(_free_port(usual)) for name, usual in _PORTS.items()}
    own = {
        "RAY_TMPDIR": str(home),
        "TMPDIR": str(home),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(proxy / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(proxy / "admin.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(proxy),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(proxy / "server-state"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(proxy / "metrics.sock"),
    }
    exempt = [source[_HOP_EXEMPT] for source in (settings, base) if source.get(_HOP_EXEMPT)]
    if exempt:
        own[_HOP_EXEMPT] = ",".join(dict.fromkeys(exempt))
    return {**settings, **ports, **base, **own}


def _free_port(usual: int) -> int:
    """The usual port if it is free, else another free one."""
    for port in (usual, 0):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("", port))
            return int(probe.getsockname()[1])
    return usual  # pragma: no cover - a machine without a free port


class ServeProcess:
    """A running ``serve run``, its log, and all processes that it started."""

    def __init__(
        self,
        serve_file: ServeFile,
        environ: Mapping[str, str],
        log: Path,
        *,
        dashboard: bool = True,
    ) -> None:
        """``dashboard`` False: without that of Ray, which ``serve status`` needs."""
        self._file = serve_file
        self._log = log
        python = Path(sys.executable)
        command = [str(python.with_name("serve")), "run"]
        if not dashboard:
            command = [str(python), "-m", "deployments.serve_run"]
        command.append(str(serve_file.path))
        with log.open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603 - a fixed command
                command,
                env=dict(environ),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches this process only, which stops the others in order
            )

    @property
    def session(self) -> int:
        """The session that all its processes are in."""
        return self._process.pid

    def wait_until_healthy(self, check: Callable[[], None] = lambda: None) -> float:
        """Waits, and returns the seconds until the gateway answers; calls ``check`` as it waits.

        Raises LaunchError with the end of the log, or what ``check`` raises. If only the orchestrator is missing, it waits
        ORCHESTRATOR_S longer.
        """
        started = time.monotonic()
        answers_since = 0.0
        while time.monotonic() - started < START_S:
            check()
            if self._process.poll() is not None:
                raise LaunchError(f"serve run ended; end of its log:\n{self.log_end()}")
            health = read_health(self._file.url)
            now = time.monotonic()
            if health is not None:
                answers_since = answers_since or now
                if is_settled(health) or now - answers_since > ORCHESTRATOR_S:
                    return now - started
            if "DEPLOY_FAILED" in self.log_end():
                raise LaunchError(
                    f"Ray Serve cannot deploy the application; end of its log:\n{self.log_end()}"
                )
            time.sleep(0.2)
        raise LaunchError(
            f"the gateway is not healthy after {START_S:g} s; end of its log:\n{self.log_end()}"
        )

    def alive(self) -> bool:
        """True while ``serve run`` runs."""
        return self._process.poll() is None

    def stop(self) -> list[int]:
        """Stops all processes; returns the ids of those that had to be killed."""
        if self._process.poll() is None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_S)
        deadline = time.monotonic() + 3.0
        while in_session(self.session) and time.monotonic() < deadline:
            time.sleep(0.1)
        left = in_session(self.session)
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=5)
        return [process.pid for process in left]

    def log_end(self) -> str:
        """The last lines of the log."""
        lines = self._log.read_text("utf-8", "replace").splitlines()
        return "\n".join(lines[-_SHOWN_LINES:])


def in_session(session: int) -> list[psutil.Process]:
    """The processes of a session.

    The session identifies them, not the environment: Ray's processes rename themselves, which
    overwrites the environment that the system shows.
    """
    processes = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                processes.append(process)
    return processes


def read_health(url: str) -> Json | None:
    """The answer of ``/healthz`` at this address; None while there is none."""
    try:
        with open_directly(f"{url}/healthz", timeout=2) as answer:
            return json.loads(answer.read())
    except (OSError, ValueError, HTTPException):
        return None


def is_settled(health: Json) -> bool:
    """False while the orchestrator may still be starting."""
    state = health.get("orchestrator", {}).get("state") if isinstance(health, dict) else None
    return state != Reason.ORCHESTRATOR_TIMEOUT


def refuse_taken_port(serve_file: ServeFile) -> None:
    """Raises LaunchError if the gateway cannot listen on its address."""
    family = socket.AF_INET6 if ":" in serve_file.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((serve_file.host, serve_file.port))
        except OSError as error:
            fix = {
                errno.EADDRINUSE: "stop what runs there, or change http_options.port",
                errno.EACCES: "change http_options.port to one above 1023",
            }.get(error.errno or 0, "change http_options.host")
            raise LaunchError(
                f"cannot listen on {serve_file.host}:{serve_file.port}: {error.strerror}; "
                f"{fix} in {serve_file.path}"
            ) from error


@contextmanager
def beside(command: Sequence[str], environ: Mapping[str, str]) -> Iterator[Callable[[], None]]:
    """Runs a command as long as the body runs; an empty ``command`` runs nothing.

    Yields a check that raises LaunchError once the command has ended.
    """
    if not command:
        yield lambda: None
        return
    process = subprocess.Popen(command, env=dict(environ), start_new_session=True)  # noqa: S603

    def check() -> None:
        if process.poll() is not None:
            message = f"--beside: the command ended with status {process.returncode}"
            raise LaunchError(f"{message}; see its output above: {shlex.join(command)}")

    try:
        yield check
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()


def run(
    serve_file: ServeFile,
    settings: Mapping[str, str],
    neighbour: Sequence[str],
    on_healthy: Callable[[float], None],
    *,
    dashboard: bool,
) -> None:
    """Runs the gateway until SIGINT or SIGTERM. Raises LaunchError if it does not start, or ends."""
    home = Path(tempfile.mkdtemp(prefix="fp-", dir="/tmp"))
    environ = cluster_environment(os.environ, settings, home)
    stopped = False

    def stop(_number: int, _frame: FrameType | None) -> None:
        nonlocal stopped
        stopped = True
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with beside(neighbour, environ) as check_neighbour:
            gateway = ServeProcess(serve_file, environ, home / "serve.log", dashboard=dashboard)
            try:
                on_healthy(gateway.wait_until_healthy(check_neighbour))
                while gateway.alive():
                    check_neighbour()
                    time.sleep(0.5)
                raise LaunchError(
                    f"serve run ended unexpectedly; end of its log:\n{gateway.log_end()}"
                )
            except KeyboardInterrupt:
                print("\nstopping ...", flush=True)  # noqa: T201 - output of the command
            finally:
                for number in before:
                    signal.signal(
                        number, signal.SIG_IGN
                    )  # a second Ctrl-C must not leave processes
                gateway.stop()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        shutil.rmtree(home, ignore_errors=True)
