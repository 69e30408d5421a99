"""What is kept of an answer that a later request may refer to."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

from serve_app.dialects.json_values import text_of
from serve_app.domain import Json, ModelRef

_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class StoredTurn:
    """One answer, and the request that it answers.

    Each turn holds what it adds to its conversation; ``chain`` names the turns before it.
    """

    model: ModelRef
    """Which model answered."""
    route: str | None = None
    endpoint: str = ""
    """The fingerprint of the endpoint that answered."""
    is_at_provider: bool = False
    """True if its provider keeps the answer, too."""
    chain: tuple[str, ...] = ()
    """The ids of the turns before it, the oldest first."""
    items: tuple[Json, ...] | None = None
    """The items of the request; None if the provider alone keeps them."""
    answer: Mapping[str, Json] | None = None
    """The answer as the client got it; None as above."""


@dataclass(frozen=True, slots=True)
class StoredConversation:
    """A conversation that a client has created, or one of a provider that the client named."""

    chain: tuple[str, ...] = ()
    """The ids of its turns, the oldest first."""
    model: ModelRef | None = None
    """Which model answered last; None before the first answer."""
    route: str | None = None
    endpoint: str = ""
    is_at_provider: bool = False
    """True for a conversation of the provider of ``endpoint``."""
    items: tuple[Json, ...] = ()
    """The items that it began with."""
    created_at: int = 0
    """Seconds since the epoch."""
    metadata: Mapping[str, Json] | None = None


def key_of(scope: str, name: str) -> str:
    """The key of an answer or a conversation; those of another ``scope`` cannot be found."""
    return f"{blake2b(scope.encode('utf-8', 'replace'), digest_size=12).hexdigest()}:{name}"


def write_turn(turn: StoredTurn) -> bytes:
    """The turn as JSON."""
    return _bytes_of(
        {
            "v": _VERSION,
            "model": str(turn.model),
            "route": turn.route,
            "endpoint": turn.endpoint,
            "is_at_provider": turn.is_at_provider,
            "chain": turn.chain,
            "items": turn.items,
            "answer": turn.answer,
        }
    )


def read_turn(value: bytes) -> StoredTurn | None:
    """The turn in a value. Returns None for a value of another version or kind."""
    fields = _fields_of(value)
    if fields is None or fields.get("conversation") is True:
        return None
    try:
        model = ModelRef.parse(text_of(fields.get("model")))
    except ValueError:
        return None
    items, answer = fields.get("items"), fields.get("answer")
    return StoredTurn(
        model,
        text_of(fields.get("route")) or None,
        text_of(fields.get("endpoint")),
        fields.get("is_at_provider") is True,
        _names(fields.get("chain")),
        tuple(items) if isinstance(items, list) else None,
        answer if isinstance(answer, dict) else None,
    )


def write_conversation(conversation: StoredConversation) -> bytes:
    """The conversation as JSON."""
    return _bytes_of(
        {
            "v": _VERSION,
            "conversation": True,
            "chain": conversation.chain,
            "model": None if conversation.model is None else str(conversation.model),
            "route": conversation.route,
            "endpoint": conversation.endpoint,
            "is_at_provider": conversation.is_at_provider,
            "items": conversation.items,
            "created_at": conversation.created_at,
            "metadata": conversation.metadata,
        }
    )


def read_conversation(value: bytes) -> StoredConversation | None:
    """The conversation in a value. Returns None for a value of another version or kind."""
    fields = _fields_of(value)
    if fields is None or fields.get("conversation") is not True:
        return None
    model: ModelRef | None = None
    if fields.get("model"):
        try:
            model = ModelRef.parse(text_of(fields["model"]))
        except ValueError:
            return None
    items, created_at, metadata = map(fields.get, ("items", "created_at", "metadata"))
    return StoredConversation(
        _names(fields.get("chain")),
        model,
        text_of(fields.get("route")) or None,
        text_of(fields.get("endpoint")),
        fields.get("is_at_provider") is True,
        tuple(items) if isinstance(items, list) else (),
        created_at if isinstance(created_at, int) else 0,
        metadata if isinstance(metadata, dict) else None,
    )


def _bytes_of(fields: Mapping[str, Json]) -> bytes:
    # A client may send an unpaired surrogate, which ASCII keeps as an escape.
    return json.dumps(fields, separators=(",", ":")).encode()


def _fields_of(value: bytes) -> dict[str, Json] | None:
    try:
        fields = json.loads(value)
    except (ValueError, RecursionError):
        return None
    return fields if isinstance(fields, dict) and fields.get("v") == _VERSION else None


def _names(value: Json) -> tuple[str, ...]:
    return tuple(name for name in value if isinstance(name, str)) if isinstance(value, list) else ()
