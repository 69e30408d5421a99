"""Errors of the OpenAI API: rendered for clients, read from providers.

Every dialect of OpenAI has them in this form. Source: OpenAI API reference, "Error codes".
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from serve_app.dialects.json_edits import read_object
from serve_app.dialects.json_values import json_bytes
from serve_app.dialects.protocol import ErrorInfo
from serve_app.dialects.sse import Event
from serve_app.domain import Json
from serve_app.errors import GatewayError

_TYPES: Mapping[int, str] = MappingProxyType(
    {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
)
STATUSES: Final[Mapping[str, int]] = MappingProxyType(
    {
        "invalid_request_error": 400,
        "authentication_error": 401,
        "permission_error": 403,
        "insufficient_quota": 429,
        "rate_limit_error": 429,
        "rate_limit_exceeded": 429,
    }
)
"""What the types and codes of errors mean as a status."""

_CLIENT_ERROR, _SERVER_ERROR = range(400, 500), range(500, 600)
_UNKNOWN_STATUS = 502


@dataclass(frozen=True, slots=True)
class OpenAIErrors:
    """Renders errors as OpenAI clients expect them."""

    def render_error(self, error: GatewayError, *, status: int | None = None) -> bytes:
        """An error as the body that OpenAI clients expect."""
        return render_error(error, status)

    def render_error_event(self, error: GatewayError) -> bytes:
        """An error as an event inside a stream; the official SDKs raise APIError on it."""
        return b"data: " + render_error(error) + b"\n\n"


def render_error(error: GatewayError, status: int | None = None) -> bytes:
    """An error as the body that OpenAI clients expect."""
    code = status or error.status
    kind = "invalid_request_error" if code in _CLIENT_ERROR else "server_error"
    envelope = {
        "message": str(error),
        "type": _TYPES.get(code, kind),
        "param": error.param,
        "code": error.code,
    }
    return json_bytes({"error": envelope})


def read_error(body: bytes) -> ErrorInfo | None:
    """The error in a body; None if the body is not an error of this form.

    Google's compatible API puts the error into a list. It is read too, but its ``body`` is empty,
    because clients of this dialect do not expect it.
    """
    listed = body.strip()
    if listed.startswith(b"[") and listed.endswith(b"]"):
        answer = read_object(listed[1:-1])
        body = b""
    else:
        answer = read_object(body)
    error = None if answer is None else answer.get("error")
    return error_info(error, body) if isinstance(error, dict) else None


def event_error(event: Event) -> ErrorInfo | None:
    """The error of an event that is an error; None for any other event."""
    if event.data is None or b'"error"' not in event.data:
        return None
    chunk = read_object(event.data)
    error = None if chunk is None else chunk.get("error")
    return error_info(error, event.data) if error else None


def error_info(error: Json, body: bytes = b"", statuses: Mapping[str, int] = STATUSES) -> ErrorInfo:
    """What an error says, whatever its type; ``statuses`` by its types and codes."""
    kind = _text(error, "type") or _text(error, "status")  # the latter is Google's
    code = _text(error, "code")
    return ErrorInfo(error_message(error), _status(error, statuses), code, body, kind)


def error_message(error: Json) -> str:
    """The message of an error, or else all of it as JSON."""
    message = error.get("message") if isinstance(error, dict) else error
    if isinstance(message, str):
        return message
    try:
        return json.dumps(error, ensure_ascii=False)
    except RecursionError:
        return "the provider reports an error that is nested too deeply to be shown"


def _status(error: Json, statuses: Mapping[str, int]) -> int:
    """The status that an error object means; 502 if it does not say."""
    if isinstance(error, dict):
        for key in ("status", "code"):
            value = error.get(key)
            if isinstance(value, int) and (value in _CLIENT_ERROR or value in _SERVER_ERROR):
                return value
        for key in ("type", "code"):
            value = error.get(key)
            if isinstance(value, str) and value in statuses:
                return statuses[value]
    return _UNKNOWN_STATUS


def _text(error: Json, key: str) -> str | None:
    value = error.get(key) if isinstance(error, dict) else None
    return value if isinstance(value, str) else None
