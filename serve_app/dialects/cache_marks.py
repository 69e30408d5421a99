"""What clients ask of a provider's prompt cache.

Source: Anthropic API reference, "Messages", ``cache_control``; OpenRouter and LiteLLM have it in
chat too. OpenAI API reference, "Chat" and "Responses", ``prompt_cache_retention`` and
``prompt_cache_options``.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Final

from serve_app.dialects.json_edits import Document
from serve_app.dialects.json_values import object_of, objects_of
from serve_app.domain import Json

_DURATION: Final = re.compile(r"([0-9]{1,6})([smhd])")
_UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_MAX_LIFETIME_S: Final = 86_400.0
"""No provider keeps a prompt for longer, so a client cannot make a store keep a session longer."""

_TTL: Final = '"ttl"'


def cache_of(fields: Mapping[str, Json]) -> Json:
    """The object ``cache_control`` of a part or a tool; None without one."""
    return object_of(fields.get("cache_control")) or None


def lifetime_of(document: Document) -> float:
    """How long a request asks the provider to cache its prompt, in seconds, at most a day.

    Returns 0 if it does not ask. Of several marks the first one with a ``ttl`` counts: providers
    take marks with a longer one only before those with a shorter one.
    """
    asked = [_seconds(document.get("prompt_cache_retention"))]
    if _TTL in document.text:  # bytes are searched much faster than values are walked
        asked.append(_seconds(object_of(document.get("prompt_cache_options")).get("ttl")))
        ttls = (mark.get("ttl") for mark in _marks(document))
        asked.append(next((_seconds(ttl) for ttl in ttls if ttl is not None), 0.0))
    return min(max(asked), _MAX_LIFETIME_S)


def _marks(document: Document) -> Iterator[dict[str, Json]]:
    """The cache marks of a request, in the order in which providers read a prompt."""
    yield object_of(document.get("cache_control"))
    for tool in objects_of(document.get("tools")):
        yield object_of(tool.get("cache_control"))
    for block in objects_of(document.get("system")):
        yield object_of(block.get("cache_control"))
    for key in ("messages", "input"):
        for message in objects_of(document.get(key)):
            yield object_of(message.get("cache_control"))
            for part in objects_of(message.get("content")):
                yield object_of(part.get("cache_control"))
                for inner in objects_of(part.get("content")):
                    yield object_of(inner.get("cache_control"))


def _seconds(duration: Json) -> float:
    """A duration such as ``30m`` in seconds; 0 for anything else."""
    match = _DURATION.fullmatch(duration) if isinstance(duration, str) else None
    return 0.0 if match is None else float(int(match[1]) * _UNITS_S[match[2]])
