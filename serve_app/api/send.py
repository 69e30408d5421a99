"""Answers on their way to the client, and the watch for a client that leaves."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, MutableMapping
from contextlib import aclosing, asynccontextmanager
from typing import Any, TypeAlias

from serve_app.api.body import ClientGoneError
from serve_app.requests.answer import Answer

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]


class AnswerTornError(Exception):
    """Raised when sending an answer failed after its head: no error can be sent any more."""


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
            async for chunk in body:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
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
