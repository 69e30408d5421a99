"""What has happened so far to one request."""

from dataclasses import dataclass, field

from serve_app.affinity.sessions import SessionState
from serve_app.domain import ModelRef, Reason, RouteDecision
from serve_app.requests.call import Call


@dataclass(slots=True)
class RequestProgress:
    """What happens to one request on its way."""

    call: Call
    decision: RouteDecision
    stream: bool
    decided_s: float
    place: SessionState | None = None
    candidate: ModelRef = field(init=False)
    attempts: int = 0
    fresh: bool = False
    """The attempt before was reset: the next one trusts no connection that was kept open."""
    upstream_s: float = 0.0

    def __post_init__(self) -> None:
        self.candidate = self.decision.candidates[0]

    @property
    def reason(self) -> Reason:
        """That of the decision, or failover once another candidate is tried."""
        first = self.candidate == self.decision.candidates[0]
        return self.decision.reason if first else Reason.FAILOVER

    @property
    def model_label(self) -> str:
        """For metrics: names that only a wildcard knows are the client's, and without bound."""
        name = str(self.candidate)
        return name if name in self.call.snapshot.policy.models else "other"
