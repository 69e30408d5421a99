"""Several endpoints of one model: used in turn, and tried before the next candidate."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from serve_app.domain import ModelRef, Reason, Unavailable
from serve_app.exchange import FaultKind, UpstreamFault, UpstreamReply, UpstreamRequest
from serve_app.snapshot import Snapshot
from serve_app.telemetry.metrics import Metric
from tests.unit.config.broken import V
from tests.unit.fakes import (
    FakeOrchestrator,
    FakeUpstream,
    Rig,
    fault,
    headers_of,
    reply,
    request_of,
    snapshot_of,
)

TEXT = f"""{V}
model_providers:
  - {{model: openai/a, access_key: $A, default: true, name: first}}
  - {{model: openai/a, access_key: $B, default: true}}
  - {{model: openai/a, base_url: "https://eu.api.openai.com/v1", access_key: $A}}
  - {{model: openai/b, access_key: $A}}
  - {{model: vllm/*, base_url: "http://h:1"}}
  - {{model: vllm/*, base_url: "http://h:2"}}
  - {{model: mistral/m, passthrough_auth: true}}
  - {{model: xai/*, access_key: $A}}
timeouts: {{total_s: 100}}
"""
Answer = UpstreamReply | UpstreamFault


class ByEndpoint(FakeUpstream):
    """Replies by the model's name and the endpoint's ordinal, for example ``a0``."""

    def __init__(self, answers: Callable[[str], Answer]) -> None:
        super().__init__({})
        self._answers = answers

    @property
    def tried(self) -> str:
        return " ".join(f"{request.model.name}{request.endpoint}" for request in self.requests)

    async def open(self, request: UpstreamRequest) -> Answer:
        self.requests.append(request)
        return self._answers(f"{request.model.name}{request.endpoint}")


@pytest.fixture
def snapshot(tmp_path: Path) -> Snapshot:
    return snapshot_of(tmp_path, TEXT)


class Asker:
    """One gateway over a ByEndpoint upstream, for several requests."""

    def __init__(
        self, snapshot: Snapshot, answers: Callable[[str], Answer] = lambda _: reply()
    ) -> None:
        unavailable = FakeOrchestrator(Unavailable(Reason.ORCHESTRATOR_TIMEOUT, "no answer"))
        self.upstream = ByEndpoint(answers)
        self.rig = Rig(snapshot, self.upstream, unavailable)
        self.gateway = self.rig.gateway

    async def ask(self, *, hint: str | None = None, key: str | None = None, **body: Any) -> Any:
        content = json.dumps({"messages": [], **body})
        now = self.rig.clock.now
        request = request_of(self.rig.snapshot, content, hint=hint, arrived=now, credential=key)
        return await self.gateway.complete(request)


async def test_endpoints_of_model_are_used_in_turn(snapshot: Snapshot) -> None:
    """Requests rotate over the endpoints of each model, and a wildcard rotates once for all its
    names.
    """
    asker = Asker(snapshot)
    for model in ("a", "a", "b", "a", "a", "vllm/x", "vllm/y", "b", "vllm/x"):
        await asker.ask(model=model)
    assert asker.upstream.tried == "a0 a1 b0 a2 a0 x0 y1 b0 x0"
    slugs = Counter(request.provider for request in asker.upstream.requests)
    assert slugs == {"openai": 5, "openai-eu-api-openai-com": 1, "vllm-h-1": 2, "vllm-h-2": 1}


RESET, CONNECT = fault(FaultKind.RESET), fault(FaultKind.CONNECT)


@pytest.mark.parametrize(
    ("bad", "expected", "model"),
    [
        ({"a0": CONNECT}, "a0 a1", "openai/a"),
        ({"a0": reply(429, b"{}"), "a1": reply(500, b"{}")}, "a0 a1 a2", "openai/a"),
        ({"a0": RESET}, "a0 a1", "openai/a"),
        ({"a0": RESET, "a1": RESET, "a2": RESET}, "a0 a1 a2 b0", "openai/b"),
        ({"a0": CONNECT, "a1": CONNECT, "a2": CONNECT}, "a0 a1 a2 b0", "openai/b"),
        ({"a0": CONNECT, "a1": CONNECT, "a2": CONNECT, "b0": RESET}, "a0 a1 a2 b0", "openai/b"),
        ({"a0": fault(FaultKind.NO_KEY)}, "a0 a1", "openai/a"),
        ({"a0": reply(400, b"{}")}, "a0", "openai/a"),
    ],
)
async def test_gateway_tries_other_endpoints_before_next_model(
    bad: dict[str, Answer], expected: str, model: str, snapshot: Snapshot
) -> None:
    """The gateway tries each endpoint of a model once before the next model, at most four attempts
    in all; a client error ends it at once.
    """
    asker = Asker(snapshot, lambda name: bad.get(name, reply()))
    answer = await asker.ask(model="a", models=["b"])
    assert asker.upstream.tried == expected
    headers = headers_of(answer)
    assert headers["x-fingerpost-model"] == model
    assert headers["x-fingerpost-reason"] == ("explicit" if model == "openai/a" else "failover")
    assert headers["x-fingerpost-attempts"] == str(len(expected.split()))
    assert len(asker.rig.meter.counted(Metric.ATTEMPTS)) == len(expected.split())


async def test_default_model_may_have_several_endpoints(snapshot: Snapshot) -> None:
    """`default` and the hint select the model with all its endpoints, whichever entry sets them."""
    assert snapshot.policy.default == ModelRef("openai", "a")
    assert snapshot.policy.resolve_hint("first") == ModelRef("openai", "a")
    assert snapshot.policy.names().count("openai/a") == 1
    assert snapshot.policy.resolve("a") is not None
    asker = Asker(snapshot)
    await asker.ask()
    await asker.ask(model="b", hint="first")
    assert asker.upstream.tried == "a0 a1"


async def test_client_credential_reaches_passthrough_endpoint_only(snapshot: Snapshot) -> None:
    """The client's credential goes to an endpoint with `passthrough_auth` and to no other endpoint."""
    asker = Asker(snapshot, lambda name: CONNECT if name == "m0" else reply())
    await asker.ask(model="m", models=["b"], key="sk-client")
    shown = [request.credential for request in asker.upstream.requests]
    assert shown == ["sk-client", None]
    assert "sk-client" not in repr(asker.upstream.requests)


async def test_quirks_follow_called_model(snapshot: Snapshot) -> None:
    """Each candidate gets the client's body with its own quirks applied."""
    asker = Asker(snapshot, lambda name: reply() if name[0] == "b" else CONNECT)
    limit: dict[str, Any] = {"max_completion_tokens": 5, "web_search_options": {}}
    await asker.ask(model="m", models=["xai/grok", "b"], key="sk", **limit)
    bodies = {request.model.name: request.body for request in asker.upstream.requests}
    assert b'"max_tokens": 5' in bodies["m"]
    assert b'"web_search_options": {}' in bodies["m"]
    assert b'"max_completion_tokens": 5' in bodies["grok"]
    assert b"web_search_options" not in bodies["grok"]
    assert b'"max_completion_tokens": 5, "web_search_options": {}' in bodies["b"]
