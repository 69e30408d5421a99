"""Errors on their way to the client: which dialect, and as which messages."""

from typing import Final

from serve_app.api.headers import Scope
from serve_app.api.send import Send, send_answer
from serve_app.dialects.anthropic_messages import dialect as messages
from serve_app.dialects.openai_chat import dialect as chat
from serve_app.domain import Headers
from serve_app.errors import GatewayError, MethodNotAllowed
from serve_app.requests.answer import Answer

_ANTHROPIC_PATHS: Final = ("/v1/messages", "/routing/v1/messages")


def render(error: GatewayError, path: str, *, anthropic: bool) -> bytes:
    """The error's body, in the dialect that this path, or else this client, speaks."""
    if anthropic or path.startswith(_ANTHROPIC_PATHS):
        return messages.render_error(error)
    return chat.render_error(error)


async def send_error(send: Send, error: GatewayError, scope: Scope, policy: str) -> None:
    """Sends an error as a complete answer."""
    headers: Headers = (("content-type", "application/json"), ("x-fingerpost-policy", policy))
    if isinstance(error, MethodNotAllowed):
        headers = (*headers, ("allow", error.allowed))
    anthropic = any(name == b"anthropic-version" for name, _ in scope["headers"])
    body = render(error, scope["path"], anthropic=anthropic)
    await send_answer(send, Answer(error.status, headers, body))
