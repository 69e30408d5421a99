"""Measures how much more CPU a request costs when it is traced, and its metrics are exported.

    .venv/bin/python benchmarks/telemetry_cost.py

The real API in this process, without Serve and its hop, with an upstream that answers at once: from
the request's headers to the last byte of the answer. A collector in another process takes the
exports; its CPU does not count, the threads that export do. The variants take turns in one run,
in an order that is drawn anew, and each turn ends with an export of all that is left.

Results go to benchmarks/results/telemetry_cost.{json,md}.
"""

import asyncio
import gc
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Any, Final

from benchmarks.lib.in_process import demo_snapshot
from benchmarks.lib.machine import headline, machine
from benchmarks.lib.script import publish, script_parser, verdict
from benchmarks.question_cost import InstantOrchestrator
from serve_app.affinity.guarded import NoStore
from serve_app.api.app import ApiDependencies, Asgi, create_api
from serve_app.config.schema.telemetry import MetricsExport, Telemetry, Traces
from serve_app.domain import Json
from serve_app.exchange import UpstreamReply, UpstreamRequest
from serve_app.requests.assembly import Ports, assemble
from serve_app.snapshot import Snapshot
from serve_app.telemetry.export import Exports, start_exports
from serve_app.telemetry.metric_store import MetricStore
from serve_app.telemetry.metrics import MetricsObserver
from serve_app.telemetry.record import Observers

_TURNS: Final = 11
_SLICES: Final = 20
_SLICE: Final = 50
"""Requests until it is the next variant's turn, so that all share what else the machine does."""
_BATCH: Final = _SLICES * _SLICE
"""Requests of one turn: what a replica answers between two exports at 200 requests a second."""
_EVENTS: Final = 30
_BAR: Final = 1.05
_BARRED: Final = "traces of 1 %"
_OFF: Final = "off"
_ALL: Final = "traces of 100 %"
"""Fills a batch in less than a turn, so that each slice exports its own."""
_NEVER_MS: Final = "3600000"
_COLLECTOR: Final = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()
    def log_message(self, *args):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"""
_EVENT: Final = (
    b'data: {"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":'
    b'{"content":"word "},"finish_reason":null}]}\n\n'
)
_END: Final = (
    b'data: {"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{},'
    b'"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
)
_COMPLETION: Final = (
    b'{"id":"c","object":"chat.completion","choices":[{"index":0,"message":'
    b'{"role":"assistant","content":"Hi"},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":30,"completion_tokens":2,"total_tokens":32}}'
)


class _Chunks:
    """A stream whose events are all there."""

    def __init__(self) -> None:
        self._events = self._all()

    async def _all(self) -> AsyncIterator[bytes]:
        for _ in range(_EVENTS):
            yield _EVENT
        yield _END

    def __aiter__(self) -> "_Chunks":
        return self

    async def __anext__(self) -> bytes:
        return await anext(self._events)

    async def aclose(self) -> None:
        """Has nothing to close."""


class _Upstream:
    """Answers at once, complete or as a stream."""

    async def open(self, request: UpstreamRequest) -> UpstreamReply:
        """Returns the answer."""
        if request.stream:
            return UpstreamReply(200, (("content-type", "text/event-stream"),), _Chunks())
        return UpstreamReply(200, (("content-type", "application/json"),), _COMPLETION)


@dataclass(frozen=True, slots=True)
class Variant:
    """One gateway with its exports."""

    api: Asgi
    exports: Exports

    def flush(self) -> None:
        """Exports all spans and metrics that wait."""
        for flush in self.exports.flushers:
            flush()


def variants(url: str) -> Mapping[str, Telemetry]:
    """Returns the sections of a configuration that are compared, by name."""
    return {
        _OFF: Telemetry(),
        _BARRED: Telemetry(traces=Traces(endpoint=url, sample=0.01)),
        _ALL: Telemetry(traces=Traces(endpoint=url, sample=1, max_queue=65536)),
        "metrics": Telemetry(metrics=MetricsExport(endpoint=url, interval_s=3600)),
        "traces of 1 % and metrics": Telemetry(
            traces=Traces(endpoint=url, sample=0.01),
            metrics=MetricsExport(endpoint=url, interval_s=3600),
        ),
    }


def variant(snapshot: Snapshot, telemetry: Telemetry) -> Variant:
    """Returns a gateway as an ingress assembles it, but for Ray's metrics."""
    store = MetricStore()
    exports = start_exports(telemetry, os.environ, store, "benchmark")
    observer = Observers(MetricsObserver(store), *exports.observers)
    ports = Ports(_Upstream(), InstantOrchestrator(), NoStore("no sessions"), observer)
    assembly = assemble(lambda: snapshot, ports)

    async def health() -> Json:
        return {"status": "ok"}

    return Variant(
        create_api(
            ApiDependencies(
                assembly.gateway,
                assembly.stored,
                lambda: snapshot,
                observer,
                health,
                tracing=exports.tracing,
                watched_by_server=True,
            )
        ),
        exports,
    )


@contextmanager
def collector() -> Iterator[str]:
    """The address of a collector in a process of its own."""
    command = [sys.executable, "-c", _COLLECTOR]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            port = process.stdout.readline().strip() if process.stdout else ""
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def main() -> None:
    """Measures, prints and writes the figures."""
    options = script_parser(__doc__).parse_args()
    os.environ["OTEL_BSP_SCHEDULE_DELAY"] = _NEVER_MS  # each turn exports its own spans
    with collector() as url:
        cases = asyncio.run(measured(url))
    result: dict[str, Any] = {"machine": machine(), "cases": cases}
    text = "\n".join(report(result))
    publish(options.results, "telemetry_cost", result, text)


async def measured(url: str) -> list[dict[str, Any]]:
    """Returns CPU microseconds of a request, and its ratio to none exported, by case and variant."""
    snapshot = demo_snapshot()
    gateways = {name: variant(snapshot, section) for name, section in variants(url).items()}
    rows = []
    for case, stream in (("complete answer", False), (f"stream of {_EVENTS} events", True)):
        spent: dict[str, list[float]] = {name: [] for name in gateways}
        for turn in range(-1, _TURNS):  # the first one warms up
            took_us = await turn_us(gateways, stream=stream)
            for name in gateways if turn >= 0 else ():
                spent[name].append(took_us[name])
        for name, times in spent.items():
            ratios = [own / off for own, off in zip(times, spent[_OFF], strict=True)]
            low, _, high = quantiles(ratios, n=4)
            rows.append(
                {"case": case, "telemetry": name, "us": median(times), "ratio": median(ratios)}
                | {"quartiles": [low, high]}
            )
    for gateway in gateways.values():
        gateway.exports.close()
    return rows


async def turn_us(gateways: Mapping[str, Variant], *, stream: bool) -> dict[str, float]:
    """Returns CPU microseconds of a request of one turn by variant, the export included."""
    body = json.dumps(
        {
            "model": "vllm/parrot",
            "messages": [{"role": "user", "content": f"and then, how ({turn})?"} for turn in "abc"],
            "stream": stream,
        }
    ).encode()
    spent = dict.fromkeys(gateways, 0.0)
    gc.collect()
    for left in reversed(range(_SLICES)):
        for name in random.sample(list(gateways), len(gateways)):  # none suffers from its neighbour
            gateway = gateways[name]
            started = time.process_time()
            for _ in range(_SLICE):
                await send_one(gateway.api, body)
            if not left or name == _ALL:
                gateway.flush()
            spent[name] += time.process_time() - started
    return {name: seconds / _BATCH * 1e6 for name, seconds in spent.items()}


async def send_one(api: Asgi, body: bytes) -> None:
    """Sends one request. Ends the script if it is not answered."""
    parts = iter([{"type": "http.request", "body": body, "more_body": False}])
    status = 0

    async def receive() -> Any:
        return next(parts)

    async def send(message: Any) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/chat/completions",
        "root_path": "",
        "query_string": b"",
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8000),
        "headers": [
            (b"host", b"127.0.0.1:8000"),
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"accept", b"*/*"),
            (b"user-agent", b"OpenAI/Python 2.0.0"),
        ],
    }
    await api(scope, receive, send)
    if status != 200:
        raise SystemExit(f"status {status}")


def report(result: dict[str, Any]) -> list[str]:
    """Returns the figures and their limits as lines of Markdown."""
    lines = ["# What telemetry costs", "", headline(result["machine"]), ""]
    lines += ["| request | exported | CPU of a request | to none | quartiles | bar |"]
    lines += ["|---|---|---|---|---|---|"]
    for row in result["cases"]:
        low, high = row["quartiles"]
        is_barred = row["telemetry"] == _BARRED
        bar = f"at most {_BAR:g}: {verdict(holds=row['ratio'] <= _BAR)}" if is_barred else ""
        lines.append(
            f"| {row['case']} | {row['telemetry']} | {row['us']:.0f} us | {row['ratio']:.3f} "
            f"| {low:.3f} to {high:.3f} | {bar} |"
        )
    lines += ["", f"{_TURNS} turns of {_BATCH} requests each; medians of the turns' own ratios."]
    return lines


if __name__ == "__main__":
    main()
