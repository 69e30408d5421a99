"""Measures decisions by content: time by length, and CPU beside a request that names a model.

    .venv/bin/python benchmarks/decision_cost.py

Three measurements, without Serve and its hop, in this process:

- a decision between ten routes by number of tokens, and the bare model in the same turns;
- decisions per second of one core, through the thread and the guard of a replica;
- CPU of ``Gateway.complete`` for a request that names its model and for one with a cached decision, in
  turns of two hundred requests, with a provider that answers at once.

Results go to benchmarks/results/decision_cost.{json,md}.
"""

import asyncio
import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any, Final

from benchmarks.lib.in_process import (
    BATCH,
    cpu_ms_by_model,
    demo_snapshot,
    gateway_with,
    send_chats,
)
from benchmarks.lib.machine import headline, machine
from benchmarks.lib.paths import ROUTING_SETS
from benchmarks.lib.script import publish, script_parser, verdict
from serve_app.affinity.guarded import NoStore
from serve_app.domain import Question, Route, Turn
from serve_app.engines.embedding.engine import EmbeddingEngine, EmbeddingSettings
from serve_app.engines.guard import Guard
from serve_app.engines.thread import EngineThread
from serve_app.evaluation.labelled_set import read_set

_ROUNDS: Final = 40
_TURNS: Final = 60
_BARS: Final = {32: 8.0, 64: 15.0}
_CACHED_BAR_MS: Final = 0.1
_WORDS: Final = ("sun", "moon", "sea", "tree", "house", "road", "bread", "chair")


def main() -> None:
    """Measures, prints and writes the figures."""
    options = script_parser(__doc__).parse_args()
    engine = EmbeddingEngine(EmbeddingSettings())
    routes = read_set(ROUTING_SETS / "llm_tasks.jsonl").routes
    engine.prepare(routes)
    result: dict[str, Any] = {
        "machine": machine(),
        "by_tokens": [by_tokens(engine, routes, count) for count in (16, 32, 64)],
        "per_second": asyncio.run(per_second(engine, routes)),
        "cached": asyncio.run(cached(engine)),
    }
    text = "\n".join(report(result))
    publish(options.results, "decision_cost", result, text)


def by_tokens(engine: EmbeddingEngine, routes: tuple[Route, ...], count: int) -> dict[str, float]:
    """Returns milliseconds of a decision and of the bare model on the same text."""
    texts = [" ".join(["word"] * (count - 3) + [word]) for word in _WORDS]
    turns = [texts[position % len(texts)] for position in range(_ROUNDS)]
    decided, bare = [], []
    for text in turns:
        question = Question((Turn("user", text),), routes, "k")
        decided.append(_ms(partial(engine.score, question, lambda: True)))
        bare.append(_ms(partial(engine.model.embed, text)))
    return {
        "tokens": count,
        "decision_p50_ms": median(decided),
        "decision_min_ms": min(decided),
        "model_p50_ms": median(bare),
    }


def _ms(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return (time.perf_counter() - started) * 1e3


async def per_second(engine: EmbeddingEngine, routes: tuple[Route, ...]) -> dict[str, float]:
    """Returns decisions of 32 tokens per second of CPU, four at a time, all different."""
    thread = EngineThread(engine, deadline_s=60.0, clock=time.monotonic)
    guard = Guard(thread, deadline_s=60.0, clock=time.monotonic)
    filler = " ".join(["word"] * 28)
    busy, wall = time.process_time(), time.perf_counter()
    for batch in range(50):
        await asyncio.gather(
            *(
                guard.score(Question((Turn("user", f"{batch} {number} {filler}"),), routes, "k"))
                for number in range(4)
            )
        )
    busy, wall = time.process_time() - busy, time.perf_counter() - wall
    thread.close()
    return {"per_cpu_second": guard.asked / busy, "per_second": guard.asked / wall}


async def cached(engine: EmbeddingEngine) -> dict[str, float]:
    """Returns CPU of a request that names its model, of one with a cached decision, and the rest."""
    snapshot = demo_snapshot()
    thread = EngineThread(engine, deadline_s=60.0, clock=time.monotonic)
    guard = Guard(thread, deadline_s=60.0, clock=time.monotonic)
    gateway = gateway_with(snapshot, guard, NoStore("no sessions"))
    await send_chats(gateway, snapshot, "auto", 1, reasons=("route", "no_match"))
    spent = await cpu_ms_by_model(
        gateway, snapshot, ("vllm/parrot", "auto"), _TURNS, reasons=("explicit", "cached")
    )
    if guard.asked != 1:
        raise SystemExit(f"{guard.asked} decisions instead of one: the others were not cached")
    thread.close()
    more = [auto - named for named, auto in zip(*spent.values(), strict=True)]
    return {
        "named_ms": median(spent["vllm/parrot"]),
        "cached_ms": median(spent["auto"]),
        "more_ms": median(more),
    }


def report(result: dict[str, Any]) -> list[str]:
    """Returns the figures and their limits as lines of Markdown."""
    lines = ["# What a decision by content costs", "", headline(result["machine"]), ""]
    lines += ["| tokens | decision p50 | minimum | bare model p50 | bar |", "|---|---|---|---|---|"]
    for row in result["by_tokens"]:
        bar = _BARS.get(row["tokens"])
        cell = "-" if bar is None else _verdict(row["decision_p50_ms"], bar)
        lines.append(
            f"| {row['tokens']} | {row['decision_p50_ms']:.1f} ms | {row['decision_min_ms']:.1f} ms "
            f"| {row['model_p50_ms']:.1f} ms | {cell} |"
        )
    rate, cost = result["per_second"], result["cached"]
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
            f"{BATCH}): {_verdict(cost['more_ms'], _CACHED_BAR_MS)}."
        ),
    ]
    return lines


def _verdict(measured: float, bar: float) -> str:
    return f"at most {bar:g} ms: {verdict(holds=measured <= bar)}"


if __name__ == "__main__":
    main()
