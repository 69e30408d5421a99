"""Fields of a request body that belong to the gateway, whatever the dialect."""

from dataclasses import dataclass, replace
from typing import Final, NamedTuple, TypeGuard

from serve_app.dialects.json_edits import Document
from serve_app.domain import Json
from serve_app.errors import InvalidRequest

PREFERENCES: Final = "routing_preferences"
MAX_FALLBACKS: Final = 16
FALLBACK_KEYS: Final = ("models", "fallbacks")
"""Keys with the names of models to ask if the first one fails."""
_MAX_NAME: Final = 400

GATEWAY_KEYS: Final = frozenset({PREFERENCES, *FALLBACK_KEYS})
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
    thoughts_in: str | None = None
    """The top-level key whose entries may hold what models thought."""

    def without(self, kept: frozenset[str]) -> "Fields":
        """The fields where those in ``kept`` are the provider's own, so that they stay."""
        return replace(self, own=self.own - kept) if kept else self


class Intent(NamedTuple):
    """What a request asks for, apart from the conversation."""

    model: str | None = None
    fallbacks: tuple[str, ...] = ()
    stream: bool = False
    choices: int = 1
    """How many alternative answers the client asks for."""
    kept: frozenset[str] = frozenset()
    """Keys in ``GATEWAY_KEYS`` that are the provider's here, so that they go on to it."""
    falls_back: bool = True
    """False if the first candidate alone may answer."""
    effort: str | None = None
    """The reasoning effort that the route asks of the model, unless the client says how to think."""
    keeps_answers: bool = True
    """False if the gateway keeps no answers, so that none can be referred to."""


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


def read_fallbacks(document: Document, kept: frozenset[str] = frozenset()) -> tuple[str, ...]:
    """The names in ``models`` and ``fallbacks``, except the keys in ``kept``.

    Anthropic's own ``fallbacks``, the word ``default`` or a list of objects, have none. Raises
    InvalidRequest if a name is not usable.
    """
    fallbacks: list[str] = []
    for key in FALLBACK_KEYS:
        names = document.get(key)
        if names is None or key in kept or (key == "fallbacks" and _is_anthropics(names)):
            continue
        if not is_list_of_names(names):
            raise InvalidRequest(f"{key} must be a list of model names", key)
        for name in names:
            check_name(name, key)
        fallbacks += names
    if len(fallbacks) > MAX_FALLBACKS:
        raise InvalidRequest(f"models: at most {MAX_FALLBACKS} fallbacks are allowed", "models")
    return tuple(fallbacks)


def is_list_of_names(value: Json) -> TypeGuard[list[str]]:
    """True for a list of strings."""
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _is_anthropics(value: Json) -> bool:
    if isinstance(value, list):
        return bool(value) and all(isinstance(entry, dict) for entry in value)
    return bool(value == "default")


def check_name(name: str, param: str) -> None:
    """Raises InvalidRequest for a name that cannot be shown in a header or a log."""
    if len(name) > _MAX_NAME or not name.isprintable():
        message = f"{param} must be a printable name of at most {_MAX_NAME} characters"
        raise InvalidRequest(message, param)
