"""From a request to its candidates: the asynchronous half of deciding.

routing/router.py holds the rules; here the session and the orchestrator are asked.
"""

from dataclasses import dataclass, replace

from serve_app.affinity.identify import BUDGET_HEADER, session_of
from serve_app.affinity.sessions import Sessions, SessionState
from serve_app.dialects.fields import Intent
from serve_app.domain import (
    Conversation,
    ModelRef,
    Question,
    RouteDecision,
    Scores,
    Unavailable,
)
from serve_app.ports import Orchestrator
from serve_app.requests.call import ClientRequest
from serve_app.requests.session_switch import Switch, budget_of, judge_switch, stays
from serve_app.routing import router
from serve_app.routing.budget import Budget
from serve_app.routing.inline_routes import key_of, read_preferences
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


@dataclass(frozen=True, slots=True)
class _InSession:
    """A request's session, its budget, and where sessions are kept."""

    state: SessionState
    budget: Budget | None
    store: Sessions


async def decide(
    request: ClientRequest,
    intent: Intent | None,
    orchestrator: Orchestrator,
    sessions: Sessions,
    snapshot: Snapshot | None = None,
) -> Decided:
    """Which models may answer a request.

    ``intent`` None: by content alone, so that names in the request decide nothing. ``snapshot``
    may be another than the request's own. A bound session stays on its model, and the
    orchestrator is not asked, unless its binding is provisional or the configuration lets
    sessions move.
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
    if isinstance(by_content, RouteDecision):
        return Decided(by_content)
    name = choice.hint or choice.model or ""
    session = session_of(snapshot.config, request.deciding_headers, name, conversation)
    if session is None:
        return await _ask(snapshot, conversation, orchestrator, by_content)
    in_session = _InSession(
        await sessions.find(session, router.may_answer(policy, inline, by_content.otherwise)),
        budget_of(snapshot.config, request.deciding_headers.get(BUDGET_HEADER)),
        sessions,
    )
    return await _decide_in_session(snapshot, conversation, by_content, in_session, orchestrator)


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
    bound = state.found if state.live else None
    if bound is None:
        decided = await _ask(snapshot, conversation, orchestrator, by_content)
        pinned = decided.decision
    else:
        pinned = router.pinned(snapshot.policy, by_content, bound)
        decided = Decided(pinned)
        if not stays(snapshot.config, conversation, bound, budget):
            decided = await _ask(snapshot, conversation, orchestrator, by_content)
            if decided.decision.route is None:  # no route matches, so nothing asks for a move
                decided = replace(decided, decision=pinned)
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
            decided = replace(decided, decision=pinned)
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
    return Decided(router.by_scores(policy, by_content, scores), question, scores)
