"""What models of Anthropic take, told by their names.

Source: Anthropic documentation, "Models overview", "Extended thinking", "Adaptive thinking",
"Structured outputs" and the migration guides.
"""

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final


class ThinkingStyle(Enum):
    """How a model is asked to think."""

    NONE = "none"
    """It does not."""
    BUDGET = "budget"
    """Up to a number of tokens."""
    ADAPTIVE = "adaptive"
    """As long as it finds useful, by an effort."""


@dataclass(frozen=True, slots=True)
class ClaudeFacts:
    """What a request for a model may say."""

    default_output: int
    """Its limit of output tokens where the client sets none; the API wants one."""
    max_output: int | None
    """The highest limit that it takes; None if unknown."""
    thinking: ThinkingStyle
    takes_sampling: bool = True
    """It takes temperature, top_p and top_k."""
    takes_schema: bool = False
    """Its answer can be bound to a JSON Schema."""
    takes_more_than_high: bool = False
    """It knows the efforts xhigh and max; of models that do not, a few know max."""


_UNKNOWN: Final = ClaudeFacts(8192, None, ThinkingStyle.BUDGET)
"""A model of another maker behind an API like Anthropic's; these think by budgets."""
_SMALL: Final = ClaudeFacts(4096, 4096, ThinkingStyle.NONE)
_3_5: Final = ClaudeFacts(8192, 8192, ThinkingStyle.NONE)
_3_7: Final = ClaudeFacts(32000, 64000, ThinkingStyle.BUDGET)
_4: Final = ClaudeFacts(32000, 32000, ThinkingStyle.BUDGET)
_4_1: Final = ClaudeFacts(32000, 32000, ThinkingStyle.BUDGET, takes_schema=True)
_4_5: Final = ClaudeFacts(32000, 64000, ThinkingStyle.BUDGET, takes_schema=True)
_4_6: Final = ClaudeFacts(32000, None, ThinkingStyle.ADAPTIVE, takes_schema=True)
_NEWEST: Final = ClaudeFacts(
    32000,
    None,
    ThinkingStyle.ADAPTIVE,
    takes_sampling=False,
    takes_schema=True,
    takes_more_than_high=True,
)
_BY_VERSION: Final = (
    ((3, 5), _SMALL),
    ((3, 7), _3_5),
    ((4, 0), _3_7),
    ((4, 1), _4),
    ((4, 5), _4_1),
    ((4, 6), _4_5),
    ((4, 7), _4_6),
)
"""By the first version that they do not hold for."""

_VERSION: Final = re.compile(
    r"claude-(?:[a-z]+-)?(\d{1,2})(?:[-.](\d{1,2}))?(?![\d])", re.IGNORECASE
)
"""``claude-3-5-sonnet-20241022``, ``claude-sonnet-4-20250514``, ``anthropic/claude-opus-4.5``."""
_FIRST: Final = re.compile(r"claude-(?:instant|v\d)", re.IGNORECASE)


def facts_of(model: str) -> ClaudeFacts:
    """What a model takes. A name of Claude without a known version counts as the newest."""
    if "claude" not in model.lower():
        return _UNKNOWN
    found = _VERSION.search(model)
    if found is None:
        return _SMALL if _FIRST.search(model) else _NEWEST
    version = (int(found[1]), int(found[2] or 0))
    return next((facts for end, facts in _BY_VERSION if version < end), _NEWEST)
