"""What a request continues, as far as it is known here."""

from dataclasses import dataclass

from serve_app.conversations.turns import StoredConversation
from serve_app.dialects.earlier_answers import Reference
from serve_app.domain import Json, ModelRef


@dataclass(frozen=True, slots=True)
class Earlier:
    """The answer or conversation that a request continues."""

    reference: Reference
    model: ModelRef | None = None
    """Which model answered last; None if the reference is unknown here."""
    route: str | None = None
    endpoint: str = ""
    """The fingerprint of the endpoint that answered last."""
    is_at_provider: bool = False
    """True if the provider of ``endpoint`` keeps it."""
    ids: tuple[str, ...] = ()
    """Its turns that are kept here, the oldest first."""
    history: tuple[Json, ...] | None = None
    """The items of all its turns; None if they are not all kept here."""
    conversation: StoredConversation | None = None
    is_unavailable: bool = False
    """The store could not be read, so that it is not known whether the reference is."""

    @property
    def is_known(self) -> bool:
        """True if the gateway has seen the answer, or keeps the conversation."""
        return self.model is not None or self.history is not None

    @property
    def is_locked(self) -> bool:
        """True if only the provider of ``endpoint`` can continue it."""
        return self.is_at_provider and self.history is None

    def is_at(self, endpoint: str, *, is_native: bool) -> bool:
        """True for an endpoint that gets the reference as it is.

        That is the one whose provider keeps the answer, or, for an unknown reference, any that
        speaks the client's dialect: the provider may know it.
        """
        if not is_native:
            return False
        if not self.is_known:
            return True
        return self.is_at_provider and self.endpoint == endpoint
