"""The ASGI application: completions on a plain path, everything else through FastAPI.

A request passes, in this order: header limits, access, method and path, body limits, the JSON
itself. Access comes before any path is looked up, and is decided by an allow-list of open paths.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from serve_app.api.context import (
    Access,
    ClientGoneError,
    HeaderFacts,
    Scope,
    read_body,
    read_headers,
)
from serve_app.api.errors import render, send_error
from serve_app.api.stream import Receive, Send, send_answer, while_client_stays
from serve_app.dialects import anthropic_messages, edits
from serve_app.domain import Json
from serve_app.errors import GatewayError, MethodNotAllowed, UnknownModel, UnknownPath
from serve_app.gateway import READ_KEYS, Call, Gateway, Setup
from serve_app.ports import Meter, Metric

Asgi: TypeAlias = Callable[[Scope, Receive, Send], Any]

CHAT_PATH: Final = "/v1/chat/completions"
_OPEN_PATHS: Final = frozenset({"/", "/healthz"})
_NOT_FOUND, _NOT_ALLOWED = 404, 405
_log = logging.getLogger("fingerpost")


@dataclass(frozen=True, slots=True)
class Parts:
    """What the application is put together from."""

    gateway: Gateway
    setup: Callable[[], Setup]
    access: Access
    meter: Meter
    health: Callable[[], Json]
    hop_bytes: int | None = None
    """The largest body that a hop carries, where that is less than the configured limit."""


def create_api(parts: Parts) -> Asgi:
    """The application, ready to be served."""
    return _Api(parts)


class _Api:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._rest = _create_rest(parts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._rest(scope, receive, send)
            return
        started = False

        async def watched_send(message: dict[str, Any]) -> None:
            nonlocal started
            started = True
            await send(message)

        path: str = scope["path"]
        parts, setup = self._parts, self._parts.setup()
        anthropic = any(name == b"anthropic-version" for name, _ in scope["headers"])
        try:
            facts = read_headers(scope["headers"], setup.config.limits.header_bytes)
            if path not in _OPEN_PATHS:
                parts.access.check(scope, facts)
            if path == CHAT_PATH:
                await self._chat(setup, facts, scope, receive, watched_send)
            else:
                await self._rest(scope, receive, watched_send)
        except GatewayError as error:
            self._count(path, error.status)
            await send_error(
                send, error, path, anthropic=anthropic, policy=setup.policy.version
            )
        except ClientGoneError:
            parts.meter.count(Metric.CLIENT_GONE, (_surface(path),))
        except Exception:
            _log.exception("a request to %s failed inside the gateway", path)
            self._count(path, 500)
            if started:
                raise
            await send_error(
                send, GatewayError(), path, anthropic=anthropic, policy=setup.policy.version
            )

    async def _chat(
        self, setup: Setup, facts: HeaderFacts, scope: Scope, receive: Receive, send: Send
    ) -> None:
        if scope["method"] != "POST":
            raise MethodNotAllowed(scope["method"], CHAT_PATH, "POST")
        gateway = self._parts.gateway
        arrived = gateway.clock()
        limit, setting = setup.config.limits.body_bytes, "limits.body_bytes"
        if self._parts.hop_bytes is not None and self._parts.hop_bytes < limit:
            limit, setting = self._parts.hop_bytes, _HOP_SETTING
        body = await read_body(receive, facts.content_length, limit, setting)
        document = edits.read(body, unique=READ_KEYS)
        call = Call(setup, document, facts.forwarded, facts.hint, arrived)
        async with while_client_stays(receive):
            await send_answer(send, await gateway.chat(call))

    def _count(self, path: str, status: int) -> None:
        self._parts.meter.count(Metric.REQUESTS, (_surface(path), str(status), ""))


_HOP_SETTING: Final = (
    "what Serve's gRPC hop carries here; start it with the environment of configs/serve.env"
)


def _surface(path: str) -> str:
    return "chat" if path == CHAT_PATH else "other"


def _create_rest(parts: Parts) -> FastAPI:
    """Everything that is not on the hot path."""
    app = FastAPI(title="Fingerpost", openapi_url=None, docs_url=None, redoc_url=None)

    @app.head("/")
    @app.get("/")
    async def root() -> Json:
        return {"name": "fingerpost", "policy": parts.setup().policy.version}

    @app.get("/healthz")
    async def healthz() -> Json:
        return parts.health()

    @app.get("/v1/models")
    async def models(request: Request) -> Json:
        names = parts.setup().policy.names()
        if "anthropic-version" in request.headers:
            return anthropic_messages.render_models(names)
        return {"object": "list", "data": [_model(parts.setup(), name) for name in names]}

    @app.get("/v1/models/{name:path}")
    async def model(name: str) -> Json:
        setup = parts.setup()
        if setup.policy.resolve(name) is None:
            raise UnknownModel(name, setup.policy.nearest(name))
        return _model(setup, name)

    @app.exception_handler(GatewayError)
    async def refused(request: Request, error: Exception) -> Response:
        if not isinstance(error, GatewayError):  # pragma: no cover - registered for this type
            raise error
        anthropic = "anthropic-version" in request.headers
        body = render(error, request.url.path, anthropic=anthropic)
        headers = {"allow": error.allowed} if isinstance(error, MethodNotAllowed) else {}
        headers["x-fingerpost-policy"] = parts.setup().policy.version
        parts.meter.count(Metric.REQUESTS, ("other", str(error.status), ""))
        return Response(body, error.status, headers, "application/json")

    @app.exception_handler(HTTPException)
    async def not_there(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 0
        if status == _NOT_ALLOWED:
            allowed = (getattr(error, "headers", None) or {}).get("Allow", "GET")
            meant = MethodNotAllowed(request.method, request.url.path, allowed)
            return await refused(request, meant)
        if status == _NOT_FOUND:
            return await refused(request, UnknownPath(request.url.path))
        return JSONResponse({"error": {"message": str(error)}}, status or 500)

    return app


def _model(setup: Setup, name: str) -> Json:
    found = setup.policy.resolve(name)
    owner = "fingerpost" if found is None or str(found[0]) != name else found[0].provider
    return {"id": name, "object": "model", "created": 0, "owned_by": owner}
