"""The tokens in OpenAI's objects ``usage``, in the four classes of ``ir.Usage``.

Source: OpenAI API reference, "Chat" and "Responses", object ``usage``, whose input holds cached
tokens too. DeepSeek and Moonshot name the cached ones at top level.
"""

from dataclasses import dataclass

from serve_app.dialects import ir
from serve_app.dialects.json_values import count_of, object_of
from serve_app.domain import Json


@dataclass(frozen=True, slots=True)
class UsageNames:
    """What a dialect calls the counts of input and output."""

    input: str
    output: str

    def read(self, value: Json) -> ir.Usage | None:
        """The usage in an object ``usage``; None if it counts neither input nor output."""
        usage = object_of(value)
        total, output = count_of(usage.get(self.input)), count_of(usage.get(self.output))
        if total is None and output is None:
            return None
        details = object_of(usage.get(f"{self.input}_details"))
        read = _first(
            details.get("cached_tokens"),
            usage.get("prompt_cache_hit_tokens"),
            usage.get("cached_tokens"),
        )
        written = _first(details.get("cache_write_tokens"), usage.get("cache_write_tokens"))
        spent = object_of(usage.get(f"{self.output}_details"))
        return ir.Usage(
            uncached_input=max(0, (total or 0) - read - written),
            cache_read=read,
            cache_write=written,
            output=output or 0,
            reasoning=count_of(spent.get("reasoning_tokens")),
        )

    def write(self, usage: ir.Usage) -> dict[str, Json]:
        """The object ``usage``; it has details of the output where the provider counts thoughts."""
        body: dict[str, Json] = {
            self.input: usage.all_input,
            self.output: usage.output,
            "total_tokens": usage.all_input + usage.output,
            f"{self.input}_details": {
                "cached_tokens": usage.cache_read,
                "cache_write_tokens": usage.cache_write,
            },
        }
        if usage.reasoning is not None:
            body[f"{self.output}_details"] = {"reasoning_tokens": usage.reasoning}
        return body


def _first(*values: Json) -> int:
    """The first count above zero; some servers fill one of the names and leave zero in another."""
    for value in values:
        count = None if value is None else count_of(value)
        if count:
            return count
    return 0
