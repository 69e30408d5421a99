"""Requests of one conversation begin at one endpoint, and name it to providers that ask for it."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from serve_app.affinity.identify import Session
from serve_app.dialects.registry import client_dialect
from serve_app.domain import Scores
from serve_app.exchange import FaultKind, UpstreamFault, UpstreamReply
from serve_app.requests.endpoint_order import by_affinity
from serve_app.snapshot import Snapshot
from tests.unit.config.broken import V
from tests.unit.fakes import FakeOrchestrator, Rig, fault, reply, request_of, snapshot_of
from tests.unit.requests.test_gateway_endpoints import ByEndpoint

TEXT = f"""{V}
model_providers:
  - {{model: vllm/a, base_url: "http://h:1", default: true}}
  - {{model: vllm/a, base_url: "http://h:2"}}
  - {{model: vllm/a, base_url: "http://h:3"}}
  - {{model: vllm/a, base_url: "http://h:4"}}
  - {{model: openai/b, access_key: $A}}
  - {{model: mine/c, base_url: "https://h", provider_interface: openai}}
  - {{model: ours/d, base_url: "https://h", provider_interface: openai, prompt_cache_key: true}}
  - {{model: openai/e, access_key: $A, prompt_cache_key: false}}
  - {{model: openai/r, access_key: $A, operations: [responses]}}
routing_preferences:
  - {{name: code, description: code, models: [vllm/a]}}
model_aliases:
  fast: {{target: vllm/a}}
"""
CODE = Scores({"code": 0.9}, 0.1, "code")
SAID = {"x-model-affinity": "chat-17"}
KEY = Session("chat-17").cache_key
USER = {"role": "user", "content": "Hello"}
MORE = [{"role": "assistant", "content": "Hi"}, {"role": "user", "content": "Go on"}]
ANSWER: dict[str, Any] = {"id": "r", "object": "response", "status": "completed", "output": []}


@pytest.fixture
def snapshot(tmp_path: Path) -> Snapshot:
    return snapshot_of(tmp_path, TEXT)


class Asker:
    """A replica of the gateway; each has a store of its own."""

    def __init__(
        self,
        snapshot: Snapshot,
        answers: Callable[[str], UpstreamReply | UpstreamFault] = lambda _: reply(),
    ) -> None:
        self.upstream = ByEndpoint(answers)
        self.rig = Rig(snapshot, self.upstream, FakeOrchestrator(CODE))
        self.gateway = self.rig.gateway

    async def ask(
        self,
        model: str,
        *messages: dict[str, str],
        said: dict[str, str] | None = None,
        surface: str = "chat",
        **fields: Any,
    ) -> None:
        body = {"model": model, "messages": messages or [USER], **fields}
        now = self.rig.clock.now
        request = request_of(self.rig.snapshot, json.dumps(body), session=said, arrived=now)
        await self.gateway.complete(replace(request, dialect=client_dialect(surface)))

    @property
    def body(self) -> bytes:
        return self.upstream.requests[-1].body

    @property
    def asked(self) -> list[int]:
        return [request.endpoint for request in self.upstream.requests]


async def test_session_begins_at_one_endpoint_of_every_replica(snapshot: Snapshot) -> None:
    """Whether its requests name the model, an alias or nothing, and before anything is bound."""
    one, other = Asker(snapshot), Asker(snapshot)
    for asker in (one, other, one):
        for model in ("vllm/a", "fast", "auto"):
            await asker.ask(model, {"role": "user", "content": f"{model} {asker.asked}"}, said=SAID)
    assert len({*one.asked, *other.asked}) == 1
    expected = by_affinity(
        "chat-17", snapshot.providers.endpoints_of(one.upstream.requests[0].model)
    )
    assert one.asked[0] == expected[0]
    for number in range(20):
        await one.ask("vllm/a", said={"x-model-affinity": str(number)})
    assert {*one.asked} == {0, 1, 2, 3}


async def test_subagents_begin_at_endpoints_of_their_own(snapshot: Snapshot) -> None:
    """Their conversations have other beginnings than the main one."""
    asker = Asker(snapshot)
    for number in range(20):
        await asker.ask("vllm/a", said={**SAID, "x-claude-code-agent-id": str(number)})
    assert {*asker.asked} == {0, 1, 2, 3}


async def test_failed_endpoint_is_followed_by_the_next_of_the_conversation(
    snapshot: Snapshot,
) -> None:
    """All requests of the conversation fail over to the same one."""
    order = by_affinity("chat-17", snapshot.providers.endpoints()[:4])
    asker = Asker(
        snapshot, lambda name: fault(FaultKind.CONNECT) if name == f"a{order[0]}" else reply()
    )
    for _ in range(3):
        await asker.ask("vllm/a", said=SAID)
    assert asker.asked == [*order[:2]] * 3


async def test_conversation_without_session_begins_at_one_endpoint(snapshot: Snapshot) -> None:
    """How it begins decides, so all its turns and all conversations that begin alike share it."""
    asker = Asker(snapshot)
    for _ in range(2):
        await asker.ask("vllm/a", USER)
        await asker.ask("vllm/a", USER, *MORE)
    assert len({*asker.asked}) == 1
    for number in range(20):
        await asker.ask("vllm/a", {"role": "user", "content": str(number)})
    assert {*asker.asked} == {0, 1, 2, 3}


@pytest.mark.parametrize("header", ["x-plano-cache", "x-fingerpost-affinity"])
async def test_header_turns_it_off(header: str, snapshot: Snapshot) -> None:
    """Requests then take turns, and name no conversation to the provider."""
    asker, off = Asker(snapshot), {**SAID, header: "off"}
    for _ in range(8):
        await asker.ask("vllm/a", said=off)
    assert asker.asked == [0, 1, 2, 3] * 2
    await asker.ask("openai/b", said=off)
    assert b"prompt_cache_key" not in asker.body


async def test_requests_without_conversation_take_turns(snapshot: Snapshot) -> None:
    """Embeddings leave nothing in a cache that a later request reads."""
    asker = Asker(snapshot, lambda _: reply(body=b'{"data": [{}]}'))
    for _ in range(4):
        await asker.ask("vllm/a", said=SAID, surface="embeddings", input="a")
    assert asker.asked == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("model", "is_sent"), [("openai/b", True), ("mine/c", False), ("ours/d", True), ("openai/e", False)]
)  # fmt: skip
async def test_provider_gets_a_hash_of_the_session(
    model: str, is_sent: bool, snapshot: Snapshot
) -> None:
    """All other bytes are the same as without a session."""
    asker = Asker(snapshot)
    await asker.ask(model)
    without = asker.body
    assert b"prompt_cache_key" not in without
    await asker.ask(model, said=SAID)
    insertion = f'"prompt_cache_key": "{KEY}", '.encode() if is_sent else b""
    assert asker.body == b"{" + insertion + without[1:]
    assert b"chat-17" not in asker.body


async def test_key_of_the_client_is_passed_on(snapshot: Snapshot) -> None:
    """Also null, which the client must have meant."""
    asker = Asker(snapshot)
    for value in ("mine", None):
        await asker.ask("openai/b", said=SAID, prompt_cache_key=value)
        assert json.loads(asker.body)["prompt_cache_key"] == value
        assert asker.body.count(b"prompt_cache_key") == 1


async def test_translated_request_names_its_session(snapshot: Snapshot) -> None:
    """An Anthropic client has no such field."""
    asker = Asker(snapshot, lambda name: reply(body=json.dumps(ANSWER).encode()) if name[0] == "r" else reply())  # fmt: skip
    for model in ("openai/b", "openai/r"):
        await asker.ask(model, said=SAID, surface="messages", max_tokens=9)
        assert json.loads(asker.body)["prompt_cache_key"] == KEY
