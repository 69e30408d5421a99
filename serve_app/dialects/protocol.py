"""What a dialect implements, as Protocols; the use case knows a dialect by nothing else.

A *client dialect* is what a client speaks, an *upstream dialect* what a provider is asked in. A
*dialect pair* joins the two for one exchange. All are sans-IO: bytes and values in and out.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, Protocol

from serve_app.dialects import ir
from serve_app.dialects.earlier_answers import StateDialect
from serve_app.dialects.fields import Fields, Intent
from serve_app.dialects.json_edits import Document, Quirk
from serve_app.dialects.sse import Event
from serve_app.dialects.token_counter import TokenCounter
from serve_app.domain import Conversation, Json
from serve_app.errors import GatewayError
from serve_app.exchange import Operation


@dataclass(frozen=True, slots=True)
class ErrorInfo:
    """An error that a provider reports, or what is wrong with its answer."""

    message: str
    """The provider's own words."""
    status: int | None = None
    """The HTTP status that it means; None where the answer is not an error but unusable."""
    code: str | None = None
    """The provider's name of it, if it has one."""
    body: bytes = b""
    """As the provider sent it, where it can go to the client as it is."""
    kind: str | None = None
    """The provider's type of it, beside its code."""


class StreamState(Enum):
    """How far a stream has come."""

    PREAMBLE = "preamble"
    """Only events without content so far: the gateway may still ask another candidate."""
    SPEAKING = "speaking"
    COMPLETE = "complete"
    """The stream may end here."""
    EMPTY = "empty"
    """The stream announced its end before any content."""
    FAILED = "failed"
    """The provider reported that it failed, and the client has not been told yet."""

    @property
    def may_end(self) -> bool:
        """True if nothing is missing when the provider stops now."""
        return self is StreamState.COMPLETE

    @property
    def is_lost(self) -> bool:
        """True if nothing more can come, and the answer is not complete."""
        return self in (StreamState.EMPTY, StreamState.FAILED)


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
    def holds_conversations(self) -> bool:
        """True if its answers continue a conversation, so that its sessions are bound."""
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

    @property
    def state(self) -> StateDialect | None:
        """What it knows of earlier answers; None if its requests are always whole."""
        ...

    @property
    def keep_alive(self) -> bytes:
        """An event that says nothing, for a stream that is silent; empty if there is none."""
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

    def effort_fields(self, document: Document, model: str, effort: str) -> dict[str, Json]:
        """The top-level fields by which a body of this dialect asks a model for an effort.

        Empty if the body itself says how much the model is to think, or the model cannot be asked.
        """
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

    def read_usage(self, usage: Json) -> ir.Usage | None:
        """The tokens in an object ``usage`` of an answer; None if it counts none."""
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
        """The error that came in place of content, or of a good end."""
        ...

    def feed(self, chunk: bytes) -> bytes:
        """The whole events that are now there, unchanged; the rest is kept.

        Without an end that must not look like a good one, and what follows it: see
        ``StreamState.is_lost``.
        """
        ...

    def rest(self, *, torn: bool) -> bytes:
        """What is left at the end of the stream and may go out.

        ``torn``: the connection broke, so that a line without its end is cut off.
        """
        ...

    def fail(self, error: GatewayError) -> bytes:
        """The error as the last event, where it has to fit the events before it.

        Empty where it has not: the client's dialect renders it then.
        """
        ...


class StreamPipe(Protocol):
    """What a stream goes through on its way to the client; all that the use case knows of it."""

    @property
    def counter(self) -> TokenCounter:
        """What the provider reports of the tokens that it used."""
        ...

    @property
    def state(self) -> StreamState:
        """How far the stream has come."""
        ...

    @property
    def error(self) -> ErrorInfo | None:
        """The error that came in place of content, or of a good end."""
        ...

    def feed(self, chunk: bytes) -> bytes:
        """What may now go to the client: whole events only."""
        ...

    def end(self, error: GatewayError | None) -> bytes:
        """The last bytes for the client: the rest, and an error event if it is incomplete.

        ``error`` says why the provider stopped; None where it closed its answer in order.
        """
        ...


class Written(NamedTuple):
    """A request or an answer in the words of a dialect."""

    body: dict[str, Json]
    dropped: tuple[str, ...] = ()
    """The client's paths of what this dialect cannot say, and what was left out for that."""


class EventReader(Protocol):
    """Reads one stream of a provider. Raises nothing: what it cannot read becomes ``Failed``."""

    def read(self, event: Event) -> Iterable[ir.Event]:
        """What an event says, in the order that ``ir`` promises. Iterate it before the next call."""
        ...

    def end(self) -> Iterable[ir.Event]:
        """What is known once the provider has closed its answer; ``Ended`` if it is complete."""
        ...


class EventWriter(Protocol):
    """Writes one stream for a client."""

    def write(self, event: ir.Event) -> bytes:
        """The bytes for the client, whole events only; empty where it has no event for this.

        Not for ``Failed``, which is an error for the client: see ``fail``.
        """
        ...

    def fail(self, error: GatewayError) -> bytes:
        """The end of a stream that cannot be completed, its error included."""
        ...


@dataclass(frozen=True, slots=True)
class ToolLimits:
    """What a provider's dialect takes as a tool of the client."""

    max_name: int
    """Characters of a name, which are letters, digits, ``_`` and ``-``."""
    has_custom: bool = False
    """Tools that take any text."""
    has_namespaces: bool = False


class Codec(Protocol):
    """Reads a dialect into ``ir`` and writes it; what a translation needs of a dialect."""

    @property
    def tool_limits(self) -> ToolLimits:
        """What ``write_request`` takes as tools."""
        ...

    def read_request(self, document: Document) -> ir.Request:
        """The request of a client. Raises InvalidRequest that names the field."""
        ...

    def write_request(self, request: ir.Request, model: str) -> Written:
        """The body for a provider.

        Raises InvalidRequest that names the client's field where leaving it out would change
        what the client gets.
        """
        ...

    def read_answer(self, answer: Mapping[str, Json]) -> ir.Answer:
        """The complete answer of a provider. Raises ValueError if it is not one."""
        ...

    def write_answer(self, answer: ir.Answer, request: ir.Request) -> Written:
        """The complete answer for a client."""
        ...

    def reader(self) -> EventReader:
        """A reader for one stream of a provider."""
        ...

    def writer(self, request: ir.Request) -> EventWriter:
        """A writer for one stream of a client."""
        ...


class Asked(Protocol):
    """One request in the words of a provider, and the way back for what it answers."""

    @property
    def body(self) -> bytes:
        """What the provider gets."""
        ...

    @property
    def dropped(self) -> tuple[str, ...]:
        """The client's paths of what was left out."""
        ...

    def answer(self, body: bytes) -> tuple[bytes, tuple[str, ...]]:
        """A complete answer for the client, and the parts of it that were left out.

        Raises ValueError if it is not an answer of the provider's dialect.
        """
        ...

    def error_body(self, status: int, error: ErrorInfo) -> bytes:
        """A provider's error for the client, in the provider's own words."""
        ...

    def pipe(self) -> StreamPipe:
        """A new pipe for one stream."""
        ...


class DialectPair(Protocol):
    """The dialects of one exchange: what the client speaks, and what the provider is asked in."""

    @property
    def upstream(self) -> UpstreamDialect:
        """What the provider is asked in."""
        ...

    def ask(self, document: Document, intent: Intent, model: str, quirk: Quirk) -> Asked:
        """The request for a provider, which names the model ``model``.

        Raises InvalidRequest if the provider's dialect cannot say it.
        """
        ...
