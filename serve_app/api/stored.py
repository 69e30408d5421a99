"""The paths of kept answers and conversations.

Source: OpenAI API reference, "Responses" and "Conversations".
"""

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Final, TypeAlias

from fastapi import FastAPI, Request, Response

from serve_app.api.admitted import Admitted
from serve_app.api.body import read_body
from serve_app.api.send import Receive, Scope, Send, send_answer, while_client_stays
from serve_app.requests.answer import Answer
from serve_app.requests.stored import Stored, StoredCall
from serve_app.telemetry.record import Observer

_Action: TypeAlias = Callable[[Stored, StoredCall], Awaitable[Answer]]

_ERRORS: Final = range(400, 600)
_PATHS: Final[Mapping[str, Mapping[str, _Action]]] = MappingProxyType(
    {
        "/v1/responses/{name}": {
            "GET": lambda stored, call: stored.answers.retrieve(call),
            "DELETE": lambda stored, call: stored.answers.delete(call),
        },
        "/v1/responses/{name}/input_items": {
            "GET": lambda stored, call: stored.answers.list_input(call),
        },
        "/v1/responses/{name}/cancel": {
            "POST": lambda stored, call: stored.answers.cancel(call),
        },
        "/v1/conversations": {
            "POST": lambda stored, call: stored.conversations.create(call),
        },
        "/v1/conversations/{name}": {
            "GET": lambda stored, call: stored.conversations.retrieve(call),
            "POST": lambda stored, call: stored.conversations.update(call),
            "DELETE": lambda stored, call: stored.conversations.delete(call),
        },
        "/v1/conversations/{name}/items": {
            "GET": lambda stored, call: stored.conversations.list_items(call),
        },
    }
)
"""The actions of each path, by their methods."""


class _Sent(Response):
    """Sends an answer, which may be a stream of a provider, until the client leaves."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(status_code=answer.status)
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends it."""
        del scope
        async with while_client_stays(receive):
            await send_answer(send, self._answer)


def add_stored_paths(app: FastAPI, stored: Stored, observer: Observer) -> None:
    """Adds the paths to the application, whose requests have an Admitted in their state."""
    for path, actions in _PATHS.items():
        app.add_api_route(path, _endpoint(actions, stored, observer), methods=[*actions])


def _endpoint(
    actions: Mapping[str, _Action], stored: Stored, observer: Observer
) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        call = await _read(request)
        async with while_client_stays(request.receive):
            answer = await actions[request.method](stored, call)
        if answer.status in _ERRORS:  # a provider's own
            observer.ended(request.state.exchange.record(answer.status, str(answer.status)))
        return _Sent(answer)

    return endpoint


async def _read(request: Request) -> StoredCall:
    """The request with its body. Raises the errors of ``read_body``."""
    admitted: Admitted = request.state.admitted
    facts, limits = admitted.facts, admitted.snapshot.config.limits
    body = await read_body(
        request.receive, facts.content_length, limits.body_bytes, facts.encodings
    )
    return StoredCall(
        snapshot=admitted.snapshot,
        scope=admitted.scope,
        method=request.method,
        name=request.path_params.get("name", ""),
        query=request.scope.get("query_string", b""),
        body=body,
        headers=facts.forwarded,
        credential=admitted.credential,
    )
