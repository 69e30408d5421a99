"""The floor under any gateway on Serve: applications that relay an exchange and do nothing else.

``build_inline`` asks the upstream in the ingress; ``build_hop`` in a second deployment behind a
handle. Neither looks at what it carries: the path says whether the answer is a stream. Nothing of
Fingerpost is imported here. ``build_empty`` is the floor under any start-up time.
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
"""The end of a path whose answer is a stream."""

_OPTIONS: Final[dict[str, Any]] = {
    "max_ongoing_requests": 1000,
    "autoscaling_config": {"min_replicas": 1, "max_replicas": 8, "target_ongoing_requests": 200},
    "ray_actor_options": {"num_cpus": 0.05},
}
"""As serve_app/app.py has them: what differs between the variants is the code alone."""

_JSON, _SSE = b"application/json", b"text/event-stream; charset=utf-8"


class _Caller:
    """One session for all exchanges."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._session: aiohttp.ClientSession | None = None

    def post(self, body: bytes) -> Any:
        """A context manager of the response."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30.0)
            )
        headers = {"content-type": "application/json"}
        return self._session.post(self._url, data=body, headers=headers)


@serve.ingress()
class InlineEcho:
    """Ingress and client in one."""

    def __init__(self, url: str) -> None:
        self._caller = _Caller(url)

    def __serve_build_asgi_app__(self) -> Asgi:
        """Serve calls this after the constructor."""
        return _with_lifespan(self._answer)

    async def _answer(self, scope: Message, receive: Receive, send: Send) -> None:
        body = await _read(receive)
        async with self._caller.post(body) as response:
            if not scope["path"].endswith(STREAM):
                await _send_whole(send, await response.read())
                return
            await _send_head(send, _SSE)
            async for chunk in response.content.iter_any():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


class Client:
    """The upstream's side of the hop."""

    def __init__(self, url: str) -> None:
        self._caller = _Caller(url)

    async def unary(self, body: bytes) -> bytes:
        """A complete answer."""
        async with self._caller.post(body) as response:
            return bytes(await response.read())

    async def stream(self, body: bytes) -> AsyncGenerator[bytes]:
        """What arrives, as it arrives."""
        async with self._caller.post(body) as response:
            async for chunk in response.content.iter_any():
                yield chunk


@serve.ingress()
class HopEcho:
    """The clients' side of the hop."""

    def __init__(self, client: DeploymentHandle) -> None:
        self._unary = client.unary
        self._stream = client.options(stream=True).stream

    def __serve_build_asgi_app__(self) -> Asgi:
        """Serve calls this after the constructor."""
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
    """Says that it is there."""

    async def __call__(self, request: Request) -> str:
        """The same to everyone."""
        del request
        return "ok"


def build_inline(args: dict[str, Any]) -> Application:
    """``args``: ``url``, where exchanges go."""
    return _deployment(InlineEcho, "Echo").bind(args["url"])


def build_hop(args: dict[str, Any]) -> Application:
    """``args``: ``url``, where exchanges go."""
    return _deployment(HopEcho, "Echo").bind(_deployment(Client, "Client").bind(args["url"]))


def build_empty(args: dict[str, Any]) -> Application:
    """One deployment with nothing in it."""
    del args
    return serve.deployment(Empty).bind()


def _deployment(target: Any, name: str) -> Any:
    return serve.deployment(target, name=name, **_OPTIONS)


def _with_lifespan(answer: Asgi) -> Asgi:
    """Serve wants to see an application start and end."""

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
