"""How much a model of Anthropic is asked to think: by an effort, or by a budget of tokens.

Source: Anthropic documentation, "Extended thinking", "Adaptive thinking" and "Effort".
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from serve_app.dialects.anthropic_messages.model_facts import (
    ClaudeFacts,
    ThinkingStyle,
    facts_of,
)
from serve_app.dialects.json_edits import Document
from serve_app.dialects.json_values import object_of, objects_of
from serve_app.domain import Json

LITTLE: Final = ("none", "minimal")
"""Efforts that mean not to think."""
MIN_TOP_P: Final = 0.95
"""With thoughts by a budget, top_p may not be lower."""
_BUDGETS: Final[Mapping[str, int]] = {
    "low": 2048,
    "medium": 8192,
    "high": 16384,
    "xhigh": 24576,
    "max": 24576,
}
_MIN_BUDGET: Final = 1024
_ANY_MODEL: Final = ("low", "medium", "high")
"""Efforts that every model with efforts takes."""
_OWN_THOUGHTS: Final = ("thinking", "redacted_thinking")
_FORCED: Final = ("any", "tool")
"""Choices of tools with which a model cannot think by a budget."""


class ThinkingBudget(NamedTuple):
    """The numbers of tokens of a request whose model thinks by a budget."""

    thoughts: int
    max_tokens: int
    """For thoughts and the text behind them."""


def budget_within(
    limit: int, wanted: int | None, effort: str | None, most: int | None
) -> ThinkingBudget:
    """The budget for ``wanted`` tokens of thoughts, else for an effort.

    Thoughts count as output, so ``limit``, the client's ``max_tokens``, is for the text behind
    them. ``most``: the highest limit that the model takes; None if unknown.
    """
    budget = max(wanted or _BUDGETS.get(effort or "", _BUDGETS["medium"]), _MIN_BUDGET)
    if limit > budget:
        return ThinkingBudget(budget, limit)
    whole = budget + limit if most is None else min(budget + limit, most)
    return ThinkingBudget(max(min(budget, whole - min(limit, whole // 2)), _MIN_BUDGET), whole)


def effort_for(facts: ClaudeFacts, effort: str) -> str:
    """The effort, or the highest below it that the model takes."""
    return effort if effort in _ANY_MODEL or facts.takes_more_than_high else "high"


def can_think(messages: Json) -> bool:
    """True if a model that thinks by a budget takes these messages with thoughts.

    A turn that is under way has to begin with the model's own thoughts then, and an answer that
    the client has begun cannot have any.
    """
    turns = objects_of(messages)
    if not turns or turns[-1].get("role") == "assistant":
        return False
    if not any(
        block.get("type") == "tool_result" for block in objects_of(turns[-1].get("content"))
    ):
        return True
    answer = next((turn for turn in reversed(turns) if turn.get("role") == "assistant"), None)
    if answer is None:
        return True
    blocks = objects_of(answer.get("content"))
    return bool(blocks) and blocks[0].get("type") in _OWN_THOUGHTS


def effort_fields(document: Document, model: str, effort: str) -> dict[str, Json]:
    """The fields by which a client's own request asks for an effort, in place of its own.

    Empty if the client says itself how much the model is to think, or the model cannot be asked.
    """
    facts = facts_of(model)
    config, thinking = object_of(document.get("output_config")), document.get("thinking")
    kind = object_of(thinking).get("type")
    if config.get("effort") is not None or kind in ("enabled", "disabled"):
        return {}
    if facts.thinking is ThinkingStyle.ADAPTIVE:
        known = "low" if effort in LITTLE else effort_for(facts, effort)
        fields: dict[str, Json] = {"output_config": {**config, "effort": known}}
        if thinking is None and effort not in LITTLE and _leaves_sampling(document):
            fields["thinking"] = {"type": "adaptive"}
        return fields
    limit = document.get("max_tokens")
    is_open = thinking is None and _leaves_sampling(document) and isinstance(limit, int)
    is_forced = object_of(document.get("tool_choice")).get("type") in _FORCED
    if facts.thinking is ThinkingStyle.NONE or effort in LITTLE or is_forced or not is_open:
        return {}
    if not can_think(document.get("messages")):
        return {}
    budget = budget_within(limit, None, effort, facts.max_output)
    fields = {"thinking": {"type": "enabled", "budget_tokens": budget.thoughts}}
    return fields if budget.max_tokens == limit else {**fields, "max_tokens": budget.max_tokens}


def _leaves_sampling(document: Document) -> bool:
    """True if the client sets nothing that the API refuses of a model that thinks."""
    temperature, top_p = document.get("temperature"), document.get("top_p")
    top_p_fits = top_p is None or (isinstance(top_p, int | float) and top_p >= MIN_TOP_P)
    return temperature in (None, 1) and document.get("top_k") is None and top_p_fits
