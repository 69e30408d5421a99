"""The ASGI application: the surfaces of dialects on a plain path, everything else by FastAPI.

A request passes, in this order: header limits, access, method and path, body limits, the JSON
itself. A browser's preflight is answered before access. Access comes before any path is looked up, and is decided by an allow-list of open paths.
"""

import asyncio
import logging
import time
from typing import Final

from serve_app.access.keys import Caller
from serve_app.api.admitted import Admitted
from serve_app.api.body import ClientGoneError, read_body
from serve_app.api.cors import for_page, is_preflight, origin_of, preflight_answer
from serve_app.api.dependencies import ApiDependencies
from serve_app.api.errors import send_error
from serve_app.api.exchange import ApiExchange
from serve_app.api.headers import HeaderFacts, read_headers
from serve_app.api.other_paths import FAULT, METRICS_PATH, create_other_paths
from serve_app.api.playground.checks import with_guards
from serve_app.api.playground.page import is_below_page, is_open_file
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
from serve_app.api.surfaces import SURFACES, Surface, SurfaceAction, surface_name
from serve_app.api.websocket import denial_of, wants_websocket
from serve_app.dialects.json_edits import read_document
from serve_app.dialects.registry import dialect_of
from serve_app.errors import (
    GatewayError,
    MethodNotAllowed,
    WebSocketUnsupported,
)
from serve_app.requests.answer import Answer
from serve_app.requests.call import ClientRequest
from serve_app.snapshot import Snapshot
from serve_app.telemetry.record import CLIENT_GONE

_OPEN_PATHS: Final = frozenset({"/", "/healthz"})
_log = logging.getLogger("fingerpost")


def create_api(dependencies: ApiDependencies) -> Asgi:
    """The application, ready to be served."""
    return _Api(dependencies)


class _Api:
    def __init__(self, dependencies: ApiDependencies) -> None:
        self._snapshot = dependencies.snapshot
        self._gateway = dependencies.gateway
        self._observer = dependencies.observer
        self._new_id = dependencies.new_id
        self._tracing = dependencies.tracing
        self._watched_by_server = dependencies.watched_by_server
        self._rest = create_other_paths(dependencies)

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
        exchange = ApiExchange(surface_name(path), self._new_id(), time.time(), query)
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
        exchange: ApiExchange,
        snapshot: Snapshot,
        scope: Scope,
        send: Send,
    ) -> None:
        self._observer.ended(exchange.record(error.status, error.code))
        await send_error(send, error, scope, snapshot.version)

    def _lose(self, exchange: ApiExchange) -> None:
        """Records a client that left before there was an answer."""
        if not exchange.answered:
            self._observer.ended(exchange.record(None, CLIENT_GONE))

    async def _serve(
        self,
        path: str,
        snapshot: Snapshot,
        exchange: ApiExchange,
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
        exchange: ApiExchange,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        """Serves what is not a surface; a fault of its endpoint is raised."""
        state = {**scope.get("state", {}), "admitted": admitted, "exchange": exchange}
        await self._rest({**scope, "state": state}, receive, send)
        if FAULT in state:
            raise state[FAULT]

    def _request(
        self,
        surface: Surface,
        admitted: Admitted,
        body: bytes,
        exchange: ApiExchange,
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
    if path == METRICS_PATH:
        return snapshot.config.telemetry.open_metrics
    return path in _OPEN_PATHS or is_open_file(path, snapshot)


def _caller(scope: Scope, facts: HeaderFacts) -> Caller:
    client, server = scope.get("client"), scope.get("server")
    peer = client[0] if client else None
    return Caller(peer, server[0] if server else None, facts.origin, facts.keys, facts.host)
