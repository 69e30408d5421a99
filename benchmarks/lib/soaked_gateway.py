"""A gateway without Ray in a process of its own, which also says how large it is.

    python -m benchmarks.lib.soaked_gateway CONFIG PORT

It reads its configuration again when the file changes, as an ingress replica does. ``GET /size``
answers with the figures of ``Size``.
"""

import asyncio
import ctypes
import gc
import json
import logging
import os
import sys
import time
from collections import Counter, deque
from dataclasses import asdict, dataclass
from typing import Any, Final

import psutil
import uvicorn

from benchmarks.lib.in_process import NullMeter
from benchmarks.lib.prompt_caches import SharedMemory
from deployments.exchanges import transport
from serve_app.api.app import ApiDependencies, create_api
from serve_app.config.watch import Watch
from serve_app.conversations.memory import MemoryConversations
from serve_app.conversations.shared import SharedConversations
from serve_app.domain import Question, Scores
from serve_app.requests.assembly import Assembly, Ports, assemble
from serve_app.snapshot import Snapshot, compile_snapshot
from serve_app.telemetry.metrics import MetricsObserver

ROUTES: Final = ("code", "verse")
SIZE_PATH: Final = "/size"
_CONTAINERS: Final = (dict, list, set, deque, tuple)
_SHOWN_TYPES: Final = 400


@dataclass(frozen=True, slots=True)
class Size:
    """How large the process is, after a collection of garbage."""

    rss_kb: int
    """Memory in use, after the allocator has given back what it can."""
    malloc_kb: int
    """Memory in use by C's allocator: objects over 512 bytes, and those of libraries."""
    blocks: int
    """Blocks of memory of Python's own allocator: objects up to 512 bytes."""
    contained: int
    """Entries of all containers."""
    tasks: int
    files: int
    """Open files, sockets included."""
    sockets: int
    threads: int
    types: dict[str, int]
    """Objects by type, of the most frequent types."""


class _Allocated(ctypes.Structure):
    """``struct mallinfo2`` of glibc."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    ]


def measure() -> Size:
    """Returns the size of this process."""
    gc.collect()
    libc = ctypes.CDLL(None)
    libc.malloc_trim(0)
    libc.mallinfo2.restype = _Allocated
    allocated = libc.mallinfo2()
    contained, types = _counted_elsewhere()
    process = psutil.Process()
    return Size(
        process.memory_info().rss >> 10,
        (allocated.uordblks + allocated.hblkhd) >> 10,
        sys.getallocatedblocks(),
        contained,
        len(asyncio.all_tasks()),
        process.num_fds(),
        len(process.net_connections()),
        process.num_threads(),
        types,
    )


def _counted_elsewhere() -> tuple[int, dict[str, int]]:
    """Returns the entries of all containers and the objects by type, counted by a child process.

    The list of all objects has megabytes. In this process it would leave holes in the heap that
    requests then fill: the memory that the benchmark is to measure would grow by the measuring.
    """
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:  # a copy of this process, with this thread alone; it must not return
        try:
            os.write(write_end, json.dumps(_count()).encode())
        finally:
            os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        contained, types = json.loads(pipe.read())
    os.waitpid(child, 0)
    return contained, types


def _count() -> tuple[int, dict[str, int]]:
    objects = gc.get_objects()
    types = Counter(type(one).__qualname__ for one in objects)
    contained = sum(len(one) for one in objects if type(one) in _CONTAINERS)
    return contained, dict(types.most_common(_SHOWN_TYPES))


class _ByWord:
    """An orchestrator that finds the route whose name the last turn has."""

    async def score(self, question: Question) -> Scores:
        said = question.turns[-1].text
        winner = next((name for name in ROUTES if name in said), None)
        return Scores({name: float(name == winner) for name in ROUTES}, 0.5, winner)


class _Answers:
    """The answers of the Affinity deployment, in this process."""

    def __init__(self, snapshot: Snapshot) -> None:
        section = snapshot.config.state_storage
        self._values = MemoryConversations(
            max_bytes=section.max_megabytes << 20,
            ttl_s=section.ttl_seconds,
            clock=time.monotonic,
        )

    async def load(self, keys: list[str]) -> list[bytes | None]:
        return self._values.load(keys)

    async def save(self, key: str, value: bytes) -> None:
        self._values.save(key, value)

    async def delete(self, keys: list[str]) -> int:
        return self._values.delete(keys)


def _assembled(watching: Watch[Snapshot]) -> tuple[Assembly, MetricsObserver]:
    observer = MetricsObserver(NullMeter())
    answers = SharedConversations(_Answers(watching.current), clock=time.monotonic)  # type: ignore[arg-type]
    ports = Ports(transport(watching), _ByWord(), SharedMemory(), observer, answers)
    return assemble(lambda: watching.current, ports), observer


async def serve(config: str, port: int) -> None:
    """Serves the configuration until the process is stopped."""
    watching = Watch(config, lambda: compile_snapshot(config))
    watching.start()
    assembly, observer = _assembled(watching)

    async def health() -> dict[str, str]:
        return {"status": "ok", "version": watching.current.version}

    api = create_api(
        ApiDependencies(
            gateway=assembly.gateway,
            stored=assembly.stored,
            snapshot=lambda: watching.current,
            observer=observer,
            health=health,
        )
    )

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"] == SIZE_PATH:
            body = json.dumps(asdict(measure())).encode()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": body})
        else:
            await api(scope, receive, send)

    options: dict[str, Any] = {"log_level": "warning", "lifespan": "off", "http": "httptools"}
    await uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, **options)).serve()


def main() -> None:
    """Serves until it is stopped."""
    logging.getLogger("fingerpost").setLevel(logging.ERROR)
    asyncio.run(serve(sys.argv[1], int(sys.argv[2])))


if __name__ == "__main__":
    main()
