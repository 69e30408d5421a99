"""From a request to its candidates: what the client wished, what the orchestrator said, and why.

This is the asynchronous half of deciding; serve_app/routing/router.py holds the rules.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from serve_app.affinity.identify import (
    BUDGET_HEADER,
    Session,
    implicit_session,
    is_off,
    named_session,
    tenant_of,
)
from serve_app.affinity.sessions import Sessions, SessionState
from serve_app.config.schema.gateway import GatewayConfig
from serve_app.dialects.openai_chat import conversation as turns
from serve_app.dialects.openai_chat import dialect
from serve_app.domain import (
    AUTO_NAMES,
    ModelRef,
    Question,
    Route,
    RouteDecision,
    Scores,
    Unavailable,
)
from serve_app.errors import InvalidRequest
from serve_app.ports import Orchestrator
from serve_app.requests.call import Call
from serve_app.requests.session_switch import Switch, budget_of, judge, stays
from serve_app.routing import router
from serve_app.routing.inline_routes import (
    PREFERENCES,
    _digest,
    check_name,
    read_preferences,
)
from serve_app.routing.policy import Policy
from serve_app.scoring.excerpt import conversation, recent

OWN_KEYS: Final = frozenset({PREFERENCES, "models", "fallbacks"})
"""Of a body: meant for the gateway, and not sent on."""

READ_KEYS: Final = OWN_KEYS | {"model", "stream", "messages", "n", "metadata", "tools"}
"""Of a body: what we read, and therefore refuse to see twice."""


@dataclass(frozen=True, slots=True)
class Decided:
    """A decision and how it came about."""

    decision: RouteDecision
    question: Question | None = None
    """What the orchestrator was asked, if it was."""
    said: Scores | Unavailable | None = None
    place: SessionState | None = None
    """The request's session; None where it has none, or names its model."""
    switch: Switch | None = None
    """What a budget said to the session's change, where there is one."""


async def decide(
    call: Call, orchestrator: Orchestrator, sessions: Sessions, *, by_content: bool = False
) -> Decided:
    """Which models may answer a request. With ``by_content`` names in it decide nothing.

    A session that is bound stays on its model, and the orchestrator is not asked, unless the
    configuration lets sessions move.
    Raises InvalidRequest, UnknownModel or NoModel.
    """
    messages = call.document.get("messages")
    if not isinstance(messages, list):
        raise InvalidRequest("messages must be there and be a list", "messages")
    policy = call.snapshot.policy
    inline = read_preferences(call.document, policy, known_only=not by_content)
    wish = router.ModelChoice(model=None) if by_content else _read_wish(call)
    asked = router.decide(policy, wish, inline)
    if isinstance(asked, RouteDecision):
        return Decided(asked)
    session = None if asked.otherwise else _session_of(call, wish)
    if session is None:
        return await _ask(call, orchestrator, asked)
    place = await sessions.find(session, _may_answer(policy, inline))
    return await _decide_in_session(call, orchestrator, sessions, asked, place)


async def _decide_in_session(
    call: Call,
    orchestrator: Orchestrator,
    sessions: Sessions,
    asked: router.ByContent,
    place: SessionState,
) -> Decided:
    """What the session is bound to, unless this turn may move it and something says so."""
    policy, config = call.snapshot.policy, call.snapshot.config
    budget = budget_of(config, call.named.get(BUDGET_HEADER))
    bound = place.found if place.live else None
    if bound is not None and stays(config, call.document, budget):
        decided = Decided(router.pinned(policy, asked.routes, bound))
    else:
        decided = await _ask(call, orchestrator, asked)
        if bound is not None and decided.decision.route is None:  # nothing says to move
            decided = replace(decided, decision=router.pinned(policy, asked.routes, bound))
    switch = None
    if budget is not None:
        candidate = decided.decision.candidates[0]
        switch = judge(call.document, place, candidate, budget, sessions.prices, sessions.now())
        if bound is not None and not switch.decision.allowed:
            decided = replace(decided, decision=router.pinned(policy, asked.routes, bound))
    return replace(decided, place=place, switch=switch)


async def _ask(call: Call, orchestrator: Orchestrator, asked: router.ByContent) -> Decided:
    policy = call.snapshot.policy
    look = conversation if call.snapshot.config.orchestrator.generates else recent
    question = Question(
        turns=look(dialect.read_turns(call.document.get("messages"))),
        routes=asked.routes,
        key=policy.version if asked.routes is policy.routes else _digest(asked.routes),
    )
    if not question.turns:  # nothing was said in words, so there is nothing to match
        silent = Scores({}, 0.0, None)
        return Decided(router.by_scores(policy, asked, silent), question, silent)
    said = await orchestrator.score(question)
    return Decided(router.by_scores(policy, asked, said), question, said)


def _session_of(call: Call, wish: router.ModelChoice) -> Session | None:
    """The session that a request belongs to, by its headers or by how it begins."""
    config, named = call.snapshot.config, call.named
    if is_off(named):
        return None
    tenant = tenant_of(named, config.routing.session_cache.tenant_header)
    name = wish.hint or wish.model or ""
    lane = "" if name.lower() in AUTO_NAMES else name
    own = named_session(named, config.routing.session_headers)
    messages = call.document.get("messages")
    first = turns.first_user_text(messages) if own is None and _is_implicit(config) else None
    if first is not None:
        tools = ",".join(turns.tool_names(call.document.get("tools")))
        own = implicit_session(tenant, turns.system_texts(messages), tools, first)
    return None if own is None else Session(own, tenant, lane)


def _is_implicit(config: GatewayConfig) -> bool:
    """Plano's rule for when a conversation that nobody named is a session all the same."""
    caching = config.prompt_caching
    by_caching = caching.enabled if caching.session_affinity is None else caching.session_affinity
    routing = config.routing
    by_routing = routing.route_on_user_only and bool(config.routing_preferences)
    return by_caching or by_routing or routing.routing_budget is not None


def _may_answer(policy: Policy, inline: tuple[Route, ...] | None) -> Callable[[ModelRef], bool]:
    """Whether a bound model is still among those that a request may get."""
    if inline is None:
        return lambda model: policy.resolve(str(model)) is not None
    models = {model for route in inline for model in route.models}
    return lambda model: model in models or model == policy.default


def _read_wish(call: Call) -> router.ModelChoice:
    model = call.document.get("model")
    if model is not None and not isinstance(model, str):
        raise InvalidRequest("model must be a text", "model")
    check_name(model or "", "model")
    check_name(call.hint or "", "x-arch-llm-provider-hint")
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
    return router.ModelChoice(model, call.hint, tuple(fallbacks))
