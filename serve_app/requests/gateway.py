"""The use case: decide, open candidates in turn, commit, relay.

The commit point is where an answer is judged good: of a complete answer its head and body, of a
stream its first event with content (requests/commit.py). Before it the next candidate may still
be tried and the client has seen nothing; after it every byte goes out as it came.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from serve_app.affinity.sessions import Sessions
from serve_app.dialects import ir
from serve_app.dialects.fields import Intent
from serve_app.domain import Headers, Json, ModelRef, Reason, Spend, Unavailable
from serve_app.ports import Clock, Orchestrator, RestBoard, Upstream
from serve_app.providers.table import ANTHROPIC_OPERATIONS
from serve_app.requests.answer import (
    JSON_TYPE,
    Answer,
    as_json,
    as_stream,
    decision_headers,
    error_headers,
    progress_headers,
    returned_headers,
    without_type,
)
from serve_app.requests.call import ClientRequest
from serve_app.requests.commit import Held
from serve_app.requests.decide import Decided, decide
from serve_app.requests.exchange import Outcome
from serve_app.requests.explain import render_explanation, render_routing
from serve_app.requests.failover import Failover
from serve_app.requests.failures import CompleteAnswer, Failure, error_of_fault, error_of_status
from serve_app.requests.health import Health
from serve_app.requests.intent import read_intent
from serve_app.requests.latencies import Latencies
from serve_app.requests.own_decisions import OwnDecisions, own_decision
from serve_app.requests.probes import Probes
from serve_app.requests.progress import RequestProgress
from serve_app.requests.relay import Relay
from serve_app.requests.selection import Selection
from serve_app.requests.shared_health import SharedHealth
from serve_app.requests.state import EarlierAnswers
from serve_app.telemetry.record import BROKEN, Observer

_OK: Final = 200
_ERRORS: Final = range(400, 600)


class Gateway:
    """Answers requests by means of its ports; keeps nothing of any request."""

    def __init__(
        self,
        *,
        upstream: Upstream,
        orchestrator: Orchestrator,
        sessions: Sessions,
        observer: Observer,
        clock: Clock,
        earlier: EarlierAnswers | None = None,
    ) -> None:
        """``earlier`` None: nothing is kept for later requests."""
        self.price: Callable[[ModelRef, ir.Usage], float | None] | None = None
        """Returns the US dollars that tokens of a model cost; None: all costs are unknown."""
        self._orchestrator = orchestrator
        self._sessions = sessions
        self._observer = observer
        self._own = OwnDecisions(orchestrator, observer, clock)
        self.health = Health(clock)
        self._selection = Selection(Latencies(clock))
        self._failover = Failover(upstream, observer, clock, self.health, self._selection.latencies)
        self._earlier = earlier or EarlierAnswers(None)
        self.clock = clock

    @property
    def selection(self) -> Selection:
        """What is known of models, for the order of candidates."""
        return self._selection

    def share_health(self, board: RestBoard) -> None:
        """Tells other replicas which endpoints rest, and hears of theirs, from now on."""
        self._failover.shared = SharedHealth(self.health, board, self.clock)

    def probe(self, probes: Probes) -> None:
        """Has endpoints probed that rest, from now on."""
        probes.shared = self._failover.shared
        self._failover.probes = probes

    async def complete(self, request: ClientRequest) -> Answer:
        """The answer of a model. Raises GatewayError only for a fault of the request."""
        intent = read_intent(request)
        request = await self._earlier.resume(request)
        decided = await decide(
            request, intent, self._orchestrator, self._sessions, selection=self._selection
        )
        progress = RequestProgress(
            request,
            intent if self._earlier.keeps else intent._replace(keeps_answers=False),
            decided.decision,
            decided_s=self.clock() - request.arrived,
            session=decided.session,
            decided=decided,
        )
        outcome = await self._failover.run(progress)
        try:
            if not isinstance(outcome, Failure) and request.dialect.holds_conversations:
                await self._settle(decided, progress.candidate)
            if isinstance(outcome, CompleteAnswer):
                await self._earlier.keep_body(progress, outcome.body)
        except BaseException:  # the client has left before anybody could read the stream
            progress.slot.release()
            raise
        return self._answer(progress, outcome)

    async def answer_questions(self, request: ClientRequest) -> Answer:
        """Answers to typed questions, of a model or of the gateway's own orchestrator.

        Raises GatewayError also where the orchestrator could not answer.
        """
        decision = own_decision(request)
        if decision is None:
            return await self.complete(request)
        return await self._own.answer(request, decision)

    async def match(self, request: ClientRequest) -> Answer:
        """Plano's decision API: the route that the conversation matches. Binds its session.

        Names in the request decide nothing. Raises GatewayError as ``complete``.
        """
        request = await self._earlier.resume(request)
        selection = self._selection.without_exploring()
        decided = await decide(
            request, None, self._orchestrator, self._sessions, selection=selection
        )
        if decided.decision.route is not None:
            await self._settle(decided, decided.decision.candidates[0])
        return self._describe(request, Intent(), decided, render_routing(decided, request.headers))

    async def explain(self, request: ClientRequest) -> Answer:
        """What ``complete`` would do, and why. Raises GatewayError as ``complete``."""
        intent = read_intent(request)
        request = await self._earlier.resume(request)
        own = own_decision(request)
        selection = self._selection.without_exploring()
        decided = (
            await decide(request, intent, self._orchestrator, self._sessions, selection=selection)
            if own is None
            else Decided(own)
        )
        took_s = self.clock() - request.arrived
        content = render_explanation(request.snapshot, decided, took_s)
        return self._describe(request, intent, decided, content)

    def _describe(
        self, request: ClientRequest, intent: Intent, decided: Decided, content: Json
    ) -> Answer:
        decision = decided.decision
        headers = decision_headers(
            decision, decision.candidates[0], decision.reason, request.snapshot.policy.version
        )
        body = json.dumps(content, ensure_ascii=False).encode("utf-8", "replace")
        progress = RequestProgress(
            request, intent, decision, session=decided.session, decided=decided
        )
        self._observer.ended(progress.record(_OK))
        return Answer(_OK, (JSON_TYPE, *headers), body)

    async def _settle(self, decided: Decided, model: ModelRef) -> None:
        """Binds the request's session to the model that answers it.

        Where the orchestrator did not answer, that is provisional: it keeps an agent on its model
        while its tools run, and the first turn that matches a route replaces it.
        """
        decision, session = decided.decision, decided.session
        if session is None:
            return
        in_trouble = (
            isinstance(decided.scores, Unavailable) and decision.reason is not Reason.AFFINITY
        )
        if in_trouble and (session.found is not None or decided.named):
            return
        budget = None if decided.switch is None else decided.switch.budget
        if budget is not None and model != decision.candidates[0]:  # it moved, but not for a price
            spend = Spend() if session.found is None else session.found.spend
            budget = replace(budget, spend=spend)
        await self._sessions.settle(session, model, decision.route, budget)

    def _answer(self, progress: RequestProgress, outcome: Outcome) -> Answer:
        spent_s = self.clock() - progress.request.arrived
        progress.answered_s = spent_s
        headers = progress_headers(progress, spent_s)
        if isinstance(outcome, Held):
            status = outcome.status
            tap = self._earlier.tap(progress)
            look = None if tap is None else tap.look
            relay = Relay(outcome, lambda how: self._end(progress, status, how), look)
            passed = as_stream(_returned(progress, outcome.headers))
            return Answer(status, passed + headers, relay, progress.request.dialect.keep_alive)
        if isinstance(outcome, CompleteAnswer):
            passed = as_json(_returned(progress, outcome.headers))
            answer = Answer(outcome.status, passed + headers, outcome.body)
        else:
            answer = _failed(progress, outcome, headers)
        self._end(progress, answer.status, str(answer.status) if answer.status in _ERRORS else "")
        return answer

    def _end(self, progress: RequestProgress, status: int, error_type: str) -> None:
        progress.slot.release()
        if error_type == BROKEN:
            self._failover.broke_off(progress)
        seconds = self.clock() - progress.request.arrived
        self._observer.ended(progress.record(status, error_type, seconds, self.price))


def _returned(progress: RequestProgress, headers: Headers) -> Headers:
    """A provider's headers that go back to the client."""
    is_anthropic = progress.request.dialect.name in ANTHROPIC_OPERATIONS
    return returned_headers(headers, as_anthropic=is_anthropic)


def _tried(progress: RequestProgress) -> str:
    """Every attempt and what came of it, in order."""
    return ", ".join(f"{tried.candidate}: {tried.outcome}" for tried in progress.tried)


def _failed(progress: RequestProgress, failure: Failure, headers: Headers) -> Answer:
    """The last candidate's failure in the client's dialect: in its own words if it has any."""
    dialect = progress.request.dialect
    error = failure.error
    if failure.fault is not None:
        text = f"{progress.candidate}: {failure.fault.detail}"
        if progress.attempts > 1:
            text = f"{text} (after {progress.attempts} attempts: {_tried(progress)})"
        error = error_of_fault(failure.fault, text)
    if error is not None:
        own = (JSON_TYPE, *error_headers(error), *headers)
        return Answer(error.status, own, dialect.render_error(error))
    kept = without_type(_returned(progress, failure.headers))
    body = failure.client_body
    if body is None:
        error = error_of_status(progress.candidate, failure)
        body = dialect.render_error(error, status=failure.status)
    return Answer(failure.status, (JSON_TYPE, *kept, *headers), body)
