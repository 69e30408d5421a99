"""One request as the API layer read it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from serve_app.dialects.json_edits import Document
from serve_app.domain import (
    Headers,
)
from serve_app.snapshot import (
    Snapshot,
)


@dataclass(frozen=True, slots=True)
class Call:
    """One request as the API layer read it."""

    snapshot: Snapshot
    document: Document
    headers: Headers
    """Those that go on to the provider."""
    hint: str | None
    arrived: float
    """When, on the gateway's clock."""
    named: Mapping[str, str] = field(default_factory=dict)
    """Headers that decide about the session."""
    credential: str | None = field(default=None, repr=False)
    """The client's own key, for providers that take that one."""
