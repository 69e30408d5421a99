"""Compares ways to read a decision from a language model in vLLM: text, JSON, choice, token trie.

    .venv/bin/python benchmarks/engine_modes.py MODEL [--routes 8 32] [--at-once 1 8 32]
        [--rounds 5] [--family arch-router] [--device auto]

MODEL is a folder with safetensors. The modes take turns for each number of routes and of concurrent
questions: in each round every mode gets the same conversations about the same routes. Each
conversation begins with a unique number, so vLLM's prefix cache has the beginning of the prompt and
not its end. The figures are medians of the rounds: time of a question, and questions per second.

On a CPU the engine has one thread. Results go to benchmarks/results/engine_modes.{json,md}.
"""

import argparse
import asyncio
import itertools
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean, median
from typing import Any, Final, get_args

from benchmarks.lib.machine import headline, machine
from benchmarks.lib.paths import ROUTING_SETS
from benchmarks.lib.script import script_parser, write_results
from serve_app.domain import Question, Route, Scores
from serve_app.engines.vllm.engine import VllmEngine
from serve_app.engines.vllm.settings import Mode, VllmSettings
from serve_app.evaluation.labelled_set import read_set
from serve_app.scoring.excerpt import conversation
from serve_app.scoring.prompt import FAMILIES

MODES: Final[tuple[Mode, ...]] = ("free", "json", "choice", "trie_lazy", "trie", "auto")
NAMES: Final = {
    "free": "free text",
    "json": "JSON schema",
    "choice": "choice",
    "trie_lazy": "trie, one node after the other",
    "trie": "trie, all nodes at once",
    "auto": "auto",
}
_FASTER: Final = 1.3
"""Least speed of the batched trie relative to JSON, one question at a time."""
_NEAR: Final = 1.25
"""Most time of ``auto`` relative to the best mode, under load."""
_START_S: Final = 600.0
_TOPICS: Final = (
    "billing invoices refunds", "passwords accounts login", "shipping parcels delivery",
    "recipes cooking food", "exercise sport training", "taxes forms deadlines",
    "contracts law clauses", "history dates events", "maps places directions",
    "music songs concerts", "films actors reviews", "gardens plants soil",
    "cars repairs parts", "pets animals vets", "babies parents school",
    "phones tablets apps",
)  # fmt: skip


def main() -> None:
    """Measures, prints and writes the figures."""
    options = _parser().parse_args()
    settings = VllmSettings(
        model=str(options.model.resolve()),
        family=FAMILIES[options.family],
        device=options.device,
        max_model_len=options.max_model_len,
        min_confidence=0.0,
    )
    about = machine()
    engine = VllmEngine(settings, deadline_s=3600.0)
    try:
        if not engine.wait(_START_S):
            sys.exit(engine.fault or "vLLM did not start in time")
        rows = asyncio.run(measure(engine, options))
    finally:
        engine.close()
    result = {
        "machine": {**about, "load_average_after": machine()["load_average"]},
        "model": options.model.name,
        "family": options.family,
        "rounds": options.rounds,
        "start_s": engine.start_s,
        "rows": rows,
    }
    text = "\n".join(report(result))
    print(text)
    if not options.dry:
        write_results(options.results, "engine_modes", result, text)


def _parser() -> argparse.ArgumentParser:
    parser = script_parser(__doc__)
    parser.add_argument("model", type=Path, help="folder with safetensors")
    parser.add_argument("--family", choices=list(FAMILIES), default="arch-router")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--routes", type=int, nargs="+", default=[8, 32])
    parser.add_argument("--at-once", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--max-model-len", type=int, default=4096)
    parser.add_argument("--modes", choices=get_args(Mode), nargs="+", default=list(MODES))
    parser.add_argument("--dry", action="store_true", help="print the figures without writing them")
    return parser


def routes_of(count: int) -> tuple[Route, ...]:
    """Returns ``count`` routes: those of the labelled sets, then made-up ones."""
    sets = ("llm_tasks.jsonl", "dialogues.jsonl")
    known = [route for name in sets for route in read_set(ROUTING_SETS / name).routes]
    for topic in _TOPICS:
        words = topic.split()
        known.append(Route(words[0], f"Questions about {', '.join(words)} and the like.", ()))
    if count > len(known):
        sys.exit(f"--routes: {count} is more than the {len(known)} routes of this benchmark")
    return tuple(known[:count])


class _Questions:
    """Conversations about the same routes, each with a unique beginning of its last turn."""

    def __init__(self, routes: tuple[Route, ...]) -> None:
        self._routes = routes
        self._cases = read_set(ROUTING_SETS / "llm_tasks.jsonl").cases
        self._numbers = itertools.count()

    def take(self, start: int, count: int) -> list[Question]:
        """Returns ``count`` questions from case ``start`` on."""
        return [self._question(index) for index in range(start, start + count)]

    def _question(self, index: int) -> Question:
        turns = list(conversation(self._cases[index % len(self._cases)].turns))
        turns[-1] = replace(turns[-1], text=f"({next(self._numbers)}) {turns[-1].text}")
        return Question(tuple(turns), self._routes, f"{len(self._routes)} routes")


async def measure(engine: VllmEngine, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Returns a row for each number of routes, number of concurrent questions, and mode."""
    rows = []
    for count, together in itertools.product(options.routes, options.at_once):
        questions = _Questions(routes_of(count))
        latencies: dict[Mode, list[list[float]]] = {mode: [] for mode in options.modes}
        durations: dict[Mode, list[float]] = {mode: [] for mode in options.modes}
        for mode in options.modes:  # compile grammars, fill caches
            await _ask(engine, questions.take(0, 1)[0], mode)
        for number in range(options.rounds):
            for mode in options.modes:
                batch = questions.take(number * together, together)
                started = time.perf_counter()
                latencies[mode].append(await _ask_all(engine, batch, mode))
                durations[mode].append(time.perf_counter() - started)
        for mode in options.modes:
            rows.append(
                {
                    "routes": count,
                    "at_once": together,
                    "mode": mode,
                    "latency_ms": median(mean(times) for times in latencies[mode]) * 1e3,
                    "per_second": together / median(durations[mode]),
                    "rounds_s": durations[mode],
                }
            )
            print(rows[-1], flush=True)
    return rows


async def _ask_all(engine: VllmEngine, batch: Sequence[Question], mode: Mode) -> list[float]:
    return list(await asyncio.gather(*(_ask(engine, question, mode) for question in batch)))


async def _ask(engine: VllmEngine, question: Question, mode: Mode) -> float:
    started = time.perf_counter()
    reply = await engine.score(question, mode)
    if not isinstance(reply, Scores) and mode != "free":  # free text may be unreadable
        sys.exit(f"{mode}: {reply.detail}")
    return time.perf_counter() - started


def report(result: dict[str, Any]) -> list[str]:
    """Returns the figures and their limits as lines of Markdown."""
    lines = [
        "# Ways to read a decision from a language model",
        "",
        headline(result["machine"]),
        "",
        (
            f"{result['model']}, prompts of family {result['family']}; the engine started in "
            f"{result['start_s']:.0f} s. Medians of {result['rounds']} rounds in which the modes "
            "took turns."
        ),
        "",
        "| routes | at once | mode | a question took | per second | against JSON |",
        "|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        base = _row(result, row["routes"], row["at_once"], "json")
        ratio = "" if base is None else f"{base['latency_ms'] / row['latency_ms']:.2f}x"
        lines.append(
            f"| {row['routes']} | {row['at_once']} | {NAMES[row['mode']]} "
            f"| {row['latency_ms']:.0f} ms | {row['per_second']:.2f} | {ratio} |"
        )
    return [*lines, "", *_verdicts(result)]


def _verdicts(result: dict[str, Any]) -> Iterator[str]:
    kinds = dict.fromkeys((row["routes"], row["at_once"]) for row in result["rows"])
    for routes, together in kinds:
        named = {mode: _row(result, routes, together, mode) for mode in MODES}
        where = f"{routes} routes, {together} at once"
        if together == 1 and named["trie"] and named["json"]:
            ratio = named["json"]["latency_ms"] / named["trie"]["latency_ms"]
            holds = "holds" if ratio >= _FASTER else "NO"
            yield (
                f"- {where}: the trie is {ratio:.2f} times as fast as JSON; "
                f"at least {_FASTER:g}: {holds}."
            )
        if together > 1 and named["auto"]:
            rest = [row for mode, row in named.items() if row and mode != "auto"]
            best = max(row["per_second"] for row in rest)
            ratio = best / named["auto"]["per_second"]
            holds = "holds" if ratio <= _NEAR else "NO"
            yield (
                f"- {where}: `auto` takes {ratio:.2f} times as long as the best mode; "
                f"at most {_NEAR:g}: {holds}."
            )


def _row(result: dict[str, Any], routes: int, together: int, mode: str) -> dict[str, Any] | None:
    rows = (
        row
        for row in result["rows"]
        if (row["routes"], row["at_once"], row["mode"]) == (routes, together, mode)
    )
    return next(rows, None)


if __name__ == "__main__":
    main()
