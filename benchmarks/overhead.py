"""What Fingerpost costs: CPU per request, latency and throughput, against its neighbours.

    .venv/bin/python benchmarks/overhead.py

Everything is up at the same time and is measured in turn: a round has a cell for each variant and
load, a cell has five turns, and the turns go A B C … C B A …; a figure is the median of the rounds,
and a ratio the median of the rounds' ratios, for a shared machine's speed changes from minute to
minute. So what else it does, and who went before, falls on all alike. A tenth of a second of load
that is not counted goes before each turn.

Variants: ``mock`` (the provider itself), ``raw-inline`` and ``raw-hop`` (Serve applications that
relay and do nothing else: raw_echo.py), ``fingerpost-inline`` and ``fingerpost-dedicated`` (the
application as it is served, two models with two data paths), ``litellm`` (LiteLLM's proxy with one
worker). Loads: complete answers, and streams of 52 events that the provider sends without a
pause; one client, and eight.

CPU of a cell is the CPU time of all processes of the server that was asked, between the first
request and the last answer. The Serve variants are applications of **one** cluster, under the
prefixes /raw-inline, /raw-hop and, for Fingerpost, /. One cluster and not four, because an idle
cluster takes a good part of a core by itself; four would measure one another. Fingerpost is one
application and not two, because its paths are fixed and a prefix would stay in the path: its two
data paths are two providers of one configuration, at 127.0.0.1 and at localhost. Reported as they
are ("raw"), such figures hold the cluster's idle work, and more of it for a slower variant; hence
the idle work is measured (in a pause before the rounds, and whenever something else is asked) and
taken off: "CPU". Both are shown, and the bars are judged on the latter.
"""

import argparse
import json
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import reduce
from operator import add
from pathlib import Path
from types import FrameType
from typing import Any, Final

import litellm_proxy
from cluster import HERE, Server, cpu_between, fingerpost, folder, free_ports, mock, serving
from loadgen import Generator, Load, generating
from machine import busy_seconds, machine, stolen_seconds
from report import Cell, Idle, Window, bars, elsewhere, markdown, medians, table

RESULTS: Final = HERE / "results"
CONTENT_EVENTS: Final = 50
"""A stream's events are these, one before and one after: 52, and [DONE]."""
TURNS: Final = 5
_IDLE_S: Final = 5.0
_WARM_S: Final = 0.1
_CHAT: Final = "/v1/chat/completions"


@dataclass(frozen=True, slots=True)
class Variant:
    """What is asked, and which server it is part of."""

    name: str
    server: str
    path: str
    stream_path: str
    model: str = "bench"


VARIANTS: Final = (
    Variant("mock", "mock", _CHAT, _CHAT),
    Variant("raw-inline", "serve", "/raw-inline/unary", "/raw-inline/stream"),
    Variant("raw-hop", "serve", "/raw-hop/unary", "/raw-hop/stream"),
    Variant("fingerpost-inline", "serve", _CHAT, _CHAT, "vllm/bench"),
    Variant("fingerpost-dedicated", "serve", _CHAT, _CHAT, "vllm/bench-dedicated"),
    Variant("litellm", "litellm", _CHAT, _CHAT),
)
LOADS: Final = tuple((stream, clients) for stream in (False, True) for clients in (1, 8))


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything that is up."""

    servers: dict[str, Server]
    ports: dict[str, int]
    generator: Generator

    def count(self) -> "Count":
        """The CPU time that everything used so far."""
        used = {name: server.cpu_seconds() for name, server in self.servers.items()}
        ours = sum(spent for server in used.values() for _, spent in server.values())
        ours += self.generator.cpu_seconds() + time.process_time()
        return Count(time.monotonic(), used, busy_seconds() - ours)


@dataclass(frozen=True, slots=True)
class Count:
    """A moment's CPU times."""

    at: float
    used: dict[str, dict[int, tuple[str, float]]]
    elsewhere_s: float
    """Of processes that are no part of the benchmark."""

    def until(self, later: "Count") -> Window:
        """What two moments are apart."""
        used = {name: cpu_between(self.used[name], later.used[name]) for name in self.used}
        return Window(later.at - self.at, used, round(later.elsewhere_s - self.elsewhere_s, 3))


def load_of(variant: Variant, port: int, load: tuple[bool, int], seconds: float) -> Load:
    """What to send to a variant; ``load`` is one of LOADS."""
    stream, clients = load
    path = variant.stream_path if stream else variant.path
    return Load(port, path, _body(variant.model, stream=stream), clients, seconds, stream)


def _body(model: str, *, stream: bool) -> str:
    """About 0.8 kB."""
    question = "Which way is it to the station, and is there a way around the market? " * 8
    request = {
        "model": model,
        "messages": [
            {"role": "system", "content": "You answer briefly, and say so when you don't know."},
            {"role": "user", "content": question},
        ],
        "temperature": 0.7,
        "max_tokens": CONTENT_EVENTS,
        "stream": stream,
    }
    return json.dumps(request)


@contextmanager
def staged(names: set[str]) -> Iterator[Stage]:
    """Starts what the variants need, all on free ports, and stops it."""
    needed = {"mock"} | {variant.server for variant in VARIANTS if variant.name in names}
    ports = dict(zip(("mock", "serve", "litellm"), free_ports(3), strict=True))
    address = f"127.0.0.1:{ports['mock']}"
    with ExitStack() as stack:
        servers = {"mock": stack.enter_context(mock(ports["mock"]))}
        if "serve" in needed:
            place = stack.enter_context(folder())
            applications = _applications(place / "gateway.yaml", address, ports["mock"])
            server = stack.enter_context(serving(applications, ports["serve"]))
            servers["serve"] = server
            for path in ("/healthz", "/raw-inline/unary", "/raw-hop/unary"):
                server.wait_for(f"http://127.0.0.1:{ports['serve']}{path}", 120)
        if "litellm" in needed:
            proxy = litellm_proxy.proxying(f"http://{address}/v1", ports["litellm"])
            servers["litellm"] = stack.enter_context(proxy)
        yield Stage(servers, ports, stack.enter_context(generating()))


def _applications(config: Path, address: str, port: int) -> list[dict[str, Any]]:
    url = f"http://{address}{_CHAT}"
    raw = [
        {
            "name": name,
            "route_prefix": f"/{name}",
            "import_path": f"raw_echo:{builder}",
            "args": {"url": url},
        }
        for name, builder in (("raw-inline", "build_inline"), ("raw-hop", "build_hop"))
    ]
    models = {
        "vllm/bench": (f"http://{address}/v1", "inline"),
        "vllm/bench-dedicated": (f"http://localhost:{port}/v1", "dedicated"),
    }
    return [*raw, fingerpost(config, models)]


def measure(stage: Stage, names: Sequence[str], rounds: int, seconds: float) -> Iterator[Cell]:
    """All cells of all rounds, one after another."""
    variants = [variant for variant in VARIANTS if variant.name in names]
    for number in range(1, rounds + 1):
        for load in LOADS:
            turns: dict[str, list[Cell]] = {variant.name: [] for variant in variants}
            for turn in range(TURNS):
                for variant in variants if turn % 2 == 0 else reversed(variants):
                    stage.generator.put(_load(stage, variant, load, _WARM_S))
                    cell = _turn(stage, variant, load, seconds / TURNS, number)
                    turns[variant.name].append(cell)
            for of_one in turns.values():
                yield reduce(add, of_one)


def _load(stage: Stage, variant: Variant, load: tuple[bool, int], seconds: float) -> Load:
    return load_of(variant, stage.ports[variant.server], load, seconds)


def _turn(
    stage: Stage, variant: Variant, load: tuple[bool, int], seconds: float, number: int
) -> Cell:
    before = stage.count()
    figures = stage.generator.put(_load(stage, variant, load, seconds))
    window = before.until(stage.count())
    return Cell(number, variant.name, variant.server, *load, window, figures)


def _pause(stage: Stage) -> Window:
    """What all servers use when nobody asks anything."""
    before = stage.count()
    time.sleep(_IDLE_S)
    return before.until(stage.count())


def _run(options: argparse.Namespace, names: list[str]) -> int:
    if "litellm" in names:
        litellm_proxy.install()
    about, stolen_s, began = machine(), stolen_seconds(), time.monotonic()
    with staged(set(names)) as stage:
        for _ in measure(stage, names, rounds=1, seconds=0.5):
            pass  # warm: imports, connections, caches
        pause = _pause(stage)
        cells: list[Cell] = []
        for cell in measure(stage, names, options.rounds, options.seconds):
            cells.append(cell)
            print(cell.line(), flush=True)
        memory = {name: server.pss_mb() for name, server in stage.servers.items()}
        about["load_average_after"] = machine()["load_average"]
        stolen = (stolen_seconds() - stolen_s) / (time.monotonic() - began)
    idle = Idle.of(cells, pause)
    rows = medians(cells, idle)
    judged = bars(rows)
    print("\n" + table(rows, judged, idle, memory))
    result = {
        "machine": about,
        "settings": {
            "rounds": options.rounds,
            "seconds": options.seconds,
            "turns": TURNS,
            "variants": names,
        },
        "idle_cpu_s_per_s": idle.by_role(),
        "pause": asdict(pause),
        "elsewhere_cpu_s_per_s": elsewhere(cells),
        "stolen_cpu_s_per_s": round(stolen, 3),
        "medians": [asdict(row) for row in rows],
        "bars": [asdict(bar) for bar in judged],
        "pss_mb": memory,
        "cells": [cell.facts() for cell in cells],
    }
    options.results.mkdir(parents=True, exist_ok=True)
    (options.results / "overhead.json").write_text(json.dumps(result, indent=1) + "\n")
    text = markdown(result, table(rows, judged, idle, memory))
    (options.results / "overhead.md").write_text(text)
    return 1 if any(cell.figures.errors for cell in cells) else 0


def end_on_terminate() -> None:
    """SIGTERM ends like Ctrl-C, so that everything that was started is stopped."""

    def leave(number: int, frame: FrameType | None) -> None:
        del number, frame
        sys.exit(130)

    signal.signal(signal.SIGTERM, leave)


def main() -> int:
    """Runs it; 0 when every answer was good."""
    known = [variant.name for variant in VARIANTS]
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.5, help="of a cell, in each round")
    parser.add_argument("--only", nargs="+", choices=known, default=known)
    parser.add_argument("--skip", nargs="+", choices=known, default=[])
    parser.add_argument("--results", type=Path, default=RESULTS, help="a folder")
    options = parser.parse_args()
    end_on_terminate()
    names = [name for name in known if name in options.only and name not in options.skip]
    return _run(options, names)


if __name__ == "__main__":
    sys.exit(main())
