"""Fields with the names of the gateway's lists of fallbacks that are a provider's own."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from serve_app.dialects.anthropic_messages.dialect import MessagesClient
from serve_app.dialects.fields import Intent
from serve_app.domain import ModelRef
from serve_app.errors import InvalidRequest, UnknownModel
from serve_app.exchange import FaultKind, Operation
from serve_app.requests.intent import intent_at, read_intent
from serve_app.snapshot import Snapshot
from tests.unit.config.broken import V
from tests.unit.fakes import fault, reply, request_of, snapshot_of
from tests.unit.requests.gateway_rig import make_rig

TEXT = f"""{V}
model_providers:
  - {{model: openai/a, default: true}}
  - {{model: openrouter/x-ai/grok-4, name: grok}}
  - {{model: openrouter/*}}
  - {{model: mine/x, base_url: "http://h", provider_interface: openrouter}}
  - {{model: edenai/*}}
  - {{model: anthropic/*}}
model_aliases:
  fast: {{target: openrouter/y}}
  smart: {{target: auto}}
"""
THEIRS = ["z-ai/glm", "openai/gpt-4o"]
ONLY = {"provider": {"only": ["xai"]}, "route": "fallback"}


@pytest.fixture
def snapshot(tmp_path: Path) -> Snapshot:
    return snapshot_of(tmp_path, TEXT)


def intent_of(
    snapshot: Snapshot, body: dict[str, Any], *, hint: str | None = None, messages: bool = False
) -> Intent:
    request = request_of(snapshot, json.dumps(body), hint=hint)
    return read_intent(replace(request, dialect=MessagesClient()) if messages else request)


@pytest.mark.parametrize(
    ("body", "kept", "fallbacks"),
    [
        ({"model": "openrouter/x", "models": ["x-ai/grok-2"], **ONLY}, {"models"}, ()),
        ({"model": "openrouter/x", "models": THEIRS}, {"models"}, ()),
        ({"model": "mine/x", "models": THEIRS}, {"models"}, ()),
        ({"model": "fast", "models": THEIRS}, {"models"}, ()),
        ({"model": "openrouter/x", "models": [*THEIRS, "openai/a"]}, {"models"}, ()),
        ({"model": "openrouter/x", "models": THEIRS, "fallbacks": ["a"]}, {"models"}, ("a",)),
        ({"model": "openrouter/x", "models": ["openai/a", "openrouter/z"]}, set(), ("openai/a", "openrouter/z")),
        ({"model": "openrouter/x", "models": ["x-ai/grok-4"]}, set(), ("x-ai/grok-4",)),
        ({"model": "openrouter/x", "models": ["auto"]}, set(), ("auto",)),
        ({"model": "openrouter/x", "fallbacks": THEIRS}, set(), tuple(THEIRS)),
        ({"model": "openrouter/x", "models": []}, set(), ()),
        ({"model": "openai/a", "models": THEIRS}, set(), tuple(THEIRS)),
        ({"model": "unknown/x", "models": THEIRS}, set(), tuple(THEIRS)),
        ({"model": "auto", "models": THEIRS}, set(), tuple(THEIRS)),
        ({"model": "smart", "models": THEIRS}, set(), tuple(THEIRS)),
        ({"models": THEIRS}, set(), tuple(THEIRS)),
        ({"model": "edenai/x", "fallbacks": THEIRS}, {"fallbacks"}, ()),
        ({"model": "edenai/x", "fallbacks": [{"model": "y"}]}, {"fallbacks"}, ()),
        ({"model": "edenai/x", "models": THEIRS}, set(), tuple(THEIRS)),
        ({"model": "a", **ONLY}, set(), ()),
    ],
)  # fmt: skip
def test_list_of_unknown_names_is_its_providers(
    snapshot: Snapshot, body: dict[str, Any], kept: set[str], fallbacks: tuple[str, ...]
) -> None:
    """It is, if the named model's provider has a field of that name; else it is the gateway's."""
    intent = intent_of(snapshot, body)
    assert (set(intent.kept), intent.fallbacks) == (kept, fallbacks)


def test_hint_names_the_provider(snapshot: Snapshot) -> None:
    """A hint wins over the body's model, here as well."""
    body = {"model": "openai/a", "models": THEIRS}
    assert intent_of(snapshot, body, hint="grok").kept == {"models"}
    assert intent_of(snapshot, {**body, "model": "openrouter/x"}, hint="openai/a").kept == set()


@pytest.mark.parametrize("value", ["default", [{"model": "claude-opus-4-8"}], [{}, {"x": 1}]])
@pytest.mark.parametrize("model", ["auto", "openai/a", "anthropic/claude", "openrouter/x"])
def test_fallbacks_of_anthropic_are_not_the_gateways(
    snapshot: Snapshot, model: str, value: Any
) -> None:
    """In its dialect they go on to any provider that speaks it, and never fail a request."""
    body = {"model": model, "fallbacks": value, "models": ["openai/a"]}
    intent = intent_of(snapshot, body, messages=True)
    assert (set(intent.kept), intent.fallbacks) == ({"fallbacks"}, ("openai/a",))


@pytest.mark.parametrize("value", ["default", [{"model": "claude-opus-4-8"}], ["a", {}], "x", 1])
def test_other_forms_are_refused_in_chat(snapshot: Snapshot, value: Any) -> None:
    """No provider of the named model reads them, so the client is told."""
    with pytest.raises(InvalidRequest) as caught:
        intent_of(snapshot, {"model": "openai/a", "fallbacks": value})
    assert str(caught.value) == "fallbacks must be a list of model names"
    assert caught.value.param == "fallbacks"


def test_endpoint_gets_its_own_fields_only(snapshot: Snapshot) -> None:
    """A list for one provider does not reach another, which may refuse unknown fields."""
    intent = Intent(kept=frozenset({"models", "fallbacks"}))
    for model, operation, kept in (
        ("openrouter/x", Operation.CHAT, {"models"}),
        ("openrouter/x", Operation.MESSAGES, {"models", "fallbacks"}),
        ("edenai/x", Operation.CHAT, {"fallbacks"}),
        ("anthropic/x", Operation.MESSAGES, {"fallbacks"}),
        ("openai/a", Operation.CHAT, set()),
    ):
        endpoint = snapshot.providers.endpoint(ModelRef.parse(model))
        assert endpoint is not None
        assert intent_at(intent, endpoint, operation).kept == kept
    nothing = Intent()
    assert endpoint is not None
    assert intent_at(nothing, endpoint, Operation.CHAT) is nothing


async def test_list_of_provider_goes_on_as_it_came(snapshot: Snapshot) -> None:
    """Byte for byte, with the other fields of OpenRouter, and without the gateway's own."""
    rig = make_rig(snapshot, {"openrouter/x": reply()})
    answer = await rig.ask({"model": "openrouter/x", "models": THEIRS, **ONLY, "fallbacks": []})
    assert answer.status == 200
    sent = json.loads(rig.upstream.requests[0].body)
    assert {"models": THEIRS, **ONLY}.items() <= sent.items()
    assert "fallbacks" not in sent


async def test_list_of_provider_does_not_reach_fallback(snapshot: Snapshot) -> None:
    """The client's fallback is another provider, and gets the body without the list."""
    rig = make_rig(snapshot, {"openrouter/x": fault(FaultKind.CONNECT), "openai/a": reply()})
    answer = await rig.ask({"model": "openrouter/x", "models": THEIRS, "fallbacks": ["a"]})
    assert answer.status == 200
    first, second = (json.loads(request.body) for request in rig.upstream.requests)
    assert first["models"] == THEIRS
    assert not {"models", "fallbacks"} & set(second)
    assert rig.upstream.models == ["openrouter/x", "openai/a"]


async def test_unknown_name_is_an_error_where_the_list_is_ours(snapshot: Snapshot) -> None:
    """As before, for every provider without such a field."""
    with pytest.raises(UnknownModel):
        await make_rig(snapshot, {}).ask({"model": "openai/a", "models": THEIRS})
