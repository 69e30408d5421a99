"""What the core asks of the world, as Protocols that the calling side owns.

The implementations are in providers/, affinity/ and deployments/; tests bring their own.
"""

from collections.abc import Sequence
from typing import Protocol

from serve_app.domain import Binding, ModelRef, Question, Scores, Unavailable
from serve_app.exchange import RestReport, UpstreamFault, UpstreamReply, UpstreamRequest


class Upstream(Protocol):
    """Opens exchanges with providers."""

    async def open(self, request: UpstreamRequest) -> UpstreamReply | UpstreamFault:
        """The answer's head with its body, or what went wrong; never raises for either."""
        ...


class Orchestrator(Protocol):
    """Scores routes for a conversation."""

    async def score(self, question: Question) -> Scores | Unavailable:
        """A score for every route, and the winner if there is one; never raises."""
        ...


class AffinityStore(Protocol):
    """Remembers which model a session is on. An absent binding is None; a failure raises."""

    async def get(self, key: str) -> Binding | None:
        """The live binding of this session, or None; reading it extends its life."""
        ...

    async def bind(self, key: str, binding: Binding, *, instead_of: ModelRef | None) -> bool:
        """Put if absent, or, with ``instead_of``, swap if that model is bound; True if stored."""
        ...


class ConversationStore(Protocol):
    """Keeps values of earlier answers, each for some time after its last use. A failure raises."""

    async def load(self, keys: Sequence[str]) -> list[bytes | None]:
        """The values of these keys, None where there is none; reading extends their lives."""
        ...

    async def save(self, key: str, value: bytes) -> None:
        """Keeps a value, in place of an earlier one."""
        ...

    async def delete(self, keys: Sequence[str]) -> int:
        """Forgets the values of these keys. Returns how many there were."""
        ...


class RestBoard(Protocol):
    """Where ingress replicas tell each other which endpoints rest. A failure raises."""

    async def share(self, own: Sequence[RestReport]) -> list[RestReport]:
        """Puts up what this replica has found out. Returns all that is known now."""
        ...

    async def claim(self, endpoint: str, for_s: float) -> bool:
        """True if no replica has claimed the endpoint; then it is this one's for that long."""
        ...


class ModelPrice(Protocol):
    """The price of a model's input, US dollars per million tokens."""

    @property
    def input_usd(self) -> float:
        """For tokens that are not cached."""
        ...

    @property
    def cached_input_usd(self) -> float | None:
        """For cached tokens; None if unknown."""
        ...


class PriceTable(Protocol):
    """The prices of models."""

    def price(self, model: ModelRef, context_tokens: int = 0) -> ModelPrice | None:
        """The price for a prompt of ``context_tokens`` tokens; None if unknown."""
        ...


class Clock(Protocol):
    """Monotonic seconds."""

    def __call__(self) -> float:
        """Seconds since a fixed moment; never decreases."""
        ...
