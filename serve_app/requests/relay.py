"""A committed stream on its way to the client.

Bytes go out as they came, in whole events. A stream that stops before its end is ended by an
error event in the client's dialect, because SDKs take a clean end for a complete answer.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Self

from serve_app.errors import GatewayError
from serve_app.exchange import StreamBrokenError
from serve_app.requests.commit import Held
from serve_app.requests.failures import error_of_fault
from serve_app.telemetry.record import BROKEN, CLIENT_GONE


class Relay:
    """The body of a streamed answer; calls ``on_end`` once with how it ended.

    That is empty for a complete stream, BROKEN, or CLIENT_GONE.
    """

    def __init__(
        self,
        held: Held,
        on_end: Callable[[str], None],
        look: Callable[[bytes], Awaitable[None]] | None = None,
    ) -> None:
        """``look`` sees all bytes before the client gets them, whole events at a time."""
        self._held = held
        self._pipe = held.pipe
        self._on_end = on_end
        self._look = look
        self._ready = held.ready
        self._over = False
        self._reported = False

    def __repr__(self) -> str:
        return f"<Relay {self._held.status}: {self._pipe.state.value}, over: {self._over}>"

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
                ready = self._finish(error_of_fault(error.fault))
            else:
                ready = self._pipe.feed(chunk) if chunk else self._finish(None)
                if chunk and not ready and self._pipe.state.is_lost:
                    ready = self._finish(None)
        if self._look is not None:
            await self._look(ready)
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

    def _finish(self, error: GatewayError | None) -> bytes:
        """The last bytes: what is left of a complete stream, or an error event."""
        self._over = True
        last = b"" if self._held.ended else self._pipe.end(error)
        self._report("" if self._pipe.state.may_end else BROKEN)
        return last

    async def aclose(self) -> None:
        """Closes the upstream; if the stream was not complete, the client has left."""
        self._report("" if self._pipe.state.may_end else CLIENT_GONE)
        self._over = True
        if self._held.pending is not None:
            self._held.pending.cancel()
        await self._held.body.aclose()

    def _report(self, how: str) -> None:
        if not self._reported:
            self._reported = True
            self._on_end(how)
