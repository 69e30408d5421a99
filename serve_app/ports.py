"""What the core asks of the world, as Protocols that the calling side owns.

Real implementations stand in providers/, affinity/ and deployments/; tests bring their own.
"""

from typing import Protocol

from serve_app.domain import Binding, ModelRef, Question, Scores, Unavailable
from serve_app.exchange import UpstreamFault, UpstreamReply, UpstreamRequest


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
        """The live binding of this session, if there is one; using it keeps it alive."""
        ...

    async def bind(self, key: str, binding: Binding, *, instead_of: ModelRef | None) -> bool:
        """Put if absent, or, with ``instead_of``, swap if that model is bound; True if stored."""
        ...


class ModelPrice(Protocol):
    """What a model's input costs, in US dollars for a million tokens."""

    @property
    def input_usd(self) -> float:
        """Where nothing is cached."""
        ...

    @property
    def cached_input_usd(self) -> float | None:
        """Where it is cached; None where that is unknown."""
        ...


class PriceTable(Protocol):
    """What models cost."""

    def price(self, model: ModelRef, context_tokens: int = 0) -> ModelPrice | None:
        """The price for a prompt of so many tokens; None where it is unknown."""
        ...


class Clock(Protocol):
    """Monotonic seconds."""

    def __call__(self) -> float:
        """Seconds since some fixed moment; never goes back."""
        ...
