"""What the application is assembled from."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from uuid import uuid4

from serve_app.api.playground.page import Page
from serve_app.domain import Json
from serve_app.requests.gateway import Gateway
from serve_app.requests.stored import Stored
from serve_app.snapshot import Snapshot
from serve_app.telemetry.record import Observer
from serve_app.telemetry.trace_context import Tracer


@dataclass(frozen=True, slots=True)
class ApiDependencies:
    """What the application is assembled from."""

    gateway: Gateway
    stored: Stored
    snapshot: Callable[[], Snapshot]
    observer: Observer
    health: Callable[[], Awaitable[Json]]
    new_id: Callable[[], str] = lambda: uuid4().hex
    """The id of the request that is being answered, as ``x-request-id`` has it."""
    tracing: Tracer | None = None
    """Begins the traces of requests; None: nothing is traced."""
    metrics: Callable[[], str] | None = None
    """Returns the metrics of this process as Prometheus text; None: there is no ``/metrics``."""
    watched_by_server: bool = False
    """True if the server cancels a request whose client leaves, unless a header forbids it."""
    page: Page | None = None
    """The page at ``/ui``; None: there is none."""
