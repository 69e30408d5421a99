"""Writes lines of logs on a thread of its own, so that no request waits for a disk or a pipe."""

import atexit
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

MAX_WAITING_BYTES: Final = 8 << 20
"""Lines that wait for the thread; further ones are lost."""

_BATCH_BYTES: Final = 256 << 10
_PAUSE_S: Final = 0.2
"""How long the thread collects lines before it writes them."""
_CLOSE_S: Final = 2.0
_WARN_EVERY_S: Final = 60.0
_log = logging.getLogger("fingerpost")


class LineTarget(Protocol):
    """Where lines are written."""

    @property
    def name(self) -> str:
        """What messages call it."""
        ...

    def prepare(self, size: int) -> bool:
        """Makes ready for ``size`` bytes. Returns True if a file was opened. May raise OSError."""
        ...

    def write(self, content: bytes) -> int:
        """Writes as much as it can at once. Returns the number of bytes. May raise OSError."""
        ...

    def close(self) -> None:
        """Closes what is open."""
        ...


class StderrTarget:
    """The standard error of this process."""

    name = "standard error"

    def __init__(self, descriptor: int = 2) -> None:
        self._descriptor = descriptor

    def prepare(self, size: int) -> bool:
        """It is always ready."""
        del size
        return False

    def write(self, content: bytes) -> int:
        """Writes as much as the pipe takes; waits for a reader."""
        return os.write(self._descriptor, content)

    def close(self) -> None:
        """Leaves it open: it is not ours."""


class LogWriter:
    """A bounded queue of lines, and the thread that writes them.

    A line that cannot be written is counted and lost. ``put`` belongs to one thread.
    """

    def __init__(
        self,
        target: LineTarget,
        *,
        preamble: Callable[[], bytes] = bytes,
        clock: Callable[[], float] = time.monotonic,
        pause_s: float = _PAUSE_S,
    ) -> None:
        """``preamble`` returns the lines with which each file begins."""
        self._target = target
        self._preamble = preamble
        self._clock = clock
        self._pause_s = pause_s
        self._lines: deque[bytes] = deque()
        self._put_bytes = 0
        self._taken_bytes = 0
        self._dropped = 0
        self._reported_drops = 0
        self._failed = 0
        self._is_torn = False
        self._fault = ""
        self._warns_from = clock()
        self._work = threading.Event()
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fingerpost-log", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    @property
    def lost(self) -> int:
        """How many lines were lost."""
        return self._dropped + self._failed

    def put(self, line: bytes) -> None:
        """Hands over one line, which ends in a line break; never waits."""
        if self._put_bytes - self._taken_bytes + len(line) > MAX_WAITING_BYTES:
            self._dropped += 1
            return
        self._put_bytes += len(line)
        self._lines.append(line)
        if not self._work.is_set():
            self._work.set()

    def close(self, within_s: float = _CLOSE_S) -> None:
        """Writes what waits, for ``within_s`` at most, and ends the thread."""
        atexit.unregister(self.close)
        self._ends.set()
        self._work.set()
        self._thread.join(within_s)

    def _run(self) -> None:
        while not self._ends.is_set():
            self._work.wait()
            self._ends.wait(self._pause_s)
            self._work.clear()
            self._write_waiting()
        self._write_waiting()
        self._target.close()

    def _write_waiting(self) -> None:
        while self._lines:
            batch, size = [], 0
            while self._lines and size < _BATCH_BYTES:
                line = self._lines.popleft()
                batch.append(line)
                size += len(line)
            self._write(b"".join(batch))
            self._taken_bytes += size
        if self._dropped > self._reported_drops:
            self._reported_drops = self._dropped
            self._warn("lines come faster than they can be written")

    def _write(self, lines: bytes) -> None:
        """Writes whole lines; what is left after a fault is lost."""
        content = lines
        try:
            if self._target.prepare(len(lines)):
                content, self._is_torn = self._preamble() + content, False
            if self._is_torn:  # so that a cut line spoils itself alone
                content = b"\n" + content
            while content:
                count = self._target.write(content)
                self._is_torn = count > 0 and content[count - 1] != ord("\n")
                content = content[count:]
        except (OSError, ValueError) as error:  # ValueError: the name of a file has a zero byte
            self._failed += min(content.count(b"\n"), lines.count(b"\n"))
            self._warn(getattr(error, "strerror", None) or str(error))
        else:
            self._recover()

    def _warn(self, fault: str) -> None:
        """Logs a fault once, and again after it was gone for some time."""
        if not self._fault and self._clock() >= self._warns_from:
            name = self._target.name
            _log.warning(
                "logs: cannot write to %s: %s; lines are lost as long as this lasts; free space, or "
                "change the target",
                name,
                fault,
            )
        self._fault = fault

    def _recover(self) -> None:
        if not self._fault:
            return
        self._fault = ""
        now = self._clock()
        if now >= self._warns_from:
            _log.warning(
                "logs: %s is written again; %d lines were lost", self._target.name, self.lost
            )
            self._warns_from = now + _WARN_EVERY_S
