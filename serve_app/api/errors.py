"""Errors on their way to the client, in the dialect that it reads."""

from serve_app.access_errors import LimitReached
from serve_app.api.send import Scope, Send, path_of, send_answer
from serve_app.dialects.registry import DEFAULT_DIALECT, error_dialect
from serve_app.domain import Headers
from serve_app.errors import GatewayError
from serve_app.requests.answer import JSON_TYPE, Answer, error_headers
from serve_app.requests.limit_headers import refusal_headers


async def send_error(send: Send, error: GatewayError, scope: Scope, policy: str) -> None:
    """Sends an error as a complete answer."""
    headers: Headers = (JSON_TYPE, ("x-fingerpost-policy", policy), *error_headers(error))
    names = {name for name, _ in scope["headers"]}
    dialect = error_dialect(path_of(scope), names)
    if isinstance(error, LimitReached):
        headers += refusal_headers(error, anthropic=dialect is not DEFAULT_DIALECT)
    body = dialect.render_error(error)
    await send_answer(send, Answer(error.status, headers, body))
