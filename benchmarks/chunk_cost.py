"""Measures what a chunk of a stream costs, how many pass in a second, and how late they are.

    .venv/bin/python benchmarks/chunk_cost.py

A provider on the same machine sends every event alone, at a fixed rate for each stream, with the
moment in it (lib/paced_provider.py). The client takes the difference: how late the event is. The
variants are those of overhead.py, in one cluster.

- CPU of a chunk: many streams at a moderate rate; the CPU time of the server's processes, without its
  idle work, by the number of events. The streams' own begin and end are in it, spread over 200 events.
- Capacity: the number of streams grows until the median event is late by over ``LATE_MS`` or a
  tenth of the events is missing at the end of the time; the last rate before is the capacity.
- Lateness at half of the capacity: median, p99, and the latest.

Provider, client and servers share the machine's cores, so the capacity is that of the whole machine.
Results go to benchmarks/results/chunk_cost.{json,md}.
"""

import asyncio
import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from statistics import median
from typing import Any, Final

import uvloop

from benchmarks.lib.cluster import mock
from benchmarks.lib.loadgen import quantile
from benchmarks.lib.machine import headline, machine
from benchmarks.lib.script import end_on_terminate, publish, script_parser, verdict
from benchmarks.lib.testbed import Testbed, running_testbed
from benchmarks.lib.variants import CHAT_PATH, VARIANTS, Variant

NAMES: Final = ("raw-inline", "fingerpost-inline", "raw-hop", "fingerpost-dedicated")
PER_SECOND: Final = 50
"""Events of one stream in a second."""
EVENTS: Final = 200
STREAMS: Final = 16
"""For the CPU of a chunk: 800 events in a second."""
LATE_MS: Final = 10.0
_GROWTH: Final = 1.25
_MOST_STREAMS: Final = 400
_STEP_S: Final = 3.0
_IDLE_S: Final = 4.0
_STAMP: Final = re.compile(rb'"content":"(\d+) "')
_BARS_MS: Final = {"fingerpost-inline": 0.15, "fingerpost-dedicated": 0.4}
_P99_BAR_MS: Final = 20.0


@dataclass(slots=True)
class Lateness:
    """What a client saw of many streams."""

    ms: list[float] = field(default_factory=list)
    errors: int = 0

    def take(self, data: bytes) -> None:
        """Notes how late each event in these bytes is."""
        now = time.monotonic_ns()
        self.ms += [(now - int(stamp)) / 1e6 for stamp in _STAMP.findall(data)]


async def _stream(variant: Variant, port: int, seen: Lateness, ends_at: float, events: int) -> None:
    """Streams one after another until the time is over; the last one is left in its middle."""
    body = json.dumps(
        {
            "model": variant.model,
            "messages": [{"role": "user", "content": "Which way is it to the station?"}],
            "stream": True,
            "max_tokens": events,
            "seed": PER_SECOND,
        }
    ).encode()
    path = variant.stream_path or CHAT_PATH
    head = (
        f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    ).encode()
    while time.monotonic() < ends_at:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(head + body)
            async with asyncio.timeout(max(0.0, ends_at - time.monotonic())):
                status = await reader.readline()
                if b" 200 " not in status:
                    seen.errors += 1
                    return
                while data := await reader.read(1 << 16):
                    seen.take(data)
        except TimeoutError:
            return
        finally:
            writer.close()


async def _streams(
    variant: Variant, port: int, count: int, seconds: float, events: int
) -> Lateness:
    seen, ends_at = Lateness(), time.monotonic() + seconds
    await asyncio.gather(*(_stream(variant, port, seen, ends_at, events) for _ in range(count)))
    return seen


def _run(variant: Variant, port: int, count: int, seconds: float, events: int = EVENTS) -> Lateness:
    return uvloop.run(_streams(variant, port, count, seconds, events))


def cpu_of_chunk(testbed: Testbed, variants: Sequence[Variant], rounds: int) -> dict[str, Any]:
    """Returns CPU milliseconds per event by variant: the rounds' values."""
    idle_s = testbed.idle(_IDLE_S)
    found: dict[str, list[float]] = {variant.name: [] for variant in variants}
    for turn in range(rounds):
        for variant in variants if turn % 2 == 0 else reversed(variants):
            port = testbed.ports[variant.server]
            seconds = EVENTS / PER_SECOND + 1.0
            before = testbed.count()
            seen = _run(variant, port, STREAMS, seconds)
            window = before.until(testbed.count())
            if seen.errors:
                raise RuntimeError(f"{variant.name}: {seen.errors} streams were refused")
            spent_s = window.cpu_s("serve", idle_s)
            found[variant.name].append(spent_s / len(seen.ms) * 1e3)
            print(f"{variant.name} {found[variant.name][-1]:.3f} ms a chunk", flush=True)
    return found


def capacity(testbed: Testbed, variant: Variant) -> dict[str, float]:
    """Returns the most events per second that pass in time, and the lateness at half of that."""
    port, streams, best = testbed.ports[variant.server], 8.0, 0
    while streams <= _MOST_STREAMS:
        count = round(streams)
        seen = _run(variant, port, count, _STEP_S, events=10_000)
        expected = count * PER_SECOND * _STEP_S
        late = quantile(seen.ms, 0.5, 1e9)
        print(f"{variant.name} {count * PER_SECOND}/s: median {late:.1f} ms late", flush=True)
        if seen.errors or late > LATE_MS or len(seen.ms) < 0.9 * expected - count * PER_SECOND:
            break
        best = count
        streams *= _GROWTH
    half = max(1, best // 2)
    seen = _run(variant, port, half, 3 * _STEP_S, events=10_000)
    return {
        "per_second": best * PER_SECOND,
        "half_per_second": half * PER_SECOND,
        "events": len(seen.ms),
        "median_ms": round(quantile(seen.ms, 0.5, 1e9), 2),
        "p99_ms": round(quantile(seen.ms, 0.99, 1e9), 2),
        "latest_ms": round(max(seen.ms, default=1e9), 2),
    }


def report(result: dict[str, Any]) -> str:
    """Returns the report."""
    lines = ["# What a chunk of a stream costs", ""]
    lines += [f"{headline(result['machine'])} How: benchmarks/chunk_cost.py.", ""]
    lines += ["| variant | CPU ms a chunk | rounds | bar | holds |", "|---|--:|---|---|---|"]
    for name, values in result["cpu_ms"].items():
        bar = _BARS_MS.get(name)
        holds = None if bar is None else median(values) <= bar
        shown = "" if bar is None else f"<= {bar}"
        spread = f"{min(values):.3f} to {max(values):.3f}"
        lines.append(
            f"| {name} | {median(values):.3f} | {spread} | {shown} | {verdict(holds=holds)} |"
        )
    lines += ["", "Chunks that pass in a second, and how late they are at half of that:", ""]
    lines += ["| variant | a second | half | median ms | p99 ms | latest ms | p99 <= 20 ms |"]
    lines += ["|---|--:|--:|--:|--:|--:|---|"]
    for name, own in result["capacity"].items():
        holds = own["p99_ms"] <= _P99_BAR_MS if name in _BARS_MS else None
        figures = f"{own['median_ms']} | {own['p99_ms']} | {own['latest_ms']}"
        rates = f"{own['per_second']} | {own['half_per_second']}"
        lines.append(f"| {name} | {rates} | {figures} | {verdict(holds=holds)} |")
    return "\n".join(lines)


def main() -> None:
    """Measures, prints and writes the figures."""
    parser = script_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    end_on_terminate()
    by_name = {variant.name: variant for variant in VARIANTS}
    variants = [by_name[name] for name in NAMES]
    about = machine()
    with running_testbed(
        {"serve"}, None, provider=partial(mock, module="benchmarks.lib.paced_provider")
    ) as testbed:
        for variant in variants:
            _run(variant, testbed.ports["serve"], 4, 1.5)  # warm: imports, connections, caches
        result: dict[str, Any] = {
            "machine": about,
            "cpu_ms": cpu_of_chunk(testbed, variants, options.rounds),
            "capacity": {variant.name: capacity(testbed, variant) for variant in variants},
        }
    text = report(result)
    publish(options.results, "chunk_cost", result, text)


if __name__ == "__main__":
    main()
