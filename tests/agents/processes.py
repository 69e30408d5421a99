"""Runs a command with a limit of time, and ends it together with all that it started."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

LIMIT_S: Final = 120.0


@dataclass(frozen=True)
class Ran:
    """What came of a command."""

    code: int | None
    """None if it took too long."""
    output: str
    """Standard output and error together."""
    seconds: float


def run(
    command: Sequence[str], environ: Mapping[str, str], folder: Path, limit_s: float = LIMIT_S
) -> Ran:
    """Runs a command in a folder, with exactly this environment and at the lowest priority."""
    started = time.monotonic()
    output = folder.parent / "output.txt"
    with output.open("wb") as file:
        process = subprocess.Popen(
            ["nice", "-n", "19", *command],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=dict(environ),
            start_new_session=True,
        )
        try:
            code: int | None = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            _end(process.pid, environ.get("HOME", ""))
            process.wait()
    text = output.read_text("utf-8", "replace")
    return Ran(code, text, time.monotonic() - started)


def _end(pid: int, home: str) -> None:
    """Ends the process group, and what left it: such processes still have the private HOME."""
    with contextlib.suppress(ProcessLookupError):  # all have ended
        os.killpg(pid, signal.SIGKILL)
    for process in psutil.process_iter():
        try:
            if home and process.environ().get("HOME") == home:
                process.kill()
        except psutil.Error:
            continue  # it has ended, or belongs to the system
