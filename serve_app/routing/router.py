"""Decides which models may answer a request, and why, by plain functions."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Protocol

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
from serve_app.routing.rules import MatchedRule


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """The model that a client requests."""

    model: str | None
    """None if the key is absent."""
    hint: str | None = None
    """The value of ``x-arch-llm-provider-hint``."""
    fallbacks: tuple[str, ...] = ()
    """The client's own ``models`` and ``fallbacks``, in order."""


class Ranking(Protocol):
    """Orders the models of a route for one request, by the route's ``prefer``."""

    def choose(self, route: Route) -> tuple[ModelRef, ...]:
        """The models of the route that decides, best first."""
        ...

    def rank(self, route: Route) -> tuple[ModelRef, ...]:
        """The same, where the request only falls back to the route."""
        ...


class ListedOrder:
    """The models of a route as it lists them."""

    def choose(self, route: Route) -> tuple[ModelRef, ...]:
        """All of them."""
        return route.models

    def rank(self, route: Route) -> tuple[ModelRef, ...]:
        """All of them."""
        return route.models


AS_LISTED: Final = ListedOrder()


@dataclass(frozen=True, slots=True)
class ByContent:
    """A decision by rules, then by content: an orchestrator has to score these routes."""

    routes: tuple[Route, ...]
    """Empty if only rules can decide."""
    otherwise: RouteDecision | None = None
    """The decision if no rule and no route matches, where the request names a model."""
    ranking: Ranking = AS_LISTED

    def route(self, name: str | None) -> Route | None:
        """The route of this name; None if there is none."""
        return next((route for route in self.routes if route.name == name), None)


def decide(
    policy: Policy, choice: ModelChoice, routes: tuple[Route, ...] | None = None
) -> RouteDecision | ByContent:
    """The decision by name, or the routes for a decision by content.

    A hint or a name is explicit, unless the policy always routes. A name that is absent, empty,
    ``none`` or ``auto``, or an alias of these, is decided by rules and by content if there are any
    rules or routes (``routes``, else those of the policy); otherwise it means the default model.
    Raises UnknownModel, NoModel or InvalidRequest.
    """
    routes = policy.routes if routes is None else routes
    name = choice.hint or choice.model
    if name is None or policy.leaves_open(name):
        return ByContent(routes) if routes or policy.rules else default(policy, Reason.DEFAULT)
    if choice.hint:
        check_name(choice.hint, HINT_HEADER)
        hinted = policy.resolve_hint(choice.hint)
        if hinted is None:
            raise UnknownModel(choice.hint, policy.nearest(choice.hint), HINT_HEADER)
        named = _named(policy, hinted, Reason.EXPLICIT, choice)
    else:
        named = _named(policy, *_resolve(policy, name, "model"), choice)
    is_open = policy.always_route and (routes or policy.rules)
    return ByContent(routes, named) if is_open else named


def may_answer(
    policy: Policy, inline: tuple[Route, ...] | None, named: RouteDecision | None = None
) -> Callable[[ModelRef], bool]:
    """Tells whether a bound model is still among those that a request may get.

    ``named``: what the request names, where it is decided by content all the same.
    """
    if inline is None:
        return lambda model: policy.resolve(str(model)) is not None
    models = {model for route in inline for model in route.models}
    models.update(() if named is None else named.candidates)
    return lambda model: model in models or model == policy.default


def default(policy: Policy, reason: Reason, routes: tuple[Route, ...] = ()) -> RouteDecision:
    """The default model, else all models of the first route. Raises NoModel."""
    if policy.default is not None:
        return RouteDecision((policy.default,), reason)
    for route in routes or policy.routes:
        return RouteDecision(route.models, reason)
    raise NoModel


def by_rule(policy: Policy, question: ByContent, matched: MatchedRule) -> RouteDecision:
    """The models of a rule, then what the request names, and the default."""
    rule = matched.rule
    route = question.route(rule.route)
    own = matched.models if route is None else question.ranking.choose(route)
    models = _then_others(policy, question, own)
    efforts = () if route is None else route.efforts
    return RouteDecision(models, Reason.RULE, rule.route, rule=rule.name, efforts=efforts)


def without_routes(policy: Policy, question: ByContent) -> RouteDecision:
    """The decision where no rule matches and there are no routes. Raises NoModel."""
    return question.otherwise or default(policy, Reason.DEFAULT)


def by_scores(policy: Policy, question: ByContent, scores: Scores | Unavailable) -> RouteDecision:
    """The models of the winning route and then the default; without a winner another decision.

    That is the model that the request names, if any, else the default. Raises NoModel.
    """
    if isinstance(scores, Unavailable):
        return question.otherwise or default(policy, scores.reason, question.routes)
    for route in question.routes:
        if route.name == scores.winner:
            reason = Reason.CACHED if scores.cached else Reason.ROUTE
            decision = _routed(policy, question, route, reason, scores.routes.get(route.name))
            return replace(decision, tier=scores.tier)
    if question.otherwise is not None:
        return question.otherwise
    decision = default(policy, Reason.NO_MATCH, question.routes)
    best = confidence(max(scores.routes.values(), default=None))
    return replace(decision, confidence=best, tier=scores.tier)


def pinned(policy: Policy, question: ByContent, binding: Binding) -> RouteDecision:
    """The model of a session, then the others of its route, what the request names, the default."""
    route = question.route(binding.route)
    rest = () if route is None else question.ranking.rank(route)
    models = _then_others(policy, question, (binding.model, *rest))
    if route is None or not rest:
        return RouteDecision(models, Reason.AFFINITY)
    return RouteDecision(models, Reason.AFFINITY, route.name, efforts=route.efforts)


def escalated(policy: Policy, question: ByContent, decision: RouteDecision) -> RouteDecision | None:
    """The decision one model further up its route, the weaker ones after the stronger.

    Returns None at the last model, and for a model that is not of the route.
    """
    route = question.route(decision.route)
    model = decision.candidates[0]
    if route is None or model not in route.models[:-1]:
        return None
    place = route.models.index(model) + 1
    models = (*route.models[place:], *reversed(route.models[:place]))
    candidates = _then_others(policy, question, models)
    return replace(decision, candidates=candidates, reason=Reason.ESCALATION)


def confidence(score: float | None) -> float | None:
    """A score limited to 0..1. Returns None if nothing was scored."""
    return None if score is None else min(max(score, 0.0), 1.0)


def _routed(
    policy: Policy, question: ByContent, route: Route, reason: Reason, score: float | None
) -> RouteDecision:
    reason = reason if question.otherwise is None else Reason.ALWAYS_ROUTE
    models = _then_others(policy, question, question.ranking.choose(route))
    return RouteDecision(models, reason, route.name, confidence(score), efforts=route.efforts)


def _then_others(
    policy: Policy, question: ByContent, models: tuple[ModelRef, ...]
) -> tuple[ModelRef, ...]:
    """These models, then what the request names, then the default; each once."""
    named = () if question.otherwise is None else question.otherwise.candidates
    last = () if policy.default is None else (policy.default,)
    return tuple(dict.fromkeys([*models, *named, *last]))


def _named(policy: Policy, model: ModelRef, reason: Reason, choice: ModelChoice) -> RouteDecision:
    others = [_resolve_fallback(policy, name) for name in choice.fallbacks]
    return RouteDecision(tuple(dict.fromkeys([model, *others])), reason)


def _resolve_fallback(policy: Policy, name: str) -> ModelRef:
    if policy.leaves_open(name):
        raise InvalidRequest(f"{name!r} is not a model; name one as fallback", "models")
    return _resolve(policy, name, "models")[0]


def _resolve(policy: Policy, name: str, param: str) -> tuple[ModelRef, Reason]:
    resolved = policy.resolve(name)
    if resolved is None:
        raise UnknownModel(name, policy.nearest(name), param)
    return resolved
