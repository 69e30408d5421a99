"""Tests of how a gateway is assembled from its ports."""

import json
from dataclasses import replace
from pathlib import Path

from serve_app.domain import Scores
from serve_app.requests.assembly import Ports, assemble
from serve_app.telemetry.metrics import Metric, MetricsObserver
from tests.unit.config.broken import V
from tests.unit.fakes import (
    FakeMeter,
    FakeOrchestrator,
    FakeStore,
    FakeUpstream,
    headers_of,
    reply,
    request_of,
    snapshot_of,
)

TEXT = f"""{V}
model_providers:
  - {{model: openai/a, default: true}}
  - {{model: openai/b}}
routing_preferences:
  - {{name: code, description: writing code, models: [openai/b]}}
prices:
  openai/b: {{input: 3.0, output: 15.0}}
routing: {{routing_budget: {{max_switch_spend_pct: 25}}}}
"""


async def test_assembled_gateway_guards_its_ports(tmp_path: Path) -> None:
    """The assembled gateway scores equal questions once and guards the affinity store."""
    snapshot, store, meter = snapshot_of(tmp_path, TEXT), FakeStore(), FakeMeter()
    orchestrator = FakeOrchestrator(Scores({"code": 0.9}, 0.1, "code"))
    upstream = FakeUpstream({"openai/b": [reply()]})
    ports = Ports(upstream, orchestrator, store, MetricsObserver(meter))
    assembly = assemble(lambda: snapshot, ports)
    body = json.dumps({"messages": [{"role": "user", "content": "Hi"}]})
    for _ in range(2):
        request = request_of(snapshot, body, arrived=assembly.gateway.clock())
        answer = await assembly.gateway.complete(request)
        assert headers_of(answer)["x-fingerpost-route"] == "code"
    assert len(orchestrator.questions) == 1
    assert assembly.guard.asked == 1
    assert meter.counted(Metric.DECISIONS) == [("scored",), ("cached",)]
    assert assembly.store.trouble is None


async def test_session_prices_follow_reloaded_configuration(tmp_path: Path) -> None:
    """After a reload, sessions use the new price table; without one, the table is compiled once."""
    snapshots = [snapshot_of(tmp_path, TEXT)]
    ports = Ports(
        FakeUpstream({}), FakeOrchestrator(Scores({}, 0.0, None)), FakeStore(), MetricsObserver(FakeMeter())
    )  # fmt: skip
    gateway = assemble(lambda: snapshots[-1], ports).gateway
    first = gateway._sessions.prices
    assert gateway._sessions.prices is first
    snapshots.append(replace(snapshots[0], config=snapshots[0].config.model_copy()))
    assert gateway._sessions.prices is not first
