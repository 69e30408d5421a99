"""The commit point of a stream.

A stream is held back until its first event with content, 256 KiB, or 10 s, whichever comes
first. Until then a failure costs the client nothing: another candidate may answer.
"""

import asyncio
from dataclasses import dataclass
from typing import Final

from serve_app.dialects.protocol import StreamPipe, StreamState
from serve_app.domain import Headers
from serve_app.exchange import (
    Chunks,
    FaultKind,
    StreamBrokenError,
    UpstreamFault,
    UpstreamReply,
)
from serve_app.requests.failures import Failure, failure_of_error, failure_of_fault
from serve_app.requests.verdict import NEXT

HOLD_S: Final = 10.0
HOLD_BYTES: Final = 256 << 10


@dataclass(slots=True)
class Held:
    """A stream at its commit point: what was held back, and what is still to come."""

    status: int
    headers: Headers
    ready: bytes
    body: Chunks
    pipe: StreamPipe
    pending: "asyncio.Task[bytes] | None" = None
    ended: bool = False
    """The provider has closed its answer; ``ready`` holds all of it."""


async def hold(reply: UpstreamReply, body: Chunks, pipe: StreamPipe) -> Held | Failure:
    """Buffers the stream up to its commit point; returns why not if it fails before.

    Closes ``body`` unless it returns a Held.
    """
    held = Held(reply.status, reply.headers, b"", body, pipe)
    outcome: Held | Failure | None = None
    try:
        outcome = await _hold(held)
    finally:
        if outcome is not held:
            if held.pending is not None:
                held.pending.cancel()
            await body.aclose()
    return outcome


async def _hold(held: Held) -> Held | Failure:
    loop, pipe = asyncio.get_running_loop(), held.pipe
    until = loop.time() + HOLD_S
    seen = b""
    while True:
        held.pending = loop.create_task(_next(held.body))
        done, _ = await asyncio.wait({held.pending}, timeout=until - loop.time())
        if not done:
            return held
        try:
            chunk, held.pending = held.pending.result(), None
        except StreamBrokenError as error:
            return failure_of_fault(error.fault)
        seen += chunk
        held.ended = not chunk
        held.ready += pipe.end(None) if held.ended else pipe.feed(chunk)
        if pipe.error is not None:
            return failure_of_error(pipe.error, held.headers)
        if pipe.state in (StreamState.SPEAKING, StreamState.COMPLETE):
            return held
        if held.ended or pipe.state is StreamState.EMPTY:
            return _without_content(seen)
        if len(seen) > HOLD_BYTES:
            return held


async def _next(body: Chunks) -> bytes:
    """The next chunk, or no bytes at the end: a task must not raise StopAsyncIteration."""
    async for chunk in body:
        return chunk
    return b""


def _without_content(seen: bytes) -> Failure:
    """The failure, with the body of what is not a stream but a complete answer."""
    detail = "the stream ended before its first content"
    body = seen if seen.lstrip().startswith(b"{") else b""
    return Failure(NEXT, UpstreamFault(FaultKind.BAD_ANSWER, detail), body=body)
