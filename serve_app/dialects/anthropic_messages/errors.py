"""Errors of Anthropic messages: rendered for clients, read from providers.

Source: Anthropic API reference, "Errors".
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from serve_app.dialects.anthropic_messages.error_words import with_known_words
from serve_app.dialects.json_edits import read_object
from serve_app.dialects.json_values import json_bytes
from serve_app.dialects.openai_errors import STATUSES, error_info, error_message
from serve_app.dialects.protocol import ErrorInfo
from serve_app.domain import Json
from serve_app.errors import GatewayError, ReportedError, UpstreamFailed

_BILLING: Final = "billing_error"
_TYPES: Mapping[int, str] = MappingProxyType(
    {
        400: "invalid_request_error",
        401: "authentication_error",
        402: _BILLING,
        403: "permission_error",
        404: "not_found_error",
        409: "conflict_error",
        413: "request_too_large",
        429: "rate_limit_error",
        500: "api_error",
        501: "not_supported",
        504: "timeout_error",
        529: "overloaded_error",
    }
)
_UNPAID: Final = frozenset(
    {
        _BILLING,
        "billing_hard_limit_reached",
        "credit_balance_too_low",
        "insufficient_balance",
        "insufficient_credits",
        "insufficient_quota",
        "spending_cap_reached",
    }
)
"""Codes of errors that money ends, not time, whatever their status."""

_STATUS_OF_TYPE: Mapping[str, int] = MappingProxyType(
    {kind: status for status, kind in _TYPES.items()}
)
_FOREIGN_STATUSES: Mapping[str, int] = MappingProxyType({**_STATUS_OF_TYPE, **STATUSES})
_CLIENT_ERROR = range(400, 500)
_OVERLOADED: Final = 529

_BLOCK: Final = re.compile(rb'"content"\s*:\s*\[\s*\{')
_UNKNOWN_STATUS: Final = 502
_FAILED: Final = "the provider ended its answer with stop_reason 'error'"

_DETAILED: Final = frozenset({"thread_unsupported_request", "thread_not_found"})
"""Codes that the official SDKs look for in ``error.details.error_code``."""


@dataclass(frozen=True, slots=True)
class MessagesErrors:
    """Renders errors as Anthropic clients expect them."""

    def render_error(self, error: GatewayError, *, status: int | None = None) -> bytes:
        """An error as a complete body."""
        code = status or error.status
        fallback = "invalid_request_error" if code in _CLIENT_ERROR else "api_error"
        envelope: dict[str, Json] = {
            "type": _BILLING if error.code in _UNPAID else _TYPES.get(code, fallback),
            "message": _message(error, code),
        }
        if error.code in _DETAILED:
            envelope["details"] = {"error_code": error.code}
        return json_bytes({"type": "error", "error": envelope})

    def render_error_event(self, error: GatewayError) -> bytes:
        """An error as an event of a stream.

        A provider that stopped in the middle of its answer counts as overloaded: an event has no
        status, and this is the type after which agents ask again.
        """
        status = _OVERLOADED if isinstance(error, UpstreamFailed) else error.status
        return b"event: error\ndata: " + self.render_error(error, status=status) + b"\n\n"


def _message(error: GatewayError, status: int) -> str:
    """The words of an error; what a provider says may be in other words than Anthropic's."""
    words = str(error)
    return (
        with_known_words(words, status, error.code) if isinstance(error, ReportedError) else words
    )


def read_error(body: bytes) -> ErrorInfo | None:
    """The error in a body; None if the body is not an error.

    Servers that are compatible with Anthropic's may answer with an error of OpenAI's form. It is
    read too, but its ``body`` is empty, because clients of this dialect do not expect it.
    """
    answer = read_object(body)
    error = None if answer is None else answer.get("error")
    if answer is None or not isinstance(error, dict):
        return None
    return _own_info(error, body) if answer.get("type") == "error" else _foreign_info(error)


def event_error(data: bytes) -> ErrorInfo:
    """The error of an event that is an error, whatever its data."""
    known = read_error(data)
    if known is not None:
        return known
    answer = read_object(data)
    if answer is None:
        return _foreign_info(data.decode("utf-8", "replace"))
    return _foreign_info(answer.get("error") or answer)


def failure_in(message: Mapping[str, Json]) -> ErrorInfo | None:
    """The failure that a message, or the delta of one, reports as its end; else None.

    Servers that translate chat completions pass such a reason on.
    """
    if message.get("stop_reason") != "error":
        return None
    error = message.get("error")
    return _foreign_info(error) if error else ErrorInfo(_FAILED, _UNKNOWN_STATUS)


def check_answer(body: bytes, *, may_be_torn: bool) -> ErrorInfo | None:
    """What is wrong with a complete answer of status 2xx; None if it is a message.

    A body that may be torn is parsed in full. A message with a stop reason may be without content,
    as a model may have nothing to say.
    """
    whole = body.strip()
    looks_good = whole.startswith(b"{") and whole.endswith(b"}") and _BLOCK.search(whole)
    other = b'"error"' in whole or b'"choices"' in whole  # a chat completion has content too
    if looks_good and not other and not may_be_torn:
        return None
    answer = read_object(body)
    if answer is None or answer.get("type") != "message":
        return _wrong(answer, body) or ErrorInfo("the answer is not a message")
    content = answer.get("content")
    if not isinstance(content, list):
        return ErrorInfo("the answer holds no list `content`")
    failure = failure_in(answer)
    if failure is not None or content or answer.get("stop_reason"):
        return failure
    return _wrong(answer, body) or ErrorInfo("the answer holds neither content nor a stop reason")


def check_count(body: bytes) -> ErrorInfo | None:
    """What is wrong with a complete answer of status 2xx; None if it is a count of tokens."""
    answer = read_object(body)
    if answer is not None and isinstance(answer.get("input_tokens"), int):
        return None
    return _wrong(answer, body) or ErrorInfo("the answer holds no number `input_tokens`")


def _wrong(answer: dict[str, Json] | None, body: bytes) -> ErrorInfo | None:
    """The error that came in place of an answer; None if it is another object."""
    if answer is None:
        return ErrorInfo("the answer is not a JSON object")
    error = answer.get("error")
    if error and not isinstance(error, dict):
        return ErrorInfo(error_message(error))
    return read_error(body)


def _own_info(error: dict[str, Json], body: bytes) -> ErrorInfo:
    info = error_info(error, body, _STATUS_OF_TYPE)
    details, kind = error.get("details"), error.get("type")
    names = (details.get("error_code") if isinstance(details, dict) else None, kind)
    code = next((name for name in names if isinstance(name, str)), None)
    return ErrorInfo(info.message, info.status, code, body)


def _foreign_info(error: Json) -> ErrorInfo:
    return error_info(error, statuses=_FOREIGN_STATUSES)
