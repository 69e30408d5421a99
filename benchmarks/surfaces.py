"""Measures what a request costs on each surface, at a provider of each dialect.

    .venv/bin/python benchmarks/surfaces.py

Clients of chat, messages and responses ask providers that have only one of these dialects, through
the ingress alone: complete answers, and streams of 50 pieces of text that the provider sends without
a pause, eight clients each. Beside them, for each provider, stands a Serve application that only
relays its answers (lib/raw_echo.py). All run on one cluster and take turns. A figure is the CPU time
per request, the cluster's idle work taken off, the median of the rounds.

Results go to benchmarks/results/surfaces.{json,md}.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from operator import truediv
from statistics import median
from typing import Any, Final

from benchmarks.lib.cluster import fingerpost, mock, serving
from benchmarks.lib.dialect_streams import DIALECTS
from benchmarks.lib.loadgen import Load, generating
from benchmarks.lib.machine import headline, machine
from benchmarks.lib.ports import free_ports
from benchmarks.lib.processes import temporary_folder
from benchmarks.lib.script import end_on_terminate, publish, script_parser
from benchmarks.lib.surface_rows import BAR, BAR_TEXT, HEAD, cells
from benchmarks.lib.testbed import Testbed
from benchmarks.lib.variants import CONTENT_EVENTS, QUESTION, SYSTEM
from serve_app.exchange import PATHS, Operation

_CLIENTS: Final = 8
_IDLE_S: Final = 5.0
_START_S: Final = 120.0
_LAST: Final = {
    Operation.CHAT: "data: [DONE]",
    Operation.MESSAGES: "message_stop",
    Operation.RESPONSES: "response.completed",
}
"""What only the end of a stream has."""
_WHOLE: Final = {
    Operation.CHAT: '"choices"',
    Operation.MESSAGES: '"stop_reason"',
    Operation.RESPONSES: '"output"',
}


@dataclass(frozen=True, slots=True)
class Pair:
    """A client's dialect and a provider's; without a client, the relay of the provider's answers."""

    client: Operation | None
    provider: Operation

    def load(self, port: int, seconds: float, *, stream: bool) -> Load:
        """Returns the requests of eight clients."""
        spoken = self.provider if self.client is None else self.client
        path = f"/v1{PATHS[spoken]}"
        if self.client is None:
            path = f"/raw-{self.provider.value}/{'stream' if stream else 'unary'}"
        body = json.dumps(_body(spoken, _model(self.provider), stream=stream))
        expected = (_LAST if stream else _WHOLE)[spoken]
        return Load(port, path, body, _CLIENTS, seconds, expected)


PAIRS: Final = tuple(
    Pair(client, upstream) for upstream in DIALECTS for client in (None, *DIALECTS)
)


def _model(provider: Operation) -> str:
    return f"vllm/of-{provider.value}"


def _body(spoken: Operation, model: str, *, stream: bool) -> dict[str, Any]:
    """Returns a request of about 0.8 kB."""
    common = {"model": model, "temperature": 0.7, "stream": stream}
    asked = [{"role": "user", "content": QUESTION}]
    match spoken:
        case Operation.CHAT:
            messages = [{"role": "system", "content": SYSTEM}, *asked]
            return {**common, "messages": messages, "max_tokens": CONTENT_EVENTS}
        case Operation.MESSAGES:
            return {**common, "system": SYSTEM, "messages": asked, "max_tokens": CONTENT_EVENTS}
        case _:
            return {
                **common,
                "instructions": SYSTEM,
                "input": asked,
                "max_output_tokens": CONTENT_EVENTS,
            }


@contextmanager
def _running() -> Iterator[Testbed]:
    port, provider_port = free_ports(2)
    base = f"http://127.0.0.1:{provider_port}/v1"
    relays = [
        {
            "name": f"raw-{dialect.value}",
            "route_prefix": f"/raw-{dialect.value}",
            "import_path": "benchmarks.lib.raw_echo:build_inline",
            "args": {"url": f"{base}{PATHS[dialect]}"},
        }
        for dialect in DIALECTS
    ]
    models = {_model(dialect): (base, "inline") for dialect in DIALECTS}
    operations = {_model(dialect): [dialect.value] for dialect in DIALECTS}
    with (
        temporary_folder() as folder,
        mock(provider_port, "benchmarks.lib.dialect_provider") as provider,
        serving(
            [*relays, fingerpost(folder / "gateway.yaml", models, operations=operations)], port
        ) as server,
        generating() as generator,
    ):
        paths = ("/healthz", *(f"{relay['route_prefix']}/unary" for relay in relays))
        for path in paths:
            server.wait_for(f"http://127.0.0.1:{port}{path}", _START_S)
        servers = {"mock": provider, "serve": server}
        yield Testbed(servers, {"mock": provider_port, "serve": port}, generator)


def measure(testbed: Testbed, rounds: int, seconds: float) -> list[dict[str, Any]]:
    """Returns a row for each pair, complete answers before streams."""
    idle = testbed.idle(_IDLE_S)
    rows = []
    for stream in (False, True):
        found: dict[Pair, list[tuple[float, float]]] = {pair: [] for pair in PAIRS}
        for number in range(rounds + 1):  # the first one warms
            for pair in PAIRS if number % 2 == 0 else reversed(PAIRS):
                took = _turn(testbed, pair, idle, seconds if number else 0.5, stream=stream)
                if number:
                    found[pair].append(took)
        for pair, values in found.items():
            row = {
                "kind": "stream" if stream else "complete",
                "client": None if pair.client is None else pair.client.value,
                "provider": pair.provider.value,
                "cpu_ms": median(cpu_ms for cpu_ms, _ in values),
                "p50_ms": median(p50_ms for _, p50_ms in values),
                "rounds_cpu_ms": [cpu_ms for cpu_ms, _ in values],
            }
            print(row, flush=True)
            rows.append(row)
    return rows


def _turn(
    testbed: Testbed, pair: Pair, idle: float, seconds: float, *, stream: bool
) -> tuple[float, float]:
    """Returns the milliseconds of CPU of a request, and the median of the latencies."""
    load = pair.load(testbed.ports["serve"], seconds, stream=stream)
    cpu_s, figures = testbed.put("serve", load, idle)
    return 1000 * cpu_s, figures.quantile(0.5)


def judged(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns the rows, each with its ratios, which are medians of those of the rounds."""
    found = {(row["kind"], row["client"], row["provider"]): row for row in rows}

    def ratio(row: Mapping[str, Any], client: str | None) -> float:
        other = found[row["kind"], client, row["provider"]]["rounds_cpu_ms"]
        return float(median(map(truediv, row["rounds_cpu_ms"], other)))

    result = []
    for row in rows:
        if row["client"] is None:
            result.append(row)
            continue
        passed = ratio(row, row["provider"])
        is_bound = row["kind"] == "stream" and row["client"] != row["provider"]
        holds = passed <= BAR if is_bound else None
        result.append({**row, "to_relay": ratio(row, None), "to_passed": passed, "holds": holds})
    return result


def report(result: Mapping[str, Any]) -> str:
    """Returns the report."""
    lines = ["# What a surface costs", ""]
    lines += [f"{headline(result['machine'])} How: benchmarks/surfaces.py.", ""]
    lines += [BAR_TEXT, ""]
    lines += [f"| {' | '.join(HEAD)} |", f"|{'---|' * len(HEAD)}"]
    lines += [f"| {' | '.join(cells(row))} |" for row in result["rows"]]
    return "\n".join(lines)


def main() -> int:
    """Measures every pair; returns 0 unless an answer was wrong."""
    parser = script_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="duration of a turn, seconds")
    options = parser.parse_args()
    end_on_terminate()
    about = machine()
    with _running() as testbed:
        rows = judged(measure(testbed, options.rounds, options.seconds))
    result = {"machine": about, "rows": rows}
    text = report(result)
    publish(options.results, "surfaces", result, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
