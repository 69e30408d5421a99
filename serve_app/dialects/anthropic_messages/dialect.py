"""Anthropic messages on the wire: so far the envelope of an error and the list of models.

Source: Anthropic API reference, "Errors" and "List Models".
"""

import json
from collections.abc import Mapping
from types import MappingProxyType

from serve_app.domain import Json
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


def render_error(error: GatewayError) -> bytes:
    """An error as the body that Anthropic clients expect."""
    fallback = "invalid_request_error" if error.status in _CLIENT_ERROR else "api_error"
    kind = _TYPES.get(error.status, fallback)
    body = {"type": "error", "error": {"type": kind, "message": str(error)}}
    return json.dumps(body, ensure_ascii=False).encode()


def render_model(name: str) -> Json:
    """One model; when it was made is not known here."""
    epoch = "1970-01-01T00:00:00Z"
    return {"type": "model", "id": name, "display_name": name, "created_at": epoch}


def render_models(names: list[str]) -> Json:
    """The list of models, as one page."""
    entries = [render_model(name) for name in names]
    first, last = (names[0], names[-1]) if names else (None, None)
    return {"data": entries, "has_more": False, "first_id": first, "last_id": last}
