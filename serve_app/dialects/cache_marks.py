"""The marks of clients that cache the prompt up to them.

Source: Anthropic API reference, "Messages", ``cache_control``; OpenRouter and LiteLLM have it in
chat too.
"""

from collections.abc import Mapping

from serve_app.dialects.json_values import object_of
from serve_app.domain import Json


def cache_of(fields: Mapping[str, Json]) -> Json:
    """The object ``cache_control`` of a part or a tool; None without one."""
    return object_of(fields.get("cache_control")) or None
