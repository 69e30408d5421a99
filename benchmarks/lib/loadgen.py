"""The load generator: a process that takes one load a frame and returns two frames of figures.

A client is a connection that sends its next request when the last answer is complete. Each answer
is read to its end and checked: status 200, and the text that ends a correct one.
"""

import asyncio
import json
import math
import os
import subprocess
import sys
import time
from array import array
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from itertools import count
from typing import Final, cast, overload

import httptools
import psutil
import uvloop

from benchmarks.lib.frames import read_frame, write_frame
from benchmarks.lib.paths import PROJECT
from benchmarks.lib.peers import PEER_KEY

COUNTER: Final = "@@@@@@@@"
"""Stands for a number in the body of a load that is different in each request."""
_NUMBERS = count()
_PATIENCE_S = 60.0
"""An answer that arrives later than this after the load has ended is an error."""


@dataclass(frozen=True, slots=True)
class Load:
    """Requests to send, the number of clients, and the duration."""

    port: int
    path: str
    body: str
    clients: int
    seconds: float
    expected: str
    """A text in each correct answer."""
    headers: str = ""
    """Further lines of the request's head."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Latencies and errors of a load."""

    latencies_ms: list[float]
    errors: int
    elapsed_s: float
    first_error: str
    first_bytes_ms: list[float] = field(default_factory=list)
    """From a request to the first byte of its answer's body."""

    def __add__(self, other: "Figures") -> "Figures":
        """Returns the figures of both loads together."""
        return Figures(
            self.latencies_ms + other.latencies_ms,
            self.errors + other.errors,
            self.elapsed_s + other.elapsed_s,
            self.first_error or other.first_error,
            self.first_bytes_ms + other.first_bytes_ms,
        )

    @property
    def requests(self) -> int:
        """The number of answers."""
        return len(self.latencies_ms)

    @property
    def rps(self) -> float:
        """Answers per second."""
        return self.requests / self.elapsed_s

    def quantile(self, share: float) -> float:
        """Returns the latency that ``share`` of all do not exceed; NaN without answers."""
        return quantile(self.latencies_ms, share, math.nan)


@dataclass(slots=True)
class _LoadRun:
    parts: tuple[bytes, ...]
    """The request before and after COUNTER; the whole one if it has none."""
    ends_at: float
    expected: bytes
    on_closed: Callable[[], None]
    latencies: list[float] = field(default_factory=list)
    first_bytes: list[float] = field(default_factory=list)
    errors: int = 0
    first_error: str = ""

    def next_request(self) -> bytes:
        if len(self.parts) == 1:
            return self.parts[0]
        number = next(_NUMBERS) % 10 ** len(COUNTER)
        return f"{number:0{len(COUNTER)}}".encode().join(self.parts)

    def fail(self, error: str) -> None:
        self.errors += 1
        self.first_error = self.first_error or error


class _Client(asyncio.Protocol):
    def __init__(self, run: _LoadRun) -> None:
        self._run = run
        self._parser = httptools.HttpResponseParser(self)
        self._parts: list[bytes] = []
        self._waiting = False
        self._began = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._next()

    def _next(self) -> None:
        self._began = time.perf_counter()
        if self._began >= self._run.ends_at:
            self._waiting = False
            self._transport.close()
            return
        self._waiting = True
        self._transport.write(self._run.next_request())

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        if not self._parts:
            self._run.first_bytes.append((time.perf_counter() - self._began) * 1e3)
        self._parts.append(body)

    def on_message_complete(self) -> None:
        run, status = self._run, self._parser.get_status_code()
        run.latencies.append((time.perf_counter() - self._began) * 1e3)
        body = b"".join(self._parts)
        self._parts.clear()
        if status != 200 or run.expected not in body:
            run.fail(f"{status}: {body[:300]!r}")
        self._next()

    def connection_lost(self, error: Exception | None) -> None:
        if self._waiting:
            self._run.fail(f"the connection was lost: {error}")
        self._run.on_closed()


async def _send_all(load: Load) -> Figures:
    loop = asyncio.get_running_loop()
    done = asyncio.Event()
    left = load.clients

    def count_down() -> None:
        nonlocal left
        left -= 1
        if not left:
            done.set()

    head = (
        f"POST {load.path} HTTP/1.1\r\nhost: 127.0.0.1:{load.port}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(load.body.encode())}\r\n"
        f"accept: */*\r\nuser-agent: load\r\nauthorization: Bearer {PEER_KEY}\r\n{load.headers}\r\n"
    )
    began = time.perf_counter()
    run = _LoadRun(
        tuple((head + load.body).encode().split(COUNTER.encode())),
        began + load.seconds,
        load.expected.encode(),
        count_down,
    )
    for _ in range(load.clients):
        await loop.create_connection(lambda: _Client(run), "127.0.0.1", load.port)
    try:
        await asyncio.wait_for(done.wait(), load.seconds + _PATIENCE_S)
    except TimeoutError:
        run.fail("an answer took too long")
    elapsed = time.perf_counter() - began
    return Figures(run.latencies, run.errors, elapsed, run.first_error, run.first_bytes)


@overload
def quantile(values: Iterable[float], share: float) -> float | None: ...
@overload
def quantile(values: Iterable[float], share: float, default: float) -> float: ...
def quantile(values: Iterable[float], share: float, default: float | None = None) -> float | None:
    """Returns the smallest value that ``share`` of all do not exceed; ``default`` if empty."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else default


class Generator:
    """The benchmark's end of the process."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        if process.stdin is None or process.stdout is None:
            raise ValueError("the load generator needs pipes for its input and output")
        self._process = process
        self._input = process.stdin.fileno()
        self._output = process.stdout.fileno()

    def cpu_seconds(self) -> float:
        """Returns the CPU time of the generator itself."""
        times = psutil.Process(self._process.pid).cpu_times()
        return float(times.user + times.system)

    def put(self, load: Load) -> Figures:
        """Sends the load and returns its figures when all answers have arrived."""
        self.send(load)
        return self.receive()

    def send(self, load: Load) -> None:
        """Starts a load; ``receive`` returns its figures."""
        write_frame(self._input, json.dumps(asdict(load)).encode())

    def receive(self) -> Figures:
        """Waits for the figures of the load. Raises EOFError if the generator has ended."""
        head, latencies = read_frame(self._output), read_frame(self._output)
        if head is None or latencies is None:
            raise EOFError("the load generator has ended; its standard error says why")
        values = array("d")
        values.frombytes(latencies)
        return Figures(values.tolist(), **json.loads(head))


@contextmanager
def generating() -> Iterator[Generator]:
    """Runs the load generator until the block ends."""
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.lib.loadgen"],
        cwd=PROJECT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        try:
            yield Generator(process)
        finally:
            process.kill()


def main() -> None:
    """Runs a load for each frame of standard input, until it ends; answers with two frames."""
    answers = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # no printed text between the frames
    while (frame := read_frame(sys.stdin.fileno())) is not None:
        figures = uvloop.run(_send_all(Load(**json.loads(frame))))
        head = asdict(replace(figures, latencies_ms=[]))
        del head["latencies_ms"]
        write_frame(answers, json.dumps(head).encode())
        write_frame(answers, array("d", figures.latencies_ms).tobytes())


if __name__ == "__main__":
    main()
