"""Answers on their way to the client, and the watch for a client that leaves."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, MutableMapping
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any, Final, TypeAlias

from serve_app.api.body import ClientGoneError
from serve_app.requests.answer import Answer

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]


KEEP_ALIVE_S: Final = 15.0
"""How long a committed stream may be silent before the gateway fills the gap."""

_EVENT_ENDS: Final = (b"\n\n", b"\r\n\r\n", b"\r\r")


def path_of(scope: Scope) -> str:
    """The path of a request below the application's own prefix."""
    path: str = scope["path"].removeprefix(scope.get("root_path", ""))
    return path or "/"


class AnswerTornError(Exception):
    """Raised when sending an answer failed after its head: no error can be sent any more."""


class _Filler:
    """Sends the chunks of a stream, and an event that says nothing whenever it is silent.

    One timer serves the whole stream. It fills no gap inside an event.
    """

    def __init__(self, send: Send, event: bytes) -> None:
        self._send = send
        self._event = event
        self._loop = asyncio.get_running_loop()
        self._sent_at = self._loop.time()
        self._may_fill = False
        self._filling: asyncio.Task[None] | None = None
        self._timer = self._loop.call_later(KEEP_ALIVE_S, self._check) if event else None

    async def send(self, chunk: bytes) -> None:
        """Sends a chunk."""
        if self._filling is not None:
            await self._filling
            self._filling = None
        self._may_fill = False
        await self._send({"type": "http.response.body", "body": chunk, "more_body": True})
        self._sent_at = self._loop.time()
        self._may_fill = chunk.endswith(_EVENT_ENDS)

    def stop(self) -> None:
        """Sends nothing more by itself."""
        if self._timer is not None:
            self._timer.cancel()
        if self._filling is not None:
            self._filling.cancel()

    def _check(self) -> None:
        due = self._sent_at + KEEP_ALIVE_S
        if due > self._loop.time():
            self._timer = self._loop.call_at(due, self._check)
            return
        if self._may_fill and (self._filling is None or self._filling.done()):
            self._filling = self._loop.create_task(self._fill())
        self._sent_at = self._loop.time()
        self._timer = self._loop.call_later(KEEP_ALIVE_S, self._check)

    async def _fill(self) -> None:
        with suppress(Exception):  # a client that left is noticed by the stream itself
            await self._send({"type": "http.response.body", "body": self._event, "more_body": True})


@asynccontextmanager
async def _filled(send: Send, event: bytes) -> AsyncGenerator[_Filler]:
    filler = _Filler(send, event)
    try:
        yield filler
    finally:
        filler.stop()


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
            async with _filled(send, answer.keep_alive) as filler:
                async for chunk in body:
                    await filler.send(chunk)
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
