"""One request at the API, until the use case has it."""

import time
from dataclasses import dataclass

from serve_app.access.client import ANONYMOUS, Client
from serve_app.domain import Headers
from serve_app.telemetry.record import RequestRecord
from serve_app.telemetry.trace_context import TraceContext, Tracer


@dataclass(slots=True)
class ApiExchange:
    """One request at the API, until the use case has it."""

    surface: str
    id: str
    at: float
    """Seconds since the epoch."""
    query: bytes
    client: Client = ANONYMOUS
    trace: TraceContext | None = None
    """None if it is not sampled."""
    headers: Headers = ()
    """Those that go on to the provider."""
    answered: bool = False
    """The use case has made an answer, and the record with it."""

    def begin(self, tracing: Tracer | None, headers: Headers, path: str) -> None:
        """Begins its trace, if requests are traced."""
        self.headers = headers
        if tracing is not None:
            self.trace, self.headers = tracing.begin(headers, path)

    def has_read(self) -> None:
        """Its body has been read."""
        if self.trace is not None:
            self.trace = self.trace._replace(read_at=time.time())

    def record(self, status: int | None, error_type: str = "") -> RequestRecord:
        """The record of a request that the use case did not get, or that it refused."""
        return RequestRecord(
            self.surface,
            status,
            error_type=error_type,
            id=self.id,
            at=self.at,
            client=self.client.name,
            team=self.client.team,
            context=self.trace,
        )
