"""Requests that refer to earlier answers: what a dialect knows of them, as values and Protocols."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from serve_app.dialects.json_edits import Document
from serve_app.domain import Json
from serve_app.errors import GatewayError


class Reference(NamedTuple):
    """An earlier answer, or a conversation, that a request continues."""

    name: str
    """Its id."""
    param: str
    """The client's field that names it."""
    is_conversation: bool = False
    """True for a conversation, which each answer adds to."""


class StateWish(NamedTuple):
    """What a request wants of earlier answers, and of its own later on."""

    reference: Reference | None
    keeps: bool
    """True if a later request may refer to the answer."""


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """What is known of an answer that a later request may refer to."""

    id: str
    is_stored: bool | None
    """Whether the provider says that it keeps the answer; None if it does not say."""
    answer: Mapping[str, Json] | None
    """The whole answer; None if the gateway can't keep such answers itself."""


class AnswerWatch(Protocol):
    """Looks for the answer in one stream on its way to the client."""

    def feed(self, events: bytes) -> KeptAnswer | None:
        """The answer, once its last event is among these whole events."""
        ...


class StateDialect(Protocol):
    """What a client dialect knows of earlier answers."""

    def read_wish(self, document: Document) -> StateWish:
        """What a request wants. Raises InvalidRequest."""
        ...

    def read_answer(self, body: bytes) -> KeptAnswer | None:
        """The answer in a complete body; None if it cannot be referred to."""
        ...

    def watch(self) -> AnswerWatch:
        """A new watch over one stream."""
        ...

    def items(self, document: Document) -> tuple[Json, ...] | None:
        """What the request adds to its conversation; None if the gateway can't keep that."""
        ...

    def answer_items(self, answer: Mapping[str, Json]) -> tuple[Json, ...]:
        """What an answer adds to its conversation."""
        ...

    def with_history(
        self, document: Document, items: Sequence[Json], *, keeps_reference: bool
    ) -> Document:
        """The request with the items of its conversation before its own.

        ``keeps_reference``: with the id of what it continues, for a translation that repeats it.
        """
        ...

    def without_thoughts(self, document: Document) -> Document | None:
        """The request without what models thought; None if there is nothing of that in it."""
        ...

    def not_found(self, reference: Reference, why: str) -> GatewayError:
        """The error for a reference that can't be followed; its text ends with what to do."""
        ...
