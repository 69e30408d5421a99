"""A gateway in this process: without Serve, with an upstream that answers at once."""

import json
import time
from collections.abc import Collection, Mapping
from typing import Final

from benchmarks.lib.paths import PROJECT
from serve_app.dialects.json_edits import read_document
from serve_app.dialects.registry import DEFAULT_DIALECT
from serve_app.exchange import UpstreamReply, UpstreamRequest
from serve_app.ports import AffinityStore, Orchestrator
from serve_app.requests.assembly import Ports, assemble
from serve_app.requests.call import ClientRequest
from serve_app.requests.gateway import Gateway
from serve_app.snapshot import Snapshot, compile_snapshot
from serve_app.telemetry.metrics import Metric, MetricsObserver

BATCH: Final = 200
"""Requests of one turn."""
_COMPLETION: Final = (
    b'{"id":"c","object":"chat.completion","choices":[{"index":0,"message":'
    b'{"role":"assistant","content":"Hi"},"finish_reason":"stop"}]}'
)
_HEADERS: Final = (
    ("content-type", "application/json"),
    ("content-length", str(len(_COMPLETION))),
)


class InstantUpstream:
    """Returns the same completion for each request, without I/O."""

    async def open(self, _request: UpstreamRequest) -> UpstreamReply:
        """Returns the completion, with the length that every server sends."""
        return UpstreamReply(200, _HEADERS, _COMPLETION)


class NullMeter:
    """Ignores all metrics."""

    def count(self, metric: Metric, labels: tuple[str, ...], amount: float = 1) -> None:
        """Ignores a count."""

    def observe(self, metric: Metric, value: float, labels: tuple[str, ...]) -> None:
        """Ignores a value."""

    def set(self, metric: Metric, value: float, labels: tuple[str, ...]) -> None:
        """Ignores a gauge."""


def demo_snapshot() -> Snapshot:
    """Compiles configs/demo.gateway.yaml."""
    return compile_snapshot(PROJECT / "configs" / "demo.gateway.yaml")


def gateway_with(snapshot: Snapshot, orchestrator: Orchestrator, store: AffinityStore) -> Gateway:
    """Returns a gateway with this Orchestrator and this store of sessions."""
    ports = Ports(InstantUpstream(), orchestrator, store, MetricsObserver(NullMeter()))
    return assemble(lambda: snapshot, ports).gateway


async def cpu_ms_by_model(
    gateway: Gateway,
    snapshot: Snapshot,
    models: Collection[str],
    turns: int,
    *,
    reasons: Collection[str],
    headers: Mapping[str, str] | None = None,
) -> dict[str, list[float]]:
    """Returns CPU milliseconds per request by model, for each turn; the models take turns."""
    spent: dict[str, list[float]] = {model: [] for model in models}
    for _ in range(turns):
        for model, times in spent.items():
            started = time.process_time()
            await send_chats(gateway, snapshot, model, BATCH, reasons=reasons, headers=headers)
            times.append((time.process_time() - started) / BATCH * 1e3)
    return spent


async def send_chats(
    gateway: Gateway,
    snapshot: Snapshot,
    model: str,
    times: int,
    *,
    reasons: Collection[str],
    headers: Mapping[str, str] | None = None,
) -> None:
    """Sends the same chat request ``times`` times.

    The conversation has three turns of the user; bodies differ in ``model`` alone. Ends the script
    if an answer's status is not 200 or its reason is not one of ``reasons``.
    """
    messages = [
        {"role": "user", "content": f"and then, how do I sort it ({turn})?"} for turn in "abc"
    ]
    body = json.dumps({"model": model, "messages": messages}).encode()
    for _ in range(times):
        request = ClientRequest(
            snapshot=snapshot,
            surface=DEFAULT_DIALECT.name,
            dialect=DEFAULT_DIALECT,
            document=read_document(body, unique=DEFAULT_DIALECT.fields.read),
            headers=(),
            hint=None,
            arrived=gateway.clock(),
            deciding_headers=dict(headers or {}),
        )
        answer = await gateway.complete(request)
        if answer.status != 200:
            raise SystemExit(str(answer.body))
        reason = dict(answer.headers)["x-fingerpost-reason"]
        if reason not in reasons:
            raise SystemExit(f"reason {reason}: must be one of {', '.join(reasons)}")
