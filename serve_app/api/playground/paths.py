"""The paths of the page: its files, and the JSON API below ``/ui/api/``."""

import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from fastapi import FastAPI, Request, Response

from serve_app.api.admitted import Admitted
from serve_app.api.body import read_body
from serve_app.api.playground.checks import check_call, check_page
from serve_app.api.playground.comparison import Comparisons
from serve_app.api.playground.files import INDEX, static_files
from serve_app.api.playground.inputs import Pasted, read_edit, read_json_object, read_pasted
from serve_app.api.playground.page import API, ROOT, Page, decisions_for
from serve_app.api.playground.routes_yaml import routes_as_yaml
from serve_app.api.playground.stream import KEEP_ALIVE, LiveStreams
from serve_app.api.playground.views import render_configuration, render_health, render_price
from serve_app.api.send import Receive, Scope, Send, send_answer, while_client_stays
from serve_app.domain import Json
from serve_app.errors import UnknownPath
from serve_app.requests.answer import EVENT_STREAM, Answer
from serve_app.requests.call import ClientRequest
from serve_app.requests.gateway import Gateway
from serve_app.requests.trial import RouteEdit
from serve_app.snapshot import Snapshot

_Call: TypeAlias = Callable[[Request, Admitted], Awaitable[Response]]

_NOT_MODIFIED: Final = 304
_REDIRECT: Final = 307
_OK: Final = 200


class _Streamed(Response):
    """Sends a stream until its client leaves."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(status_code=answer.status)
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends it."""
        del scope
        async with while_client_stays(receive):
            await send_answer(send, self._answer)


@dataclass(frozen=True, slots=True)
class _Api:
    """The calls of the page."""

    page: Page
    gateway: Gateway
    streams: LiveStreams
    comparisons: Comparisons

    async def configuration(self, request: Request, admitted: Admitted) -> Response:
        """The configuration, and what this replica keeps."""
        del request
        prices = self.page.trials.prices
        shown = render_configuration(self.page, admitted.snapshot, admitted.client, prices)
        return _json(shown)

    async def health(self, request: Request, admitted: Admitted) -> Response:
        """Every endpoint of a provider, and whether it rests."""
        del request
        endpoints = render_health(self.gateway.health, admitted.snapshot)
        return _json({"replica": self.page.replica, "endpoints": endpoints})

    async def live(self, request: Request, admitted: Admitted) -> Response:
        """Decisions as they come; ``after`` and ``replica`` say what the page has seen."""
        query = request.query_params
        is_known = query.get("replica") == self.page.replica
        after = query.get("after", "")
        seen = int(after) if is_known and after.isdecimal() else 0
        events = self.streams.events(admitted.client, seen)
        return _Streamed(Answer(_OK, (EVENT_STREAM,), events, KEEP_ALIVE))

    async def decide(self, request: Request, admitted: Admitted) -> Response:
        """What would be done with a pasted conversation, as configured or with an edit."""
        asked = read_json_object(await _body(request, admitted))
        snapshot = admitted.snapshot
        edit = read_edit(asked.get("edit"), snapshot.policy)
        edited = _edited(snapshot, edit)
        text, dialect = asked.get("input"), asked.get("dialect")
        pasted = read_pasted(
            text if isinstance(text, str) else "", dialect if isinstance(dialect, str) else None
        )
        shown: dict[str, Json] = {"yaml": routes_as_yaml(edited, snapshot), "decision": None}
        if pasted is not None:
            by_content = asked.get("by_content") is True
            async with while_client_stays(request.receive):
                shown |= await self._decided(admitted, pasted, edited, by_content=by_content)
        return _json(shown)

    async def _decided(
        self, admitted: Admitted, pasted: Pasted, edited: Snapshot, *, by_content: bool
    ) -> dict[str, Json]:
        call = ClientRequest(
            snapshot=admitted.snapshot,
            surface="route",
            dialect=pasted.dialect,
            document=pasted.document,
            headers=(),
            hint=None,
            arrived=self.gateway.clock(),
            client=admitted.client,
        )
        result = await self.page.trials.explain(call, edited, by_content=by_content)
        candidates = zip(result.explanation["candidates"], result.prices, strict=True)
        return {
            "read_as": pasted.read_as,
            "names": _named_model(pasted),
            "decision": {
                **result.explanation,
                "candidates": [
                    {**candidate, "price": render_price(price)} for candidate, price in candidates
                ],
            },
            "headers": [list(pair) for pair in result.headers],
        }

    async def compare(self, request: Request, admitted: Admitted) -> Response:
        """What an edit changes about the last decisions."""
        asked = read_json_object(await _body(request, admitted))
        snapshot = admitted.snapshot
        edited = _edited(snapshot, read_edit(asked.get("edit"), snapshot.policy))
        kept = decisions_for(self.page, admitted.client, snapshot)
        async with while_client_stays(request.receive):
            compared = await self.comparisons.compare(kept, edited)
        return _json({"replica": self.page.replica, "kept": len(kept), **compared})


def add_page_paths(
    app: FastAPI, page: Page | None, gateway: Gateway, current: Callable[[], Snapshot]
) -> None:
    """Adds the page, whose requests have an Admitted in their state; None: there is none."""
    if page is None:
        return
    api = _Api(page, gateway, LiveStreams(page, current), Comparisons(page.trials, time.monotonic))
    calls: tuple[tuple[str, str, _Call], ...] = (
        ("GET", "config", api.configuration),
        ("GET", "health", api.health),
        ("GET", "live", api.live),
        ("POST", "decide", api.decide),
        ("POST", "compare", api.compare),
    )
    for method, name, call in calls:
        app.add_api_route(f"{API}{name}", _checked(call), methods=[method])
    app.add_api_route(ROOT, _to_folder, methods=["GET", "HEAD"])
    app.add_api_route(f"{ROOT}/{{name}}", _file, methods=["GET", "HEAD"])
    app.add_api_route(f"{ROOT}/", _file, methods=["GET", "HEAD"])


def _checked(call: _Call) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        admitted: Admitted = request.state.admitted
        check_page(request, admitted.snapshot)
        check_call(request)
        return await call(request, admitted)

    return endpoint


async def _to_folder(request: Request) -> Response:
    """Redirects ``/ui`` to ``/ui/``, below which the files have relative addresses."""
    check_page(request, request.state.admitted.snapshot)
    return Response(status_code=_REDIRECT, headers={"location": "ui/"})


async def _file(request: Request) -> Response:
    check_page(request, request.state.admitted.snapshot)
    file = static_files().get(request.path_params.get("name", INDEX))
    if file is None:
        raise UnknownPath(request.url.path)
    headers = {"etag": file.etag, "cache-control": "no-cache"}
    if request.headers.get("if-none-match") == file.etag:
        return Response(status_code=_NOT_MODIFIED, headers=headers)
    return Response(file.content, headers=headers, media_type=file.media_type)


async def _body(request: Request, admitted: Admitted) -> bytes:
    facts, limits = admitted.facts, admitted.snapshot.config.limits
    return await read_body(
        request.receive, facts.content_length, limits.body_bytes, facts.encodings
    )


def _edited(snapshot: Snapshot, edit: RouteEdit | None) -> Snapshot:
    return snapshot if edit is None else edit.applied_to(snapshot)


def _named_model(pasted: Pasted) -> str | None:
    """The model that a pasted body names."""
    model = pasted.document.get("model")
    return model if isinstance(model, str) else None


def _json(content: Json) -> Response:
    body = json.dumps(content, ensure_ascii=False).encode("utf-8", "replace")
    return Response(body, media_type="application/json")
