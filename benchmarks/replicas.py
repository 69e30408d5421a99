"""Measures throughput and CPU with one to four replicas of the ingress.

    .venv/bin/python benchmarks/replicas.py

For each number of replicas a cluster of its own, one after the other; in it, turns of 64 clients that
ask for complete answers of an ``inline`` provider. All of it shares the machine's cores, the load
generator and the provider too: with two cores a second replica helps as far as the first one left a
core idle, and more replicas show what they cost. Results go to benchmarks/results/replicas.{json,md}.
"""

import sys
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, Final

from benchmarks.lib.cluster import HERE, mock
from benchmarks.lib.loadgen import Generator, generating
from benchmarks.lib.machine import headline, machine
from benchmarks.lib.ports import free_ports
from benchmarks.lib.processes import Server, cpu_between
from benchmarks.lib.script import end_on_terminate, publish, script_parser
from benchmarks.lib.testbed import gateway
from benchmarks.lib.variants import VARIANTS, Workload, load_of

COUNTS: Final = (1, 2, 3, 4)
_LOAD: Final = Workload("unary", 64)
_INLINE: Final = next(variant for variant in VARIANTS if variant.name == "fingerpost-inline")


def _turn(
    server: Server, generator: Generator, port: int, replicas: int, seconds: float
) -> dict[str, float]:
    """Returns the figures of one turn."""
    before = server.cpu_seconds()
    figures = generator.put(load_of(_INLINE, port, _LOAD, seconds))
    spent_s = sum(cpu_between(before, server.cpu_seconds()).values())
    if figures.errors:
        raise RuntimeError(f"{replicas} replicas: {figures.first_error}")
    return {
        "replicas": replicas,
        "rps": figures.rps,
        "p50_ms": figures.quantile(0.5),
        "p99_ms": figures.quantile(0.99),
        "cpu_ms": spent_s / figures.requests * 1e3,
    }


def medians(turns: Sequence[Mapping[str, float]]) -> list[dict[str, float]]:
    """Returns the medians for each number of replicas."""
    found = []
    for count in dict.fromkeys(turn["replicas"] for turn in turns):
        own = [turn for turn in turns if turn["replicas"] == count]
        found.append({name: round(median(turn[name] for turn in own), 3) for name in own[0]})
    return found


def report(result: Mapping[str, Any]) -> str:
    """Returns the report."""
    lines = ["# Replicas of the ingress", ""]
    lines += [f"{headline(result['machine'])} How: benchmarks/replicas.py.", ""]
    lines += [
        "| ingress replicas | req/s | p50 ms | p99 ms | CPU ms/req |",
        "|--:|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {one['replicas']:.0f} | {one['rps']:.0f} | {one['p50_ms']:.1f} | {one['p99_ms']:.1f} "
        f"| {one['cpu_ms']:.3f} |"
        for one in result["medians"]
    ]
    return "\n".join(lines)


def main() -> int:
    """Measures all numbers of replicas."""
    parser = script_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="duration of a turn, seconds")
    options = parser.parse_args()
    end_on_terminate()
    about = machine()
    turns: list[dict[str, float]] = []
    mock_port, port = free_ports(2)
    with mock(mock_port), generating() as generator:
        for count in COUNTS:
            deployments = {"deployments": [{"name": "Ingress", "num_replicas": count}]}
            with gateway(HERE, port, mock_port, None, deployments, relays=False) as server:
                generator.put(load_of(_INLINE, port, _LOAD, 3.0))  # warm: imports, connections
                turns += [
                    _turn(server, generator, port, count, options.seconds)
                    for _ in range(options.rounds)
                ]
            print({key: round(value, 2) for key, value in turns[-1].items()}, flush=True)
    result = {"machine": about, "medians": medians(turns), "turns": turns}
    text = report(result)
    publish(options.results, "replicas", result, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
