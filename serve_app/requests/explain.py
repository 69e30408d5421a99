"""Decisions in words: Plano's decision API, and the explanation of ``/v1/route``."""

from collections.abc import Mapping
from typing import Final

from serve_app.domain import Json, ModelRef, Reason, Scores, Unavailable
from serve_app.requests.decide import Decided
from serve_app.routing.policy import Policy
from serve_app.snapshot import Snapshot

NO_MODELS: Final = "none"
"""Plano's word in ``models`` where no route was found; the client takes what it likes."""


def render_routing(decided: Decided, trace_id: str) -> Json:
    """The decision API's answer: Plano's keys, and what it does not tell.

    Source: Plano 0.4, ``/routing/v1``. ``models`` are those of the route, best first.
    """
    decision, said = decided.decision, decided.said
    routes = () if decided.question is None else decided.question.routes
    models = next((route.models for route in routes if route.name == decision.route), ())
    if decision.reason is Reason.AFFINITY:
        models = decision.candidates
    return {
        "models": [str(model) for model in models] or [NO_MODELS],
        "route": decision.route,
        "trace_id": trace_id,
        **_session(decided),
        "candidates": [str(model) for model in decision.candidates],
        "reason": decision.reason,
        "confidence": decision.confidence,
        "scores": (dict(said.routes) or None) if isinstance(said, Scores) else None,
    }


def render_explanation(snapshot: Snapshot, decided: Decided, took_s: float) -> Json:
    """A decision with all that it rests on; what ``/v1/route`` answers. Times in milliseconds."""
    decision, said, question = decided.decision, decided.said, decided.question
    settings = snapshot.config.orchestrator
    asked: Json = None
    if question is not None:
        asked = {
            "engine": settings.engine,
            "seen": [{"role": turn.role, "content": turn.text} for turn in question.turns],
            "max_query_tokens": settings.max_query_tokens,
            "thresholds": {
                "min_confidence": settings.min_confidence,
                "min_margin": settings.min_margin,
            },
            "scores": None,
            "no_match": None,
            "margin": None,
            "doubt": None,
            "named": None,
            "cached": False,
            "stand_in": None,
            "unavailable": said.detail if isinstance(said, Unavailable) else None,
        }
    if asked is not None and isinstance(said, Scores):
        ranked = sorted(said.routes.values(), reverse=True)
        asked["scores"] = dict(said.routes) or None
        asked["margin"] = round(ranked[0] - ranked[1], 6) if len(ranked) > 1 else None
        asked["cached"] = said.cached
        asked["no_match"] = said.threshold if said.routes else None
        asked["doubt"], asked["stand_in"] = said.doubt, said.stand_in or None
        asked["named"] = list(said.named) or None
    return {
        "model": str(decision.candidates[0]),
        "route": decision.route,
        "reason": decision.reason,
        "confidence": decision.confidence,
        "session": None if decided.place is None else {**_session(decided), **_switch(decided)},
        "candidates": [
            {"model": str(model), "why": why(model, snapshot.policy, decided)}
            for model in decision.candidates
        ],
        "orchestrator": asked,
        "policy": snapshot.policy.version,
        "took_ms": round(took_s * 1e3, 3),
    }


def _session(decided: Decided) -> dict[str, Json]:
    """Plano's keys: ``session_id`` where there is a session, ``pinned`` where it was bound."""
    place, decision = decided.place, decided.decision
    found = None if place is None or not place.live else place.found
    named = {} if place is None else {"session_id": place.session.id}
    return {
        **named,
        "pinned": found is not None,
        "switched": found is not None and found.model != decision.candidates[0],
    }


def _switch(decided: Decided) -> dict[str, Json]:
    """What the budget said, where there is one; dollars."""
    if decided.switch is None:
        return {}
    judged = decided.switch.decision
    return {
        "budget": {
            "allowed": judged.allowed,
            "reason": judged.reason,
            "cost_usd": judged.cost_usd,
            "baseline_usd": judged.spend.baseline_usd,
            "switch_spend_usd": judged.spend.switch_spend_usd,
        }
    }


_WHY_NAMED: Final[Mapping[Reason, str]] = {
    Reason.EXPLICIT: "the model that the request names",
    Reason.ALIAS: "the target of the alias that the request names",
}


def why(model: ModelRef, policy: Policy, decided: Decided) -> str:
    """Why a candidate stands where it stands."""
    decision, question, place = decided.decision, decided.question, decided.place
    if decision.reason is Reason.AFFINITY and place is not None and place.found is not None:
        if model == place.found.model:
            return "the model that the session is on"
        return "the default model" if model == policy.default else "of the session's route"
    for route in () if question is None else question.routes:
        if route.name == decision.route and model in route.models:
            return f"model {route.models.index(model) + 1} of route {route.name!r}"
    first = model == decision.candidates[0]
    if first and decision.reason in _WHY_NAMED:
        return _WHY_NAMED[decision.reason]
    if model == policy.default:
        return "the default model"
    if decision.reason in _WHY_NAMED:
        return "a fall-back that the request names"
    if decision.reason is Reason.ALWAYS_ROUTE:
        return "what the request names, after the route's models"
    return "of the first route, because there is no default model"
