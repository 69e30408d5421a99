"""One request as the API layer read it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from serve_app.access.client import ANONYMOUS, Client
from serve_app.affinity.identify import tenant_of
from serve_app.dialects.earlier_answers import StateWish
from serve_app.dialects.json_edits import Document
from serve_app.dialects.protocol import ClientDialect
from serve_app.domain import Headers
from serve_app.exchange import Operation
from serve_app.providers.table import ANTHROPIC_OPERATIONS
from serve_app.requests.earlier import Earlier
from serve_app.snapshot import Snapshot
from serve_app.telemetry.trace_context import TraceContext


def scope_of(
    snapshot: Snapshot, client: str, deciding_headers: Mapping[str, str], credential: str | None
) -> str:
    """Whose earlier answers a request may refer to: those of its client, or of its own key."""
    header = snapshot.config.routing.session_cache.tenant_header
    tenant = tenant_of(deciding_headers, header)
    return f"{client}\0{tenant}\0{'' if client else credential or ''}"


@dataclass(frozen=True, slots=True)
class ClientRequest:
    """A request of a client, and the configuration that answers it."""

    snapshot: Snapshot
    surface: str
    """The name of the surface that it came to."""
    dialect: ClientDialect
    """What the client speaks."""
    document: Document
    headers: Headers
    """Those that go on to the provider."""
    hint: str | None
    """The model that a header names; it wins over the body's."""
    arrived: float
    """When its body was complete, on the gateway's clock."""
    deciding_headers: Mapping[str, str] = field(default_factory=dict)
    """Headers that decide about the session or match rules, by their lower-case names."""
    client: Client = ANONYMOUS
    id: str = ""
    """The value of ``x-request-id`` in the answer."""
    at: float = 0.0
    """When it arrived, in seconds since the epoch."""
    wish: StateWish | None = None
    """What it wants of earlier answers; None if nothing."""
    earlier: Earlier | None = None
    """What it continues, once it was looked for."""
    is_beta: bool = False
    """Its address ends in ``?beta=true``, as Anthropic's clients write it for betas."""
    credential: str | None = field(default=None, repr=False)
    """The client's own key, for providers with ``passthrough_auth``."""
    trace: TraceContext | None = None
    """Its place in a trace, if it is sampled; ``headers`` then end with its ``traceparent``."""

    @property
    def scope(self) -> str:
        """Whose earlier answers it may refer to."""
        return scope_of(self.snapshot, self.client.id, self.deciding_headers, self.credential)

    def headers_for(self, attempt: int) -> Headers:
        """The headers that go on to the provider of an attempt; the first one is number 1."""
        trace = self.trace
        return self.headers if trace is None else trace.headers_of_attempt(self.headers, attempt)

    def query_for(self, operation: Operation) -> str:
        """What of the query goes on to an operation of a provider."""
        return "?beta=true" if self.is_beta and operation in ANTHROPIC_OPERATIONS else ""
