"""What is recorded of requests: values, and the Observer that they are handed to.

Records are named tuples, because making one is part of every request.
"""

from typing import Final, NamedTuple, Protocol

from serve_app.dialects import ir
from serve_app.domain import Question, Scores, TokenUsage, Turn, Unavailable
from serve_app.telemetry.trace_context import TraceContext

BROKEN: Final = "broken"
"""The provider broke its stream off after the commit."""
CLIENT_GONE: Final = "client_gone"
"""The client left before it had the whole answer."""


class DecisionRecord(NamedTuple):
    """One question to the orchestrator, or why it was not asked."""

    outcome: str
    """``scored``, ``cached``, ``joined``, or the reason why there are no scores."""
    seconds: float | None = None
    """How long the orchestrator took; None where it was not asked."""
    usage: TokenUsage | None = None
    """The tokens that the answer took; None if unknown."""
    tier: str = ""
    """The engine of an orchestrator that was asked; empty for the orchestrator as a whole."""
    model: str = ""
    """The tier's model."""
    usd: float | None = None
    """The cost of ``usage``, US dollars; None if it or the price is unknown."""


class AttemptRecord(NamedTuple):
    """One exchange with a provider."""

    provider: str
    model: str
    """``other`` for a name that only a wildcard knows, because there is no limit to those."""
    outcome: str
    """``ok``, the kind of fault, or the status of an error."""
    seconds: float
    surface: str = ""
    first_token_s: float | None = None
    """From the request's arrival to the commit of its stream; None without a stream."""
    retry_after_s: float | None = None


class TriedRecord(NamedTuple):
    """One exchange of a finished request with a provider."""

    provider: str
    model: str
    outcome: str
    """``ok``, the kind of fault, or the status or code of an error."""
    began_s: float
    """From the request's arrival."""
    seconds: float
    """To the answer's head, or the first content of a stream."""


class BudgetRecord(NamedTuple):
    """A budget that a request counts for."""

    whose: str
    """For people: ``client key 'ide'``."""
    window: str
    spent: float
    """The share that was spent when the request was admitted, what it reserves included."""


class RequestRecord(NamedTuple):
    """All that is known of one finished request; made once, when its answer has ended."""

    surface: str
    status: int | None
    """None if the client left before there was an answer."""
    reason: str = ""
    """Why the model was chosen; empty where nothing was decided."""
    route: str | None = None
    confidence: float | None = None
    session: str | None = None
    """``hit``, ``miss`` or ``void``; None for a request without a session."""
    policy: str = ""
    provider: str | None = None
    """None where no provider was asked."""
    model: str = ""
    attempts: int = 0
    error_type: str = ""
    """The status of an error, BROKEN or CLIENT_GONE; empty for a complete answer."""
    seconds: float | None = None
    """From arrival to the last byte of the answer."""
    overhead_s: float | None = None
    """Spent in the gateway itself before the answer began."""
    queued_s: float | None = None
    """How long it waited for an endpoint with limits; None if it did not."""
    id: str = ""
    """The value of ``x-request-id`` in the answer."""
    at: float = 0.0
    """When it arrived, in seconds since the epoch."""
    client: str = ""
    """The name of the client key; empty without one."""
    team: str = ""
    asked: str = ""
    """The model that the client asked for; empty if it left that open."""
    stream: bool = False
    decided_s: float = 0.0
    """From arrival to the decision."""
    first_token_s: float | None = None
    """From arrival to the first content of a stream."""
    tried: tuple[TriedRecord, ...] = ()
    """Every exchange with a provider, in order."""
    usage: ir.Usage | None = None
    """The tokens of the answer; None if there was none, or they are unknown."""
    is_estimated: bool = False
    """The provider did not report the tokens, or not all of them."""
    usd: float | None = None
    """The cost in US dollars; None if the price or the tokens are unknown."""
    session_hash: str = ""
    """Stands for the session's name; empty without a session."""
    candidates: tuple[str, ...] = ()
    """The models of the decision, best first."""
    question: Question | None = None
    """What the orchestrator was asked, with the text of the conversation: not for logs as it is."""
    scores: Scores | Unavailable | None = None
    """What the orchestrator answered."""
    tier: str = ""
    """Which engine decided; empty if none did."""
    rule: str = ""
    """The routing rule that decided; empty if none did."""
    trace: str = ""
    """The request's ``traceparent``; empty without one. With tracing, that of its own span."""
    baseline_usd: float | None = None
    """What the same tokens cost at the price of ``savings.baseline``; None if that is unknown."""
    route_label: str = ""
    """``route`` for metrics: ``other`` for one of the request's own, empty without a route."""
    decision_reason: str = ""
    """Why the first candidate was chosen; ``reason``, unless another one answers."""
    budgets: tuple[BudgetRecord, ...] = ()
    """Every budget that it counts for."""
    context: TraceContext | None = None
    """Its place in its trace; None if it is not sampled."""
    turns: tuple[Turn, ...] = ()
    """The conversation, only where ``telemetry.content`` puts it in spans."""


class Observer(Protocol):
    """Takes everything that happens to requests; metrics and logs implement it."""

    def decided(self, decision: DecisionRecord) -> None:
        """A question to the orchestrator was answered or refused."""
        ...

    def attempted(self, attempt: AttemptRecord) -> None:
        """An exchange with a provider has ended, or its stream has begun."""
        ...

    def session_changed(self, event: str) -> None:
        """Something happened to a session: see ``fingerpost_session_events_total``."""
        ...

    def ended(self, request: RequestRecord) -> None:
        """A request is over."""
        ...


class Observers:
    """Hands everything to several observers, in order."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    def decided(self, decision: DecisionRecord) -> None:
        """Hands on a decision."""
        for observer in self._observers:
            observer.decided(decision)

    def attempted(self, attempt: AttemptRecord) -> None:
        """Hands on an exchange."""
        for observer in self._observers:
            observer.attempted(attempt)

    def session_changed(self, event: str) -> None:
        """Hands on what happened to a session."""
        for observer in self._observers:
            observer.session_changed(event)

    def ended(self, request: RequestRecord) -> None:
        """Hands on a finished request."""
        for observer in self._observers:
            observer.ended(request)


class NoObserver:
    """Records nothing."""

    def decided(self, decision: DecisionRecord) -> None:
        """Does nothing."""

    def attempted(self, attempt: AttemptRecord) -> None:
        """Does nothing."""

    def session_changed(self, event: str) -> None:
        """Does nothing."""

    def ended(self, request: RequestRecord) -> None:
        """Does nothing."""
