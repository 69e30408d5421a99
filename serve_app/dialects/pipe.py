"""What carries requests and streams between two dialects.

So far both sides speak the same one: bytes go through as they came.
"""

from dataclasses import dataclass

from serve_app.dialects.fields import Intent
from serve_app.dialects.json_edits import Document, Quirk
from serve_app.dialects.protocol import (
    ClientDialect,
    ErrorDialect,
    ErrorInfo,
    StreamPipe,
    StreamState,
    StreamWatch,
    UpstreamDialect,
)
from serve_app.errors import GatewayError, UpstreamFailed

_EVENT_ENDS = (b"\n\n", b"\r\n\r\n", b"\r\r")
_INCOMPLETE = "the provider ended its answer before it was complete"


class PassThrough:
    """A stream in the client's own dialect: whole events, byte for byte."""

    def __init__(self, watch: StreamWatch, client: ErrorDialect) -> None:
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
        """The error that came in place of content."""
        return self._watch.error

    def feed(self, chunk: bytes) -> bytes:
        """The whole events that are now there."""
        ready = self._watch.feed(chunk)
        if ready:
            self._last = ready
        return ready

    def end(self, error: GatewayError | None) -> bytes:
        """The rest, and an error event if the stream is not complete."""
        rest = self._watch.rest(torn=error is not None)
        if self.state.may_end:
            return rest
        gap = b"" if (rest or self._last).endswith(_EVENT_ENDS) else b"\n\n"
        return rest + gap + self._client.render_error_event(error or UpstreamFailed(_INCOMPLETE))


@dataclass(frozen=True, slots=True)
class SameDialect:
    """Client and provider speak the same dialect: bodies are edited by spans, answers passed on."""

    client: ClientDialect
    upstream: UpstreamDialect

    def request_body(self, document: Document, model: str, quirk: Quirk) -> bytes:
        """The client's body with the provider's name of the model; all other bytes are equal."""
        return self.upstream.pass_on(document, self.client.fields, model, quirk)

    def error_body(self, body: bytes) -> bytes | None:
        """The provider's body as it is, if it is an error of this dialect."""
        return body if self.upstream.read_error(body) is not None else None

    def pipe(self, intent: Intent) -> StreamPipe:
        """A pipe that passes whole events."""
        return PassThrough(self.upstream.watch(intent), self.client)
