"""Errors inside a stream: read from providers, written for clients.

Source: OpenAI API reference, "Responses", "Streaming events", "error" and "response.failed".
"""

from collections.abc import Mapping
from typing import Final

from serve_app.dialects import ir
from serve_app.dialects.json_values import object_of, text_of
from serve_app.domain import Json
from serve_app.errors import GatewayError

_STATUS_OF_CODE: Final[Mapping[str, int]] = {
    "authentication_error": 401,
    "insufficient_quota": 429,
    "permission_error": 403,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "server_error": 500,
    "server_is_overloaded": 503,
    "slow_down": 503,
    "vector_store_timeout": 504,
}
_CLIENT_CODES: Final = ("invalid_", "image_", "context_length", "bio_policy", "unsupported_")
"""How the codes of errors begin that are the client's."""

_RATE_LIMIT, _PROMPT, _SERVER = "rate_limit_exceeded", "invalid_prompt", "server_error"
_KEPT: Final = frozenset(
    {_RATE_LIMIT, _PROMPT, _SERVER, "context_length_exceeded", "insufficient_quota"}
)
"""Codes that clients act on: Codex compacts its conversation, or does not try again."""

_STATUSES: Final = range(400, 600)
_TOO_MANY: Final = 429
_SERVER_ERRORS: Final = 500


def read_failure(data: Mapping[str, Json]) -> ir.Failed:
    """The error of an event: inside its response, in ``error``, or the event itself."""
    places = (object_of(data.get("response")).get("error"), data.get("error"))
    error = next((place for place in places if place), None)
    fields = object_of(error) if error else {**data, "type": None}
    message = text_of(fields.get("message")) or text_of(error) or "the provider reports an error"
    code = text_of(fields.get("code")) or text_of(fields.get("type"))
    return ir.Failed(message, _status(fields.get("code"), code), code or None)


def _status(number: Json, code: str) -> int | None:
    if isinstance(number, int) and number in _STATUSES:
        return number
    return 400 if code.startswith(_CLIENT_CODES) else _STATUS_OF_CODE.get(code)


def write_failure(error: GatewayError) -> dict[str, Json]:
    """The field ``error`` of a Response that failed."""
    return {"code": _code(error), "message": str(error)}


def _code(error: GatewayError) -> str:
    if error.code in _KEPT:
        return error.code
    status = _STATUS_OF_CODE.get(error.code, error.status)
    if status == _TOO_MANY:
        return _RATE_LIMIT
    is_clients = status < _SERVER_ERRORS or error.code.startswith(_CLIENT_CODES)
    return _PROMPT if is_clients else _SERVER
