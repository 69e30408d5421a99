"""The ASGI application: the surfaces of dialects on a plain path, everything else by FastAPI.

A request passes, in this order: header limits, access, method and path, body limits, the JSON
itself. A browser's preflight is answered before access. Access comes before any path is looked up, and is decided by an allow-list of open paths.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Final
from uuid import uuid4

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from serve_app.access.client import ANONYMOUS, Client
from serve_app.access.keys import Caller
from serve_app.api.admitted import Admitted
from serve_app.api.body import ClientGoneError, read_body
from serve_app.api.cors import for_page, is_preflight, origin_of, preflight_answer
from serve_app.api.errors import send_error
from serve_app.api.headers import HeaderFacts, read_headers
from serve_app.api.model_directory import CurrentDirectory
from serve_app.api.models import render_model, render_models
from serve_app.api.playground.checks import with_guards
from serve_app.api.playground.page import Page, is_below_page, is_open_file
from serve_app.api.playground.paths import add_page_paths
from serve_app.api.send import (
    AnswerTornError,
    Asgi,
    Receive,
    Scope,
    Send,
    path_of,
    send_answer,
    while_client_stays,
)
from serve_app.api.stored import add_stored_paths
from serve_app.api.surfaces import SURFACES, Surface, SurfaceAction, surface_name
from serve_app.api.websocket import denial_of, wants_websocket
from serve_app.dialects.json_edits import read_document
from serve_app.dialects.registry import dialect_of, error_dialect
from serve_app.domain import OWN_MODEL, Headers, Json
from serve_app.errors import (
    GatewayError,
    MethodNotAllowed,
    UnknownModel,
    UnknownPath,
    WebSocketUnsupported,
)
from serve_app.requests.answer import Answer, error_headers
from serve_app.requests.call import ClientRequest
from serve_app.requests.gateway import Gateway
from serve_app.requests.stored import Stored
from serve_app.snapshot import Snapshot
from serve_app.telemetry.prometheus_text import CONTENT_TYPE
from serve_app.telemetry.record import CLIENT_GONE, Observer, RequestRecord
from serve_app.telemetry.trace_context import TraceContext, Tracer

_OPEN_PATHS: Final = frozenset({"/", "/healthz"})
_METRICS: Final = "/metrics"
_UNAVAILABLE: Final = 503
_FAULT: Final = "fault"
"""Where the state of a request has what its endpoint raised."""
_NOT_ALLOWED: Final = 405
_log = logging.getLogger("fingerpost")


@dataclass(frozen=True, slots=True)
class ApiDependencies:
    """What the application is assembled from."""

    gateway: Gateway
    stored: Stored
    snapshot: Callable[[], Snapshot]
    observer: Observer
    health: Callable[[], Awaitable[Json]]
    new_id: Callable[[], str] = lambda: uuid4().hex
    """The id of the request that is being answered, as ``x-request-id`` has it."""
    tracing: Tracer | None = None
    """Begins the traces of requests; None: nothing is traced."""
    metrics: Callable[[], str] | None = None
    """Returns the metrics of this process as Prometheus text; None: there is no ``/metrics``."""
    watched_by_server: bool = False
    """True if the server cancels a request whose client leaves, unless a header forbids it."""
    page: Page | None = None
    """The page at ``/ui``; None: there is none."""


def create_api(dependencies: ApiDependencies) -> Asgi:
    """The application, ready to be served."""
    return _Api(dependencies)


@dataclass(slots=True)
class _Exchange:
    """One request at the API, until the use case has it."""

    surface: str
    id: str
    at: float
    """Seconds since the epoch."""
    query: bytes
    client: Client = ANONYMOUS
    trace: TraceContext | None = None
    """None if it is not sampled."""
    headers: Headers = ()
    """Those that go on to the provider."""
    answered: bool = False
    """The use case has made an answer, and the record with it."""

    def begin(self, tracing: Tracer | None, headers: Headers, path: str) -> None:
        """Begins its trace, if requests are traced."""
        self.headers = headers
        if tracing is not None:
            self.trace, self.headers = tracing.begin(headers, path)

    def has_read(self) -> None:
        """Its body has been read."""
        if self.trace is not None:
            self.trace = self.trace._replace(read_at=time.time())

    def record(self, status: int | None, error_type: str = "") -> RequestRecord:
        """The record of a request that the use case did not get, or that it refused."""
        return RequestRecord(
            self.surface,
            status,
            error_type=error_type,
            id=self.id,
            at=self.at,
            client=self.client.name,
            team=self.client.team,
            context=self.trace,
        )


class _Api:
    def __init__(self, dependencies: ApiDependencies) -> None:
        self._snapshot = dependencies.snapshot
        self._gateway = dependencies.gateway
        self._observer = dependencies.observer
        self._new_id = dependencies.new_id
        self._tracing = dependencies.tracing
        self._watched_by_server = dependencies.watched_by_server
        self._rest = _create_rest(dependencies)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._rest(scope, receive, send)
            return
        if scope["type"] == "websocket":
            send = denial_of(scope, send)
        path = path_of(scope)
        if is_below_page(path):
            send = with_guards(path, send)
        snapshot = self._snapshot()
        query = scope.get("query_string", b"")
        exchange = _Exchange(surface_name(path), self._new_id(), time.time(), query)
        origin = origin_of(scope)
        if origin is not None:
            send = for_page(send, origin, snapshot.access.origins)
        try:
            await self._serve(path, snapshot, exchange, scope, receive, send)
        except GatewayError as error:
            await self._refuse(error, exchange, snapshot, scope, send)
        except ClientGoneError:
            self._lose(exchange)
        except asyncio.CancelledError:  # Serve noticed first that the client left
            self._lose(exchange)
            raise
        except AnswerTornError:
            _log.exception("an answer to %r broke off inside the gateway", path)
            raise
        except Exception:  # noqa: BLE001 - the client hears of every error
            _log.exception("a request to %r failed inside the gateway", path)
            await self._refuse(GatewayError(), exchange, snapshot, scope, send)

    async def _refuse(
        self,
        error: GatewayError,
        exchange: _Exchange,
        snapshot: Snapshot,
        scope: Scope,
        send: Send,
    ) -> None:
        self._observer.ended(exchange.record(error.status, error.code))
        await send_error(send, error, scope, snapshot.version)

    def _lose(self, exchange: _Exchange) -> None:
        """Records a client that left before there was an answer."""
        if not exchange.answered:
            self._observer.ended(exchange.record(None, CLIENT_GONE))

    async def _serve(
        self,
        path: str,
        snapshot: Snapshot,
        exchange: _Exchange,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        limits = snapshot.config.limits
        facts = read_headers(scope["headers"], limits.header_bytes, snapshot.deciding_headers)
        if is_preflight(scope):  # it has no key, because browsers add none
            if snapshot.config.client_keys is None:
                snapshot.access.check(_caller(scope, facts))
            await send_answer(send, preflight_answer(scope, snapshot.access.origins))
            return
        if not _is_open(path, snapshot):
            exchange.client = snapshot.access.check(_caller(scope, facts))
        if wants_websocket(scope):
            raise WebSocketUnsupported(path)
        admitted = Admitted(snapshot, facts, exchange.client)
        surface = SURFACES.get(path)
        if surface is None:
            await self._serve_rest(admitted, exchange, scope, receive, send)
            return
        if scope["method"] != "POST":
            raise MethodNotAllowed(scope["method"], path, "POST")
        exchange.begin(self._tracing, facts.forwarded, path)
        body = await read_body(receive, facts.content_length, limits.body_bytes, facts.encodings)
        exchange.has_read()
        request = self._request(surface, admitted, body, exchange)
        if self._watched_by_server and not facts.watch_off:
            answer = await self._answer(surface, request)
            exchange.answered = True
            await send_answer(send, answer)
            return
        async with while_client_stays(receive):
            answer = await self._answer(surface, request)
            exchange.answered = True
            await send_answer(send, answer)

    async def _serve_rest(
        self,
        admitted: Admitted,
        exchange: _Exchange,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        """Serves what is not a surface; a fault of its endpoint is raised."""
        state = {**scope.get("state", {}), "admitted": admitted, "exchange": exchange}
        await self._rest({**scope, "state": state}, receive, send)
        if _FAULT in state:
            raise state[_FAULT]

    def _request(
        self,
        surface: Surface,
        admitted: Admitted,
        body: bytes,
        exchange: _Exchange,
    ) -> ClientRequest:
        facts = admitted.facts
        arrived = self._gateway.clock()  # excludes the time that the client took to send
        document = read_document(body, unique=surface.unique)
        return ClientRequest(
            snapshot=admitted.snapshot,
            surface=surface.name,
            dialect=surface.dialect or dialect_of(document, dict(facts.forwarded)),
            document=document,
            headers=exchange.headers,
            hint=facts.hint,
            arrived=arrived,
            deciding_headers=facts.deciding,
            client=admitted.client,
            id=exchange.id,
            at=exchange.at,
            credential=admitted.credential,
            trace=exchange.trace,
            is_beta=b"beta=true" in exchange.query.split(b"&"),
        )

    async def _answer(self, surface: Surface, request: ClientRequest) -> Answer:
        match surface.action:
            case SurfaceAction.COMPLETE:
                return await self._gateway.complete(request)
            case SurfaceAction.MATCH:
                return await self._gateway.match(request)
            case SurfaceAction.EXPLAIN:
                return await self._gateway.explain(request)
            case SurfaceAction.ASK:
                return await self._gateway.answer_questions(request)


def _is_open(path: str, snapshot: Snapshot) -> bool:
    """True for a path that needs no client key."""
    if path == _METRICS:
        return snapshot.config.telemetry.open_metrics
    return path in _OPEN_PATHS or is_open_file(path, snapshot)


def _caller(scope: Scope, facts: HeaderFacts) -> Caller:
    client, server = scope.get("client"), scope.get("server")
    peer = client[0] if client else None
    return Caller(peer, server[0] if server else None, facts.origin, facts.keys, facts.host)


class _HandOver:
    """Keeps an exception from Starlette, which would answer with a 500 in plain text."""

    def __init__(self, app: Asgi) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            await self._app(scope, receive, send)
        except Exception as error:  # noqa: BLE001 - the caller raises it again
            scope["state"][_FAULT] = error


def _create_rest(dependencies: ApiDependencies) -> FastAPI:
    """Everything that is not on the hot path."""
    app = FastAPI(openapi_url=None, redirect_slashes=False)
    app.add_middleware(_HandOver)
    directories = CurrentDirectory()

    @app.head("/")
    @app.get("/")
    async def root() -> Json:
        return {"name": "fingerpost", "policy": dependencies.snapshot().version}

    @app.head("/healthz")
    @app.get("/healthz")
    async def healthz(response: Response) -> Json:
        health = await dependencies.health()
        if health["status"] != "ok":
            response.status_code = _UNAVAILABLE
        return health

    @app.get(_METRICS)
    async def metrics() -> Response:
        if dependencies.metrics is None:
            raise UnknownPath(_METRICS, tuple(SURFACES))
        return Response(dependencies.metrics(), media_type=CONTENT_TYPE)

    @app.get("/v1/models")
    async def models(request: Request) -> Json:
        directory = await directories.of(dependencies.snapshot())
        is_anthropic, query = _is_anthropic(request), request.query_params
        return render_models(directory.entries, anthropic=is_anthropic, query=query)

    @app.get("/v1/models/{name:path}")
    async def model(request: Request, name: str) -> Json:
        snapshot = dependencies.snapshot()
        policy = snapshot.policy
        if not name or not (policy.knows(name) or name == str(OWN_MODEL)):
            raise UnknownModel(name, policy.nearest(name))
        entry = (await directories.of(snapshot)).entry(name)
        return render_model(entry, anthropic=_is_anthropic(request))

    add_stored_paths(app, dependencies.stored, dependencies.observer)
    add_page_paths(app, dependencies.page, dependencies.gateway, dependencies.snapshot)
    app.add_exception_handler(GatewayError, partial(_refuse, dependencies))
    app.add_exception_handler(HTTPException, partial(_refuse_path, dependencies))
    return app


def _is_anthropic(request: Request) -> bool:
    return "anthropic-version" in request.headers


async def _refuse(dependencies: ApiDependencies, request: Request, error: Exception) -> Response:
    refusal = error if isinstance(error, GatewayError) else GatewayError()
    exchange: _Exchange = request.state.exchange
    dependencies.observer.ended(exchange.record(refusal.status, refusal.code))
    names = {name for name, _ in request.scope["headers"]}
    body = error_dialect(path_of(request.scope), names).render_error(refusal)
    version = dependencies.snapshot().version
    headers = {"x-fingerpost-policy": version, **dict(error_headers(refusal))}
    return Response(body, refusal.status, headers, "application/json")


async def _refuse_path(
    dependencies: ApiDependencies, request: Request, error: Exception
) -> Response:
    """FastAPI's own 404 and 405, in the shape of all other errors."""
    path = request.url.path
    if isinstance(error, HTTPException) and error.status_code == _NOT_ALLOWED:
        allowed = (error.headers or {}).get("Allow", "GET")
        refusal: GatewayError = MethodNotAllowed(request.method, path, allowed)
    else:
        refusal = UnknownPath(path, tuple(SURFACES))
    return await _refuse(dependencies, request, refusal)
