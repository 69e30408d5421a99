"""Fields of a request body that belong to the gateway, whatever the dialect."""

from dataclasses import dataclass
from typing import Final, NamedTuple

from serve_app.dialects.json_edits import Document
from serve_app.errors import InvalidRequest

PREFERENCES: Final = "routing_preferences"
MAX_FALLBACKS: Final = 16
_FALLBACK_KEYS: Final = ("models", "fallbacks")
_MAX_NAME: Final = 400

GATEWAY_KEYS: Final = frozenset({PREFERENCES, *_FALLBACK_KEYS})
"""Top-level keys for the gateway: cut out of the body that goes to a provider."""

PLANO_METADATA_KEYS: Final = frozenset({"archgw_preference_config", "plano_preference_config"})
"""Plano's routing keys inside ``metadata``; source: Plano 0.4."""


@dataclass(frozen=True, slots=True)
class Fields:
    """Which keys of a body the gateway reads, and which it keeps to itself."""

    read: frozenset[str]
    """Top-level keys that the gateway reads; a duplicate of one is refused."""
    own: frozenset[str] = GATEWAY_KEYS
    """Top-level keys that are cut out."""
    metadata: frozenset[str] = PLANO_METADATA_KEYS
    """Keys inside ``metadata`` that are cut out."""


class Intent(NamedTuple):
    """What a request asks for, apart from the conversation."""

    model: str | None = None
    fallbacks: tuple[str, ...] = ()
    stream: bool = False
    choices: int = 1
    """How many alternative answers the client asks for."""


def read_stream(document: Document) -> bool:
    """The field ``stream``. Raises InvalidRequest if it is not a boolean."""
    stream = document.get("stream")
    if stream is not None and not isinstance(stream, bool):
        raise InvalidRequest("stream must be true or false", "stream")
    return bool(stream)


def read_model(document: Document) -> str | None:
    """The field ``model``. Raises InvalidRequest if it is not a printable string."""
    model = document.get("model")
    if model is not None and not isinstance(model, str):
        raise InvalidRequest("model must be a string", "model")
    check_name(model or "", "model")
    return model


def read_fallbacks(document: Document) -> tuple[str, ...]:
    """The names in ``models`` and ``fallbacks``. Raises InvalidRequest if one is not usable."""
    fallbacks: list[str] = []
    for key in _FALLBACK_KEYS:
        names = document.get(key)
        if names is None:
            continue
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise InvalidRequest(f"{key} must be a list of model names", key)
        for name in names:
            check_name(name, key)
        fallbacks += names
    if len(fallbacks) > MAX_FALLBACKS:
        raise InvalidRequest(f"models: at most {MAX_FALLBACKS} fallbacks are allowed", "models")
    return tuple(fallbacks)


def check_name(name: str, param: str) -> None:
    """Raises InvalidRequest for a name that cannot be shown in a header or a log."""
    if len(name) > _MAX_NAME or not name.isprintable():
        message = f"{param} must be a printable name of at most {_MAX_NAME} characters"
        raise InvalidRequest(message, param)
