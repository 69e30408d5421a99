"""Every path that is not a surface of a dialect, by FastAPI."""

from functools import partial
from typing import Final

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from serve_app.access.client import Client
from serve_app.access_errors import ModelNotAllowed
from serve_app.api.admitted import Admitted
from serve_app.api.dependencies import ApiDependencies
from serve_app.api.exchange import ApiExchange
from serve_app.api.model_directory import CurrentDirectory
from serve_app.api.models import render_model, render_models
from serve_app.api.playground.paths import add_page_paths
from serve_app.api.send import Asgi, Receive, Scope, Send, path_of
from serve_app.api.stored import add_stored_paths
from serve_app.api.surfaces import SURFACES
from serve_app.dialects.registry import error_dialect
from serve_app.domain import OWN_MODEL, Json
from serve_app.errors import GatewayError, MethodNotAllowed, UnknownModel, UnknownPath
from serve_app.requests.answer import error_headers
from serve_app.telemetry.prometheus_text import CONTENT_TYPE

METRICS_PATH: Final = "/metrics"
FAULT: Final = "fault"
"""Where the state of a request has what its endpoint raised."""
_UNAVAILABLE: Final = 503
_NOT_ALLOWED: Final = 405


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
            scope["state"][FAULT] = error


def create_other_paths(dependencies: ApiDependencies) -> FastAPI:
    """Everything that is not on the hot path."""
    app = FastAPI(openapi_url=None, redirect_slashes=False)
    app.add_middleware(_HandOver)

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

    @app.get(METRICS_PATH)
    async def metrics() -> Response:
        if dependencies.metrics is None:
            raise UnknownPath(METRICS_PATH, tuple(SURFACES))
        return Response(dependencies.metrics(), media_type=CONTENT_TYPE)

    _add_models(app, dependencies)
    add_stored_paths(app, dependencies.stored, dependencies.observer)
    add_page_paths(app, dependencies.page, dependencies.gateway, dependencies.snapshot)
    app.add_exception_handler(GatewayError, partial(_refuse, dependencies))
    app.add_exception_handler(HTTPException, partial(_refuse_path, dependencies))
    return app


def _add_models(app: FastAPI, dependencies: ApiDependencies) -> None:
    """The lists of models, as far as the client may use them."""
    directories = CurrentDirectory()

    @app.get("/v1/models")
    async def models(request: Request) -> Json:
        snapshot = dependencies.snapshot()
        directory = await directories.of(snapshot)
        is_anthropic, query = _is_anthropic(request), request.query_params
        allowance = _client(request).allowance
        entries = directory.entries
        if allowance is not None:
            known = snapshot.policy
            entries = tuple(one for one in entries if allowance.permits_name(known, one.name))
        return render_models(entries, anthropic=is_anthropic, query=query)

    @app.get("/v1/models/{name:path}")
    async def model(request: Request, name: str) -> Json:
        snapshot = dependencies.snapshot()
        policy = snapshot.policy
        if not name or not (policy.knows(name) or name == str(OWN_MODEL)):
            raise UnknownModel(name, policy.nearest(name))
        allowance = _client(request).allowance
        if allowance is not None and not allowance.permits_name(policy, name):
            raise ModelNotAllowed(name, allowance.names)
        entry = (await directories.of(snapshot)).entry(name)
        return render_model(entry, anthropic=_is_anthropic(request))


def _client(request: Request) -> Client:
    admitted: Admitted = request.state.admitted
    return admitted.client


def _is_anthropic(request: Request) -> bool:
    return "anthropic-version" in request.headers


async def _refuse(dependencies: ApiDependencies, request: Request, error: Exception) -> Response:
    refusal = error if isinstance(error, GatewayError) else GatewayError()
    exchange: ApiExchange = request.state.exchange
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
