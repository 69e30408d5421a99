"""Serve applications that only relay: the lower bound for any gateway on Serve.

``build_inline`` calls the upstream from the ingress; ``build_hop`` from a second deployment behind a
handle. Neither parses the content: the path tells whether the answer is a stream. This module
imports nothing of Fingerpost. ``build_empty`` is the lower bound for start-up time.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, MutableMapping
from typing import Any, Final, TypeAlias

import aiohttp
from ray import serve
from ray.serve import Application
from ray.serve.handle import DeploymentHandle
from starlette.requests import Request

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Asgi: TypeAlias = Callable[[Message, Receive, Send], Awaitable[None]]

STREAM: Final = "/stream"
"""End of a path whose answer is a stream."""

_OPTIONS: Final[dict[str, Any]] = {
    "max_ongoing_requests": 1000,
    "autoscaling_config": {"min_replicas": 1, "max_replicas": 8, "target_ongoing_requests": 200},
    "ray_actor_options": {"num_cpus": 0.05},
}
"""Those of serve_app/app.py, so that only the code of the variants differs."""

_JSON, _SSE = b"application/json", b"text/event-stream; charset=utf-8"


class _UpstreamClient:
    """One client session for all exchanges."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._session: aiohttp.ClientSession | None = None

    def post(self, body: bytes) -> Any:
        """Returns a context manager of the response."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30.0)
            )
        headers = {"content-type": "application/json"}
        return self._session.post(self._url, data=body, headers=headers)


@serve.ingress()
class InlineEcho:
    """Ingress that calls the upstream itself."""

    def __init__(self, url: str) -> None:
        self._upstream = _UpstreamClient(url)

    def __serve_build_asgi_app__(self) -> Asgi:
        """Returns the ASGI application; Serve calls this after the constructor."""
        return _with_lifespan(self._answer)

    async def _answer(self, scope: Message, receive: Receive, send: Send) -> None:
        body = await _read(receive)
        async with self._upstream.post(body) as response:
            if not scope["path"].endswith(STREAM):
                await _send_whole(send, await response.read())
                return
            await _send_head(send, _SSE)
            async for chunk in response.content.iter_any():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


class Client:
    """Deployment behind the ingress that calls the upstream."""

    def __init__(self, url: str) -> None:
        self._upstream = _UpstreamClient(url)

    async def unary(self, body: bytes) -> bytes:
        """Returns a complete answer."""
        async with self._upstream.post(body) as response:
            return bytes(await response.read())

    async def stream(self, body: bytes) -> AsyncGenerator[bytes]:
        """Yields the chunks of the answer as they arrive."""
        async with self._upstream.post(body) as response:
            async for chunk in response.content.iter_any():
                yield chunk


@serve.ingress()
class HopEcho:
    """Ingress that calls the upstream through ``Client``."""

    def __init__(self, client: DeploymentHandle) -> None:
        self._unary = client.unary
        self._stream = client.options(stream=True).stream

    def __serve_build_asgi_app__(self) -> Asgi:
        """Returns the ASGI application; Serve calls this after the constructor."""
        return _with_lifespan(self._answer)

    async def _answer(self, scope: Message, receive: Receive, send: Send) -> None:
        body = await _read(receive)
        if not scope["path"].endswith(STREAM):
            await _send_whole(send, await self._unary.remote(body))
            return
        await _send_head(send, _SSE)
        async for chunk in self._stream.remote(body):
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


class Empty:
    """Deployment that does nothing."""

    async def __call__(self, request: Request) -> str:
        """Returns the same answer to each request."""
        del request
        return "ok"


def build_inline(args: dict[str, Any]) -> Application:
    """Builds the application; ``args`` has ``url``, the upstream."""
    return _deployment(InlineEcho, "Echo").bind(args["url"])


def build_hop(args: dict[str, Any]) -> Application:
    """Builds the application; ``args`` has ``url``, the upstream."""
    return _deployment(HopEcho, "Echo").bind(_deployment(Client, "Client").bind(args["url"]))


def build_empty(args: dict[str, Any]) -> Application:
    """Builds an application of one empty deployment."""
    del args
    return serve.deployment(Empty).bind()


def _deployment(target: Any, name: str) -> Any:
    return serve.deployment(target, name=name, **_OPTIONS)


def _with_lifespan(answer: Asgi) -> Asgi:
    """Adds the ASGI lifespan protocol, which Serve requires."""

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await answer(scope, receive, send)
            return
        for step in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{step}.complete"})

    return app


async def _read(receive: Receive) -> bytes:
    chunks: list[bytes] = []
    more = True
    while more:
        message = await receive()
        chunks.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(chunks)


async def _send_head(send: Send, kind: bytes, length: int | None = None) -> None:
    headers = [(b"content-type", kind)]
    if length is not None:
        headers.append((b"content-length", str(length).encode()))
    await send({"type": "http.response.start", "status": 200, "headers": headers})


async def _send_whole(send: Send, body: bytes) -> None:
    await _send_head(send, _JSON, len(body))
    await send({"type": "http.response.body", "body": body})
