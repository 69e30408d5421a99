"""The tokens of a chat completion, in the four classes of ``ir.Usage``.

Source: OpenAI API reference, "Chat", object ``usage``, whose ``prompt_tokens`` hold cached tokens
too. DeepSeek and Moonshot name the cached ones at top level.
"""

from serve_app.dialects import ir
from serve_app.dialects.openai_chat.json_values import count_of, object_of
from serve_app.domain import Json


def read_usage(value: Json) -> ir.Usage | None:
    """The usage in an object ``usage``; None if it counts neither input nor output."""
    usage = object_of(value)
    prompt, output = count_of(usage.get("prompt_tokens")), count_of(usage.get("completion_tokens"))
    if prompt is None and output is None:
        return None
    details = object_of(usage.get("prompt_tokens_details"))
    read = _first(
        details.get("cached_tokens"),
        usage.get("prompt_cache_hit_tokens"),
        usage.get("cached_tokens"),
    )
    written = _first(details.get("cache_write_tokens"), usage.get("cache_write_tokens"))
    spent = object_of(usage.get("completion_tokens_details"))
    return ir.Usage(
        uncached_input=max(0, (prompt or 0) - read - written),
        cache_read=read,
        cache_write=written,
        output=output or 0,
        reasoning=count_of(spent.get("reasoning_tokens")),
    )


def write_usage(usage: ir.Usage) -> dict[str, Json]:
    """The object ``usage``."""
    body: dict[str, Json] = {
        "prompt_tokens": usage.all_input,
        "completion_tokens": usage.output,
        "total_tokens": usage.all_input + usage.output,
        "prompt_tokens_details": {
            "cached_tokens": usage.cache_read,
            "cache_write_tokens": usage.cache_write,
        },
    }
    if usage.reasoning is not None:
        body["completion_tokens_details"] = {"reasoning_tokens": usage.reasoning}
    return body


def _first(*values: Json) -> int:
    """The first count above zero; some servers fill one of the names and leave zero in another."""
    return next((count for value in values if (count := count_of(value))), 0)
