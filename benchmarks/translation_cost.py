"""Measures what a stream costs on its way through the gateway: passed through, and translated.

    .venv/bin/python benchmarks/translation_cost.py

CPU of the pipe alone, in this process, for every pair of dialects: per event of a stream of 2,000
text events, each in a chunk of its own; for a stream of 10,000 events beside one of 1,000, whose
ratio shows whether time is linear; and for one delta of 2 MB in chunks of 16 KiB. Also a complete
request with an image of 20 MB, translated.

Results go to benchmarks/results/translation_cost.{json,md}.
"""

import json
import time
from collections.abc import Callable
from statistics import median
from typing import Any, Final

from benchmarks.lib.dialect_streams import DIALECTS, stream_of
from benchmarks.lib.machine import headline, machine
from benchmarks.lib.script import publish, script_parser, verdict
from serve_app.dialects.fields import Intent
from serve_app.dialects.json_edits import NO_QUIRK, read_document
from serve_app.dialects.protocol import Asked, StreamState
from serve_app.dialects.registry import client_dialect, pair
from serve_app.exchange import Operation

_REPEATS: Final = 5
_EVENTS: Final = 2000
_EVENT_BAR_MS: Final = 0.15
_LINEAR_BAR: Final = 13.0
"""Ten times the events may take 13 times the time: the machine is shared."""
_CHUNK: Final = 16 << 10
_LARGE: Final = 2 << 20
_IMAGE: Final = 20 << 20


def main() -> None:
    """Measures, prints and writes the figures."""
    options = script_parser(__doc__).parse_args()
    rows = [measured(client, upstream) for client in DIALECTS for upstream in DIALECTS]
    result: dict[str, Any] = {"machine": machine(), "pairs": rows, "image": image_rows()}
    text = "\n".join(report(result))
    publish(options.results, "translation_cost", result, text)


def measured(client: Operation, upstream: Operation) -> dict[str, Any]:
    """The figures of one pair of dialects."""
    return {
        "client": client.value,
        "upstream": upstream.value,
        "event_ms": _cpu_ms(client, upstream, stream_of(upstream, ["word "] * _EVENTS)) / _EVENTS,
        "events_1000_ms": _cpu_ms(client, upstream, stream_of(upstream, ["word "] * 1000)),
        "events_10000_ms": _cpu_ms(client, upstream, stream_of(upstream, ["word "] * 10_000)),
        "large_delta_ms": _cpu_ms(client, upstream, _cut(stream_of(upstream, ["x" * _LARGE]))),
    }


def _cpu_ms(client: Operation, upstream: Operation, chunks: list[bytes]) -> float:
    """Milliseconds of CPU for a whole stream; the median of several."""

    def once() -> float:
        pipe = _asked(client, upstream).pipe()
        began = time.process_time()
        size = sum(len(pipe.feed(chunk)) for chunk in chunks) + len(pipe.end(None))
        spent = time.process_time() - began
        if pipe.state is not StreamState.COMPLETE or size == 0:
            raise RuntimeError(f"the stream {upstream} -> {client} did not come to its end")
        return spent

    once()
    return 1000 * median(once() for _ in range(_REPEATS))


def _asked(client: Operation, upstream: Operation) -> Asked:
    key = "input" if client is Operation.RESPONSES else "messages"
    body = {"model": "m", key: [{"role": "user", "content": "hi"}], "stream": True}
    if client is Operation.MESSAGES:
        body["max_tokens"] = 100
    document = read_document(json.dumps(body).encode(), unique=frozenset())
    return pair(client_dialect(client), {upstream}).ask(
        document, Intent("m", stream=True), "m", NO_QUIRK
    )


def _cut(events: list[bytes]) -> list[bytes]:
    stream = b"".join(events)
    return [stream[at : at + _CHUNK] for at in range(0, len(stream), _CHUNK)]


def image_rows() -> list[dict[str, Any]]:
    """Milliseconds of CPU for a request with an image, from chat to each dialect."""
    url = "data:image/png;base64," + "A" * _IMAGE
    content = [{"type": "image_url", "image_url": {"url": url}}]
    body = {"model": "m", "messages": [{"role": "user", "content": content}]}
    sent = json.dumps(body).encode()

    def timed(run: Callable[[], object]) -> float:
        began = time.process_time()
        run()
        return 1000 * (time.process_time() - began)

    def ask(upstream: Operation) -> None:
        document = read_document(sent, unique=frozenset())
        pair(client_dialect("chat"), {upstream}).ask(document, Intent("m"), "m", NO_QUIRK)

    return [
        {
            "upstream": upstream.value,
            "ms": median(timed(lambda to=upstream: ask(to)) for _ in range(_REPEATS)),  # type: ignore[misc]
        }
        for upstream in DIALECTS
    ]


def report(result: dict[str, Any]) -> list[str]:
    """The figures as Markdown."""
    lines = [
        "# What a stream costs",
        "",
        headline(result["machine"]),
        "",
        "CPU of the pipe alone; where both dialects are the same, bytes are passed through.",
        "",
        "| client | provider | ms an event | 10,000 events / 1,000 | ms for a delta of 2 MB |",
        "|---|---|--:|--:|--:|",
    ]
    worst = ratio = 0.0
    for row in result["pairs"]:
        grown = row["events_10000_ms"] / row["events_1000_ms"]
        worst, ratio = max(worst, row["event_ms"]), max(ratio, grown)
        lines.append(
            f"| {row['client']} | {row['upstream']} | {row['event_ms']:.4f} | {grown:.1f} | "
            f"{row['large_delta_ms']:.1f} |"
        )
    lines += ["", "A chat request with an image of 20 MB, read and written:", ""]
    lines += [f"- to {row['upstream']}: {row['ms']:.0f} ms" for row in result["image"]]
    lines += [
        "",
        "| bar | measured | holds |",
        "|---|--:|---|",
        f"| an event costs under {_EVENT_BAR_MS} ms | {worst:.4f} | {verdict(holds=worst < _EVENT_BAR_MS)} |",
        f"| ten times the events cost under {_LINEAR_BAR:.0f} times | {ratio:.1f} | {verdict(holds=ratio < _LINEAR_BAR)} |",
    ]
    return lines


if __name__ == "__main__":
    main()
