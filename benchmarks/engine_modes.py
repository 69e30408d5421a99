"""Ways to read a decision from a language model in vLLM: free text, JSON, choice, token trie.

    .venv/bin/python benchmarks/engine_modes.py MODEL [--routes 8 32] [--at-once 1 8 32]
        [--rounds 5] [--family arch-router] [--device auto]

MODEL is a folder with safetensors. For each number of routes and of questions at once, the modes
take turns: in each round every mode gets the same conversations about the same routes, each begun
by a number that no other has, so the beginning of a prompt is remembered and its end is not. What
counts is the median of the rounds: how long a question took, and how many were answered per second.

On a CPU the engine has one thread. Results go to benchmarks/results/engine_modes.{json,md}.
"""

import argparse
import asyncio
import itertools
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean, median
from typing import Any, Final, get_args

from machine import headline, machine

from serve_app.domain import Question, Route, Scores
from serve_app.engines.vllm.engine import VllmEngine
from serve_app.engines.vllm.settings import Mode, VllmSettings
from serve_app.evaluation.labelled_set import read_set
from serve_app.scoring.excerpt import conversation
from serve_app.scoring.prompt import FAMILIES

HERE: Final = Path(__file__).parent
RESULTS: Final = HERE / "results" / "engine_modes"
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
"""The batched trie has to be so much faster than JSON when it is alone."""
_NEAR: Final = 1.25
"""And ``auto`` may take so much longer than the best mode under load."""
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
    """Measures, prints and writes."""
    chosen = _parser().parse_args()
    settings = VllmSettings(
        model=str(chosen.model.resolve()),
        family=FAMILIES[chosen.family],
        device=chosen.device,
        max_model_len=chosen.max_model_len,
        min_confidence=0.0,
    )
    about = machine()
    engine = VllmEngine(settings, deadline_s=3600.0)
    try:
        if not engine.wait(_START_S):
            sys.exit(engine.fault or "vLLM did not start in time")
        rows = asyncio.run(measure(engine, chosen))
    finally:
        engine.close()
    found = {
        "machine": {**about, "load_average_after": machine()["load_average"]},
        "model": chosen.model.name,
        "family": chosen.family,
        "rounds": chosen.rounds,
        "start_s": engine.start_s,
        "rows": rows,
    }
    text = "\n".join(report(found))
    print(text)
    if not chosen.dry:
        RESULTS.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")
        RESULTS.with_suffix(".md").write_text(text + "\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", type=Path, help="a folder with safetensors")
    parser.add_argument("--family", choices=list(FAMILIES), default="arch-router")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--routes", type=int, nargs="+", default=[8, 32])
    parser.add_argument("--at-once", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--max-model-len", type=int, default=4096)
    parser.add_argument("--modes", choices=get_args(Mode), nargs="+", default=list(MODES))
    parser.add_argument("--dry", action="store_true", help="print, and write no results")
    return parser


def routes_of(count: int) -> tuple[Route, ...]:
    """The labelled sets' routes, and then made-up ones."""
    sets = ("llm_tasks.jsonl", "dialogues.jsonl")
    known = [route for name in sets for route in read_set(HERE / "routing" / name).routes]
    for topic in _TOPICS:
        words = topic.split()
        known.append(Route(words[0], f"Questions about {', '.join(words)} and the like.", ()))
    if count > len(known):
        sys.exit(f"there are {len(known)} routes to measure with, not {count}")
    return tuple(known[:count])


class _Questions:
    """Conversations about the same routes; none is ever asked twice, but for its last words."""

    def __init__(self, routes: tuple[Route, ...]) -> None:
        self._routes = routes
        self._cases = read_set(HERE / "routing" / "llm_tasks.jsonl").cases
        self._numbers = itertools.count()

    def take(self, start: int, count: int) -> list[Question]:
        """So many from this case on, each begun by a number of its own."""
        return [self._question(place) for place in range(start, start + count)]

    def _question(self, place: int) -> Question:
        turns = list(conversation(self._cases[place % len(self._cases)].turns))
        turns[-1] = replace(turns[-1], text=f"({next(self._numbers)}) {turns[-1].text}")
        return Question(tuple(turns), self._routes, f"{len(self._routes)} routes")


async def measure(engine: VllmEngine, chosen: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each number of routes, of questions at once, and mode."""
    rows = []
    for count, together in itertools.product(chosen.routes, chosen.at_once):
        questions = _Questions(routes_of(count))
        taken: dict[Mode, list[list[float]]] = {mode: [] for mode in chosen.modes}
        whole: dict[Mode, list[float]] = {mode: [] for mode in chosen.modes}
        for mode in chosen.modes:  # grammars are compiled, routes remembered
            await _one(engine, questions.take(0, 1)[0], mode)
        for number in range(chosen.rounds):
            for mode in chosen.modes:
                asked = questions.take(number * together, together)
                started = time.perf_counter()
                taken[mode].append(await _all(engine, asked, mode))
                whole[mode].append(time.perf_counter() - started)
        for mode in chosen.modes:
            rows.append(
                {
                    "routes": count,
                    "at_once": together,
                    "mode": mode,
                    "latency_ms": median(mean(times) for times in taken[mode]) * 1e3,
                    "per_second": together / median(whole[mode]),
                    "rounds_s": whole[mode],
                }
            )
            print(rows[-1], flush=True)
    return rows


async def _all(engine: VllmEngine, asked: Sequence[Question], mode: Mode) -> list[float]:
    return list(await asyncio.gather(*(_one(engine, question, mode) for question in asked)))


async def _one(engine: VllmEngine, question: Question, mode: Mode) -> float:
    started = time.perf_counter()
    said = await engine.score(question, mode)
    if not isinstance(said, Scores) and mode != "free":  # which may answer nothing readable
        sys.exit(f"{mode}: {said.detail}")
    return time.perf_counter() - started


def report(found: dict[str, Any]) -> list[str]:
    """The figures, and what was asked of them."""
    lines = [
        "# Ways to read a decision from a language model",
        "",
        headline(found["machine"]),
        "",
        (
            f"{found['model']}, asked as {found['family']}; the engine started in "
            f"{found['start_s']:.0f} s. Medians of {found['rounds']} rounds in which the modes "
            "took turns."
        ),
        "",
        "| routes | at once | mode | a question took | per second | against JSON |",
        "|---|---|---|---|---|---|",
    ]
    for row in found["rows"]:
        base = _row(found, row["routes"], row["at_once"], "json")
        ratio = "" if base is None else f"{base['latency_ms'] / row['latency_ms']:.2f}x"
        lines.append(
            f"| {row['routes']} | {row['at_once']} | {NAMES[row['mode']]} "
            f"| {row['latency_ms']:.0f} ms | {row['per_second']:.2f} | {ratio} |"
        )
    return [*lines, "", *_verdicts(found)]


def _verdicts(found: dict[str, Any]) -> Iterator[str]:
    kinds = dict.fromkeys((row["routes"], row["at_once"]) for row in found["rows"])
    for routes, together in kinds:
        named = {mode: _row(found, routes, together, mode) for mode in MODES}
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


def _row(found: dict[str, Any], routes: int, together: int, mode: str) -> dict[str, Any] | None:
    rows = (
        row
        for row in found["rows"]
        if (row["routes"], row["at_once"], row["mode"]) == (routes, together, mode)
    )
    return next(rows, None)


if __name__ == "__main__":
    main()
