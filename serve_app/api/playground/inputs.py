"""What people paste and edit, read: a text or a request body of any dialect, and edited routes."""

import json
import re
from dataclasses import dataclass
from typing import Final

from serve_app.api.surfaces import Surface, SurfaceAction
from serve_app.dialects.json_edits import Document, read_document
from serve_app.dialects.protocol import ClientDialect
from serve_app.dialects.registry import CLIENT_DIALECTS, dialect_of
from serve_app.domain import Json
from serve_app.errors import InvalidJson, InvalidRequest
from serve_app.requests.trial import RouteEdit
from serve_app.routing.inline_routes import MAX_ROUTE_CHARACTERS, read_preferences
from serve_app.routing.policy import Policy

MAX_NO_ROUTE_EXAMPLES: Final = 64

_UNIQUE: Final = Surface("page", None, SurfaceAction.EXPLAIN).unique
_ROLES: Final = {
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "ai": "assistant",
    "system": "system",
}
_SPEAKER: Final = re.compile(
    r"^[ \t]*(user|human|assistant|ai|system):[ \t]*", re.IGNORECASE | re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class Pasted:
    """A conversation as a request body."""

    document: Document
    dialect: ClientDialect
    read_as: str
    """What it was taken for: ``text``, ``turns``, ``messages``, or the name of a dialect."""


def read_json_object(body: bytes) -> dict[str, Json]:
    """The body of a call. Raises InvalidJson."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidJson("the body must be a JSON object") from error
    if not isinstance(value, dict):
        raise InvalidJson("the body must be a JSON object")
    return value


def read_pasted(text: str, dialect: str | None = None) -> Pasted | None:
    """A pasted conversation. Returns None if it is empty.

    A JSON object is a request body, a JSON list its messages, lines that begin with ``User:`` or
    ``Assistant:`` are turns, and anything else is what a user wrote. ``dialect`` is the name of
    that of a request body; None: the one that its keys show.
    Raises InvalidRequest for an unknown dialect, and the errors of a request body.
    """
    stripped = text.strip()
    if not stripped:
        return None
    value = _json_of(stripped)
    if isinstance(value, dict):
        document = read_document(stripped.encode("utf-8", "replace"), unique=_UNIQUE)
        known = dialect_of(document, ()) if dialect is None else _dialect_named(dialect)
        return Pasted(document, known, known.name)
    if isinstance(value, list) and all(isinstance(item, dict) for item in value):
        return _chat(value, "messages")
    turns = _turns(stripped)
    if turns:
        return _chat(turns, "turns")
    return _chat([{"role": "user", "content": text}], "text")


def _json_of(text: str) -> Json:
    """The JSON value of a text that looks like one; None for other texts."""
    if text[0] not in "{[":
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _turns(text: str) -> list[Json]:
    """The turns of a text whose lines name their speakers; empty for another text."""
    marks = list(_SPEAKER.finditer(text))
    if not marks or marks[0].start() != 0:
        return []
    ends = [*(mark.start() for mark in marks[1:]), len(text)]
    return [
        {"role": _ROLES[mark[1].lower()], "content": text[mark.end() : end].strip()}
        for mark, end in zip(marks, ends, strict=True)
    ]


def _chat(messages: list[Json], read_as: str) -> Pasted:
    body = json.dumps({"messages": messages}).encode()
    document = read_document(body, unique=_UNIQUE)
    return Pasted(document, dialect_of(document, ()), read_as)


def _dialect_named(name: str) -> ClientDialect:
    for dialect in CLIENT_DIALECTS:
        if dialect.name == name and dialect.holds_conversations:
            return dialect
    names = ", ".join(known.name for known in CLIENT_DIALECTS if known.holds_conversations)
    raise InvalidRequest(f"dialect: unknown dialect {name!r}; use one of {names}", "dialect")


def read_edit(value: Json, policy: Policy) -> RouteEdit | None:
    """Edited routes and thresholds. Returns None if there are none.

    Raises InvalidRequest that names the field, as for routes in the body of a request.
    """
    if value is None:
        return None
    if not isinstance(value, dict):
        raise InvalidRequest("edit: must be an object", "edit")
    routes = read_preferences(_as_document(value), policy, known_only=True)
    return RouteEdit(
        policy.routes if routes is None else routes,
        _examples(value.get("no_route_examples"), policy),
        _limit(value, "min_confidence"),
        _limit(value, "min_margin"),
    )


def _as_document(value: dict[str, Json]) -> Document:
    content = {"routing_preferences": value.get("routing_preferences")}
    return read_document(json.dumps(content).encode(), unique=frozenset())


def _examples(value: Json, policy: Policy) -> tuple[str, ...]:
    if value is None:
        return policy.no_route_examples
    is_list = isinstance(value, list) and all(isinstance(text, str) and text for text in value)
    if not is_list or len(value) > MAX_NO_ROUTE_EXAMPLES:
        message = f"no_route_examples: must be a list of at most {MAX_NO_ROUTE_EXAMPLES} texts"
        raise InvalidRequest(message, "no_route_examples")
    if sum(map(len, value)) > MAX_ROUTE_CHARACTERS:
        message = f"no_route_examples: has more than {MAX_ROUTE_CHARACTERS} characters; shorten it"
        raise InvalidRequest(message, "no_route_examples")
    return tuple(value)


def _limit(value: dict[str, Json], name: str) -> float | None:
    limit = value.get(name)
    if limit is None:
        return None
    if isinstance(limit, bool) or not isinstance(limit, int | float) or not 0 <= limit <= 1:
        raise InvalidRequest(f"{name}: must be a number from 0 to 1", name)
    return float(limit)
