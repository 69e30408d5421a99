"""Measures what logs cost a request, and how fast ``fingerpost report`` reads them.

    .venv/bin/python benchmarks/logs.py

Two measurements, in this process and without Serve:

- CPU of ``ended`` for each observer, for the same streamed request with two attempts, with the
  threads that write; beside it the whole ``Gateway.complete`` of a request that names its model,
  with logs and without, in turns;
- seconds and peak memory of ``fingerpost report`` on logs of 100,000 lines, in a process of its own.

Results go to benchmarks/results/logs.{json,md}.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from statistics import median
from typing import Any, Final

from benchmarks.lib.in_process import (
    BATCH,
    InstantUpstream,
    NullMeter,
    demo_snapshot,
    send_chats,
)
from benchmarks.lib.machine import headline, machine
from benchmarks.lib.script import publish, script_parser, verdict
from serve_app.affinity.guarded import NoStore
from serve_app.config.schema.logs import AccessLogSection, DecisionLogSection, Logs
from serve_app.dialects import ir
from serve_app.domain import Question, Reason, Route, Scores, Turn, Unavailable
from serve_app.requests.assembly import Ports, assemble
from serve_app.snapshot import Snapshot
from serve_app.telemetry.access_log import access_line
from serve_app.telemetry.decision_log import decision_fields, head_of
from serve_app.telemetry.log_lines import line_of
from serve_app.telemetry.logs import OpenLogs
from serve_app.telemetry.metrics import MetricsObserver
from serve_app.telemetry.record import Observers, RequestRecord, TriedRecord

LINES: Final = 100_000
_ROUNDS: Final = 30
_RECORDS: Final = 2000
_REPORTS: Final = 3
_REPORT_BAR_S: Final = 10.0
_COST_BAR_MS: Final = 0.1
_DAY_S: Final = 86_400
_BEGIN: Final = 1_790_000_000.0
_MODELS: Final = ("openai/gpt-4o", "openai/gpt-4o-mini", "anthropic/claude", "vllm/llama")
_ROUTES: Final = tuple(
    Route(name, f"requests about {name}", ()) for name in ("code", "writing", "travel", "quick")
)


class _NoOrchestrator:
    """Is never asked: the requests name their models."""

    async def score(self, question: Question) -> Unavailable:
        """Returns that it is unavailable."""
        del question
        return Unavailable(Reason.ORCHESTRATOR_ERROR, "not here")


def main() -> None:
    """Measures, prints and writes the figures."""
    options = script_parser(__doc__).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result: dict[str, Any] = {
            "machine": machine(),
            "observer": observer_cost(Path(folder)),
            "request": asyncio.run(request_cost(Path(folder))),
            "report": report_speed(Path(folder)),
        }
    text = "\n".join(report(result))
    publish(options.results, "logs", result, text)


def records(count: int, *, seed: int = 1) -> Iterator[RequestRecord]:
    """Yields requests like those of a busy week: four routes, forty clients, some failures."""
    random = Random(seed)  # noqa: S311 - figures, not secrets
    for number in range(count):
        model = random.choice(_MODELS)
        provider = model.partition("/")[0]
        began = random.random() / 100
        tried = (TriedRecord(provider, model, "ok", began, random.lognormvariate(-1, 1)),)
        is_moved = random.random() < 0.05
        if is_moved:
            tried = (TriedRecord("vllm", "vllm/llama", "connect", began, 0.01), *tried)
        has_failed = random.random() < 0.02
        scores = {route.name: random.random() / 4 for route in _ROUTES}
        usage = ir.Usage(
            random.randrange(20_000), random.randrange(20_000), 0, random.randrange(900)
        )
        yield RequestRecord(
            surface="chat",
            status=502 if has_failed else 200,
            reason="failover" if is_moved else "route",
            route=random.choice(_ROUTES).name,
            confidence=random.random(),
            session=random.choice(("hit", "miss", None)),
            policy="0123456789ab",
            provider=provider,
            model=model,
            attempts=len(tried),
            error_type="502" if has_failed else "",
            seconds=random.lognormvariate(0, 1),
            overhead_s=random.lognormvariate(-6, 0.5),
            id=f"{random.getrandbits(128):032x}",
            at=_BEGIN + number * 7 * _DAY_S / count,
            client=f"client-{random.randrange(40)}",
            team=f"team-{random.randrange(8)}",
            asked="auto",
            stream=True,
            decided_s=random.lognormvariate(-6, 0.5),
            first_token_s=random.lognormvariate(-1, 0.5),
            tried=tried,
            usage=usage,
            usd=None if provider == "vllm" else random.random() / 100,
            session_hash=f"{random.randrange(30_000):032x}",
            candidates=_MODELS,
            question=Question((Turn("user", f"why does loop {number} never end, and what now?"),), _ROUTES, "k"),
            scores=Scores(scores, 0.2, max(scores, key=scores.__getitem__), none=0.1),
            tier="embedding",
        )  # fmt: skip


def observer_cost(folder: Path) -> dict[str, float]:
    """Returns CPU milliseconds per request that each log takes, its writing thread included."""
    some = list(records(_RECORDS))
    access, decisions = str(folder / "cost-a"), str(folder / "cost-d")
    sections = {
        "access": Logs(access=AccessLogSection(to=access)),
        "decisions": Logs(decisions=DecisionLogSection(to=decisions)),
        "decisions_with_texts": Logs(decisions=DecisionLogSection(to=decisions, texts=True)),
    }
    return {name: _observer_ms(section, some) for name, section in sections.items()}


def _observer_ms(section: Logs, some: list[RequestRecord]) -> float:
    opened = OpenLogs(section, NullMeter(), "replica")
    spent = []
    for _ in range(_ROUNDS):
        started = time.process_time()
        for number, record in enumerate(some):
            for observer in opened.observers:
                observer.ended(record)
            if number % 200 == 0:
                time.sleep(0.001)  # lets the thread run, as an event loop does
        spent.append((time.process_time() - started) / len(some) * 1e3)
    opened.close()
    return median(spent)


async def request_cost(folder: Path) -> dict[str, float]:
    """Returns CPU milliseconds of a request with and without the access log, in turns."""
    snapshot = demo_snapshot()
    logs = OpenLogs(Logs(access=AccessLogSection(to=str(folder / "r"))), NullMeter(), "replica")
    gateways = {
        "without_ms": _gateway(snapshot),
        "with_ms": _gateway(snapshot, logs),
    }
    spent: dict[str, list[float]] = {name: [] for name in gateways}
    for _ in range(2 * _ROUNDS):
        for name, gateway in gateways.items():
            started = time.process_time()
            await send_chats(gateway, snapshot, "vllm/parrot", BATCH, reasons=("explicit",))
            spent[name].append((time.process_time() - started) / BATCH * 1e3)
    logs.close()
    more = [b - a for a, b in zip(*spent.values(), strict=True)]
    return {**{name: median(times) for name, times in spent.items()}, "more_ms": median(more)}


def _gateway(snapshot: Snapshot, logs: OpenLogs | None = None) -> Any:
    """Returns a gateway whose records go to metrics, and to logs if there are any."""
    observers = () if logs is None else logs.observers
    observer = Observers(MetricsObserver(NullMeter()), *observers)
    ports = Ports(InstantUpstream(), _NoOrchestrator(), NoStore("no sessions"), observer)
    return assemble(lambda: snapshot, ports).gateway


def report_speed(folder: Path) -> dict[str, Any]:
    """Returns seconds and memory of the command on an access log and on a decision log."""
    access, decisions = folder / "access.jsonl", folder / "decisions.jsonl"
    with access.open("wb") as one, decisions.open("wb") as other:
        head = head_of(_ROUTES, (), texts=True)
        routes = json.loads(head)["set"]
        other.write(head)
        for record in records(LINES):
            one.write(access_line(record, "replica"))
            assert record.question is not None  # noqa: S101 - ours have one
            other.write(line_of(decision_fields(record, record.question, routes, texts=True)))
    return {
        "lines": LINES,
        "access_megabytes": access.stat().st_size / 1e6,
        "decisions_megabytes": decisions.stat().st_size / 1e6,
        "access": _timed(access),
        "decisions": _timed(decisions),
        "html": _timed(access, "--html", str(folder / "report.html")),
    }


def _timed(*arguments: object) -> dict[str, float]:
    """Returns medians of several runs, start of the interpreter included, and the peak memory."""
    command = [sys.executable, "-m", "serve_app.cli.main", "report", *map(str, arguments)]
    seconds, cpu_s, peaks = [], [], []
    for _ in range(_REPORTS):
        started = time.perf_counter()
        running = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(running.pid, 0)
        seconds.append(time.perf_counter() - started)
        if status:
            raise SystemExit(f"the report ended with {status}")
        cpu_s.append(used.ru_utime + used.ru_stime)
        peaks.append(used.ru_maxrss / 1024)
    return {"seconds": median(seconds), "cpu_s": median(cpu_s), "peak_megabytes": max(peaks)}


def report(result: dict[str, Any]) -> list[str]:
    """Returns the figures and their limits as lines of Markdown."""
    cost, request, speed = result["observer"], result["request"], result["report"]
    lines = ["# What logs cost", "", headline(result["machine"]), ""]
    lines += ["| log | CPU per request, its thread included | bar |", "|---|---|---|"]
    for name, milliseconds in cost.items():
        holds = verdict(holds=milliseconds <= _COST_BAR_MS)
        lines.append(
            f"| {name.replace('_', ' ')} | {milliseconds:.3f} ms | {_COST_BAR_MS} ms: {holds} |"
        )
    lines += [
        "",
        (
            f"A whole request that names its model takes {request['with_ms']:.3f} ms of CPU with the "
            f"access log and {request['without_ms']:.3f} ms without, {request['more_ms']:.3f} ms more "
            f"(median of {2 * _ROUNDS} pairs of {BATCH}; without Serve and without network)."
        ),
        "",
        f"`fingerpost report` on logs of {speed['lines']:,} lines, one process (median of {_REPORTS}):",
        "",
        "| log | size | CPU | bar | time beside other work | peak memory |",
        "|---|---|---|---|---|---|",
    ]
    for name, size in (
        ("access", "access_megabytes"),
        ("decisions", "decisions_megabytes"),
        ("html", "access_megabytes"),
    ):
        one = speed[name]
        title = "access, with `--html`" if name == "html" else name
        holds = verdict(holds=one["cpu_s"] <= _REPORT_BAR_S)
        lines.append(
            f"| {title} | {speed[size]:.0f} MB | {one['cpu_s']:.1f} s | {_REPORT_BAR_S:g} s: {holds} "
            f"| {one['seconds']:.1f} s | {one['peak_megabytes']:.0f} MB |"
        )
    return lines


if __name__ == "__main__":
    main()
