"""Errors of Anthropic messages, rendered for clients.

Source: Anthropic API reference, "Errors".
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from serve_app.errors import GatewayError

_TYPES: Mapping[int, str] = MappingProxyType(
    {
        400: "invalid_request_error",
        401: "authentication_error",
        403: "permission_error",
        404: "not_found_error",
        413: "request_too_large",
        429: "rate_limit_error",
        529: "overloaded_error",
    }
)
_CLIENT_ERROR = range(400, 500)


@dataclass(frozen=True, slots=True)
class MessagesErrors:
    """Renders errors as Anthropic clients expect them."""

    def render_error(self, error: GatewayError, *, status: int | None = None) -> bytes:
        """An error as a complete body."""
        code = status or error.status
        fallback = "invalid_request_error" if code in _CLIENT_ERROR else "api_error"
        kind = _TYPES.get(code, fallback)
        body = {"type": "error", "error": {"type": kind, "message": str(error)}}
        return json.dumps(body, ensure_ascii=False).encode()

    def render_error_event(self, error: GatewayError) -> bytes:
        """An error as an event of a stream."""
        return b"event: error\ndata: " + self.render_error(error) + b"\n\n"
