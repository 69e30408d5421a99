"""The commit point of a stream, and what goes out after it.

A stream is held back until its first event that says something, 256 KiB, or 10 s, whichever
comes first. Until then a failure costs the client nothing: another candidate may answer. From
then on bytes go out as they came, in whole events; a stream that stops before its end is ended
by an error event in the client's dialect, because SDKs take a clean end for a complete answer.
"""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Final, Protocol

from serve_app.dialects.sse import Event, Framer, iterate_events, parse_event
from serve_app.domain import Headers, Json
from serve_app.errors import GatewayError, UpstreamFailed, UpstreamTimeout
from serve_app.exchange import Chunks, FaultKind, StreamBrokenError, UpstreamFault, UpstreamReply
from serve_app.requests.verdict import Verdict, judge_fault, judge_status

HOLD_S: Final = 10.0
HOLD_BYTES: Final = 256 << 10


class Ending(Protocol):
    """Knows from the events that went by whether a stream may end here."""

    @property
    def complete(self) -> bool:
        """True when nothing is missing."""
        ...

    def feed(self, events: bytes) -> None:
        """Bytes that end at an event's end."""
        ...


class Codec(Protocol):
    """What a dialect knows of its streams."""

    def is_preamble(self, event: Event) -> bool:
        """True for what says nothing yet."""
        ...

    def event_error(self, event: Event) -> Json | None:
        """The error object of an event that is an error."""
        ...

    def error_status(self, error: Json) -> int:
        """The status that an error object stands for."""
        ...

    def render_error(self, error: GatewayError) -> bytes:
        """An error as a body."""
        ...

    def render_error_event(self, error: GatewayError) -> bytes:
        """An error as an event of a stream."""
        ...


@dataclass(frozen=True, slots=True)
class Failure:
    """An attempt that gave no answer: a fault, or an answer that is an error."""

    verdict: Verdict
    fault: UpstreamFault | None = None
    status: int = 0
    headers: Headers = ()
    body: bytes = b""

    @property
    def outcome(self) -> str:
        """For the metrics: the kind of fault, or the status."""
        return self.fault.kind if self.fault is not None else str(self.status)


@dataclass(slots=True)
class Held:
    """A stream at its commit point: what was held back, and what is still to come."""

    status: int
    headers: Headers
    ready: bytes
    body: Chunks
    framer: Framer = field(default_factory=Framer)
    pending: "asyncio.Task[bytes] | None" = None
    ended: bool = False


async def hold(reply: UpstreamReply, body: Chunks, codec: Codec) -> Held | Failure:
    """The stream at its commit point, or why it is none. Closes ``body`` unless it is Held."""
    held = Held(reply.status, reply.headers, b"", body)
    outcome: Held | Failure | None = None
    try:
        outcome = await _hold(held, codec)
    finally:
        if outcome is not held:
            if held.pending is not None:
                held.pending.cancel()
            await body.aclose()
    return outcome


async def _hold(held: Held, codec: Codec) -> Held | Failure:
    loop = asyncio.get_running_loop()
    until = loop.time() + HOLD_S
    size, nothing_yet = 0, True
    while True:
        held.pending = loop.create_task(_next(held.body))
        done, _ = await asyncio.wait({held.pending}, timeout=until - loop.time())
        if not done:
            return held
        try:
            chunk, held.pending = held.pending.result(), None
        except StreamBrokenError as error:
            return Failure(judge_fault(error.fault), error.fault)
        size += len(chunk)
        held.ended = not chunk
        fresh = _whole(held.framer.rest()) if held.ended else held.framer.feed(chunk)
        held.ready += fresh
        for event in iterate_events(fresh):
            said = codec.event_error(event)
            if said is not None:
                return _error_event(codec, said, event, held.headers)
            if event.data == b"[DONE]" and nothing_yet:
                return _nothing_said()
            nothing_yet = nothing_yet and event.data is None
            if not codec.is_preamble(event):
                return held
        if held.ended:
            return _nothing_said()
        if size > HOLD_BYTES:
            return held


def _whole(rest: bytes) -> bytes:
    """What came after the last event's end, unless it is torn in the middle of a line."""
    return rest if rest.endswith((b"\n", b"\r")) or _is_complete_event(rest) else b""


def _is_complete_event(block: bytes) -> bool:
    data = parse_event(block).data
    if data is None or data == b"[DONE]":
        return data is not None
    try:
        json.loads(data)
    except (ValueError, RecursionError):
        return False
    return True


async def _next(body: Chunks) -> bytes:
    """The next chunk, or no bytes at the end: a task must not raise StopAsyncIteration."""
    async for chunk in body:
        return chunk
    return b""


def _nothing_said() -> Failure:
    fault = UpstreamFault(FaultKind.BAD_ANSWER, "the stream ended before it said anything")
    return Failure(Verdict.NEXT, fault)


def _error_event(codec: Codec, error: Json, event: Event, headers: Headers) -> Failure:
    status = codec.error_status(error)
    return Failure(judge_status(status), status=status, headers=headers, body=event.data or b"")


def _broken(fault: UpstreamFault | None) -> GatewayError:
    if fault is None:
        return UpstreamFailed("the provider ended its answer before it was complete")
    if fault.kind is FaultKind.TIMEOUT:
        return UpstreamTimeout(fault.detail)
    return UpstreamFailed(fault.detail)
