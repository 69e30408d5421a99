"""Errors of OpenAI chat completions: rendered for clients, read from providers.

Source: OpenAI API reference, "Error codes".
"""

import json
from collections.abc import Mapping
from types import MappingProxyType

from serve_app.dialects.json_edits import read_object
from serve_app.dialects.protocol import ErrorInfo
from serve_app.dialects.sse import Event
from serve_app.domain import Json
from serve_app.errors import GatewayError

_TYPES: Mapping[int, str] = MappingProxyType(
    {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
)
_STATUS_OF_TYPE: Mapping[str, int] = MappingProxyType(
    {
        "invalid_request_error": 400,
        "authentication_error": 401,
        "permission_error": 403,
        "insufficient_quota": 429,
        "rate_limit_error": 429,
        "rate_limit_exceeded": 429,
    }
)
_CLIENT_ERROR, _SERVER_ERROR = range(400, 500), range(500, 600)
_UNKNOWN_STATUS = 502


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
    return json.dumps({"error": envelope}, ensure_ascii=False).encode()


def read_error(body: bytes) -> ErrorInfo | None:
    """The error in a body; None if the body is not an error of this dialect."""
    answer = read_object(body)
    error = None if answer is None else answer.get("error")
    return _info(error, body) if isinstance(error, dict) else None


def check_answer(body: bytes, *, may_be_torn: bool) -> ErrorInfo | None:
    """What is wrong with a complete answer of status 2xx; None if it is a chat completion.

    A body that may be torn is parsed in full.
    """
    whole = body.strip()
    looks_good = whole.startswith(b"{") and whole.endswith(b"}") and b'"choices"' in whole
    if looks_good and not may_be_torn and b'"error"' not in body:
        return None
    answer = read_object(body)
    if answer is None:
        return ErrorInfo("the answer is not a JSON object")
    choices, error = answer.get("choices"), answer.get("error")
    if isinstance(choices, list) and (choices or error is None):
        return None
    if isinstance(error, dict):
        return _info(error, body)
    return ErrorInfo(_message(error) if error else "the answer holds no choices")


def event_error(event: Event) -> ErrorInfo | None:
    """The error of an event that is an error; None for any other event."""
    if event.data is None or b'"error"' not in event.data:
        return None
    chunk = read_object(event.data)
    error = None if chunk is None else chunk.get("error")
    return _info(error, event.data) if error else None


def _info(error: Json, body: bytes) -> ErrorInfo:
    return ErrorInfo(_message(error), _status(error), body)


def _status(error: Json) -> int:
    """The status that an error object means; 502 if it does not say."""
    if isinstance(error, dict):
        for key in ("status", "code"):
            value = error.get(key)
            if isinstance(value, int) and (value in _CLIENT_ERROR or value in _SERVER_ERROR):
                return value
        for key in ("type", "code"):
            value = error.get(key)
            if isinstance(value, str) and value in _STATUS_OF_TYPE:
                return _STATUS_OF_TYPE[value]
    return _UNKNOWN_STATUS


def _message(error: Json) -> str:
    message = error.get("message") if isinstance(error, dict) else error
    return message if isinstance(message, str) else json.dumps(error, ensure_ascii=False)
