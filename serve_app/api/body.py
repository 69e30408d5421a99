"""Reads the body of a request."""

import asyncio
from typing import Any, Final

from serve_app.errors import (
    BodyTimeout,
    BodyTooLarge,
)

BODY_IDLE_S: Final = 30.0
"""How long a client may pause while it sends its body."""


class ClientGoneError(Exception):
    """The client left before its request was read."""


async def read_body(receive: Any, length: int | None, limit: int) -> bytes:  # noqa: ANN401 - ASGI
    """The whole body of a request.

    Raises BodyTooLarge as soon as it is known to be (before it is read when the length is
    announced), BodyTimeout when the client pauses for longer than BODY_IDLE_S, ClientGoneError
    when it leaves.
    """
    if length is not None and length > limit:
        raise BodyTooLarge(limit)
    chunks: list[bytes] = []
    size = 0
    more = True
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(BODY_IDLE_S) as patience:
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGoneError
                chunk = message.get("body", b"")
                size += len(chunk)
                if size > limit:
                    raise BodyTooLarge(limit)
                chunks.append(chunk)
                more = message.get("more_body", False)
                if more:
                    patience.reschedule(loop.time() + BODY_IDLE_S)
    except TimeoutError as error:
        raise BodyTimeout from error
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)
