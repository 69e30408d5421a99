"""Measures what a typed question costs beside the time of the engine that answers it.

    .venv/bin/python benchmarks/question_cost.py

``Gateway.answer_questions`` in this process, without Serve and its hop, with an orchestrator that
answers at once: reading the body, asking through the guard, and writing the answer. Every request
has another input, so that none is cached.

Results go to benchmarks/results/question_cost.{json,md}.
"""

import asyncio
import json
import time
from collections.abc import Mapping
from statistics import median, quantiles
from typing import Any, Final

from benchmarks.lib.in_process import demo_snapshot, gateway_with
from benchmarks.lib.machine import headline, machine
from benchmarks.lib.script import publish, script_parser, verdict
from serve_app.affinity.guarded import NoStore
from serve_app.dialects.json_edits import read_document
from serve_app.dialects.registry import client_dialect
from serve_app.domain import Json, Question, Scores
from serve_app.requests.call import ClientRequest
from serve_app.requests.gateway import Gateway
from serve_app.snapshot import Snapshot

_REQUESTS: Final = 400
_BAR_MS: Final = 1.0
_STATEMENT: Final = {"type": "predicate", "instructions": "The customer asks for a refund"}


def _choice(count: int) -> dict[str, Json]:
    choices = [
        {"value": f"queue {number}", "description": f"tickets that queue {number} answers"}
        for number in range(count)
    ]
    return {"type": "choice", "instructions": "Which queue?", "choices": choices}


_CASES: Final[Mapping[str, list[dict[str, Json]]]] = {
    "a statement": [_STATEMENT],
    "a choice of 10": [_choice(10)],
    "a choice of 255": [_choice(255)],
    "10 questions": [_STATEMENT | {"instructions": f"The number is {n}"} for n in range(10)],
}
_BARS: Final = {"a statement": _BAR_MS, "a choice of 10": _BAR_MS}


class InstantOrchestrator:
    """Gives all routes of a question the same probability, without any work."""

    async def score(self, question: Question) -> Scores:
        """Returns these probabilities."""
        share = 1 / (len(question.routes) + 1)
        names = [route.name for route in question.routes]
        return Scores(dict.fromkeys(names, share), 0.0, None, none=share)


def main() -> None:
    """Measures, prints and writes the figures."""
    options = script_parser(__doc__).parse_args()
    result: dict[str, Any] = {"machine": machine(), "cases": asyncio.run(measured())}
    text = "\n".join(report(result))
    publish(options.results, "question_cost", result, text)


async def measured() -> list[dict[str, Any]]:
    """Returns milliseconds of a request by case."""
    snapshot = demo_snapshot()
    gateway = gateway_with(snapshot, InstantOrchestrator(), NoStore("no sessions"))
    rows = []
    for name, questions in _CASES.items():
        await times_of(gateway, snapshot, questions, "warm up")
        times = await times_of(gateway, snapshot, questions, "measured")
        rows.append({"case": name, "p50_ms": median(times), "p95_ms": quantiles(times, n=20)[-1]})
    return rows


async def times_of(
    gateway: Gateway, snapshot: Snapshot, questions: list[dict[str, Json]], text: str
) -> list[float]:
    """Returns milliseconds of each request. Ends the script if one is not answered."""
    dialect = client_dialect("decisions")
    times = []
    for number in range(_REQUESTS):
        asked = {"model": "fingerpost/route", "input": f"{text} {number}", "questions": questions}
        body = json.dumps(asked).encode()
        started = time.perf_counter()
        request = ClientRequest(
            snapshot=snapshot,
            surface=dialect.name,
            dialect=dialect,
            document=read_document(body, unique=dialect.fields.read),
            headers=(),
            hint=None,
            arrived=gateway.clock(),
        )
        answer = await gateway.answer_questions(request)
        times.append((time.perf_counter() - started) * 1e3)
        if answer.status != 200:
            raise SystemExit(str(answer.body))
    return times


def report(result: dict[str, Any]) -> list[str]:
    """Returns the figures and their limits as lines of Markdown."""
    lines = ["# What typed questions cost beside the engine", "", headline(result["machine"]), ""]
    lines += ["| request | p50 | p95 | bar |", "|---|---|---|---|"]
    for row in result["cases"]:
        bar = _BARS.get(row["case"])
        holds = "-"
        if bar is not None:
            holds = f"at most {bar:g} ms: {verdict(holds=row['p50_ms'] <= bar)}"
        lines.append(
            f"| {row['case']} | {row['p50_ms']:.3f} ms | {row['p95_ms']:.3f} ms | {holds} |"
        )
    lines += ["", f"{_REQUESTS} requests each, one after the other."]
    return lines


if __name__ == "__main__":
    main()
