"""Measures CPU per request, latency and throughput of Fingerpost and of other gateways.

    .venv/bin/python benchmarks/overhead.py
    .venv/bin/python benchmarks/overhead.py --against DIR --only fingerpost-inline fingerpost-dedicated

All servers are up at the same time, and the script measures them in turn: a round has a cell for
each variant and load, a cell has five turns, and the order of the turns is A B C … C B A. A figure
is the median of the rounds, and a ratio the median of the rounds' ratios, because the speed of a
shared machine changes from minute to minute. Other work on the machine and the order of the
variants thus affect all variants alike. A tenth of a second of load that does not count precedes
each turn.

Variants: ``mock`` (the provider itself), ``raw-inline`` and ``raw-hop`` (Serve applications that
only relay: lib/raw_echo.py), ``fingerpost-inline`` and ``fingerpost-dedicated`` (the application of
configs/serve.yaml, two models with two data paths), and other gateways in environments of their own
(lib/peers.py): ``envoy`` (a plain proxy, one thread), ``ferrogw`` (Go, both cores), ``litellm`` (its
proxy with one worker). Loads: complete answers, and streams of 52 events that the provider sends
without a pause, with 1, 8 and 64 clients (LiteLLM up to 8); prompts of 64 KB, streamed calls of a
tool, and streams for a client of messages whose provider speaks chat, with 8.

``--against DIR`` adds ``other-inline`` and ``other-dedicated``: the gateway of another checkout, in
a second cluster with the same applications, the configuration files of that checkout, and the
virtual environment that runs the script. The report shows the CPU per request of this checkout as
a ratio to the other's, and goes to overhead_against.{json,md}.

CPU of a cell is the CPU time of all processes of the variant's server between the first request
and the last answer. The Serve variants are applications of **one** cluster, under the prefixes
/raw-inline, /raw-hop and, for Fingerpost, /. An idle cluster takes a good part of a core, so four
clusters would measure one another. Fingerpost is one application, because its paths are fixed and
a prefix would stay in the path: its two data paths are two providers of one configuration, at
127.0.0.1 and at localhost. The unadjusted figures ("raw") include the cluster's idle work, and more
of it for a slower variant. The script therefore measures idle work (in a pause before the rounds,
and while other servers have the load) and subtracts it: "CPU". The report shows both, and the
limits apply to the latter.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any, Final

from benchmarks.lib.cluster import HERE, Checkout
from benchmarks.lib.machine import machine, stolen_seconds
from benchmarks.lib.peers import PEERS, install
from benchmarks.lib.report import Cell, Idle, Window, bars, elsewhere, markdown, medians, table
from benchmarks.lib.script import end_on_terminate, script_parser, write_results
from benchmarks.lib.testbed import Testbed, running_testbed
from benchmarks.lib.variants import LOADS, VARIANTS, Variant, Workload, load_of

TURNS: Final = 5
_IDLE_S: Final = 5.0
_WARM_S: Final = 0.1
_OTHER: Final = tuple(variant.name for variant in VARIANTS if variant.server == "other")


def measure(
    testbed: Testbed, variants: Sequence[Variant], rounds: int, seconds: float
) -> Iterator[Cell]:
    """Yields all cells of all rounds, one after another."""
    for number in range(1, rounds + 1):
        for load in LOADS:
            able = [variant for variant in variants if variant.takes(load)]
            turns: dict[str, list[Cell]] = {variant.name: [] for variant in able}
            for turn in range(TURNS):
                for variant in able if turn % 2 == 0 else reversed(able):
                    port = testbed.ports[variant.server]
                    testbed.generator.put(load_of(variant, port, load, _WARM_S))
                    cell = _measure_turn(testbed, variant, load, seconds / TURNS, number)
                    turns[variant.name].append(cell)
            for cells in turns.values():
                yield reduce(add, cells)


def _measure_turn(
    testbed: Testbed, variant: Variant, load: Workload, seconds: float, number: int
) -> Cell:
    before = testbed.count()
    port = testbed.ports[variant.server]
    figures = testbed.generator.put(load_of(variant, port, load, seconds))
    window = before.until(testbed.count())
    return Cell(number, variant.name, variant.server, load.label, window, figures)


def _run(options: argparse.Namespace, variants: Sequence[Variant]) -> int:
    servers = {variant.server for variant in variants}
    for peer in servers & PEERS.keys():
        install(peer)
    about, stolen_s, began = machine(), stolen_seconds(), time.monotonic()
    with running_testbed(servers, options.against) as testbed:
        for _ in measure(testbed, variants, rounds=1, seconds=0.5):
            pass  # warm: imports, connections, caches
        pause = testbed.rest(_IDLE_S)
        cells: list[Cell] = []
        for cell in measure(testbed, variants, options.rounds, options.seconds):
            cells.append(cell)
            print(cell.line(), flush=True)
        memory = {name: server.pss_mb() for name, server in testbed.servers.items()}
        about["load_average_after"] = machine()["load_average"]
        stolen = (stolen_seconds() - stolen_s) / (time.monotonic() - began)
    result: dict[str, Any] = {"machine": about, "settings": _settings(options, variants)}
    if options.against:
        compared = {"fingerpost": HERE.describe(), "other": options.against.describe()}
        result["compared"] = compared
    result["stolen_cpu_s_per_s"] = round(stolen, 3)
    _report(options, result, cells, pause, memory)
    return 1 if any(cell.figures.errors for cell in cells) else 0


def _settings(options: argparse.Namespace, variants: Sequence[Variant]) -> dict[str, Any]:
    return {
        "rounds": options.rounds,
        "seconds": options.seconds,
        "turns": TURNS,
        "variants": [variant.name for variant in variants],
    }


def _report(
    options: argparse.Namespace,
    result: dict[str, Any],
    cells: Sequence[Cell],
    pause: Window,
    memory: dict[str, dict[str, float]],
) -> None:
    """Prints the figures and writes them; ``result`` holds what is known before the cells."""
    idle = Idle.of(cells, pause)
    rows = medians(cells, idle)
    judged = bars(rows)
    text = table(rows, judged, idle, memory)
    result |= {
        "idle_cpu_s_per_s": idle.by_role(),
        "pause": asdict(pause),
        "elsewhere_cpu_s_per_s": elsewhere(cells),
        "medians": [asdict(row) for row in rows],
        "bars": [asdict(bar) for bar in judged],
        "pss_mb": memory,
        "cells": [cell.facts() for cell in cells],
    }
    report = markdown(result, text)
    print(f"\n{report}")
    name = "overhead_against" if options.against else "overhead"
    write_results(options.results, name, result, report)


def _checkout(folder: str) -> Checkout:
    try:
        return Checkout(Path(folder).resolve())
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def main() -> int:
    """Runs the benchmark; returns 0 if every answer was correct."""
    known = [variant.name for variant in VARIANTS if variant.server != "other"]
    parser = script_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.5, help="duration of a cell, seconds")
    parser.add_argument("--only", nargs="+", choices=known, default=known, help="variants")
    parser.add_argument(
        "--skip", nargs="+", choices=known, default=[], help="variants to leave out"
    )
    parser.add_argument(
        "--against", type=_checkout, metavar="DIR", help="another checkout to compare with"
    )
    options = parser.parse_args()
    end_on_terminate()
    names = {*options.only} - {*options.skip}
    if options.against:
        names |= {name.replace("fingerpost", "other") for name in names} & {*_OTHER}
        if names.isdisjoint(_OTHER):
            parser.error("--against: name fingerpost-inline or fingerpost-dedicated in --only")
    return _run(options, [variant for variant in VARIANTS if variant.name in names])


if __name__ == "__main__":
    sys.exit(main())
