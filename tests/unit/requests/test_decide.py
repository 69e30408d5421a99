"""The decision for a request: its candidates, and its explanation."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from serve_app.affinity.sessions import Sessions
from serve_app.dialects.fields import MAX_FALLBACKS, PREFERENCES
from serve_app.domain import (
    Json,
    ModelRef,
    Reason,
    RouteDecision,
    Scores,
    Unavailable,
)
from serve_app.errors import InvalidRequest, NoModel, UnknownModel
from serve_app.ports import Orchestrator
from serve_app.providers.prices import CatalogPrices
from serve_app.requests.call import ClientRequest
from serve_app.requests.decide import Decided
from serve_app.requests.decide import (
    decide as decide_in_sessions,
)
from serve_app.requests.explain import render_explanation, render_routing
from serve_app.snapshot import Snapshot
from serve_app.telemetry.record import NoObserver
from tests.unit.config.broken import V
from tests.unit.fakes import FakeOrchestrator, FakeStore, request_of, snapshot_of

TEXT: Final = f"""{V}
model_providers:
  - {{model: openai/a%s}}
  - {{model: openai/b}}
  - {{model: openai/gpt-4o}}
  - {{model: vllm/b, base_url: "http://h:1"}}
  - {{model: ollama/*, base_url: "http://h:2"}}
model_aliases:
  fast: {{target: openai/b}}
  smart: {{target: auto}}
routing_preferences:
  - {{name: code, description: writing code, models: [openai/b, ollama/x]}}
  - {{name: talk, description: small talk, models: [openai/a]}}
orchestrator: {{min_confidence: 0.25, min_margin: 0.05, max_query_tokens: 32}}
"""
A, B, X = (ModelRef.parse(name) for name in ("openai/a", "openai/b", "ollama/x"))
SCORES = Scores({"code": 0.75, "talk": 0.5}, 0.25, "code", 0.05)
NO_MATCH = Scores({"code": 0.2, "talk": 0.1}, 0.25, None, 0.05)
TRACE: Final = "0123456789abcdef" * 2
DOWN = Unavailable(Reason.ORCHESTRATOR_TIMEOUT, "no answer within 300 ms")


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    return snapshot_of(tmp_path_factory.mktemp("snapshot"), TEXT % ", default: true")


async def decide(
    call: ClientRequest, orchestrator: Orchestrator, *, by_content: bool = False
) -> Decided:
    """Decides a request without a session."""
    sessions = Sessions(FakeStore(), NoObserver(), CatalogPrices)
    intent = None if by_content else call.dialect.read_intent(call.document)
    return await decide_in_sessions(call, intent, orchestrator, sessions)


def call_of(snapshot: Snapshot, body: Mapping[str, Any], hint: str | None = None) -> ClientRequest:
    content = json.dumps({"messages": [{"role": "user", "content": "Hello"}], **body})
    return request_of(snapshot, content, hint=hint)


def entry(**changes: Any) -> dict[str, Any]:
    return {"name": "r", "description": "d", "models": ["a"], **changes}


async def test_inline_routes_replace_configured_routes(snapshot: Snapshot) -> None:
    """The orchestrator scores the inline routes instead of the configured ones, under a cache key
    that covers all their fields.
    """
    keys = []
    for value in ([entry()], [entry()], [entry(description="e")], [entry(examples=["x"])], None):
        orchestrator = FakeOrchestrator(Scores({"r": 0.5}, 0.1, "r"))
        decided = await decide(call_of(snapshot, {PREFERENCES: value}), orchestrator)
        assert decided.question is not None
        assert orchestrator.questions == [decided.question]
        keys.append(decided.question.key)
        names = ["code", "talk"] if value is None else ["r"]
        assert [route.name for route in decided.question.routes] == names
    assert keys[0] == keys[1]
    assert len(set(keys)) == 4
    assert keys[-1] == snapshot.policy.version


async def test_examples_of_no_route_belong_to_configured_routes(tmp_path: Path) -> None:
    """A question about the configured routes has the configured examples of no route; one about
    inline routes has none, because these may be about anything.
    """
    snapshot = snapshot_of(tmp_path, TEXT % "" + "no_route_examples: [hello, thanks a lot]\n")
    for value, expected in (
        (None, ("hello", "thanks a lot")),
        ([entry()], ()),
        ([entry(name="code", description="writing code", models=["openai/b"])], ()),
    ):
        orchestrator = FakeOrchestrator(Scores({"r": 0.5}, 0.1, "r"))
        await decide(call_of(snapshot, {PREFERENCES: value}), orchestrator)
        (asked,) = orchestrator.questions
        assert asked.no_route_examples == expected
        assert (asked.key == snapshot.policy.version) is (value is None)
        assert asked.is_inline is (value is not None)


async def test_decision_by_content_accepts_unserved_models(snapshot: Snapshot) -> None:
    """A request to the decision API may name models that the gateway does not serve; a completion
    may not.
    """
    call = call_of(snapshot, {PREFERENCES: [entry(models=["nobody/x"])]})
    orchestrator = FakeOrchestrator(Scores({"r": 0.5}, 0.1, "r"))
    decided = await decide(call, orchestrator, by_content=True)
    assert decided.decision.candidates == (ModelRef("nobody", "x"), A)
    with pytest.raises(InvalidRequest):
        await decide(call, orchestrator)


@pytest.mark.parametrize(
    "body",
    [
        {"model": "unknown"},
        {"model": 1},
        {"model": "openai/b", "models": "x"},
        {"fallbacks": ["zzz"] * (MAX_FALLBACKS + 1)},
        {"model": "x" * 999},
    ],
)
async def test_decision_by_content_ignores_model_names(
    snapshot: Snapshot, body: dict[str, Any]
) -> None:
    """The decision API ignores the models that a request names, even invalid ones; a completion
    with the same body is refused.
    """
    orchestrator = FakeOrchestrator(SCORES)
    decided = await decide(call_of(snapshot, body, hint="unknown"), orchestrator, by_content=True)
    assert decided.decision == RouteDecision((B, X, A), Reason.ROUTE, "code", 0.75)
    with pytest.raises((InvalidRequest, UnknownModel)):
        await decide(call_of(snapshot, body), orchestrator)


@pytest.mark.parametrize("messages", [[], [{"role": "assistant", "content": "Hi"}], [{"role": "user", "content": "<system-reminder>x"}]])  # fmt: skip
async def test_conversation_without_user_text_skips_orchestrator(
    snapshot: Snapshot, messages: Json
) -> None:
    """A conversation without user text goes to the default model, and the orchestrator scores
    nothing.
    """
    orchestrator = FakeOrchestrator(SCORES)
    decided = await decide(call_of(snapshot, {"messages": messages}), orchestrator)
    assert decided.decision == RouteDecision((A,), Reason.NO_MATCH)
    assert orchestrator.questions == []
    explained = render_explanation(snapshot, decided, 0.0)["orchestrator"]
    assert (explained["seen"], explained["scores"], explained["margin"]) == ([], None, None)


async def test_empty_inline_routes_without_default_raise_no_model(tmp_path: Path) -> None:
    """An empty list of inline routes without a default model raises NoModel; one inline route is
    used even if it does not match.
    """
    snapshot = snapshot_of(tmp_path, f"{V}model_providers:\n  - model: openai/a\n")
    with pytest.raises(NoModel):
        await decide(call_of(snapshot, {PREFERENCES: []}), FakeOrchestrator(SCORES))
    decided = await decide(call_of(snapshot, {PREFERENCES: [entry()]}), FakeOrchestrator(NO_MATCH))
    assert decided.decision.candidates == (A,)


async def explain(
    snapshot: Snapshot, scores: Scores | Unavailable, **body: Any
) -> tuple[Decided, Json]:
    decided = await decide(call_of(snapshot, body), FakeOrchestrator(scores))
    return decided, render_explanation(snapshot, decided, 0.0012344)


async def test_explanation_lists_question_scores_and_candidates(snapshot: Snapshot) -> None:
    """An explanation contains the question, the scores, the thresholds, and why each candidate is
    in its position.
    """
    _, explained = await explain(snapshot, SCORES)
    assert json.loads(json.dumps(explained)) == {
        "model": "openai/b",
        "route": "code",
        "reason": "route",
        "confidence": 0.75,
        "session": None,
        "candidates": [
            {"model": "openai/b", "why": "model 1 of route 'code'"},
            {"model": "ollama/x", "why": "model 2 of route 'code'"},
            {"model": "openai/a", "why": "the default model"},
        ],
        "orchestrator": {
            "engine": "embedding",
            "seen": [{"role": "user", "content": "Hello"}],
            "max_query_tokens": 32,
            "thresholds": {"min_confidence": 0.25, "min_margin": 0.05},
            "scores": {"code": 0.75, "talk": 0.5},
            "margin": 0.25,
            "cached": False,
            "stand_in": None,
            "tier": None,
            "fell_back": None,
            "doubt": None,
            "unreadable": False,
            "named": None,
            "none": SCORES.none,
            "no_match": SCORES.threshold,
            "unavailable": None,
        },
        "policy": snapshot.policy.version,
        "took_ms": 1.234,
    }


NAMED, FALLBACK = "the model that the request names", "a fall-back that the request names"
DEFAULT, LAST = "the default model", "what the request names, after the route's models"
FIRST = "of the first route, because there is no default model"
NO_DEFAULT, ALWAYS = TEXT % "", TEXT % ", default: true" + "overrides: {always_route: true}\n"


@pytest.mark.parametrize(
    ("text", "said", "body", "whys"),
    [
        (NO_DEFAULT, SCORES, {"model": "vllm/b", "models": ["fast"], "fallbacks": ["a"]}, [NAMED, FALLBACK, FALLBACK]),
        (ALWAYS, NO_MATCH, {"model": "vllm/b", "fallbacks": ["fast", "a"]}, [NAMED, FALLBACK, DEFAULT]),
        (ALWAYS, DOWN, {"model": "a"}, [NAMED]),
        (ALWAYS, DOWN, {"model": "fast"}, ["the target of the alias that the request names"]),
        (ALWAYS, SCORES, {"model": "vllm/b", "fallbacks": ["ollama/x", "gpt-4o"]}, ["model 1 of route 'code'", "model 2 of route 'code'", LAST, LAST, DEFAULT]),
        (ALWAYS, SCORES, {"model": "smart"}, ["model 1 of route 'code'", "model 2 of route 'code'", DEFAULT]),
        (ALWAYS, NO_MATCH, {}, [DEFAULT]),
        (ALWAYS, DOWN, {}, [DEFAULT]),
        (ALWAYS, SCORES, {PREFERENCES: []}, [DEFAULT]),
        (NO_DEFAULT, NO_MATCH, {}, [FIRST, FIRST]),
        (NO_DEFAULT, DOWN, {PREFERENCES: [entry(models=["gpt-4o"])]}, [FIRST]),
        (NO_DEFAULT, SCORES, {}, ["model 1 of route 'code'", "model 2 of route 'code'"]),
    ],
)  # fmt: skip
async def test_explanation_gives_reason_of_every_candidate(
    text: str, said: Scores | Unavailable, body: dict[str, Any], whys: list[str], tmp_path: Path
) -> None:
    """The explanation names the reason of each candidate, for every way in which a model becomes
    one.
    """
    decided, explained = await explain(snapshot_of(tmp_path, text), said, **body)
    assert [candidate["why"] for candidate in explained["candidates"]] == whys
    assert len(whys) == len(decided.decision.candidates)


@pytest.mark.parametrize(
    ("said", "reason", "confidence", "told"),
    [
        (replace(SCORES, cached=True), "cached", 0.75, (SCORES.routes, 0.25, True, None)),
        (NO_MATCH, "no_match", 0.2, (NO_MATCH.routes, 0.1, False, None)),
        (DOWN, "orchestrator_timeout", None, (None, None, False, DOWN.detail)),
        (Scores({"code": -0.1}, 0.0, None), "no_match", 0.0, ({"code": -0.1}, None, False, None)),
    ],
)
async def test_explanation_reports_orchestrator_result(
    snapshot: Snapshot,
    said: Scores | Unavailable,
    reason: str,
    confidence: float,
    told: tuple[Json, ...],
) -> None:
    """The explanation reports the scores and the margin of the best route, or why the orchestrator
    was unavailable.
    """
    _, explained = await explain(snapshot, said)
    section = explained["orchestrator"]
    assert (explained["reason"], explained["confidence"]) == (reason, confidence)
    assert tuple(section[key] for key in ("scores", "margin", "cached", "unavailable")) == told


async def test_explanation_of_explicit_model_omits_orchestrator(snapshot: Snapshot) -> None:
    """A request that names a model skips the orchestrator, so the explanation has no orchestrator
    section.
    """
    _, explained = await explain(snapshot, SCORES, model="vllm/b")
    assert (explained["reason"], explained["route"]) == ("explicit", None)
    assert (explained["orchestrator"], explained["confidence"]) == (None, None)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (SCORES, (["openai/b", "ollama/x"], "code", ["openai/b", "ollama/x", "openai/a"], "route", 0.75, SCORES.routes)),
        (NO_MATCH, (["none"], None, ["openai/a"], "no_match", 0.2, NO_MATCH.routes)),
        (DOWN, (["none"], None, ["openai/a"], "orchestrator_timeout", None, None)),
        (Scores({}, 0.0, None), (["none"], None, ["openai/a"], "no_match", None, None)),
    ],
)  # fmt: skip
async def test_decision_api_renders_plano_format(
    snapshot: Snapshot, said: Scores | Unavailable, expected: tuple[Json, ...]
) -> None:
    """The decision API returns the route's models, or "none", in Plano's format, with the gateway's
    own keys beside them.
    """
    decided = await decide(call_of(snapshot, {}), FakeOrchestrator(said), by_content=True)
    keys = ("models", "route", "candidates", "reason", "confidence", "scores")
    rendered = json.loads(
        json.dumps(render_routing(decided, (("traceparent", f"00-{TRACE}-1-00"),)))
    )
    assert rendered == {
        **dict(zip(keys, expected, strict=True)),
        "trace_id": TRACE,
        "pinned": False,
        "switched": False,
    }


RULES: Final = """routing_rules:
  - {name: small, match: {request_class: [auxiliary]}, model: vllm/b}
  - {name: long, match: {body_bytes: {at_least: 900}}, route: talk}
"""
AUXILIARY: Final = {"x-claude-code-request-class": "auxiliary", "x-model-affinity": "s"}


async def decide_by_rules(
    snapshot: Snapshot, body: Mapping[str, Any], *, by_content: bool = False
) -> tuple[Decided, FakeStore, FakeOrchestrator]:
    """The decision, with the store and the orchestrator that must not be asked."""
    store, orchestrator = FakeStore(), FakeOrchestrator(SCORES)
    content = json.dumps({"messages": [{"role": "user", "content": "Hello"}], **body})
    call = request_of(snapshot, content, session=AUXILIARY)
    intent = None if by_content else call.dialect.read_intent(call.document)
    sessions = Sessions(store, NoObserver(), CatalogPrices)
    return await decide_in_sessions(call, intent, orchestrator, sessions), store, orchestrator


@pytest.mark.parametrize("by_content", [False, True])
async def test_rule_decides_without_session_and_orchestrator(
    tmp_path: Path, *, by_content: bool
) -> None:
    """A matching rule asks neither, although the request has a session."""
    snapshot = snapshot_of(tmp_path, TEXT % ", default: true" + RULES)
    body = {"model": "unknown" if by_content else "smart"}
    decided, store, orchestrator = await decide_by_rules(snapshot, body, by_content=by_content)
    small = ModelRef("vllm", "b")
    assert decided.decision == RouteDecision((small, A), Reason.RULE, rule="small")
    assert (decided.session, decided.question) == (None, None)
    assert (store.keys, orchestrator.questions) == ([], [])


async def test_rule_wins_over_the_name_with_always_route(tmp_path: Path) -> None:
    """The named model and its fallbacks come after that of the rule, and the default last."""
    snapshot = snapshot_of(tmp_path, ALWAYS + RULES)
    body = {"model": "ollama/x", "fallbacks": ["openai/b"]}
    decided, store, orchestrator = await decide_by_rules(snapshot, body)
    whys = [item["why"] for item in render_explanation(snapshot, decided, 0.0)["candidates"]]
    after = "what the request names, after the rule's models"
    assert whys == ["the model of rule 'small'", after, after, DEFAULT]
    assert decided.decision.candidates == (ModelRef("vllm", "b"), X, B, A)
    assert (store.keys, orchestrator.questions) == ([], [])
    with pytest.raises(UnknownModel):
        await decide_by_rules(snapshot, {"model": "unknown"})


async def test_request_without_matching_rule_goes_on(tmp_path: Path) -> None:
    """To the session and the orchestrator if there are routes, else to the default model."""
    rule = RULES.replace("auxiliary", "compaction")
    snapshot = snapshot_of(tmp_path, TEXT % ", default: true" + rule)
    decided, store, orchestrator = await decide_by_rules(snapshot, {})
    assert (decided.decision.reason, decided.rule) == (Reason.ROUTE, None)
    assert (len(store.keys), len(orchestrator.questions)) == (1, 1)
    decided, store, orchestrator = await decide_by_rules(snapshot, {PREFERENCES: []})
    assert decided.decision == RouteDecision((A,), Reason.DEFAULT)
    assert (store.keys, orchestrator.questions) == ([], [])
