"""Decisions as JSON: Plano's decision API, and the explanation of ``/v1/route``."""

import re
from collections.abc import Mapping
from typing import Final
from uuid import uuid4

from serve_app.domain import (
    OWN_MODEL,
    Binding,
    Headers,
    Json,
    ModelRef,
    Reason,
    Scores,
    Setback,
    Unavailable,
)
from serve_app.requests.decide import Decided
from serve_app.routing.policy import Policy
from serve_app.routing.rules import MatchedRule
from serve_app.snapshot import Snapshot

NO_MODELS: Final = "none"
"""What Plano writes in ``models`` where no route matches; the client chooses a model itself."""

_TRACE_ID: Final = re.compile("[0-9a-f]{32}")


def render_routing(decided: Decided, headers: Headers) -> Json:
    """The decision API's answer: Plano's keys, and more.

    Source: Plano 0.4, ``/routing/v1``. ``models`` are those of the route, best first.
    """
    decision, scores = decided.decision, decided.scores
    routes = () if decided.question is None else decided.question.routes
    models = next((route.models for route in routes if route.name == decision.route), ())
    if decided.rule is not None:
        models = decided.rule.models
    models = tuple(model for model in decision.candidates if model in models)
    if decision.reason in (Reason.AFFINITY, Reason.ESCALATION):
        models = decision.candidates
    return {
        "models": [str(model) for model in models] or [NO_MODELS],
        "route": decision.route,
        "trace_id": _trace_id(headers),
        **_session(decided),
        "candidates": [str(model) for model in decision.candidates],
        "reason": decision.reason,
        "confidence": decision.confidence,
        "scores": (dict(scores.routes) or None) if isinstance(scores, Scores) else None,
    }


def render_explanation(snapshot: Snapshot, decided: Decided, took_s: float) -> Json:
    """A decision and why it was made: the answer of ``/v1/route``. Times in milliseconds."""
    decision, scores, question = decided.decision, decided.scores, decided.question
    settings = snapshot.config.orchestrator
    orchestrator: Json = None
    if question is not None:
        orchestrator = {
            "engine": settings.engine,
            "seen": [{"role": turn.role, "content": turn.text} for turn in question.turns],
            "max_query_tokens": settings.max_query_tokens,
            "thresholds": {
                "min_confidence": settings.min_confidence,
                "min_margin": settings.min_margin,
            },
            "scores": None,
            "none": None,
            "no_match": None,
            "margin": None,
            "doubt": None,
            "unreadable": False,
            "named": None,
            "cached": False,
            "stand_in": None,
            "tier": None,
            "fell_back": None,
            "unavailable": scores.detail if isinstance(scores, Unavailable) else None,
        }
    if orchestrator is not None and isinstance(scores, Scores):
        ranked = sorted(scores.routes.values(), reverse=True)
        orchestrator["scores"] = dict(scores.routes) or None
        orchestrator["margin"] = round(ranked[0] - ranked[1], 6) if len(ranked) > 1 else None
        orchestrator["cached"] = scores.cached
        orchestrator["none"] = scores.none
        orchestrator["no_match"] = scores.threshold if scores.routes else None
        orchestrator["unreadable"] = scores.unreadable
        orchestrator["doubt"] = scores.doubt
        orchestrator["stand_in"] = scores.stand_in or None
        orchestrator["tier"] = scores.tier or None
        orchestrator["fell_back"] = scores.fell_back or None
        orchestrator["named"] = list(scores.named) or None
    return {
        "model": str(decision.candidates[0]),
        "route": decision.route,
        "reason": decision.reason,
        **_rule(decided),
        **({} if decided.setback is None else {"setback": decided.setback}),
        "confidence": decision.confidence,
        "session": None if decided.session is None else {**_session(decided), **_switch(decided)},
        "candidates": [
            {
                "model": str(model),
                **_effort(model, decided),
                "why": why(model, snapshot.policy, decided),
            }
            for model in decision.candidates
        ],
        "orchestrator": orchestrator,
        "policy": snapshot.policy.version,
        "took_ms": round(took_s * 1e3, 3),
    }


def _session(decided: Decided) -> dict[str, Json]:
    """Plano's keys: ``session_id`` if there is a session, ``pinned`` if it is bound."""
    state = decided.session
    binding = None if state is None or not state.live else state.found
    return {
        **({} if state is None else {"session_id": state.session.id}),
        "pinned": binding is not None,
        "switched": binding is not None and binding.model != decided.decision.candidates[0],
    }


def _switch(decided: Decided) -> dict[str, Json]:
    """The verdict of the session's budget, in US dollars; empty without a budget."""
    if decided.switch is None:
        return {}
    switch = decided.switch.decision
    return {
        "budget": {
            "allowed": switch.allowed,
            "reason": switch.reason,
            "cost_usd": switch.cost_usd,
            "baseline_usd": switch.spend.baseline_usd,
            "switch_spend_usd": switch.spend.switch_spend_usd,
        }
    }


def _rule(decided: Decided) -> dict[str, Json]:
    """The routing rule that decided, and what of the request met its conditions; empty without."""
    found = decided.rule
    if found is None:
        return {}
    return {"rule": {"name": found.rule.name, "matched": list(found.matched)}}


def _trace_id(headers: Headers) -> str:
    """The caller's trace id, from ``traceparent`` (W3C Trace Context), or a new one."""
    for name, value in headers:
        parts = value.split("-")
        if name == "traceparent" and len(parts) > 1 and _TRACE_ID.fullmatch(parts[1]):
            return parts[1]
    return uuid4().hex


_WHY_NAMED: Final[Mapping[Reason, str]] = {
    Reason.EXPLICIT: "the model that the request names",
    Reason.ALIAS: "the target of the alias that the request names",
}


_WHY_LATER: Final[Mapping[Reason, str]] = {
    Reason.EXPLICIT: "a fall-back that the request names",
    Reason.ALIAS: "a fall-back that the request names",
    Reason.ALWAYS_ROUTE: "what the request names, after the route's models",
}


_WHY_SETBACK: Final[Mapping[Setback, str]] = {
    Setback.TOOL_FAILS: "the same tool has failed three times in a row",
    Setback.STILL_WRONG: "the user says that it is still wrong",
}


def _effort(model: ModelRef, decided: Decided) -> dict[str, Json]:
    effort = decided.decision.effort_of(model)
    return {} if effort is None else {"effort": effort}


def why(model: ModelRef, policy: Policy, decided: Decided) -> str:
    """Why a candidate has its place in the list."""
    text, route, ranking = _place_of(model, policy, decided), decided.route, decided.ranking
    if route is not None and ranking is not None and model in route.models:
        figure = ranking.figure(route, model)
        text += f", {figure}" if figure else ""
    unfit = decided.unfit.get(model)
    return text if unfit is None else f"{text}; {unfit}"


def _place_of(model: ModelRef, policy: Policy, decided: Decided) -> str:
    decision, question, state = decided.decision, decided.question, decided.session
    if model == OWN_MODEL:
        return "the gateway's own orchestrator, which answers typed questions"
    if decided.rule is not None:
        return _why_by_rule(model, policy, decided.rule)
    if decision.reason is Reason.AFFINITY and state is not None and state.found is not None:
        return _why_in_session(model, policy, decided, state.found)
    if decided.setback is not None:
        return _why_escalated(model, policy, decided, decided.setback)
    for route in () if question is None else question.routes:
        if route.name == decision.route and model in route.models:
            return f"model {route.models.index(model) + 1} of route {route.name!r}"
    first = model == decision.candidates[0]
    if first and decision.reason in _WHY_NAMED:
        return _WHY_NAMED[decision.reason]
    if model == policy.default:
        return "the default model"
    return _WHY_LATER.get(decision.reason, "of the first route, because there is no default model")


def _why_in_session(model: ModelRef, policy: Policy, decided: Decided, bound: Binding) -> str:
    if model == bound.model:
        return "the model that the session is on"
    if model == policy.default:
        return "the default model"
    return "what the request names" if model in decided.named else "of the session's route"


def _why_escalated(model: ModelRef, policy: Policy, decided: Decided, setback: Setback) -> str:
    decision = decided.decision
    if model == decision.candidates[0]:
        return f"the next model of route {decision.route!r}, because {_WHY_SETBACK[setback]}"
    if model == policy.default:
        return "the default model"
    return "what the request names" if model in decided.named else f"of route {decision.route!r}"


def _why_by_rule(model: ModelRef, policy: Policy, found: MatchedRule) -> str:
    if model in found.models:
        route = found.rule.route
        if route is None:
            return f"the model of rule {found.rule.name!r}"
        return f"model {found.models.index(model) + 1} of route {route!r}"
    if model == policy.default:
        return "the default model"
    return "what the request names, after the rule's models"
