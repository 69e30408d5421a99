"""Answers on their way to the client, and the watch for a client that leaves."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, MutableMapping
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any, Final, TypeAlias

from serve_app.api.body import ClientGoneError
from serve_app.dialects.sse import EVENT_ENDS
from serve_app.requests.answer import Answer

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Asgi: TypeAlias = Callable[[Scope, Receive, Send], Any]

KEEP_ALIVE_S: Final = 15.0
"""How long a committed stream may be silent before the gateway fills the gap."""

_LOOKS: Final = 3
"""How often in that time; a gap is thus filled after it, or up to a third later."""


def path_of(scope: Scope) -> str:
    """The path of a request below the application's own prefix."""
    path: str = scope["path"].removeprefix(scope.get("root_path", ""))
    return path or "/"


class AnswerTornError(Exception):
    """Raised when sending an answer failed after its head: no error can be sent any more."""


class _Filler:
    """Sends an event that says nothing whenever a stream is silent, but for gaps inside an event.

    One timer serves the whole stream and looks a few times a period: nothing is done for a chunk.
    """

    def __init__(self, send: Send, event: bytes) -> None:
        self._send = send
        self._event = event
        self._loop = asyncio.get_running_loop()
        self._seen: bytes | None = None
        self._looks = 0
        """How often the last chunk was still the last one."""
        self.last: bytes | None = None
        """What was sent last; None while something is being sent."""
        self.filling: asyncio.Task[None] | None = None
        self._timer = self._loop.call_later(KEEP_ALIVE_S / _LOOKS, self._look) if event else None

    async def settle(self) -> None:
        """Waits until an event that is being sent has gone out."""
        if self.filling is not None:
            await self.filling
            self.filling = None

    def stop(self) -> None:
        """Sends nothing more by itself."""
        if self._timer is not None:
            self._timer.cancel()
        if self.filling is not None:
            self.filling.cancel()

    def _look(self) -> None:
        last = self.last
        self._looks = self._looks + 1 if last is not None and last is self._seen else 0
        self._seen = last
        if self._looks >= _LOOKS and last is not None and last.endswith(EVENT_ENDS):
            self._looks = 0
            if self.filling is None or self.filling.done():
                self.filling = self._loop.create_task(self._fill())
        self._timer = self._loop.call_later(KEEP_ALIVE_S / _LOOKS, self._look)

    async def _fill(self) -> None:
        with suppress(Exception):  # a client that left is noticed by the stream itself
            await self._send({"type": "http.response.body", "body": self._event, "more_body": True})


async def send_answer(send: Send, answer: Answer) -> None:
    """Sends an answer; a streamed one is closed whatever happens.

    Raises AnswerTornError for whatever goes wrong with a stream.
    """
    headers = [
        (name.encode(), value.encode("latin-1", "replace")) for name, value in answer.headers
    ]
    body = answer.body
    if isinstance(body, bytes):
        headers.append((b"content-length", str(len(body)).encode()))
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})
        return
    headers += [(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]
    try:
        async with aclosing(body):
            await send({"type": "http.response.start", "status": answer.status, "headers": headers})
            filler = _Filler(send, answer.keep_alive)
            try:
                async for chunk in body:
                    if filler.filling is not None:
                        await filler.settle()
                    filler.last = None
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
                    filler.last = chunk
                await filler.settle()
            finally:
                filler.stop()
            await send({"type": "http.response.body", "body": b""})
    except Exception as error:
        raise AnswerTornError from error


@asynccontextmanager
async def while_client_stays(receive: Receive) -> AsyncGenerator[None]:
    """Runs its body until the client leaves; raises ClientGoneError then.

    The gateway watches for itself, because a request header can switch Serve's own watch off.
    """
    scope = asyncio.timeout(None)

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        scope.reschedule(asyncio.get_running_loop().time())

    watcher: asyncio.Task[None] | None = None
    try:
        async with scope:
            watcher = asyncio.get_running_loop().create_task(watch())
            yield
    except TimeoutError:
        if scope.expired():
            raise ClientGoneError from None
        raise
    finally:
        if watcher is not None:
            watcher.cancel()
