"""From a request to its candidates: the asynchronous half of deciding.

routing/router.py holds the rules; here the session and the orchestrator are asked.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from serve_app.affinity.identify import BUDGET_HEADER, session_of
from serve_app.affinity.sessions import Sessions, SessionState
from serve_app.dialects.fields import Intent
from serve_app.domain import (
    Binding,
    Conversation,
    ModelRef,
    Question,
    Reason,
    Route,
    RouteDecision,
    Scores,
    Setback,
    Unavailable,
)
from serve_app.ports import Orchestrator
from serve_app.requests.call import ClientRequest
from serve_app.requests.selection import Fit, RouteRanking, Selection
from serve_app.requests.session_switch import Switch, budget_of, judge_switch, stays
from serve_app.routing import router
from serve_app.routing.budget import Budget
from serve_app.routing.inline_routes import key_of, read_preferences
from serve_app.routing.policy import Policy
from serve_app.routing.rules import MatchedRule, RequestFacts, first_match
from serve_app.scoring.excerpt import conversation as whole_conversation
from serve_app.scoring.excerpt import recent
from serve_app.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Decided:
    """A decision and how it came about."""

    decision: RouteDecision
    question: Question | None = None
    """What the orchestrator was asked, if it was."""
    scores: Scores | Unavailable | None = None
    """What it answered."""
    session: SessionState | None = None
    """The request's session; None where it has none, or gets the model that it names."""
    switch: Switch | None = None
    """Whether the session's budget allows its change, where there is a budget."""
    named: tuple[ModelRef, ...] = ()
    """Of a request that is decided by content although it names a model: that and its fallbacks."""
    rule: MatchedRule | None = None
    """The routing rule that decided, if one did."""
    setback: Setback | None = None
    """Why the conversation gets a model further up its route, if it does."""
    route: Route | None = None
    """The route that the decision names, where its models were ordered."""
    ranking: RouteRanking | None = None
    """What has ordered the models of routes; None if the request names its model."""
    unfit: Mapping[ModelRef, str] = field(default_factory=dict)
    """Why candidates do not take the request; without those that take it."""


@dataclass(frozen=True, slots=True)
class _OpenRequest:
    """A request that is decided by rules or by content, and what it may get."""

    request: ClientRequest
    snapshot: Snapshot
    conversation: Conversation
    by_content: router.ByContent
    name: str
    """The name that it asks for."""
    may_answer: Callable[[ModelRef], bool]
    """Tells whether a bound model is still among the models that it may get."""


@dataclass(frozen=True, slots=True)
class _InSession:
    """A request's session, its budget, and where sessions are kept."""

    state: SessionState
    budget: Budget | None
    store: Sessions
    before: Binding | None
    """The model of the answer that the request continues, for a session without a binding."""


async def decide(
    request: ClientRequest,
    intent: Intent | None,
    orchestrator: Orchestrator,
    sessions: Sessions,
    snapshot: Snapshot | None = None,
    selection: Selection | None = None,
) -> Decided:
    """Which models may answer a request.

    ``intent`` None: by content alone, so that names in the request decide nothing. ``snapshot``
    may be another than the request's own. A routing rule that matches decides alone: it neither
    reads nor binds the request's session. A bound session stays on its model, and the
    orchestrator is not asked, unless its binding is provisional or the configuration lets
    sessions move. ``selection`` orders the candidates of a request that leaves its model open;
    without one they come as they are configured.
    Raises InvalidRequest, UnknownModel or NoModel.
    """
    snapshot = snapshot or request.snapshot
    policy = snapshot.policy
    conversation = request.dialect.read_conversation(request.document)
    inline = read_preferences(request.document, policy, known_only=intent is not None)
    choice = router.ModelChoice(None)
    if intent is not None:
        choice = router.ModelChoice(intent.model, request.hint, intent.fallbacks)
    by_content = router.decide(policy, choice, inline)
    locked = _locked(request, policy, by_content)
    if locked is not None:
        return Decided(locked)
    if isinstance(by_content, RouteDecision):
        return Decided(by_content)
    ranking = None
    if selection is not None:
        is_stream = request.document.get("stream") is True
        ranking = await selection.ranking(snapshot, stream=is_stream)
        by_content = router.ByContent(by_content.routes, by_content.otherwise, ranking)
    name = choice.hint or choice.model or ""
    may_answer = router.may_answer(policy, inline, by_content.otherwise)
    is_open = _OpenRequest(request, snapshot, conversation, by_content, name, may_answer)
    decided = await _by_content(is_open, orchestrator, sessions)
    if ranking is None:
        return decided
    route = by_content.route(decided.decision.route)
    fit = Fit.of(decided.decision, request, conversation, ranking.capabilities)
    return replace(decided, decision=fit.decision, route=route, ranking=ranking, unfit=fit.unfit)


async def _by_content(
    is_open: _OpenRequest, orchestrator: Orchestrator, sessions: Sessions
) -> Decided:
    """The decision by a rule, a session, or the orchestrator."""
    request, snapshot, by_content = is_open.request, is_open.snapshot, is_open.by_content
    policy, conversation = snapshot.policy, is_open.conversation
    ruled = _by_rules(request, policy, by_content, is_open.name)
    if ruled is not None:
        return ruled
    session = session_of(
        snapshot.config,
        request.deciding_headers,
        is_open.name,
        conversation,
        request.client.tenant,
    )
    before = _binding_of(request, is_open.may_answer)
    if session is None:
        if before is not None:
            pinned = Decided(router.pinned(policy, by_content, before))
            return _escalated(policy, by_content, conversation, pinned)
        return await _ask(snapshot, conversation, orchestrator, by_content)
    in_session = _InSession(
        await sessions.find(session, is_open.may_answer, conversation.cache_lifetime_s),
        budget_of(snapshot.config, request.deciding_headers.get(BUDGET_HEADER)),
        sessions,
        before,
    )
    return await _decide_in_session(snapshot, conversation, by_content, in_session, orchestrator)


def _locked(
    request: ClientRequest, policy: Policy, by_content: RouteDecision | router.ByContent
) -> RouteDecision | None:
    """The model whose provider alone can continue an earlier answer, where the choice is open."""
    earlier = request.earlier
    if earlier is None or not earlier.is_locked or earlier.model is None:
        return None
    is_open = not isinstance(by_content, RouteDecision) or by_content.reason is Reason.DEFAULT
    if not is_open or policy.resolve(str(earlier.model)) is None:
        return None
    route = next((route for route in policy.routes if route.name == earlier.route), None)
    efforts = () if route is None else route.efforts
    return RouteDecision((earlier.model,), Reason.STATE, earlier.route, efforts=efforts)


def _by_rules(
    request: ClientRequest, policy: Policy, by_content: router.ByContent, name: str
) -> Decided | None:
    """The decision of the first rule that matches, or where there is nothing else to decide by."""
    if not policy.rules:
        return None
    facts = RequestFacts.of(request.deciding_headers, name, request.document.size)
    matched = first_match(policy.rules, facts, by_content.routes)
    if matched is not None:
        return Decided(router.by_rule(policy, by_content, matched), rule=matched)
    return None if by_content.routes else Decided(router.without_routes(policy, by_content))


def _binding_of(request: ClientRequest, may_answer: Callable[[ModelRef], bool]) -> Binding | None:
    """The model of the answer that a request continues; None if it may not answer this one."""
    earlier = request.earlier
    if earlier is None or earlier.model is None or not may_answer(earlier.model):
        return None
    return Binding(earlier.model, earlier.route)


async def _decide_in_session(
    snapshot: Snapshot,
    conversation: Conversation,
    by_content: router.ByContent,
    session: _InSession,
    orchestrator: Orchestrator,
) -> Decided:
    """The bound model, unless this turn may move the session and a route or the budget says so.

    The first route that matches replaces a provisional binding, whatever the budget is.
    """
    state, budget = session.state, session.budget
    bound = state.found if state.live else session.before
    if bound is None:
        decided = await _ask(snapshot, conversation, orchestrator, by_content)
        pinned = decided.decision
    else:
        pinned = router.pinned(snapshot.policy, by_content, bound)
        decided = _escalated(snapshot.policy, by_content, conversation, Decided(pinned))
        if decided.setback is None and not stays(snapshot.config, conversation, bound, budget):
            decided = await _ask(snapshot, conversation, orchestrator, by_content)
            route = by_content.route(decided.decision.route)
            # nothing asks for a move if no route matches, or the one that the session climbs
            if route is None or (route.escalates and route.name == bound.route):
                decided = replace(decided, decision=pinned, setback=None)
    switch = None
    if budget is not None:
        candidate = decided.decision.candidates[0]
        begins = bound is not None and bound.is_provisional and decided.decision.route is not None
        switch = judge_switch(
            conversation,
            replace(state, live=False) if begins else state,
            candidate,
            budget,
            session.store.prices,
            session.store.now(),
        )
        if not switch.decision.allowed:
            decided = replace(decided, decision=pinned, setback=None)
    named = () if by_content.otherwise is None else by_content.otherwise.candidates
    return replace(decided, session=state, switch=switch, named=named)


async def _ask(
    snapshot: Snapshot,
    conversation: Conversation,
    orchestrator: Orchestrator,
    by_content: router.ByContent,
) -> Decided:
    policy, routes = snapshot.policy, by_content.routes
    reads_all = snapshot.config.orchestrator.reads_conversations
    excerpt = whole_conversation if reads_all else recent
    configured = routes is policy.routes
    question = Question(
        excerpt(conversation.turns),
        routes,
        policy.version if configured else key_of(routes),
        no_route_examples=policy.no_route_examples if configured else (),
        is_inline=not configured,
    )
    if not question.turns:  # without text there is nothing to match
        no_scores = Scores({}, 0.0, None)
        return Decided(router.by_scores(policy, by_content, no_scores), question, no_scores)
    scores = await orchestrator.score(question)
    decided = Decided(router.by_scores(policy, by_content, scores), question, scores)
    return _escalated(policy, by_content, conversation, decided)


def _escalated(
    policy: Policy, by_content: router.ByContent, conversation: Conversation, decided: Decided
) -> Decided:
    """The decision, one model further up its route where a setback asks for that.

    State of the provider keeps the conversation where it is: only its model can read on.
    """
    route = by_content.route(decided.decision.route)
    if route is None or not route.escalates or conversation.has_provider_state:
        return decided
    setback = conversation.setback
    higher = None if setback is None else router.escalated(policy, by_content, decided.decision)
    return decided if higher is None else replace(decided, decision=higher, setback=setback)
