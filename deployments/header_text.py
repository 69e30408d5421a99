"""Header values that are not UTF-8, which Serve would answer with a 500 in plain text.

Serve decodes some of a request's headers before it calls the ingress: those that name the request, the
session and the model, and its own switches. Clients that write HTTP/1.1 as RFC 9110 has it send Latin-1.
Serve calls ``middlewares`` in each process that listens, because
``RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH`` names it.
"""

from starlette.middleware import Middleware

from serve_app.api.headers import text_of
from serve_app.api.send import Asgi, Receive, Scope, Send


def middlewares() -> list[Middleware]:
    """What Serve puts around its own handling of requests."""
    return [Middleware(Utf8Headers)]


class Utf8Headers:
    """Makes UTF-8 of header values in Latin-1; those in UTF-8 stay as they are."""

    def __init__(self, app: Asgi) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on."""
        headers = scope.get("headers") or ()
        if not all(value.isascii() for _, value in headers):
            readable = [(name, text_of(value).encode()) for name, value in headers]
            scope = {**scope, "headers": readable}
        await self._app(scope, receive, send)
