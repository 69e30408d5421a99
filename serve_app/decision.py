"""From a request to its candidates: what the client wished, what the orchestrator said, and why.

This is the asynchronous half of deciding; serve_app/routing/router.py holds the rules.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter, ValidationError

from serve_app.config.load import explain, load, path, raise_problems
from serve_app.config.schema import GatewayConfig, RoutingPreference
from serve_app.dialects import openai_chat
from serve_app.dialects.edits import Document
from serve_app.domain import (
    Headers,
    Json,
    ModelRef,
    Question,
    Reason,
    Route,
    RouteDecision,
    Scores,
    Unavailable,
)
from serve_app.errors import InvalidRequest
from serve_app.ports import Orchestrator
from serve_app.providers.spec import ProviderTable, build_table
from serve_app.routing import router
from serve_app.routing.policy import Policy, compile_policy, no_model, route_of
from serve_app.routing.view import recent

PREFERENCES: Final = "routing_preferences"

OWN_KEYS: Final = frozenset({PREFERENCES, "models", "fallbacks"})
"""Of a body: meant for the gateway, and not sent on."""

READ_KEYS: Final = OWN_KEYS | {"model", "stream", "messages", "n", "metadata"}
"""Of a body: what we read, and therefore refuse to see twice."""

MAX_ROUTES: Final = 128
MAX_ROUTE_CHARACTERS: Final = 64 << 10
"""Of the routes of one request, all texts together: each of them costs the engine time."""

MAX_PREFERENCES: Final = 4 * MAX_ROUTE_CHARACTERS
"""Characters of JSON that the routes of one request may take; checking them blocks the loop."""

_MAX_NAME: Final = 400
_PREFERENCES = TypeAdapter(list[RoutingPreference])


@dataclass(frozen=True, slots=True)
class Setup:
    """One configuration, compiled: immutable, versioned, handed on by reference."""

    config: GatewayConfig
    policy: Policy
    providers: ProviderTable


def compile_setup(file: str | Path) -> Setup:
    """The setup that a configuration file comes to. Raises ConfigError with all its problems."""
    loaded = load(file)
    providers, problems = build_table(loaded)
    policy, more = compile_policy(loaded)
    raise_problems(loaded, [*problems, *more])
    return Setup(loaded.config, policy, providers)


@dataclass(frozen=True, slots=True)
class Call:
    """One request as the API layer read it."""

    setup: Setup
    document: Document
    headers: Headers
    """Those that go on to the provider."""
    hint: str | None
    arrived: float
    """When, on the gateway's clock."""


@dataclass(frozen=True, slots=True)
class Decided:
    """A decision and how it came about."""

    decision: RouteDecision
    question: Question | None = None
    """What the orchestrator was asked, if it was."""
    said: Scores | Unavailable | None = None


async def decide(call: Call, orchestrator: Orchestrator, *, by_content: bool = False) -> Decided:
    """Which models may answer a request. With ``by_content`` names in it decide nothing.

    Raises InvalidRequest, UnknownModel or NoModel.
    """
    messages = call.document.get("messages")
    if not isinstance(messages, list):
        raise InvalidRequest("messages must be there and be a list", "messages")
    policy = call.setup.policy
    inline = read_preferences(call.document, policy, known_only=not by_content)
    wish = router.Wish(model=None) if by_content else _read_wish(call)
    asked = router.decide(policy, wish, inline)
    if isinstance(asked, RouteDecision):
        return Decided(asked)
    question = Question(
        turns=recent(openai_chat.read_turns(messages)),
        routes=asked.routes,
        key=policy.version if inline is None else _digest(inline),
    )
    if not question.turns:  # nothing was said in words, so there is nothing to match
        silent = Scores({}, 0.0, None)
        return Decided(router.by_scores(policy, asked, silent), question, silent)
    said = await orchestrator.score(question)
    return Decided(router.by_scores(policy, asked, said), question, said)


def read_preferences(
    document: Document, policy: Policy, *, known_only: bool
) -> tuple[Route, ...] | None:
    """The routes that a request brings along; None when it brings none.

    With ``known_only`` every model has to be one that the gateway serves; otherwise any
    ``provider/name`` will do. Raises InvalidRequest that names the field.
    """
    member = document.members.get(PREFERENCES)
    if member is None or member.value is None:
        return None
    value = member.value
    if member.value_end - member.value_start > MAX_PREFERENCES:
        message = f"{PREFERENCES} may take at most {MAX_PREFERENCES} characters"
        raise InvalidRequest(message, PREFERENCES)
    if isinstance(value, list) and len(value) > MAX_ROUTES:
        raise InvalidRequest(f"{PREFERENCES} may hold at most {MAX_ROUTES} routes", PREFERENCES)
    try:
        entries = _PREFERENCES.validate_python(value)
    except ValidationError as error:
        detail = error.errors(include_url=False, include_input=True)[0]
        detail["loc"] = (PREFERENCES, *detail["loc"])
        steps, message = explain(detail)
        raise InvalidRequest(f"{path(steps)}: {message}", path(steps)) from error
    names = [entry.name for entry in entries]
    for index, name in enumerate(names):
        if name in names[:index]:
            place = f"{PREFERENCES}[{index}].name"
            raise InvalidRequest(f"{place}: another route is named {name!r}", place)
    size = sum(len(e.name) + len(e.description) + sum(map(len, e.examples)) for e in entries)
    if size > MAX_ROUTE_CHARACTERS:
        message = f"{PREFERENCES} may hold at most {MAX_ROUTE_CHARACTERS} characters of text"
        raise InvalidRequest(message, PREFERENCES)
    return tuple(
        route_of(entry, _models(entry, index, policy, known_only=known_only))
        for index, entry in enumerate(entries)
    )


def _models(
    entry: RoutingPreference, index: int, policy: Policy, *, known_only: bool
) -> tuple[ModelRef, ...]:
    models = []
    for position, name in enumerate(entry.models):
        place = f"{PREFERENCES}[{index}].models[{position}]"
        check_name(name, place)
        found = policy.resolve(name)
        if found is not None:
            models.append(found[0])
            continue
        try:
            model = ModelRef.parse(name)
        except ValueError:
            model = None
        if model is None or known_only:
            raise InvalidRequest(f"{place}: {no_model(policy, name, policy.aliases)}", place)
        models.append(model)
    return tuple(models)


def _digest(routes: tuple[Route, ...]) -> str:
    return "inline:" + sha256(repr(routes).encode("utf-8", "replace")).hexdigest()


def _read_wish(call: Call) -> router.Wish:
    model = call.document.get("model")
    if model is not None and not isinstance(model, str):
        raise InvalidRequest("model must be a text", "model")
    check_name(model or "", "model")
    fallbacks: list[str] = []
    for key in ("models", "fallbacks"):
        names = call.document.get(key)
        if names is None:
            continue
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise InvalidRequest(f"{key} must be a list of model names", key)
        for name in names:
            check_name(name, key)
        fallbacks += names
    if len(fallbacks) > router.MAX_FALLBACKS:
        raise InvalidRequest(f"at most {router.MAX_FALLBACKS} fall-backs may be named", "models")
    return router.Wish(model, call.hint, tuple(fallbacks))


def check_name(name: str, param: str) -> None:
    """Raises InvalidRequest for a name that no header and no log could show."""
    if len(name) > _MAX_NAME or not name.isprintable():
        message = f"{param} must be a printable name of at most {_MAX_NAME} characters"
        raise InvalidRequest(message, param)


NOTHING: Final = "none"
"""Plano's word in ``models`` where no route was found; the client takes what it likes."""


def render_routing(decided: Decided, trace_id: str) -> Json:
    """The decision API's answer: Plano's keys, and what it does not tell.

    Source: Plano 0.4, ``/routing/v1``. ``models`` are those of the route, best first.
    """
    decision, said = decided.decision, decided.said
    routes = () if decided.question is None else decided.question.routes
    models = next((route.models for route in routes if route.name == decision.route), ())
    return {
        "models": [str(model) for model in models] or [NOTHING],
        "route": decision.route,
        "trace_id": trace_id,
        "pinned": False,
        "switched": False,
        "candidates": [str(model) for model in decision.candidates],
        "reason": decision.reason,
        "confidence": decision.confidence,
        "scores": (dict(said.routes) or None) if isinstance(said, Scores) else None,
    }


def render_explanation(setup: Setup, decided: Decided, took_s: float) -> Json:
    """A decision with all that it rests on; what ``/v1/route`` answers. Times in milliseconds."""
    decision, said, question = decided.decision, decided.said, decided.question
    settings = setup.config.orchestrator
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
            "margin": None,
            "cached": False,
            "unavailable": said.detail if isinstance(said, Unavailable) else None,
        }
    if asked is not None and isinstance(said, Scores):
        ranked = sorted(said.routes.values(), reverse=True)
        asked["scores"] = dict(said.routes) or None
        asked["margin"] = round(ranked[0] - ranked[1], 6) if len(ranked) > 1 else None
        asked["cached"] = said.cached
    return {
        "model": str(decision.candidates[0]),
        "route": decision.route,
        "reason": decision.reason,
        "confidence": decision.confidence,
        "candidates": [
            {"model": str(model), "why": why(model, setup.policy, decided)}
            for model in decision.candidates
        ],
        "orchestrator": asked,
        "policy": setup.policy.version,
        "took_ms": round(took_s * 1e3, 3),
    }


_WHY_NAMED: Final[Mapping[Reason, str]] = {
    Reason.EXPLICIT: "the model that the request names",
    Reason.ALIAS: "the target of the alias that the request names",
}


def why(model: ModelRef, policy: Policy, decided: Decided) -> str:
    """Why a candidate stands where it stands."""
    decision, question = decided.decision, decided.question
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
