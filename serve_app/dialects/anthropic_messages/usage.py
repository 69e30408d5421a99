"""Token counts of Anthropic: the input in three classes that do not overlap, as in ``ir``.

Source: Anthropic API reference, "Messages", object ``usage``.
"""

from collections.abc import Mapping
from typing import Final

from serve_app.dialects import ir
from serve_app.dialects.json_values import count_of, object_of
from serve_app.domain import Json

_COUNTS: Final = (
    "input_tokens",
    "output_tokens",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
)
_PARTS: Final = ("cache_creation", "output_tokens_details")
_TIERS: Final = frozenset({"standard", "priority", "batch"})


def merge_usage(known: dict[str, Json], usage: Json) -> bool:
    """Puts the counts of one event over those of the events before it; False if it has none.

    Counts are cumulative, so they replace. A zero does not: some servers send the count of the
    input in ``message_start`` only, and zeros later.
    """
    fields = object_of(usage)
    found = False
    for key in _COUNTS:
        count = count_of(fields.get(key))
        if count is not None:
            known[key] = count or known.get(key, 0)
            found = True
    for key in _PARTS:
        if isinstance(fields.get(key), dict):
            known[key] = fields[key]
    return found


def read_usage(usage: Json) -> ir.Usage | None:
    """The counts of an answer; None if there are none."""
    known: dict[str, Json] = {}
    return usage_of(known) if merge_usage(known, usage) else None


def usage_of(known: Mapping[str, Json]) -> ir.Usage:
    """The counts that ``merge_usage`` collected."""
    written = object_of(known.get("cache_creation"))
    for_an_hour = count_of(written.get("ephemeral_1h_input_tokens")) or 0
    for_minutes = count_of(written.get("ephemeral_5m_input_tokens")) or 0
    return ir.Usage(
        uncached_input=known.get("input_tokens", 0),
        cache_read=known.get("cache_read_input_tokens", 0),
        cache_write=known.get("cache_creation_input_tokens") or for_an_hour + for_minutes,
        output=known.get("output_tokens", 0),
        reasoning=count_of(object_of(known.get("output_tokens_details")).get("thinking_tokens")),
        cache_write_1h=for_an_hour,
    )


def write_usage(usage: ir.Usage | None, tier: str | None = None) -> dict[str, Json]:
    """The counts of an answer with every field that the official SDKs have."""
    counts = usage or ir.Usage()
    return {
        **write_delta_usage(usage),
        "cache_creation": {
            "ephemeral_1h_input_tokens": counts.cache_write_1h,
            "ephemeral_5m_input_tokens": max(counts.cache_write - counts.cache_write_1h, 0),
        },
        "service_tier": tier if tier in _TIERS else None,
    }


def write_delta_usage(usage: ir.Usage | None) -> dict[str, Json]:
    """The cumulative counts at the end of a stream; zeros where the provider does not count."""
    counts = usage or ir.Usage()
    details = None if counts.reasoning is None else {"thinking_tokens": counts.reasoning}
    return {
        "input_tokens": counts.uncached_input,
        "cache_creation_input_tokens": counts.cache_write,
        "cache_read_input_tokens": counts.cache_read,
        "output_tokens": counts.output,
        "output_tokens_details": details,
        "server_tool_use": None,
    }
