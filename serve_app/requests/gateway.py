"""The use case: decide, open candidates in turn, commit, relay.

The commit point is where an answer is judged good: of a complete answer its head and body, of a
stream the first event that says something (serve_app/requests/commit.py). Before it the next candidate
may still be tried and the client has seen nothing; after it every byte goes out as it came.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import count
from typing import Final, TypeAlias
from urllib.parse import quote

from serve_app.affinity.sessions import Place, Sessions
from serve_app.dialects.json_edits import Document, rewrite
from serve_app.dialects.openai_chat import dialect
from serve_app.domain import (
    Chunks,
    DataPath,
    FaultKind,
    Headers,
    ModelRef,
    Reason,
    RouteDecision,
    Spend,
    Unavailable,
    UpstreamFault,
    UpstreamReply,
    UpstreamRequest,
)
from serve_app.errors import (
    GatewayError,
    HopTooSmall,
    InvalidRequest,
    KeyMissing,
    UpstreamFailed,
    UpstreamTimeout,
)
from serve_app.ports import Clock, Meter, Metric, Orchestrator, Upstream
from serve_app.requests.commit import Failure, Held, Relay, hold
from serve_app.requests.decide import OWN_KEYS, Call, Decided, decide
from serve_app.requests.verdict import Verdict, judge_fault, judge_status

MAX_ATTEMPTS: Final = 4
"""Upstream exchanges for one request, whatever the number of candidates."""

_SURFACE: Final = "chat"
_ERRORS: Final = range(400, 600)
_MAX_RETURNED_BYTES: Final = 16 << 10
_RETURNED = frozenset(
    {
        "content-type",
        "retry-after",
        "retry-after-ms",
        "x-should-retry",
        "openai-processing-ms",
        "openai-version",
        "openai-model",
    }
)
_RETURNED_PREFIXES = ("x-ratelimit-", "anthropic-ratelimit-")
_FRAMING = frozenset({"content-length", "transfer-encoding"})
_ERROR_OF_FAULT: Final[Mapping[FaultKind, type[UpstreamFailed]]] = {
    FaultKind.NO_KEY: KeyMissing,
    FaultKind.TIMEOUT: UpstreamTimeout,
    FaultKind.TOO_LARGE: HopTooSmall,
}
_RENAMED = {"x-request-id": "x-fingerpost-upstream-request-id"}


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back to the client. A streamed body must be closed by whoever sends it."""

    status: int
    headers: Headers
    body: bytes | Chunks


Attempt: TypeAlias = Held | UpstreamReply | Failure


@dataclass(slots=True)
class _Run:
    """What happens to one request on its way."""

    call: Call
    decision: RouteDecision
    stream: bool
    decided_s: float
    place: Place | None = None
    candidate: ModelRef = field(init=False)
    attempts: int = 0
    fresh: bool = False
    """The attempt before was reset: the next one trusts no connection that was kept open."""
    upstream_s: float = 0.0

    def __post_init__(self) -> None:
        self.candidate = self.decision.candidates[0]

    @property
    def reason(self) -> Reason:
        first = self.candidate == self.decision.candidates[0]
        return self.decision.reason if first else Reason.FAILOVER

    @property
    def model_label(self) -> str:
        """For metrics: names that only a wildcard knows are the client's, and without bound."""
        name = str(self.candidate)
        return name if name in self.call.setup.policy.models else "other"


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
        run = _Run(call, decided.decision, bool(stream), self.clock() - call.arrived, decided.place)
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

    async def _try_candidates(self, run: _Run) -> Attempt:
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

    def _ordinals(self, run: _Run, candidate: ModelRef) -> tuple[int, ...]:
        """A model's endpoints, in the order in which this request tries them."""
        providers = run.call.setup.providers
        several = len(providers.endpoints_of(candidate))
        if several <= 1:
            return (0,)
        # a wildcard's turn is one for all names, of which there is no end
        whose = candidate if candidate in providers.of_models else candidate.provider
        first = next(self._turns[whose])
        return tuple((first + step) % several for step in range(several))

    async def _attempt(self, run: _Run, candidate: ModelRef, ordinal: int) -> Attempt:
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

    async def _open(self, run: _Run, candidate: ModelRef, ordinal: int) -> Attempt:
        setup = run.call.setup
        left_s = setup.config.timeouts.total_s - (self.clock() - run.call.arrived)
        endpoint = setup.providers.endpoint(candidate, ordinal)
        if endpoint is None or left_s <= 0:
            kind = FaultKind.UNKNOWN_MODEL if endpoint is None else FaultKind.TIMEOUT
            why = "no provider serves it" if endpoint is None else "no time was left to ask it"
            return Failure(Verdict.FINAL, UpstreamFault(kind, why))
        quirk = endpoint.quirk(candidate.name, dialect.PATH)
        reply = await self._upstream.open(
            UpstreamRequest(
                provider=endpoint.slug,
                model=candidate,
                path=dialect.PATH,
                headers=run.call.headers,
                body=rewrite(run.call.document, model=candidate.name, cut=OWN_KEYS, quirk=quirk),
                stream=run.stream,
                deadline_s=left_s,
                policy=setup.version,
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

    def _answer(self, run: _Run, outcome: Attempt) -> Answer:
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

    def _ended(self, run: _Run, error_type: str) -> None:
        provider = run.candidate.provider
        if error_type == "broken":
            self._meter.count(Metric.BROKEN_STREAMS, (provider,))
        labels = (_SURFACE, provider, run.model_label, error_type)
        self._meter.observe(Metric.REQUEST_SECONDS, self.clock() - run.call.arrived, labels)


def _choices(document: Document) -> int:
    asked = document.get("n")
    return asked if isinstance(asked, int) else 1


def _judge(run: _Run, reply: UpstreamReply, body: bytes) -> Attempt:
    """The verdict on a complete answer; one that was asked for as a stream is none.

    An error under a status of success counts as the status that it stands for.
    """
    verdict, status = judge_status(reply.status), reply.status
    error = None
    if verdict is Verdict.GOOD:
        sure = not _FRAMING.isdisjoint(name for name, _ in reply.headers)
        error = dialect.answer_error(body, sure_of_end=sure)
        if error is None and not run.stream:
            return reply
        if dialect.is_error(body):
            status = dialect.error_status(error)
            verdict = judge_status(status)
    if verdict is not Verdict.GOOD:
        return Failure(verdict, status=status, headers=reply.headers, body=body)
    error = error or {"message": "a stream was asked for, and a complete answer came"}
    text = dialect.error_message(error)
    fault = UpstreamFault(FaultKind.BAD_ANSWER, f"{run.candidate} gave no usable answer: {text}")
    return Failure(Verdict.NEXT, fault)


def _failed(run: _Run, failure: Failure, headers: Headers) -> Answer:
    """The last candidate's failure, in the client's dialect: its own words where it had some."""
    if failure.fault is not None:
        error = _error_of(run, failure.fault)
        return Answer(error.status, (_JSON, *headers), dialect.render_error(error))
    passed = _returned(failure.headers)
    kept = tuple(pair for pair in passed if pair[0] != "content-type")
    if dialect.is_error(failure.body):
        return Answer(failure.status, (_JSON, *kept, *headers), failure.body)
    text = dialect.plain_text(failure.body)
    error = UpstreamFailed(f"{run.candidate} answered {failure.status}{text and ': '}{text}")
    body = dialect.render_error(error, status=failure.status)
    return Answer(failure.status, (_JSON, *kept, *headers), body)


_JSON = ("content-type", "application/json")


def _as_json(headers: Headers) -> Headers:
    """SDKs read an answer as JSON only where its type says so, which some servers forget."""
    if any(name == "content-type" and "json" in value.lower() for name, value in headers):
        return headers
    return (_JSON, *(pair for pair in headers if pair[0] != "content-type"))


def _error_of(run: _Run, fault: UpstreamFault) -> GatewayError:
    text = f"{run.candidate}: {fault.detail}"
    if run.attempts > 1:
        text = f"{text} (after {run.attempts} attempts)"
    return _ERROR_OF_FAULT.get(fault.kind, UpstreamFailed)(text)


def _returned(headers: Headers) -> Headers:
    """What of a provider's headers goes back: an allow-list, within 16 KiB."""
    kept: list[tuple[str, str]] = []
    left = _MAX_RETURNED_BYTES
    for name, value in headers:
        if name in _RETURNED or name.startswith(_RETURNED_PREFIXES) or name in _RENAMED:
            size = len(name) + len(value)
            if size <= left:
                left -= size
                kept.append((_RENAMED.get(name, name), value))
    return tuple(kept)


@lru_cache(maxsize=4096)
def _encoded(value: str) -> str:
    return quote(value, safe="/:@+*,;=!$()[] ")


def decision_headers(
    decision: RouteDecision, model: ModelRef, reason: Reason, version: str
) -> Headers:
    """What was decided, in headers; names are percent-encoded."""
    headers = [
        ("x-fingerpost-model", _encoded(str(model))),
        ("x-fingerpost-reason", reason.value),
        ("x-fingerpost-policy", version),
    ]
    if decision.route is not None:
        headers.append(("x-fingerpost-route", _encoded(decision.route)))
    if decision.confidence is not None:
        headers.append(("x-fingerpost-confidence", f"{decision.confidence:.3f}"))
    return tuple(headers)


def _run_headers(run: _Run, spent_s: float) -> Headers:
    """The decision and what became of it. Durations of Server-Timing are milliseconds."""
    timing = (
        f"decide;dur={run.decided_s * 1e3:.2f}, upstream;dur={run.upstream_s * 1e3:.2f}, "
        f"gateway;dur={(spent_s - run.upstream_s) * 1e3:.2f}"
    )
    version = run.call.setup.policy.version
    place = run.place
    found = () if place is None else (("x-fingerpost-affinity", place.state),)
    return (
        *decision_headers(run.decision, run.candidate, run.reason, version),
        *found,
        ("x-fingerpost-attempts", str(run.attempts)),
        ("server-timing", timing),
    )
