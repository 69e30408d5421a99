"""Errors of OpenAI responses: rendered for clients, read from providers.

Outside streams they have the form of all of OpenAI's errors: see ``openai_errors.py``. Source:
OpenAI API reference, "Responses" and "Streaming events".
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from serve_app.dialects.json_edits import read_object
from serve_app.dialects.json_values import json_bytes
from serve_app.dialects.openai_errors import OpenAIErrors, error_message
from serve_app.dialects.openai_responses.failures import read_failure, write_failure
from serve_app.dialects.protocol import ErrorInfo
from serve_app.domain import Json
from serve_app.errors import GatewayError

_UNKNOWN_STATUS: Final = 502
_ITEM: Final = re.compile(rb'"output"\s*:\s*\[\s*\{')
_SUSPECT: Final = re.compile(rb'"error"(?!\s*:\s*null)|"failed"|"cancelled"')
"""A response always has the key ``error``; null means that it is good."""
BROKEN_STATUSES: Final = ("failed", "cancelled")
"""The statuses of a response that is not whole, though nothing follows."""

_FAILED: Final[Mapping[str, Json]] = MappingProxyType(
    {
        "id": "resp_failed",
        "object": "response",
        "created_at": 0,
        "model": "",
        "output": [],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
    }
)
"""What the official SDKs need of a response of which nothing is known."""


@dataclass(frozen=True, slots=True)
class ResponsesErrors(OpenAIErrors):
    """Renders errors as clients of OpenAI responses expect them."""

    def render_error_event(self, error: GatewayError) -> bytes:
        """An error as the last event of a stream, ``response.failed``."""
        return render_failed(error)


def render_failed(
    error: GatewayError, *, sequence_number: int = 0, response: Mapping[str, Json] | None = None
) -> bytes:
    """The event ``response.failed``; ``response`` holds what the client has seen of it so far."""
    failed = {
        **_FAILED,
        **(response or {}),
        "status": "failed",
        "error": write_failure(error),
    }
    event = {"type": "response.failed", "sequence_number": sequence_number, "response": failed}
    return b"event: response.failed\ndata: " + json_bytes(event) + b"\n\n"


def event_error(data: bytes) -> ErrorInfo:
    """The error of an event ``error`` or ``response.failed``, whatever its data.

    Its ``body`` is empty where the event does not have the form of an error of OpenAI.
    """
    event = read_object(data)
    if event is None:
        return ErrorInfo(data.decode("utf-8", "replace"), _UNKNOWN_STATUS)
    return _info(event, data if isinstance(event.get("error"), dict) else b"")


def response_failure(response: Mapping[str, Json]) -> ErrorInfo | None:
    """The error of a response that failed or was cancelled; None for any other."""
    return _info({"response": response}) if response.get("status") in BROKEN_STATUSES else None


def check_answer(body: bytes, *, may_be_torn: bool) -> ErrorInfo | None:
    """What is wrong with a complete answer of status 2xx; None if it is a response.

    A body that may be torn is parsed in full. A response that failed is an error. One with a
    status may be without output, as a model may have nothing to say.
    """
    whole = body.strip()
    looks_good = whole.startswith(b"{") and whole.endswith(b"}") and _ITEM.search(whole)
    if looks_good and not may_be_torn and not _SUSPECT.search(whole):
        return None
    answer = read_object(body)
    if answer is None:
        return ErrorInfo("the answer is not a JSON object")
    failure = response_failure(answer)
    if failure is not None:
        return failure
    output, error = answer.get("output"), answer.get("error")
    if isinstance(output, list) and (output or (answer.get("status") and not error)):
        return None
    if isinstance(error, dict):
        return _info(answer, body)
    if error:
        return ErrorInfo(error_message(error))
    what = "neither output nor a status" if isinstance(output, list) else "no list `output`"
    return ErrorInfo(f"the answer holds {what}")


def _info(event: Mapping[str, Json], body: bytes = b"") -> ErrorInfo:
    failed = read_failure(event)
    return ErrorInfo(failed.message, failed.status or _UNKNOWN_STATUS, failed.code, body)
