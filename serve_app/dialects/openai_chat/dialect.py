"""OpenAI chat completions on the wire.

Source: OpenAI API reference, "Chat" and "Error codes". Answers are passed on as bytes; this
module only reads what decides something: is it preamble, is it complete, is it an error.
"""

import json
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from serve_app.dialects.sse import Event, parse_events
from serve_app.domain import Json, Turn
from serve_app.errors import GatewayError, InvalidRequest

PATH: Final = "/chat/completions"
"""Below a provider's base URL."""

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
_SHOWN_BYTES = 512
_CLIENT_ERROR, _SERVER_ERROR = range(400, 500), range(500, 600)


def render_error(error: GatewayError, *, status: int | None = None) -> bytes:
    """An error as the body that OpenAI clients expect; ``status`` where it isn't the error's own."""
    envelope = {"error": _envelope(error, status or error.status)}
    return json.dumps(envelope, ensure_ascii=False).encode()


def render_error_event(error: GatewayError) -> bytes:
    """An error as an event inside a stream; the official SDKs raise APIError on it."""
    return b"data: " + render_error(error) + b"\n\n"


def _envelope(error: GatewayError, status: int) -> Json:
    kind = "invalid_request_error" if status in _CLIENT_ERROR else "server_error"
    return {
        "message": str(error),
        "type": _TYPES.get(status, kind),
        "param": error.param,
        "code": error.code,
    }


def is_preamble(event: Event) -> bool:
    """True for what says nothing yet: comments, and chunks with a role or an empty delta only."""
    if event.data is None:
        return True
    if event.data == b"[DONE]":
        return False
    chunk = _object(event.data)
    if chunk is None or chunk.get("error"):
        return False
    choices = chunk.get("choices")
    if not choices and chunk.get("usage"):  # some servers count in every chunk
        return False
    return isinstance(choices, list) and not any(map(_says_something, choices))


def _says_something(choice: Json) -> bool:
    if not isinstance(choice, dict) or choice.get("finish_reason"):
        return True
    delta = choice.get("delta")
    if not isinstance(delta, dict):
        return "text" in choice
    return any(value for key, value in delta.items() if key != "role")


def answer_error(body: bytes, *, sure_of_end: bool = True) -> Json | None:
    """What is wrong with a complete answer of status 2xx; None when it is a chat completion.

    The error object of the body where it has one, else an object with a ``message``. An answer
    whose end only the closing of its connection told may be torn, and is read in full.
    """
    whole = body.strip()
    looks_good = whole.startswith(b"{") and whole.endswith(b"}") and b'"choices"' in whole
    if looks_good and sure_of_end and b'"error"' not in body:
        return None
    answer = _object(body)
    if answer is None:
        return {"message": "the answer is not a JSON object"}
    if isinstance(answer.get("choices"), list):
        return answer.get("error") if not answer["choices"] else None
    return answer.get("error") or {"message": "the answer holds no choices"}


def event_error(event: Event) -> Json | None:
    """The error object of an event that is an error, else None."""
    if event.data is None or b'"error"' not in event.data:
        return None
    chunk = _object(event.data)
    return None if chunk is None else chunk.get("error") or None


def error_status(error: Json) -> int:
    """The status that an error object without one stands for; 502 where it does not say."""
    if isinstance(error, dict):
        for key in ("status", "code"):
            value = error.get(key)
            if isinstance(value, int) and (value in _CLIENT_ERROR or value in _SERVER_ERROR):
                return value
        for key in ("type", "code"):
            value = error.get(key)
            if isinstance(value, str) and value in _STATUS_OF_TYPE:
                return _STATUS_OF_TYPE[value]
    return 502


def error_message(error: Json) -> str:
    """The text of an error object."""
    message = error.get("message") if isinstance(error, dict) else error
    return message if isinstance(message, str) else json.dumps(error, ensure_ascii=False)


def is_error(body: bytes) -> bool:
    """True when a body is an error in this dialect, and can go to the client as it is."""
    answer = _object(body)
    return answer is not None and isinstance(answer.get("error"), dict)


def plain_text(body: bytes) -> str:
    """The beginning of an error's body that is not in this dialect; nothing of a web page."""
    text = body[:_SHOWN_BYTES].decode("utf-8", "replace").strip()
    return "" if text.startswith("<") else text


class Ending:
    """Watches a stream go by and knows whether it may end here.

    Complete means ``[DONE]``, or a finish reason for every choice seen, or an error event that
    the client has been given. Chunks are parsed only where a cheap search says that they matter,
    or where several choices were asked for.
    """

    def __init__(self, choices: int = 1) -> None:
        self._parse_all = choices > 1
        self._done = False
        self._seen: set[int] = set()
        self._finished: set[int] = set()

    @property
    def complete(self) -> bool:
        """True when nothing is missing."""
        return self._done or (bool(self._finished) and self._seen <= self._finished)

    def feed(self, events: bytes) -> None:
        """Bytes that end at an event's end."""
        if b"[DONE]" in events and _holds_done(events):
            self._done = True
        elif self._parse_all or b'"finish_reason"' in events or b'"error"' in events:
            self._read(events)

    def _read(self, events: bytes) -> None:
        if not self._parse_all and b'"error"' not in events and not _FINISH.search(events):
            return
        for event in parse_events(events):
            if event_error(event) is not None:
                self._done = True
            chunk = _object(event.data or b"")
            choices = (chunk or {}).get("choices")
            for choice in choices if isinstance(choices, list) else ():
                index = choice.get("index", 0) if isinstance(choice, dict) else None
                if isinstance(index, int):
                    self._seen.add(index)
                    if choice.get("finish_reason"):
                        self._finished.add(index)


_FINISH = re.compile(rb'"finish_reason"\s*:\s*"')


def _holds_done(events: bytes) -> bool:
    """True when a line is ``data: [DONE]``; a plain search, which a pattern is no match for."""
    at = events.find(b"[DONE]")
    while at >= 0:
        line = max(events.rfind(b"\n", 0, at), events.rfind(b"\r", 0, at)) + 1
        if events[line:at] in {b"data:", b"data: "}:
            return True
        at = events.find(b"[DONE]", at + 1)
    return False


def _object(data: bytes) -> dict[str, Json] | None:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def read_turns(messages: Json) -> tuple[Turn, ...]:
    """What the user and the assistant said, in order; other roles and other parts are left out.

    Raises InvalidRequest that names the place when ``messages`` is not a list of objects.
    """
    if not isinstance(messages, list):
        raise InvalidRequest("messages must be a list", "messages")
    turns: list[Turn] = []
    for position, message in enumerate(messages):
        if not isinstance(message, dict):
            place = f"messages[{position}]"
            raise InvalidRequest(f"{place} must be an object", place)
        role, text = message.get("role"), _text(message.get("content"))
        if text and (role == "user" or role == "assistant"):  # noqa: PLR1714 - may be unhashable
            turns.append(Turn(role, text))
    return tuple(turns)


def _text(content: Json) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    parts = [part.get("text") for part in content if isinstance(part, dict)]
    return "\n".join(part for part in parts if isinstance(part, str))
