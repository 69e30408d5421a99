"""Decides which models may answer a request, and why; a plain function of policy and request."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from serve_app.dialects.fields import check_name
from serve_app.domain import (
    HINT_HEADER,
    Binding,
    ModelRef,
    Reason,
    Route,
    RouteDecision,
    Scores,
    Unavailable,
)
from serve_app.errors import InvalidRequest, NoModel, UnknownModel
from serve_app.routing.policy import Policy


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """What a client said about the model."""

    model: str | None
    """None when the key is absent."""
    hint: str | None = None
    """The value of ``x-arch-llm-provider-hint``."""
    fallbacks: tuple[str, ...] = ()
    """The client's own ``models`` and ``fallbacks``, in order."""


@dataclass(frozen=True, slots=True)
class ByContent:
    """Not decided by name: an orchestrator has to score these routes."""

    routes: tuple[Route, ...]
    otherwise: RouteDecision | None = None
    """Where a model was named all the same: what holds when no route matches."""


def decide(
    policy: Policy, wish: ModelChoice, routes: tuple[Route, ...] | None = None
) -> RouteDecision | ByContent:
    """What a wish comes to.

    A hint and a name are explicit and stay so, unless the policy always routes. A name that is
    absent, empty, ``none`` or ``auto``, or an alias of these, is decided by content where there
    are routes (``routes``, else the policy's own), else it is the default model.
    Raises UnknownModel, NoModel or InvalidRequest.
    """
    routes = policy.routes if routes is None else routes
    name = wish.hint or wish.model
    if name is None or policy.leaves_open(name):
        return ByContent(routes) if routes else default(policy, Reason.DEFAULT)
    if wish.hint:
        check_name(wish.hint, HINT_HEADER)
        hinted = policy.resolve_hint(wish.hint)
        if hinted is None:
            raise UnknownModel(wish.hint, policy.nearest(wish.hint), HINT_HEADER)
        named = _named(policy, hinted, Reason.EXPLICIT, wish)
    else:
        named = _named(policy, *_resolve(policy, name, "model"), wish)
    return ByContent(routes, named) if policy.always_route and routes else named


def may_answer(policy: Policy, inline: tuple[Route, ...] | None) -> Callable[[ModelRef], bool]:
    """Tells whether a bound model is still among those that a request may get."""
    if inline is None:
        return lambda model: policy.resolve(str(model)) is not None
    models = {model for route in inline for model in route.models}
    return lambda model: model in models or model == policy.default


def default(policy: Policy, reason: Reason, routes: tuple[Route, ...] = ()) -> RouteDecision:
    """The default model, else all models of the first route. Raises NoModel."""
    if policy.default is not None:
        return RouteDecision((policy.default,), reason)
    for route in routes or policy.routes:
        return RouteDecision(route.models, reason)
    raise NoModel


def by_scores(policy: Policy, asked: ByContent, said: Scores | Unavailable) -> RouteDecision:
    """The winning route's models and then the default; without a winner what holds then.

    That is the model that was named, if one was, else the default. Raises NoModel.
    """
    if isinstance(said, Unavailable):
        return asked.otherwise or default(policy, said.reason, asked.routes)
    for route in asked.routes:
        if route.name == said.winner:
            reason = Reason.CACHED if said.cached else Reason.ROUTE
            return _routed(policy, asked, route, reason, said.routes.get(route.name))
    if asked.otherwise is not None:
        return asked.otherwise
    decision = default(policy, Reason.NO_MATCH, asked.routes)
    return replace(decision, confidence=confidence(max(said.routes.values(), default=None)))


def pinned(policy: Policy, routes: tuple[Route, ...], binding: Binding) -> RouteDecision:
    """The model that a session is on, then the rest of its route, then the default."""
    rest = next((route.models for route in routes if route.name == binding.route), ())
    last: tuple[ModelRef, ...] = () if policy.default is None else (policy.default,)
    models = tuple(dict.fromkeys([binding.model, *rest, *last]))
    route = binding.route if rest else None
    return RouteDecision(models, Reason.AFFINITY, route)


def confidence(score: float | None) -> float | None:
    """A score as a number from 0 to 1; None where nothing was scored."""
    return None if score is None else min(max(score, 0.0), 1.0)


def _routed(
    policy: Policy, asked: ByContent, route: Route, reason: Reason, score: float | None
) -> RouteDecision:
    last: tuple[ModelRef, ...] = () if policy.default is None else (policy.default,)
    if asked.otherwise is not None:
        reason = Reason.ALWAYS_ROUTE
        last = (*asked.otherwise.candidates, *last)
    models = tuple(dict.fromkeys([*route.models, *last]))
    return RouteDecision(models, reason, route.name, confidence(score))


def _named(policy: Policy, model: ModelRef, reason: Reason, wish: ModelChoice) -> RouteDecision:
    others = [_resolve_fallback(policy, name) for name in wish.fallbacks]
    return RouteDecision(tuple(dict.fromkeys([model, *others])), reason)


def _resolve_fallback(policy: Policy, name: str) -> ModelRef:
    if policy.leaves_open(name):
        raise InvalidRequest(f"{name!r} is no model to fall back to; name one", "models")
    return _resolve(policy, name, "models")[0]


def _resolve(policy: Policy, name: str, param: str) -> tuple[ModelRef, Reason]:
    found = policy.resolve(name)
    if found is None:
        raise UnknownModel(name, policy.nearest(name), param)
    return found
