"""What a decision by content costs: time by length, and CPU against a request that names a model.

    .venv/bin/python benchmarks/decision_cost.py

Three measurements, without Serve and its hop, in this process:

- a decision over ten routes, by the number of tokens, beside the bare model in the same turns;
- decisions per second of one core, through the thread and the guard that a replica has;
- the CPU of ``Gateway.chat`` for a request that names its model and for one whose decision is
  cached, in turns of a few hundred, with a provider that answers at once.

Results go to benchmarks/results/decision_cost.{json,md}.
"""

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, Final

from machine import headline, machine

from serve_app.affinity.cached import CachedStore
from serve_app.affinity.guarded import GuardedStore, NoStore
from serve_app.affinity.sessions import Sessions
from serve_app.breaker import Breaker
from serve_app.dialects import json_edits
from serve_app.domain import Question, Route, Turn
from serve_app.engines.embedding.engine import EmbeddingEngine, EmbeddingSettings
from serve_app.engines.guard import Guard
from serve_app.engines.thread import EngineThread
from serve_app.evaluation.labelled_set import read_set
from serve_app.exchange import UpstreamReply, UpstreamRequest
from serve_app.providers.prices import CatalogPrices
from serve_app.requests.call import Call
from serve_app.requests.decide import READ_KEYS
from serve_app.requests.gateway import Gateway
from serve_app.snapshot import Snapshot, compile_snapshot
from serve_app.telemetry.metrics import Metric

HERE: Final = Path(__file__).parent
RESULTS: Final = HERE / "results" / "decision_cost"
_ROUNDS: Final = 40
_TURNS, _BATCH = 60, 200
_BARS: Final = {32: 8.0, 64: 15.0}
_CACHED_BAR_MS: Final = 0.3
_COMPLETION: Final = (
    b'{"id":"c","object":"chat.completion","choices":[{"index":0,"message":'
    b'{"role":"assistant","content":"Hi"},"finish_reason":"stop"}]}'
)


def main() -> None:
    """Measures, prints and writes."""
    engine = EmbeddingEngine(EmbeddingSettings())
    routes = read_set(HERE / "routing" / "llm_tasks.jsonl").routes
    engine.scorer.prepare(routes)
    found: dict[str, Any] = {
        "machine": machine(),
        "by_tokens": [by_tokens(engine, routes, count) for count in (16, 32, 64)],
        "per_second": asyncio.run(per_second(engine, routes)),
        "cached": asyncio.run(cached(engine)),
    }
    RESULTS.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")
    text = "\n".join(report(found))
    RESULTS.with_suffix(".md").write_text(text + "\n")
    print(text)


def by_tokens(engine: EmbeddingEngine, routes: tuple[Route, ...], count: int) -> dict[str, float]:
    """Milliseconds of a decision and of the bare model on the same text, turn by turn."""
    texts = [" ".join(["word"] * (count - 3) + [word]) for word in _WORDS]
    turns = [texts[position % len(texts)] for position in range(_ROUNDS)]
    decided, bare = [], []
    for text in turns:
        question = Question((Turn("user", text),), routes, "k")
        decided.append(_ms(lambda asked=question: engine.score(asked, lambda: True)))
        bare.append(_ms(lambda said=text: engine.model.embed(said)))
    return {
        "tokens": count,
        "decision_p50_ms": median(decided),
        "decision_min_ms": min(decided),
        "model_p50_ms": median(bare),
    }


_WORDS: Final = ("sun", "moon", "sea", "tree", "house", "road", "bread", "chair")


def _ms(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return (time.perf_counter() - started) * 1e3


async def per_second(engine: EmbeddingEngine, routes: tuple[Route, ...]) -> dict[str, float]:
    """Different questions of 32 tokens, four at a time, per second of CPU."""
    thread = EngineThread(engine, deadline_s=60.0, clock=time.monotonic)
    guard = Guard(thread, deadline_s=60.0, clock=time.monotonic)
    filler = " ".join(["word"] * 28)
    busy, wall = time.process_time(), time.perf_counter()
    for batch in range(50):
        await asyncio.gather(
            *(
                guard.score(Question((Turn("user", f"{batch} {own} {filler}"),), routes, "k"))
                for own in range(4)
            )
        )
    busy, wall = time.process_time() - busy, time.perf_counter() - wall
    thread.close()
    return {"per_cpu_second": guard.asked / busy, "per_second": guard.asked / wall}


class Instantly:
    """An upstream that has its answer ready."""

    async def open(self, _request: UpstreamRequest) -> UpstreamReply:
        """The same completion each time."""
        return UpstreamReply(200, (("content-type", "application/json"),), _COMPLETION)


def _no_sessions() -> CachedStore:
    steady = GuardedStore(
        NoStore("none is asked"),
        clock=time.monotonic,
        breaker=Breaker(time.monotonic),
        report=lambda _: None,
    )
    return CachedStore(steady, max_entries=1, ttl_s=1, clock=time.monotonic)


class Forgetful:
    """A meter that keeps nothing."""

    def count(self, metric: Metric, labels: tuple[str, ...]) -> None:
        """Forgets it."""

    def observe(self, metric: Metric, value: float, labels: tuple[str, ...]) -> None:
        """Forgets it."""


async def cached(engine: EmbeddingEngine) -> dict[str, float]:
    """CPU milliseconds of a request by name and of one by a cached decision, and what is between.

    The conversation has three turns of the user; the bodies differ in ``model`` alone.
    """
    snapshot = compile_snapshot(HERE.parent / "configs" / "demo.gateway.yaml")
    thread = EngineThread(engine, deadline_s=60.0, clock=time.monotonic)
    inner = Guard(thread, deadline_s=60.0, clock=time.monotonic)
    guard = Guard(
        inner,
        deadline_s=60.0,
        clock=time.monotonic,
        meter=Forgetful(),
        breaker=Breaker(time.monotonic),
    )
    gateway = Gateway(
        upstream=Instantly(),
        orchestrator=guard,
        sessions=Sessions(_no_sessions(), Forgetful(), CatalogPrices),
        meter=Forgetful(),
        clock=time.monotonic,
    )
    spent: dict[str, list[float]] = {"vllm/parrot": [], "auto": []}
    await _chats(gateway, snapshot, "auto", 1)
    for _ in range(_TURNS):
        for name, times in spent.items():
            started = time.process_time()
            await _chats(gateway, snapshot, name, _BATCH)
            times.append((time.process_time() - started) / _BATCH * 1e3)
    if inner.asked != 1:
        raise SystemExit(f"{inner.asked} decisions were made; one was to be")
    thread.close()
    between = [auto - named for named, auto in zip(*spent.values(), strict=True)]
    return {
        "named_ms": median(spent["vllm/parrot"]),
        "cached_ms": median(spent["auto"]),
        "more_ms": median(between),
    }


async def _chats(gateway: Gateway, snapshot: Snapshot, name: str, times: int) -> None:
    said = [{"role": "user", "content": f"and then, how do I sort it ({turn})?"} for turn in "abc"]
    body = json.dumps({"model": name, "messages": said}).encode()
    for _ in range(times):
        document = json_edits.read_document(body, unique=READ_KEYS)
        call = Call(snapshot, document, (), None, gateway.clock())
        answer = await gateway.chat(call)
        if answer.status != 200:
            raise SystemExit(answer.body)


def report(found: dict[str, Any]) -> list[str]:
    """The figures beside what was asked of them."""
    lines = ["# What a decision by content costs", "", headline(found["machine"]), ""]
    lines += ["| tokens | decision p50 | minimum | bare model p50 | bar |", "|---|---|---|---|---|"]
    for row in found["by_tokens"]:
        bar = _BARS.get(row["tokens"])
        verdict = "-" if bar is None else _verdict(row["decision_p50_ms"], bar)
        lines.append(
            f"| {row['tokens']} | {row['decision_p50_ms']:.1f} ms | {row['decision_min_ms']:.1f} ms "
            f"| {row['model_p50_ms']:.1f} ms | {verdict} |"
        )
    rate, cost = found["per_second"], found["cached"]
    lines += [
        "",
        (
            f"Decisions of 32 tokens: {rate['per_cpu_second']:.0f} per second of one core "
            f"({rate['per_second']:.0f} per second of wall time, one thread)."
        ),
        "",
        (
            f"A cached decision costs {cost['more_ms']:.3f} ms CPU more than a name "
            f"({cost['cached_ms']:.3f} against {cost['named_ms']:.3f} ms; median of {_TURNS} pairs of "
            f"{_BATCH}): {_verdict(cost['more_ms'], _CACHED_BAR_MS)}."
        ),
    ]
    return lines


def _verdict(measured: float, bar: float) -> str:
    return f"at most {bar:g} ms: {'holds' if measured <= bar else 'NO'}"


if __name__ == "__main__":
    main()
