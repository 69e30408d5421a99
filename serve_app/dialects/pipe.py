"""What carries requests and streams where both sides speak the same dialect: bytes as they came."""

from dataclasses import dataclass

from serve_app.dialects.fields import Intent
from serve_app.dialects.foreign_proofs import without_foreign_proofs
from serve_app.dialects.json_edits import Document, Quirk
from serve_app.dialects.protocol import (
    Asked,
    ClientDialect,
    ErrorDialect,
    ErrorInfo,
    StreamPipe,
    StreamState,
    StreamWatch,
    UpstreamDialect,
)
from serve_app.dialects.sse import EVENT_ENDS
from serve_app.dialects.token_counter import ReadUsage, TokenCounter, read_nothing
from serve_app.errors import GatewayError, ReportedError, UpstreamFailed

INCOMPLETE = "the provider ended its answer before it was complete"


def why_incomplete(reported: ErrorInfo | None, error: GatewayError | None) -> GatewayError:
    """Why a stream is not complete: what the provider reports, else the error, else its end."""
    if reported is None:
        return error or UpstreamFailed(INCOMPLETE)
    return ReportedError(reported.message, reported.code, reported.status)


class PassThrough:
    """A stream in the client's own dialect: whole events, byte for byte."""

    def __init__(
        self, watch: StreamWatch, client: ErrorDialect, read_usage: ReadUsage = read_nothing
    ) -> None:
        self.counter = TokenCounter(read_usage)
        self._watch = watch
        self._client = client
        self._last = b""
        """What went out last: an error event must not share a line with it."""

    @property
    def state(self) -> StreamState:
        """How far the stream has come."""
        return self._watch.state

    @property
    def error(self) -> ErrorInfo | None:
        """The error that came in place of content, or of a good end."""
        return self._watch.error

    def feed(self, chunk: bytes) -> bytes:
        """The whole events that are now there."""
        ready = self._watch.feed(chunk)
        if ready:
            self._last = ready
            self.counter.feed_events(ready)
        return ready

    def end(self, error: GatewayError | None) -> bytes:
        """The rest, and an error event if the stream is not complete."""
        rest = self._watch.rest(torn=error is not None)
        self.counter.feed_events(rest)
        if self.state.may_end:
            return rest
        gap = b"" if (rest or self._last).endswith(EVENT_ENDS) else b"\n\n"
        failure = why_incomplete(self._watch.error, error)
        event = self._watch.fail(failure) or self._client.render_error_event(failure)
        return rest + gap + event


@dataclass(frozen=True, slots=True)
class _Passed:
    """A request whose client and provider speak the same dialect."""

    body: bytes
    pair: "SameDialect"
    intent: Intent
    dropped: tuple[str, ...] = ()

    def answer(self, body: bytes) -> tuple[bytes, tuple[str, ...]]:
        """The answer as it is."""
        return body, ()

    def error_body(self, status: int, error: ErrorInfo) -> bytes:
        """The provider's error as it is, where it is one of this dialect."""
        return error.body or render_reported(self.pair.client, status, error)

    def pipe(self) -> StreamPipe:
        """A pipe that passes whole events."""
        return self.pair.pipe(self.intent)


@dataclass(frozen=True, slots=True)
class SameDialect:
    """Client and provider speak the same dialect: bodies are edited by spans, answers passed on."""

    client: ClientDialect
    upstream: UpstreamDialect

    def pipe(self, intent: Intent) -> StreamPipe:
        """A pipe that passes whole events."""
        watch = self.upstream.watch(intent)
        return PassThrough(watch, self.client, self.upstream.read_usage)

    def ask(self, document: Document, intent: Intent, model: str, quirk: Quirk) -> Asked:
        """The client's body with the provider's name of the model; all other bytes are equal."""
        fields = self.client.fields.without(intent.kept)
        document = without_foreign_proofs(document, fields)
        if intent.effort is not None:
            quirk = quirk.putting(self.upstream.effort_fields(document, model, intent.effort))
        return _Passed(self.upstream.pass_on(document, fields, model, quirk), self, intent)


def render_reported(client: ErrorDialect, status: int, error: ErrorInfo) -> bytes:
    """A provider's error in the client's dialect, in the provider's own words."""
    return client.render_error(ReportedError(error.message, error.code, status))
