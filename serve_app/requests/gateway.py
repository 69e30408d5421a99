"""The use case: decide, open candidates in turn, commit, relay.

The commit point is where an answer is judged good: of a complete answer its head and body, of a
stream the first event that says something (serve_app/requests/commit.py). Before it the next candidate
may still be tried and the client has seen nothing; after it every byte goes out as it came.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from typing import Final

from serve_app.affinity.sessions import Sessions
from serve_app.dialects.json_edits import Document, rewrite_document
from serve_app.dialects.openai_chat import dialect
from serve_app.domain import DataPath, ModelRef, Spend, Unavailable
from serve_app.errors import (
    InvalidRequest,
)
from serve_app.exchange import (
    PATHS,
    FaultKind,
    Operation,
    UpstreamFault,
    UpstreamReply,
    UpstreamRequest,
)
from serve_app.ports import Clock, Orchestrator, Upstream
from serve_app.requests.answer import (
    Answer,
    _as_json,
    _returned,
    _run_headers,
)
from serve_app.requests.call import Call
from serve_app.requests.commit import Failure, Held, hold
from serve_app.requests.decide import OWN_KEYS, Decided, decide
from serve_app.requests.failures import (
    Attempt,
    _failed,
    _judge,
)
from serve_app.requests.progress import RequestProgress
from serve_app.requests.relay import Relay
from serve_app.requests.verdict import Verdict, judge_fault
from serve_app.telemetry.metrics import Meter, Metric

MAX_ATTEMPTS: Final = 4
"""Upstream exchanges for one request, whatever the number of candidates."""

_SURFACE: Final = "chat"
_ERRORS: Final = range(400, 600)


class Gateway:
    """Answers requests by means of its ports; keeps nothing of any request.

    Of a model with several endpoints each request tries another one first.
    """

    def __init__(
        self,
        *,
        upstream: Upstream,
        orchestrator: Orchestrator,
        sessions: Sessions,
        meter: Meter,
        clock: Clock,
    ) -> None:
        self._upstream = upstream
        self._orchestrator = orchestrator
        self._sessions = sessions
        self._meter = meter
        self._turns: dict[ModelRef | str, Iterator[int]] = defaultdict(count)
        self.clock = clock

    async def chat(self, call: Call) -> Answer:
        """A chat completion. Raises GatewayError only for what is wrong with the request."""
        stream = call.document.get("stream")
        if stream is not None and not isinstance(stream, bool):
            raise InvalidRequest("stream must be true or false", "stream")
        decided = await decide(call, self._orchestrator, self._sessions)
        run = RequestProgress(
            call, decided.decision, bool(stream), self.clock() - call.arrived, decided.place
        )
        outcome = await self._try_candidates(run)
        if not isinstance(outcome, Failure):
            await self.settle(decided, run.candidate)
        return self._answer(run, outcome)

    async def decide(self, call: Call, *, by_content: bool = False) -> Decided:
        """What ``chat`` would do with this request, or, ``by_content``, which route it matches.

        Raises GatewayError only for what is wrong with the request.
        """
        return await decide(call, self._orchestrator, self._sessions, by_content=by_content)

    async def settle(self, decided: Decided, model: ModelRef) -> None:
        """Binds the request's session to the model that answers it.

        What was decided without the orchestrator, because that had no answer, binds nobody.
        """
        decision, place = decided.decision, decided.place
        in_trouble = (
            isinstance(decided.said, Unavailable) and decision.reason == decided.said.reason
        )
        if place is None or in_trouble:
            return
        books = None if decided.switch is None else decided.switch.books
        if books is not None and model != decision.candidates[0]:  # it moved, but not for a price
            books = replace(books, spend=Spend() if place.found is None else place.found.spend)
        await self._sessions.settle(place, model, decision.route, books)

    async def _try_candidates(self, run: RequestProgress) -> Attempt:
        outcome: Attempt = Failure(Verdict.FINAL)
        for candidate in run.decision.candidates:
            ordinals = self._ordinals(run, candidate)
            for ordinal in ordinals:
                outcome = await self._attempt(run, candidate, ordinal)
                again = isinstance(outcome, Failure) and outcome.verdict is Verdict.AGAIN
                if again and len(ordinals) == 1 and run.attempts < MAX_ATTEMPTS:
                    outcome = await self._attempt(run, candidate, ordinal)
                done = not isinstance(outcome, Failure) or outcome.verdict is Verdict.FINAL
                if done or run.attempts >= MAX_ATTEMPTS:
                    return outcome
        return outcome

    def _ordinals(self, run: RequestProgress, candidate: ModelRef) -> tuple[int, ...]:
        """A model's endpoints, in the order in which this request tries them."""
        providers = run.call.snapshot.providers
        several = len(providers.endpoints_of(candidate))
        if several <= 1:
            return (0,)
        # a wildcard's turn is one for all names, of which there is no end
        whose = candidate if candidate in providers.of_models else candidate.provider
        first = next(self._turns[whose])
        return tuple((first + step) % several for step in range(several))

    async def _attempt(self, run: RequestProgress, candidate: ModelRef, ordinal: int) -> Attempt:
        run.candidate = candidate
        run.attempts += 1
        opened = self.clock()
        try:
            outcome = await self._open(run, candidate, ordinal)
        finally:
            run.upstream_s += self.clock() - opened
        run.fresh = isinstance(outcome, Failure) and outcome.verdict is Verdict.AGAIN
        said = outcome.outcome if isinstance(outcome, Failure) else "ok"
        self._meter.count(Metric.ATTEMPTS, (candidate.provider, run.model_label, said))
        return outcome

    async def _open(self, run: RequestProgress, candidate: ModelRef, ordinal: int) -> Attempt:
        snapshot = run.call.snapshot
        left_s = snapshot.config.timeouts.total_s - (self.clock() - run.call.arrived)
        endpoint = snapshot.providers.endpoint(candidate, ordinal)
        if endpoint is None or left_s <= 0:
            kind = FaultKind.UNSUPPORTED if endpoint is None else FaultKind.TIMEOUT
            why = "no provider serves it" if endpoint is None else "no time was left to ask it"
            return Failure(Verdict.FINAL, UpstreamFault(kind, why))
        quirk = endpoint.quirk(candidate.name, Operation.CHAT)
        reply = await self._upstream.open(
            UpstreamRequest(
                provider=endpoint.slug,
                model=candidate,
                operation=Operation.CHAT,
                path=PATHS[Operation.CHAT],
                headers=run.call.headers,
                body=rewrite_document(
                    run.call.document, model=candidate.name, cut=OWN_KEYS, quirk=quirk
                ),
                stream=run.stream,
                deadline_s=left_s,
                policy=snapshot.version,
                fresh=run.fresh,
                inline=endpoint.data_path is DataPath.INLINE,
                endpoint=ordinal,
                credential=run.call.credential if endpoint.passthrough_auth else None,
            )
        )
        if isinstance(reply, UpstreamFault):
            return Failure(judge_fault(reply), reply)
        if not isinstance(reply.body, bytes):
            return await hold(reply, reply.body, dialect)
        return _judge(run, reply, reply.body)

    def _answer(self, run: RequestProgress, outcome: Attempt) -> Answer:
        now, meter = self.clock(), self._meter
        spent_s = now - run.call.arrived
        meter.observe(Metric.OVERHEAD_SECONDS, spent_s - run.upstream_s, (_SURFACE,))
        headers = _run_headers(run, spent_s)
        if isinstance(outcome, Held):
            labels = (_SURFACE, run.candidate.provider, run.model_label)
            meter.observe(Metric.FIRST_TOKEN_SECONDS, spent_s, labels)
            ending = dialect.Ending(_choices(run.call.document))
            relay = Relay(outcome, dialect, ending, lambda how: self._ended(run, how))
            answer = Answer(outcome.status, _returned(outcome.headers) + headers, relay)
        elif isinstance(outcome, UpstreamReply):
            passed = _as_json(_returned(outcome.headers))
            answer = Answer(outcome.status, passed + headers, outcome.body)
        else:
            answer = _failed(run, outcome, headers)
        if not isinstance(outcome, Held):
            self._ended(run, str(answer.status) if answer.status in _ERRORS else "")
        meter.count(Metric.REQUESTS, (_SURFACE, str(answer.status), run.reason))
        return answer

    def _ended(self, run: RequestProgress, error_type: str) -> None:
        provider = run.candidate.provider
        if error_type == "broken":
            self._meter.count(Metric.BROKEN_STREAMS, (provider,))
        labels = (_SURFACE, provider, run.model_label, error_type)
        self._meter.observe(Metric.REQUEST_SECONDS, self.clock() - run.call.arrived, labels)


def _choices(document: Document) -> int:
    asked = document.get("n")
    return asked if isinstance(asked, int) else 1
