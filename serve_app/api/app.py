"""The ASGI application: completions on a plain path, everything else through FastAPI.

A request passes, in this order: header limits, access, method and path, body limits, the JSON
itself. Access comes before any path is looked up, and is decided by an allow-list of open paths.
"""

import asyncio
import json
import logging
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeAlias
from uuid import uuid4

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from serve_app.access.keys import Access
from serve_app.api.body import ClientGoneError, read_body
from serve_app.api.errors import render, send_error
from serve_app.api.headers import HeaderFacts, Scope, read_headers
from serve_app.api.send import AnswerTornError, Receive, Send, send_answer, while_client_stays
from serve_app.dialects import json_edits
from serve_app.dialects.anthropic_messages import dialect
from serve_app.domain import Headers, Json
from serve_app.errors import GatewayError, MethodNotAllowed, UnknownModel, UnknownPath
from serve_app.requests.answer import Answer, decision_headers
from serve_app.requests.call import Call
from serve_app.requests.decide import READ_KEYS
from serve_app.requests.explain import render_explanation, render_routing
from serve_app.requests.gateway import Gateway
from serve_app.snapshot import Snapshot
from serve_app.telemetry.metrics import Meter, Metric

Asgi: TypeAlias = Callable[[Scope, Receive, Send], Any]

CHAT_PATH: Final = "/v1/chat/completions"
ROUTING_PATH: Final = "/routing/v1/chat/completions"
"""Plano's decision API: which route a conversation matches; names in it decide nothing."""
EXPLAIN_PATH: Final = "/v1/route"
"""What would be done with a chat completion, and everything that this rests on."""
_SURFACES: Final = {CHAT_PATH: "chat", ROUTING_PATH: "routing", EXPLAIN_PATH: "route"}
_OPEN_PATHS: Final = frozenset({"/", "/healthz"})
_NOT_ALLOWED: Final = 405
_TRACE_ID = re.compile("[0-9a-f]{32}")
_log = logging.getLogger("fingerpost")


@dataclass(frozen=True, slots=True)
class ApiDependencies:
    """What the application is put together from."""

    gateway: Gateway
    snapshot: Callable[[], Snapshot]
    access: Callable[[], Access]
    meter: Meter
    health: Callable[[], Awaitable[Json]]
    watched_by_server: bool = False
    """True where the server cancels a request whose client leaves, unless a header forbids it."""


def create_api(parts: ApiDependencies) -> Asgi:
    """The application, ready to be served."""
    return _Api(parts)


class _Api:
    def __init__(self, parts: ApiDependencies) -> None:
        self._parts = parts
        self._rest = _create_rest(parts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._rest(scope, receive, send)
            return
        path: str = scope["path"].removeprefix(scope.get("root_path", "")) or "/"
        parts, snapshot = self._parts, self._parts.snapshot()
        try:
            facts = read_headers(
                scope["headers"], snapshot.config.limits.header_bytes, snapshot.session_headers
            )
            if path not in _OPEN_PATHS:
                parts.access().check(scope, facts)
            if path in _SURFACES:
                await self._decided(path, snapshot, facts, scope, receive, send)
            else:
                await self._rest(scope, receive, send)
        except GatewayError as error:
            self._count(path, error.status)
            await send_error(send, error, scope, snapshot.policy.version)
        except ClientGoneError:
            parts.meter.count(Metric.CLIENT_GONE, (_surface(path),))
        except asyncio.CancelledError:  # Serve's own watch was quicker
            parts.meter.count(Metric.CLIENT_GONE, (_surface(path),))
            raise
        except AnswerTornError:
            _log.exception("an answer to %s broke off inside the gateway", path)
            raise
        except Exception:  # noqa: BLE001 - whatever it is, the client hears of it
            _log.exception("a request to %s failed inside the gateway", path)
            self._count(path, 500)
            await send_error(send, GatewayError(), scope, snapshot.policy.version)

    async def _decided(
        self,
        path: str,
        snapshot: Snapshot,
        facts: HeaderFacts,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        """The surfaces that take a chat completion's body."""
        if scope["method"] != "POST":
            raise MethodNotAllowed(scope["method"], path, "POST")
        gateway = self._parts.gateway
        body = await read_body(receive, facts.content_length, snapshot.config.limits.body_bytes)
        arrived = gateway.clock()  # how long a client takes to send is not ours to answer for
        document = json_edits.read_document(body, unique=READ_KEYS)
        call = Call(
            snapshot, document, facts.forwarded, facts.hint, arrived, facts.named, facts.credential
        )
        if self._parts.watched_by_server and not facts.watch_off:
            await send_answer(send, await self._answer(path, call))
            return
        async with while_client_stays(receive):
            await send_answer(send, await self._answer(path, call))

    async def _answer(self, path: str, call: Call) -> Answer:
        gateway = self._parts.gateway
        if path == CHAT_PATH:
            return await gateway.chat(call)
        decided = await gateway.decide(call, by_content=path == ROUTING_PATH)
        if path == ROUTING_PATH and decided.decision.route is not None:
            await gateway.settle(decided, decided.decision.candidates[0])
        decision, version = decided.decision, call.snapshot.policy.version
        if path == ROUTING_PATH:
            content = render_routing(decided, _trace_id(call.headers))
        else:
            content = render_explanation(call.snapshot, decided, gateway.clock() - call.arrived)
        self._parts.meter.count(Metric.REQUESTS, (_SURFACES[path], "200", decision.reason))
        headers = decision_headers(decision, decision.candidates[0], decision.reason, version)
        body = json.dumps(content, ensure_ascii=False).encode("utf-8", "replace")
        return Answer(200, (("content-type", "application/json"), *headers), body)

    def _count(self, path: str, status: int) -> None:
        self._parts.meter.count(Metric.REQUESTS, (_surface(path), str(status), ""))


def _surface(path: str) -> str:
    return _SURFACES.get(path, "other")


def _trace_id(headers: Headers) -> str:
    """Of the caller's trace, by ``traceparent`` (W3C Trace Context), else a new one."""
    for name, value in headers:
        parts = value.split("-")
        if name == "traceparent" and len(parts) > 1 and _TRACE_ID.fullmatch(parts[1]):
            return parts[1]
    return uuid4().hex


def _create_rest(parts: ApiDependencies) -> FastAPI:
    """Everything that is not on the hot path."""
    app = FastAPI(openapi_url=None, redirect_slashes=False)

    @app.head("/")
    @app.get("/")
    async def root() -> Json:
        return {"name": "fingerpost", "policy": parts.snapshot().policy.version}

    @app.head("/healthz")
    @app.get("/healthz")
    async def healthz() -> Json:
        return await parts.health()

    @app.get("/v1/models")
    async def models(request: Request) -> Json:
        names = parts.snapshot().policy.names()
        if "anthropic-version" in request.headers:
            return dialect.render_models(names)
        return {"object": "list", "data": [_model(parts.snapshot(), name) for name in names]}

    @app.get("/v1/models/{name:path}")
    async def model(request: Request, name: str) -> Json:
        snapshot = parts.snapshot()
        if not name or not snapshot.policy.knows(name):
            raise UnknownModel(name, snapshot.policy.nearest(name))
        if "anthropic-version" in request.headers:
            return dialect.render_model(name)
        return _model(snapshot, name)

    app.add_exception_handler(GatewayError, partial(_refused, parts))
    app.add_exception_handler(HTTPException, partial(_not_there, parts))
    return app


async def _refused(parts: ApiDependencies, request: Request, error: Exception) -> Response:
    refusal = error if isinstance(error, GatewayError) else GatewayError()
    path = request.url.path
    parts.meter.count(Metric.REQUESTS, ("other", str(refusal.status), ""))
    body = render(refusal, path, anthropic="anthropic-version" in request.headers)
    headers = {"x-fingerpost-policy": parts.snapshot().policy.version}
    if isinstance(refusal, MethodNotAllowed):
        headers["allow"] = refusal.allowed
    return Response(body, refusal.status, headers, "application/json")


async def _not_there(parts: ApiDependencies, request: Request, error: Exception) -> Response:
    """FastAPI's own 404 and 405, in the shape of all other errors."""
    path = request.url.path
    if isinstance(error, HTTPException) and error.status_code == _NOT_ALLOWED:
        allowed = (error.headers or {}).get("Allow", "GET")
        return await _refused(parts, request, MethodNotAllowed(request.method, path, allowed))
    return await _refused(parts, request, UnknownPath(path))


def _model(snapshot: Snapshot, name: str) -> Json:
    found = snapshot.policy.resolve(name)
    owner = "fingerpost" if found is None or str(found[0]) != name else found[0].provider
    return {"id": name, "object": "model", "created": 0, "owned_by": owner}
