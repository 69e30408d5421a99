"""How long Fingerpost takes to start, and what it weighs, beside an empty Serve application.

    .venv/bin/python benchmarks/startup.py

Each round starts one cluster with an application of one empty deployment and, after it is gone,
one with Fingerpost and a dedicated provider. Start-up is the time from ``serve run`` to the first
200 of /healthz. Memory is the sum over all processes of the cluster of PSS (each page divided by
the number of processes that share it): when it has started, and after some load.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

from cluster import Server, fingerpost, folder, free_ports, mock, serving
from loadgen import Generator, generating
from machine import headline, machine
from overhead import RESULTS, VARIANTS, end_on_terminate, load_of

EMPTY, FINGERPOST = "empty", "fingerpost"
_RATIO: Final = 1.5
_SECONDS: Final = 45.0
_MEGABYTES: Final = 1600.0
_SETTLE_S: Final = 5.0
_LOAD_S: Final = 3.0
_WITHIN_S: Final = 180.0
_DEDICATED: Final = next(one for one in VARIANTS if one.name == "fingerpost-dedicated")


@dataclass(frozen=True, slots=True)
class Start:
    """One start of one application."""

    round: int
    application: str
    seconds: float
    pss_mb: dict[str, float]
    """By role, when it had started."""
    loaded_pss_mb: dict[str, float]
    """By role, after load; empty for the empty application."""

    @property
    def weight_mb(self) -> float:
        """In all, at its heaviest."""
        return max(sum(self.pss_mb.values()), sum(self.loaded_pss_mb.values()))


@dataclass(frozen=True, slots=True)
class Verdict:
    """A figure and what was asked of it."""

    name: str
    measured: float
    unit: str
    wanted: str
    holds: bool


def measure(rounds: int) -> list[Start]:
    """All starts, in turn."""
    (port,) = free_ports(1)
    starts = []
    with mock(port), generating() as generator:
        for number in range(1, rounds + 1):
            for application in (EMPTY, FINGERPOST):
                start = _start(number, application, port, generator)
                starts.append(start)
                text = f"{start.seconds:6.1f} s  {start.weight_mb:6.0f} MB"
                print(f"round {number}  {application:<11} {text}", flush=True)
    return starts


def _start(number: int, application: str, provider: int, generator: Generator) -> Start:
    (port,) = free_ports(1)
    with ExitStack() as stack:
        built = _empty()
        if application == FINGERPOST:
            config = stack.enter_context(folder()) / "gateway.yaml"
            url = f"http://localhost:{provider}/v1"
            built = fingerpost(config, {_DEDICATED.model: (url, "dedicated")})
        began = time.monotonic()
        server = stack.enter_context(serving([built], port))
        server.wait_for(f"http://127.0.0.1:{port}/healthz", _WITHIN_S)
        seconds = time.monotonic() - began
        time.sleep(_SETTLE_S)
        held = server.pss_mb()
        loaded = _under_load(server, port, generator) if application == FINGERPOST else {}
        return Start(number, application, seconds, held, loaded)


def _empty() -> dict[str, Any]:
    return {"name": EMPTY, "route_prefix": "/", "import_path": "raw_echo:build_empty"}


def _under_load(server: Server, port: int, generator: Generator) -> dict[str, float]:
    for stream in (False, True):
        figures = generator.put(load_of(_DEDICATED, port, (stream, 8), _LOAD_S))
        if figures.errors:
            raise RuntimeError(figures.first_error)
    return server.pss_mb()


def judge(starts: Sequence[Start]) -> list[Verdict]:
    """The medians against what was asked."""
    seconds = {
        name: median(start.seconds for start in starts if start.application == name)
        for name in (EMPTY, FINGERPOST)
    }
    ratio = seconds[FINGERPOST] / seconds[EMPTY]
    weight = median(start.weight_mb for start in starts if start.application == FINGERPOST)
    took = seconds[FINGERPOST]
    return [
        Verdict("start-up / empty application's", ratio, "", f"< {_RATIO:g}", ratio < _RATIO),
        Verdict("start-up", took, "s", f"< {_SECONDS:g}", took < _SECONDS),
        Verdict("memory in all", weight, "MB", f"<= {_MEGABYTES:g}", weight <= _MEGABYTES),
    ]


def table(starts: Sequence[Start], verdicts: Sequence[Verdict]) -> str:
    """All figures as Markdown."""
    lines = ["| figure | measured (median) | bar | holds |", "|---|--:|---|---|"]
    lines += [
        f"| {one.name} | {one.measured:.2f} {one.unit} | {one.wanted} "
        f"| {'yes' if one.holds else 'NO'} |"
        for one in verdicts
    ]
    lines += ["", "| round | application | start-up s | PSS MB | PSS after load MB |"]
    lines += ["|--:|---|--:|--:|--:|"]
    lines += [
        f"| {one.round} | {one.application} | {one.seconds:.1f} | {sum(one.pss_mb.values()):.0f} "
        f"| {sum(one.loaded_pss_mb.values()) or float('nan'):.0f} |"
        for one in starts
    ]
    last = next(one for one in reversed(starts) if one.application == FINGERPOST)
    lines += ["", "Fingerpost after load, by process (MB, last round):", ""]
    ordered = sorted(last.loaded_pss_mb.items(), key=lambda pair: -pair[1])
    lines += [f"- {role}: {held:.0f}" for role, held in ordered]
    return "\n".join(lines).replace("| nan |", "| |")


def main() -> int:
    """Runs it; 0 when every start was one."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--results", type=Path, default=RESULTS, help="a folder")
    options = parser.parse_args()
    end_on_terminate()
    about = machine()
    starts = measure(options.rounds)
    about["load_average_after"] = machine()["load_average"]
    verdicts = judge(starts)
    text = table(starts, verdicts)
    print("\n" + text)
    options.results.mkdir(parents=True, exist_ok=True)
    result = {
        "machine": about,
        "verdicts": [asdict(one) for one in verdicts],
        "starts": [asdict(one) for one in starts],
    }
    (options.results / "startup.json").write_text(json.dumps(result, indent=1) + "\n")
    head = f"# Start-up and memory\n\n{headline(about)} How: benchmarks/startup.py.\n\n"
    (options.results / "startup.md").write_text(f"{head}{text}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
