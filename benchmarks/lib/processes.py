"""Servers for benchmarks: started with a marker in their environment, measured and stopped by it.

Ray and Serve start some twenty processes with different parents, so a process tree does not hold
them all. Every descendant inherits an environment variable, so the variable finds them. ``Server``
stops exactly the processes that carry its marker and never looks for a process by name.
"""

import os
import re
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Final
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

import psutil

from benchmarks.lib.paths import PROJECT

MARKER: Final = "FINGERPOST_RUN"

_STOP_S: Final = 20.0
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
            self._process = start_detached(command, {**environ, MARKER: self._mark}, cwd, output)
        self._log = log

    def processes(self) -> list[psutil.Process]:
        """Returns the processes that carry the marker now."""
        self._known = {
            process: self._known[process] if process in self._known else self._has_mark(process)
            for process in psutil.process_iter()
        }
        return [process for process, marked in self._known.items() if marked]

    def _has_mark(self, process: psutil.Process) -> bool:
        try:
            return process.environ().get(MARKER) == self._mark
        except (psutil.Error, OSError):
            return False

    def cpu_seconds(self) -> dict[int, tuple[str, float]]:
        """Returns role and CPU time of each process, its ended children included."""
        used: dict[int, tuple[str, float]] = {}
        for process in self.processes():
            with suppress(psutil.Error):
                times = process.cpu_times()
                spent = times.user + times.system + times.children_user + times.children_system
                used[process.pid] = _role(process), spent
        return used

    def pss_mb(self) -> dict[str, float]:
        """Returns memory by role: each page divided by the number of processes that share it."""
        held: dict[str, float] = {}
        for process in self.processes():
            with suppress(psutil.Error, OSError):
                role = _role(process)
                held[role] = held.get(role, 0.0) + process.memory_full_info().pss / 1e6
        return held

    def wait_for(self, url: str, within_s: float, every_s: float = 0.05) -> None:
        """Waits for the first 200 of ``url``. Raises RuntimeError if there is none in time."""
        ends_at = time.monotonic() + within_s
        while time.monotonic() < ends_at:
            if self._process.poll() is not None:
                break
            if _answers_200(url):
                return
            time.sleep(every_s)
        message = f"no 200 from {url} within {within_s:g} s; the log ends with:\n{self._tail()}"
        raise RuntimeError(message)

    def dashboard(self) -> str:
        """Returns the address of Ray's dashboard; the usual port may be another cluster's."""
        match = _DASHBOARD.search(self._log.read_text(errors="replace"))
        if match is None:
            raise RuntimeError("the log of Ray does not contain the address of the dashboard")
        return match.group(1)

    def count_named(self, name: str) -> int:
        """Returns the number of its processes with this name."""
        count = 0
        for process in self.processes():
            with suppress(psutil.Error):
                count += process.name() == name
        return count

    def stop(self) -> None:
        """Interrupts the command, waits, and kills the descendants that are left."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_STOP_S)
        self.kill()

    def wait(self, within_s: float) -> None:
        """Waits until the command itself ends with 0. Raises RuntimeError otherwise."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(within_s)
        if self._process.poll() != 0:
            message = f"the command did not end with 0 within {within_s:g} s:\n{self._tail()}"
            raise RuntimeError(message)

    def kill(self) -> float:
        """Kills the command and all its descendants; returns the time when the last one ended.

        A process with much memory ends slowly, and its ports accept connections until then.
        """
        ended_s = time.monotonic()
        for _ in range(5):
            left = [process for process in self.processes() if not _has_ended(process)]
            if not left:
                break
            for process in left:
                with suppress(psutil.Error):
                    process.kill()
            ends_at = time.monotonic() + 5
            while not all(_has_ended(process) for process in left) and time.monotonic() < ends_at:
                time.sleep(0.01)
            ended_s = time.monotonic()
        self._process.poll()
        return ended_s

    def _tail(self) -> str:
        return self._log.read_text(errors="replace")[-3000:]


def start_detached(
    command: Sequence[str], environ: Mapping[str, str], cwd: Path | str, output: IO[bytes]
) -> subprocess.Popen[bytes]:
    """Starts a command in a session of its own, without input, that writes into a file."""
    return subprocess.Popen(
        command,
        env=environ,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


@contextmanager
def running(
    command: Sequence[str], environ: Mapping[str, str], log: Path, cwd: Path = PROJECT
) -> Iterator[Server]:
    """Runs a server until the block ends."""
    server = Server(command, environ, log, cwd)
    try:
        yield server
    finally:
        server.stop()


def output_of(
    command: Sequence[str],
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    *,
    within_s: float = 60.0,
    with_errors: bool = False,
) -> tuple[int, str]:
    """Runs a command; returns its exit status, -1 after ``within_s``, and its output.

    The output goes through a file: see ``frames`` for what a pipe loses of long printed texts.
    """
    with tempfile.TemporaryFile() as output:
        try:
            ended = subprocess.run(
                command,
                env=environ,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT if with_errors else subprocess.DEVNULL,
                timeout=within_s,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return -1, f"{command[0]} did not end within {within_s:g} s"
        output.seek(0)
        return ended.returncode, output.read().decode(errors="replace")


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Makes a folder and removes it; its path is short, because paths of sockets have a limit."""
    path = Path(tempfile.mkdtemp(prefix="fpb-", dir="/tmp"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def clean_environment() -> dict[str, str]:
    """Returns the environment without proxies and without settings for other clusters."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.lower().endswith("_proxy") and not name.startswith(("RAY_", "LITELLM_"))
    }


def without_port(role: str) -> str:
    """Returns a role without the address that is part of a provider client's name."""
    return role.partition("-localhost")[0]


def cpu_between(
    before: Mapping[int, tuple[str, float]], after: Mapping[int, tuple[str, float]]
) -> dict[str, float]:
    """Returns by role the difference of two results of ``Server.cpu_seconds``.

    A process that ended in between is subtracted: its parent's time includes its whole life.
    """
    used: dict[str, float] = {}
    for pid in before.keys() | after.keys():
        role = (after.get(pid) or before[pid])[0]
        spent = after.get(pid, ("", 0.0))[1] - before.get(pid, ("", 0.0))[1]
        used[role] = round(used.get(role, 0.0) + spent, 3)
    return used


def _has_ended(process: psutil.Process) -> bool:
    """Returns whether it has ended with all its threads: the last thread closes its ports."""
    try:
        threads = list(Path(f"/proc/{process.pid}/task").iterdir())
        return bool(process.status() == psutil.STATUS_ZOMBIE) and len(threads) <= 1
    except (psutil.Error, OSError):
        return True


def _answers_200(url: str) -> bool:
    try:
        with _open(url, timeout=5) as response:
            return bool(response.status == 200)
    except (URLError, OSError, ValueError):
        return False


def _role(process: psutil.Process) -> str:
    """Returns the task of a process: ``replica fingerpost:Ingress``, ``haproxy``, ``raylet`` …"""
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
