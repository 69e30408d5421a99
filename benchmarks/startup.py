"""Measures start-up time and memory of Fingerpost and of an empty Serve application.

    .venv/bin/python benchmarks/startup.py

Each round starts a cluster with an application of one empty deployment and, after that has ended, a
cluster with Fingerpost and a dedicated provider. Start-up is the time from ``serve run`` to the
first 200 of /healthz. Memory is the sum of PSS (each page divided by the number of processes that
share it) over all processes of the cluster, after the start and after a few seconds of load.
"""

import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, Final

from benchmarks.lib.cluster import fingerpost, mock, serving
from benchmarks.lib.loadgen import Generator, generating
from benchmarks.lib.machine import headline, machine
from benchmarks.lib.ports import free_ports
from benchmarks.lib.processes import Server, temporary_folder
from benchmarks.lib.script import end_on_terminate, script_parser, verdict, write_results
from benchmarks.lib.variants import DEDICATED, Workload, load_of

EMPTY, FINGERPOST = "empty", "fingerpost"
_RATIO: Final = 1.15
_SECONDS: Final = 20.0
_MEGABYTES: Final = 1400.0
_SETTLE_S: Final = 5.0
_LOAD_S: Final = 3.0
_WITHIN_S: Final = 180.0


@dataclass(frozen=True, slots=True)
class Start:
    """One start of one application."""

    round: int
    application: str
    seconds: float
    pss_mb: dict[str, float]
    """Memory by role after the start."""
    loaded_pss_mb: dict[str, float]
    """Memory by role after load; empty for the empty application."""

    @property
    def most_mb(self) -> float:
        """The larger of both sums."""
        return max(sum(self.pss_mb.values()), sum(self.loaded_pss_mb.values()))


@dataclass(frozen=True, slots=True)
class StartupVerdict:
    """A figure and its limit."""

    name: str
    measured: float
    unit: str
    wanted: str
    holds: bool


def measure(rounds: int) -> list[Start]:
    """Starts both applications in turn and returns all starts."""
    (port,) = free_ports(1)
    starts = []
    with mock(port), generating() as generator:
        for number in range(1, rounds + 1):
            for application in (EMPTY, FINGERPOST):
                start = _start(number, application, port, generator)
                starts.append(start)
                text = f"{start.seconds:6.1f} s  {start.most_mb:6.0f} MB"
                print(f"round {number}  {application:<11} {text}", flush=True)
    return starts


def _start(number: int, application: str, provider: int, generator: Generator) -> Start:
    (port,) = free_ports(1)
    with ExitStack() as stack:
        application_config = _empty()
        if application == FINGERPOST:
            config = stack.enter_context(temporary_folder()) / "gateway.yaml"
            url = f"http://localhost:{provider}/v1"
            application_config = fingerpost(config, {DEDICATED.model: (url, "dedicated")})
        began = time.monotonic()
        server = stack.enter_context(serving([application_config], port))
        server.wait_for(f"http://127.0.0.1:{port}/healthz", _WITHIN_S)
        seconds = time.monotonic() - began
        time.sleep(_SETTLE_S)
        held = server.pss_mb()
        loaded = _memory_under_load(server, port, generator) if application == FINGERPOST else {}
        return Start(number, application, seconds, held, loaded)


def _empty() -> dict[str, Any]:
    return {
        "name": EMPTY,
        "route_prefix": "/",
        "import_path": "benchmarks.lib.raw_echo:build_empty",
    }


def _memory_under_load(server: Server, port: int, generator: Generator) -> dict[str, float]:
    for name in ("unary", "stream"):
        figures = generator.put(load_of(DEDICATED, port, Workload(name, 8), _LOAD_S))
        if figures.errors:
            raise RuntimeError(figures.first_error)
    return server.pss_mb()


def judge(starts: Sequence[Start]) -> list[StartupVerdict]:
    """Compares the medians with their limits."""
    seconds = {
        name: median(start.seconds for start in starts if start.application == name)
        for name in (EMPTY, FINGERPOST)
    }
    ratio = seconds[FINGERPOST] / seconds[EMPTY]
    memory = median(start.most_mb for start in starts if start.application == FINGERPOST)
    took = seconds[FINGERPOST]
    return [
        StartupVerdict(
            "start-up / empty application's", ratio, "", f"< {_RATIO:g}", ratio < _RATIO
        ),
        StartupVerdict("start-up", took, "s", f"< {_SECONDS:g}", took < _SECONDS),
        StartupVerdict("memory in all", memory, "MB", f"<= {_MEGABYTES:g}", memory <= _MEGABYTES),
    ]


def table(starts: Sequence[Start], verdicts: Sequence[StartupVerdict]) -> str:
    """Returns all figures as Markdown."""
    lines = ["| figure | measured (median) | bar | holds |", "|---|--:|---|---|"]
    lines += [
        f"| {one.name} | {one.measured:.2f} {one.unit} | {one.wanted} "
        f"| {verdict(holds=one.holds)} |"
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
    """Runs the benchmark; returns 0 if every start succeeded."""
    parser = script_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    end_on_terminate()
    about = machine()
    starts = measure(options.rounds)
    about["load_average_after"] = machine()["load_average"]
    verdicts = judge(starts)
    text = table(starts, verdicts)
    print("\n" + text)
    result = {
        "machine": about,
        "verdicts": [asdict(one) for one in verdicts],
        "starts": [asdict(one) for one in starts],
    }
    head = f"# Start-up and memory\n\n{headline(about)} How: benchmarks/startup.py.\n\n"
    write_results(options.results, "startup", result, f"{head}{text}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
