"""Decides which models may answer a request, and why; a plain function of policy and request."""

from dataclasses import dataclass

from serve_app.domain import AUTO_NAMES, ModelRef, Reason, Route, RouteDecision, Scores
from serve_app.errors import NoModel, UnknownModel
from serve_app.routing.policy import Policy

MAX_FALLBACKS = 16
"""Names in a client's own list of fall-backs; the caller refuses more."""


@dataclass(frozen=True, slots=True)
class Wish:
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


def decide(policy: Policy, wish: Wish) -> RouteDecision | ByContent:
    """What a wish comes to.

    A hint and a name are explicit and stay so; a name that is absent, empty, ``none`` or
    ``auto`` is decided by content where there are routes, else it is the default model.
    Raises UnknownModel or NoModel.
    """
    if wish.hint:
        hinted = policy.resolve_hint(wish.hint)
        if hinted is None:
            raise UnknownModel(wish.hint, policy.nearest(wish.hint), "x-arch-llm-provider-hint")
        return _named(policy, hinted, Reason.EXPLICIT, wish)
    if wish.model is not None and wish.model.lower() not in AUTO_NAMES:
        return _named(policy, *_resolve(policy, wish.model, "model"), wish)
    if policy.routes:
        return ByContent(policy.routes)
    return default(policy, Reason.DEFAULT)


def default(policy: Policy, reason: Reason) -> RouteDecision:
    """The default model, else the first model of the first route. Raises NoModel."""
    if policy.default is not None:
        return RouteDecision((policy.default,), reason)
    if policy.routes:
        return RouteDecision(policy.routes[0].models, reason)
    raise NoModel


def by_scores(policy: Policy, routes: tuple[Route, ...], scores: Scores) -> RouteDecision:
    """The winning route's models and then the default; without a winner the default alone."""
    for route in routes:
        if route.name == scores.winner:
            last = () if policy.default is None else (policy.default,)
            models = tuple(dict.fromkeys([*route.models, *last]))
            return RouteDecision(models, Reason.ROUTE, route.name, scores.routes.get(route.name))
    return default(policy, Reason.NO_MATCH)


def _named(policy: Policy, model: ModelRef, reason: Reason, wish: Wish) -> RouteDecision:
    others = [_resolve(policy, name, "models")[0] for name in wish.fallbacks]
    return RouteDecision(tuple(dict.fromkeys([model, *others])), reason)


def _resolve(policy: Policy, name: str, param: str) -> tuple[ModelRef, Reason]:
    found = policy.resolve(name)
    if found is None:
        raise UnknownModel(name, policy.nearest(name), param)
    return found
