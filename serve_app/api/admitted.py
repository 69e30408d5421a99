"""A request that passed the checks of its headers."""

from dataclasses import dataclass

from serve_app.access.client import Client
from serve_app.api.headers import HeaderFacts
from serve_app.requests.call import scope_of
from serve_app.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Admitted:
    """A request whose client may use the gateway, before its body is read."""

    snapshot: Snapshot
    """The configuration that answers it."""
    facts: HeaderFacts
    client: Client

    @property
    def credential(self) -> str | None:
        """The client's own key; None where no provider gets it."""
        if not self.snapshot.providers.use_credentials:
            return None
        return self.facts.credential(self.snapshot.access.knows)

    @property
    def scope(self) -> str:
        """Whose earlier answers it may refer to."""
        return scope_of(self.snapshot, self.client.id, self.facts.deciding, self.credential)
