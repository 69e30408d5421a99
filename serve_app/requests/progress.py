"""What has happened so far to one request, and the record that comes of it."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from serve_app.access.limiter import Hold
from serve_app.affinity.sessions import SessionState
from serve_app.dialects import ir
from serve_app.dialects.fields import Intent
from serve_app.dialects.json_edits import Document
from serve_app.dialects.token_counter import TokenCounter
from serve_app.domain import Headers, ModelRef, Reason, RouteDecision, Turn
from serve_app.errors import InvalidRequest
from serve_app.providers.endpoints import Endpoint
from serve_app.requests.cache_home import CacheHome
from serve_app.requests.call import ClientRequest
from serve_app.requests.decide import Decided
from serve_app.requests.slots import UNLIMITED, Slot
from serve_app.telemetry.record import BROKEN, CLIENT_GONE, RequestRecord, TriedRecord

_ERRORS_FROM: Final = 400
CHARACTERS_PER_TOKEN: Final = 4
"""For estimates of tokens that no provider has counted."""


class Tried(NamedTuple):
    """One attempt, and what came of it."""

    candidate: ModelRef
    outcome: str
    """``ok``, the kind of fault, or the status or code of an error."""
    seconds: float
    began_s: float = 0.0
    """From the request's arrival."""


@dataclass(slots=True)
class RequestProgress:
    """One request on its way; durations are seconds."""

    request: ClientRequest
    intent: Intent
    decision: RouteDecision
    decided_s: float = 0.0
    session: SessionState | None = None
    decided: Decided | None = None
    """How the decision came about; None if that is not to be recorded."""
    home: CacheHome = field(init=False)
    candidate: ModelRef = field(init=False)
    endpoint: Endpoint | None = None
    """Which endpoint of the candidate was asked last."""
    is_native: bool = False
    """The endpoint was asked in the client's own dialect."""
    document: Document = field(init=False)
    """What the client asks, without what a provider could not read."""
    healed: str = ""
    """What was changed for that, as ``x-fingerpost-healed`` names it; empty for nothing."""
    is_lost: bool = False
    """The provider that kept the earlier answer has lost it."""
    attempts: int = 0
    tried: list[Tried] = field(default_factory=list)
    """Every attempt that has ended."""
    dropped: tuple[str, ...] = ()
    """What the candidate's dialect can't say, and what was left out for that."""
    upstream_s: float = 0.0
    queued_s: float = 0.0
    """How long it waited for a free endpoint."""
    slot: Slot = UNLIMITED
    """The slot of the stream that answers, until its end."""
    counter: TokenCounter | None = None
    """What the answer reports of its tokens; None before there is one."""
    answered_s: float | None = None
    """From arrival to the answer's head; None before."""
    hold: Hold | None = None
    """What it has reserved of its client's limits; None without limits."""

    def __post_init__(self) -> None:
        self.candidate = self.decision.candidates[0]
        self.document = self.request.document
        self.home = CacheHome(self.request, self.session)

    @property
    def reason(self) -> Reason:
        """That of the decision, or failover once another candidate is tried."""
        decision = self.decision
        if self.candidate is decision.candidates[0]:  # candidates are the decision's own values
            return decision.reason
        return Reason.FAILOVER

    @property
    def model_label(self) -> str:
        """The candidate for records; ``other`` for names that only a wildcard knows."""
        name = str(self.candidate)
        return name if name in self.request.snapshot.policy.models else "other"

    @property
    def route_label(self) -> str:
        """The route for records; ``other`` for one that the request itself defines."""
        name = self.decision.route
        if name is None:
            return ""
        routes = self.request.snapshot.policy.routes
        return name if any(route.name == name for route in routes) else "other"

    def usage(self, error_type: str) -> tuple[ir.Usage | None, bool]:
        """The tokens of the answer, and True if they are estimated.

        A client that leaves in the middle costs what was sent until then, which no provider
        reports: about one token for each event.
        """
        counter = self.counter
        if counter is None:
            return None, False
        usage = counter.usage
        is_cut = error_type in (BROKEN, CLIENT_GONE)
        if (usage is not None and not is_cut) or not self.request.dialect.holds_conversations:
            return usage, False
        known = usage or ir.Usage(uncached_input=self.document.size // CHARACTERS_PER_TOKEN)
        spoken = counter.events or counter.size // CHARACTERS_PER_TOKEN
        return replace(known, output=max(known.output, spoken)), True

    def record(
        self,
        status: int,
        error_type: str = "",
        seconds: float | None = None,
        price: Callable[[ModelRef, ir.Usage], float | None] | None = None,
    ) -> RequestRecord:
        """All that is known of the request, once it is over; ``price`` returns US dollars."""
        asked = self.attempts > 0
        answered, decided, request = self.answered_s, self.decided, self.request
        usage, is_estimated = self.usage(error_type)
        usd = None if price is None or usage is None else price(self.candidate, usage)
        baseline = request.snapshot.baseline
        saved_from = None
        if baseline is not None and price is not None and usage is not None:
            saved_from = price(baseline, usage)
        return RequestRecord(
            surface=self.request.surface,
            status=status,
            reason=self.reason,
            route=self.decision.route,
            confidence=self.decision.confidence,
            session=None if self.session is None else self.session.state,
            policy=self.request.snapshot.version,
            provider=self.candidate.provider if asked else None,
            model=self.model_label if asked else "",
            attempts=self.attempts,
            error_type=error_type,
            seconds=seconds,
            overhead_s=None if answered is None else answered - self.upstream_s - self.queued_s,
            queued_s=self.queued_s or None,
            id=request.id,
            at=request.at,
            client=request.client.name,
            team=request.client.team,
            asked=request.hint or self.intent.model or "",
            stream=self.intent.stream,
            decided_s=self.decided_s,
            first_token_s=answered if self.intent.stream and status < _ERRORS_FROM else None,
            tried=tuple(map(_tried_record, self.tried)),
            usage=usage,
            is_estimated=is_estimated,
            usd=usd,
            session_hash="" if self.session is None else self.session.session.cache_key,
            candidates=tuple(map(str, self.decision.candidates)),
            question=None if decided is None else decided.question,
            scores=None if decided is None else decided.scores,
            tier=self.decision.tier,
            rule=self.decision.rule,
            trace=_trace_of(request.headers),
            baseline_usd=saved_from,
            route_label=self.route_label,
            decision_reason=self.decision.reason,
            budgets=() if self.hold is None else self.hold.budgets,
            context=request.trace,
            turns=_turns_of(request),
        )


def _tried_record(tried: Tried) -> TriedRecord:
    candidate = tried.candidate
    return TriedRecord(
        candidate.provider, str(candidate), tried.outcome, tried.began_s, tried.seconds
    )


def _turns_of(request: ClientRequest) -> tuple[Turn, ...]:
    """The conversation, if it is to be in the request's spans."""
    trace, dialect = request.trace, request.dialect
    if trace is None or not trace.with_content:
        return ()
    if not dialect.holds_conversations:
        return ()
    try:
        return dialect.read_conversation(request.document).turns
    except InvalidRequest:  # nothing has read it yet, because the request names its model
        return ()


def _trace_of(headers: Headers) -> str:
    return next((value for name, value in headers if name == "traceparent"), "")
