"""What carries requests and streams between two different dialects, through ``ir``.

Nothing here knows a dialect: a codec of each side reads and writes.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from serve_app.dialects import ir
from serve_app.dialects.client_tools import ClientTools
from serve_app.dialects.fields import Intent
from serve_app.dialects.json_edits import Document, Quirk, apply_quirk, read_object
from serve_app.dialects.json_values import json_bytes
from serve_app.dialects.pipe import render_reported, why_incomplete
from serve_app.dialects.protocol import (
    Asked,
    ClientDialect,
    Codec,
    ErrorInfo,
    EventReader,
    EventWriter,
    StreamPipe,
    StreamState,
    UpstreamDialect,
)
from serve_app.dialects.sse import Framer, iterate_events
from serve_app.dialects.token_counter import TokenCounter, read_nothing
from serve_app.errors import GatewayError, ReportedError

MAX_EVENT_BYTES: Final = 64 << 20
"""An event larger than this fails the stream; it has to be whole to be translated."""

_PREAMBLE: Final = (ir.Started, ir.PartStarted, ir.PartEnded, ir.Counted, ir.Finished)
_TOO_LARGE: Final = f"an event of the provider is larger than {MAX_EVENT_BYTES >> 20} MiB"
_BAD_GATEWAY: Final = 502


class Translate:
    """A stream of a provider, rewritten in the client's dialect."""

    def __init__(self, reader: EventReader, writer: EventWriter, tools: ClientTools) -> None:
        self._framer = Framer(MAX_EVENT_BYTES)
        self._reader = reader
        self._writer = writer
        self._restorer = tools.restorer()
        self.counter = TokenCounter(read_nothing)  # the codec's reader notes it
        self._has_finish = self._is_over = False
        self.state = StreamState.PREAMBLE
        self.error: ErrorInfo | None = None

    def feed(self, chunk: bytes) -> bytes:
        """The events that are now there, in the client's dialect."""
        events = self._framer.feed(chunk)
        if self._framer.split is None:
            return self._translate(events)
        return self._write([ir.Failed(_TOO_LARGE, _BAD_GATEWAY)])

    def end(self, error: GatewayError | None) -> bytes:
        """The last events, and an error event if the stream is not complete."""
        out = b""
        if error is None:
            out = self._translate(self._framer.rest())
            if not self.state.may_end:
                out += self._write(self._reader.end())
        if self.state.may_end:
            return out
        return out + self._writer.fail(why_incomplete(self.error, error))

    def _translate(self, events: bytes) -> bytes:
        if not events:
            return b""
        read = self._reader.read
        return b"".join(
            [self._write(read(event)) for event in iterate_events(events) if event.data is not None]
        )

    def _write(self, events: Iterable[ir.Event]) -> bytes:
        out: list[bytes] = []
        for read in events:
            for event in self._restorer.feed(read):
                if self._is_over:
                    break
                out.append(self._take(event))
        return b"".join(out)

    def _take(self, event: ir.Event) -> bytes:
        """Writes an event, and notes how far the stream has come."""
        if isinstance(event, ir.Delta):  # nearly always
            self.counter.events += 1
            if self.state is StreamState.PREAMBLE and event.text:
                self.state = StreamState.SPEAKING
            return self._writer.write(event)
        if isinstance(event, ir.Failed):
            self._is_over = True
            if self.state is StreamState.PREAMBLE:
                self.error = ErrorInfo(event.message, event.status, event.code)
                self.state = StreamState.FAILED
                return b""
            self.state = StreamState.COMPLETE  # the error is its end
            return self._writer.fail(ReportedError(event.message, event.code, event.status))
        if isinstance(event, (ir.Counted, ir.Started)):
            self.counter.note(event.usage)
        if isinstance(event, ir.Ended):
            self._is_over = True
            is_empty = self.state is StreamState.PREAMBLE and not self._has_finish
            self.state = StreamState.EMPTY if is_empty else StreamState.COMPLETE
        elif isinstance(event, ir.Finished):
            self._has_finish = True
        elif self.state is StreamState.PREAMBLE and _speaks(event):
            self.state = StreamState.SPEAKING
        return self._writer.write(event)


def _speaks(event: ir.Event) -> bool:
    """True for an event with content, which commits the answer."""
    if isinstance(event, ir.PartStarted):
        return isinstance(event.part, ir.ToolCall)
    return not isinstance(event, _PREAMBLE)


@dataclass(frozen=True, slots=True)
class _Rewritten:
    """A request in the provider's dialect, and the way back to the client's."""

    body: bytes
    dropped: tuple[str, ...]
    request: ir.Request
    tools: ClientTools
    pair: "OtherDialect"

    def answer(self, body: bytes) -> tuple[bytes, tuple[str, ...]]:
        """The answer in the client's dialect. Raises ValueError if it can't be read."""
        answer = read_object(body)
        if answer is None:
            raise ValueError("the answer is not a JSON object")
        read = self.tools.restore(self.pair.provider.read_answer(answer))
        written = self.pair.codec.write_answer(read, self.request)
        return json_bytes(written.body), written.dropped

    def error_body(self, status: int, error: ErrorInfo) -> bytes:
        """The provider's error in the client's dialect, in the provider's own words."""
        return render_reported(self.pair.client, status, error)

    def pipe(self) -> StreamPipe:
        """A pipe that translates."""
        return Translate(
            self.pair.provider.reader(), self.pair.codec.writer(self.request), self.tools
        )


@dataclass(frozen=True, slots=True)
class OtherDialect:
    """Client and provider speak different dialects."""

    client: ClientDialect
    codec: Codec
    """Of the client's dialect."""
    upstream: UpstreamDialect
    provider: Codec
    """Of the provider's dialect."""

    def ask(self, document: Document, intent: Intent, model: str, quirk: Quirk) -> Asked:
        """The request in the provider's dialect. Raises InvalidRequest if it can't be said."""
        request = self._without_own(self.codec.read_request(document))
        if not intent.keeps_answers:
            request = replace(request, echo={**request.echo, "store": False})
        tools = ClientTools.of(request, self.provider.tool_limits)
        written = self.provider.write_request(_with_effort(tools.request, intent.effort), model)
        body = apply_quirk(written.body, quirk)
        dropped = (*request.unsaid, *tools.dropped, *_of_client(written.dropped, request, intent))
        return _Rewritten(json_bytes(body), tuple(dict.fromkeys(dropped)), request, tools, self)

    def _without_own(self, request: ir.Request) -> ir.Request:
        """The request without what only the gateway reads."""
        fields = self.client.fields
        unsaid = tuple(path for path in request.unsaid if path not in fields.own)
        metadata = request.metadata
        if metadata is not None and not fields.metadata.isdisjoint(metadata):
            metadata = {key: metadata[key] for key in metadata if key not in fields.metadata}
        return replace(request, unsaid=unsaid, metadata=metadata or None)


def _with_effort(request: ir.Request, effort: str | None) -> ir.Request:
    """The request with the route's effort, unless the client says how much the model is to think."""
    said = request.reasoning or ir.Reasoning()
    if effort is None or said.effort or said.budget_tokens or said.enabled is False:
        return request
    return replace(request, reasoning=replace(said, effort=effort))


def _of_client(dropped: tuple[str, ...], request: ir.Request, intent: Intent) -> tuple[str, ...]:
    """What was left out of the client's request; the route's effort is not the client's."""
    if intent.effort is None or request.reasoning is not None:
        return dropped
    own = request.path_of("reasoning")
    return tuple(path for path in dropped if path != own)
