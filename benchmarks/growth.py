"""Measures how the memory of a served gateway grows over 50,000 requests.

    .venv/bin/python benchmarks/growth.py

One cluster. Complete answers and streams of 52 events, through the ingress alone and through a provider
client, by eight clients, in turn, until each half has 25,000 requests. After each half, and after ten
seconds of rest, the memory (PSS) of the replicas. soak.py says what grows inside of the gateway, with
faults and changes of the configuration; this script has Serve and Ray in it. Results go to
benchmarks/results/growth.{json,md}.
"""

import sys
import time
from collections.abc import Mapping
from typing import Any, Final

from benchmarks.lib.cluster import HERE, mock
from benchmarks.lib.loadgen import Generator, generating
from benchmarks.lib.machine import headline, machine
from benchmarks.lib.ports import free_ports
from benchmarks.lib.processes import without_port
from benchmarks.lib.script import end_on_terminate, publish, script_parser, verdict
from benchmarks.lib.testbed import gateway
from benchmarks.lib.variants import VARIANTS, Workload, load_of

HALF: Final = 25_000
_TURN_S: Final = 2.0
_REST_S: Final = 10.0
_BAR_MB: Final = 5.0
_LOADS: Final = (Workload("unary", 8), Workload("stream", 8))
_VARIANTS: Final = [
    variant for variant in VARIANTS if variant.name in {"fingerpost-inline", "fingerpost-dedicated"}
]


def _send(generator: Generator, port: int, requests: int) -> int:
    """Sends at least this many requests; returns how many."""
    sent = 0
    while sent < requests:
        for variant in _VARIANTS:
            for load in _LOADS:
                figures = generator.put(load_of(variant, port, load, _TURN_S))
                if figures.errors:
                    raise RuntimeError(f"{variant.name}: {figures.first_error}")
                sent += figures.requests
    return sent


def growth_mb(result: Mapping[str, Any]) -> float:
    """Returns by how much ingress and provider clients grew in the second half."""
    first, second = (half["pss_mb"] for half in result["halves"])
    ours = [role for role in second if "Ingress" in role or "provider" in role]
    return float(sum(second[role] - first.get(role, 0.0) for role in ours))


def report(result: Mapping[str, Any]) -> str:
    """Returns the report."""
    first, second = result["halves"]
    grown = growth_mb(result)
    lines = ["# Growth of a served gateway", ""]
    lines += [f"{headline(result['machine'])} How: benchmarks/growth.py.", ""]
    lines += ["| process | start MB | after the first half | after the second half |"]
    lines += ["|---|--:|--:|--:|"]
    for role, held in second["pss_mb"].items():
        before = (half.get(role, 0.0) for half in (result["start_mb"], first["pss_mb"]))
        cells = " | ".join(f"{value:.1f}" for value in (*before, held))
        lines.append(f"| {without_port(role)} | {cells} |")
    lines += [
        "",
        (
            f"Requests: {first['requests']}, then {second['requests']}. Ingress and provider clients "
            f"together grew by {grown:.1f} MB in the second half; less than {_BAR_MB:.0f}: "
            f"{verdict(holds=grown < _BAR_MB)}."
        ),
    ]
    return "\n".join(lines)


def main() -> int:
    """Measures, prints and writes the figures."""
    options = script_parser(__doc__).parse_args()
    end_on_terminate()
    about = machine()
    mock_port, port = free_ports(2)
    with (
        mock(mock_port),
        generating() as generator,
        gateway(HERE, port, mock_port, relays=False) as server,
    ):
        for variant in _VARIANTS:  # warm; a proxy that has just started may still close connections
            generator.put(load_of(variant, port, _LOADS[0], 3.0))
        result: dict[str, Any] = {"machine": about, "start_mb": server.pss_mb(), "halves": []}
        for _ in range(2):
            requests = _send(generator, port, HALF)
            time.sleep(_REST_S)
            result["halves"].append({"requests": requests, "pss_mb": server.pss_mb()})
    text = report(result)
    publish(options.results, "growth", result, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
