"""What a dialect implements, as Protocols; the use case knows a dialect by nothing else.

A *client dialect* is what a client speaks, an *upstream dialect* what a provider is asked in. A
*dialect pair* joins the two for one exchange. All are sans-IO: bytes and values in and out.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from serve_app.dialects.fields import Fields, Intent
from serve_app.dialects.json_edits import Document, Quirk
from serve_app.domain import Conversation
from serve_app.errors import GatewayError
from serve_app.exchange import Operation


@dataclass(frozen=True, slots=True)
class ErrorInfo:
    """An error that a provider reports, or what is wrong with its answer."""

    message: str
    status: int | None = None
    """The HTTP status that it means; None where the answer is not an error but unusable."""
    body: bytes = b""
    """As the provider sent it, where it can go to the client as it is."""


class StreamState(Enum):
    """How far a stream has come."""

    PREAMBLE = "preamble"
    """Only events without content so far: the gateway may still ask another candidate."""
    SPEAKING = "speaking"
    COMPLETE = "complete"
    """The stream may end here."""
    EMPTY = "empty"
    """The stream announced its end before any content."""

    @property
    def may_end(self) -> bool:
        """True if nothing is missing when the provider stops now."""
        return self in (StreamState.COMPLETE, StreamState.EMPTY)


class ErrorDialect(Protocol):
    """Renders errors for a client."""

    def render_error(self, error: GatewayError, *, status: int | None = None) -> bytes:
        """The error as a complete body; ``status`` where it is not the error's own."""
        ...

    def render_error_event(self, error: GatewayError) -> bytes:
        """The error as an event of a stream, its blank line included."""
        ...


class ClientDialect(ErrorDialect, Protocol):
    """What a client speaks."""

    @property
    def name(self) -> str:
        """The name of its surface; a label of metrics."""
        ...

    @property
    def path(self) -> str:
        """The path of its surface below ``/v1``."""
        ...

    @property
    def fields(self) -> Fields:
        """The keys that the gateway reads, and those that it cuts out."""
        ...

    def read_intent(self, document: Document) -> Intent:
        """Model, fallbacks, streaming and number of answers. Raises InvalidRequest."""
        ...

    def read_conversation(self, document: Document) -> Conversation:
        """The conversation, read lazily. Raises InvalidRequest if there is none."""
        ...


class UpstreamDialect(Protocol):
    """What a provider is asked in."""

    @property
    def operation(self) -> Operation:
        """The key of its quirks, authentication and address."""
        ...

    def address(self, model: str, *, stream: bool) -> str:
        """Path and query below the provider's base URL."""
        ...

    def pass_on(self, document: Document, fields: Fields, model: str, quirk: Quirk) -> bytes:
        """The body of a client that speaks the same dialect: all other bytes are equal."""
        ...

    def read_error(self, body: bytes) -> ErrorInfo | None:
        """The error in a body of any status; None if it is not an error of this dialect."""
        ...

    def check_answer(self, body: bytes, *, may_be_torn: bool) -> ErrorInfo | None:
        """What is wrong with a complete answer of status 2xx; None if it is usable.

        ``may_be_torn``: only the end of the connection marked the end of the body.
        """
        ...

    def watch(self, intent: Intent) -> "StreamWatch":
        """A new watch over one stream."""
        ...


class StreamWatch(Protocol):
    """Frames one stream of a provider, and knows how far it has come."""

    @property
    def state(self) -> StreamState:
        """How far the stream has come."""
        ...

    @property
    def error(self) -> ErrorInfo | None:
        """The error that came in place of content; None once content has come."""
        ...

    def feed(self, chunk: bytes) -> bytes:
        """The whole events that are now there, unchanged; the rest is kept."""
        ...

    def rest(self, *, torn: bool) -> bytes:
        """What is left at the end of the stream and may go out.

        ``torn``: the connection broke, so that a line without its end is cut off.
        """
        ...


class StreamPipe(Protocol):
    """What a stream goes through on its way to the client; all that the use case knows of it."""

    @property
    def state(self) -> StreamState:
        """How far the stream has come."""
        ...

    @property
    def error(self) -> ErrorInfo | None:
        """The error that came in place of content."""
        ...

    def feed(self, chunk: bytes) -> bytes:
        """What may now go to the client: whole events only."""
        ...

    def end(self, error: GatewayError | None) -> bytes:
        """The last bytes for the client: the rest, and an error event if it is incomplete.

        ``error`` says why the provider stopped; None where it closed its answer in order.
        """
        ...


class DialectPair(Protocol):
    """The dialects of one exchange: what the client speaks, and what the provider is asked in."""

    @property
    def upstream(self) -> UpstreamDialect:
        """What the provider is asked in."""
        ...

    def request_body(self, document: Document, model: str, quirk: Quirk) -> bytes:
        """The body for the provider, which names the model ``model``."""
        ...

    def error_body(self, body: bytes) -> bytes | None:
        """A provider's error for the client; None if ``body`` is not an error it can read."""
        ...

    def pipe(self, intent: Intent) -> StreamPipe:
        """A new pipe for one stream."""
        ...
