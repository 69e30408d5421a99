"""A committed stream on its way to the client."""

import asyncio
from collections.abc import Callable
from typing import Self

from serve_app.exchange import StreamBrokenError, UpstreamFault
from serve_app.requests.commit import (
    Codec,
    Ending,
    Held,
    _broken,
    _whole,
)


class Relay:
    """A committed stream on its way to the client."""

    def __init__(
        self, held: Held, codec: Codec, ending: Ending, on_end: Callable[[str], None]
    ) -> None:
        self._held = held
        self._codec = codec
        self._ending = ending
        self._on_end = on_end
        self._ready = held.ready
        self._last = b""
        """The end of what went out last: an error must not share a line with it."""
        self._over = False
        self._reported = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        ready, self._ready = self._ready, b""
        while not ready:
            if self._over:
                raise StopAsyncIteration
            try:
                chunk = await self._next_chunk()
            except StreamBrokenError as error:
                ready = self._finish(error.fault)
            else:
                ready = self._held.framer.feed(chunk) if chunk else self._finish(None)
        self._ending.feed(ready)
        self._last = ready[-4:]
        return ready

    async def _next_chunk(self) -> bytes:
        held = self._held
        if held.ended:
            return b""
        if held.pending is not None:
            pending, held.pending = held.pending, None
            try:
                return await pending
            except asyncio.CancelledError:
                pending.cancel()
                raise
        try:
            return await held.body.__anext__()
        except StopAsyncIteration:
            return b""

    def _finish(self, fault: UpstreamFault | None) -> bytes:
        """The last bytes: what is left of a complete stream, or an error event."""
        self._over = True
        left = self._held.framer.rest()
        rest = _whole(left) if fault is None else left if left.endswith((b"\n", b"\r")) else b""
        self._ending.feed(rest)
        if self._ending.complete:
            self._report("")
            return left if fault is None else rest
        self._report("broken")
        before = rest or self._last
        gap = b"" if before.endswith((b"\n\n", b"\r\n\r\n", b"\r\r")) else b"\n\n"
        return rest + gap + self._codec.render_error_event(_broken(fault))

    async def aclose(self) -> None:
        """Closes the upstream; a stream that was not at its end is one whose client left."""
        self._report("" if self._ending.complete else "client_gone")
        self._over = True
        if self._held.pending is not None:
            self._held.pending.cancel()
        await self._held.body.aclose()

    def _report(self, how: str) -> None:
        if not self._reported:
            self._reported = True
            self._on_end(how)
