"""What has happened so far to one request, and the record that comes of it."""

from dataclasses import dataclass, field
from typing import NamedTuple

from serve_app.affinity.sessions import SessionState
from serve_app.dialects.fields import Intent
from serve_app.dialects.json_edits import Document
from serve_app.domain import ModelRef, Reason, RouteDecision
from serve_app.providers.endpoints import Endpoint
from serve_app.requests.cache_home import CacheHome
from serve_app.requests.call import ClientRequest
from serve_app.requests.slots import UNLIMITED, Slot
from serve_app.telemetry.record import RequestRecord


class Tried(NamedTuple):
    """One attempt, and what came of it."""

    candidate: ModelRef
    outcome: str
    """``ok``, the kind of fault, or the status or code of an error."""
    seconds: float


@dataclass(slots=True)
class RequestProgress:
    """One request on its way; durations are seconds."""

    request: ClientRequest
    intent: Intent
    decision: RouteDecision
    decided_s: float = 0.0
    session: SessionState | None = None
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
    answered_s: float | None = None
    """From arrival to the answer's head; None before."""

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

    def record(
        self, status: int, error_type: str = "", seconds: float | None = None
    ) -> RequestRecord:
        """All that is known of the request, once it is over; for its record."""
        asked = self.attempts > 0
        answered = self.answered_s
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
        )
