"""How hard a model is to think, where a dialect has words for it and the client a number."""

from typing import Final

_LOW_BUDGET: Final = 4096
_MEDIUM_BUDGET: Final = 16384
"""The highest budgets of tokens that mean a low and a medium effort."""


def effort_of_budget(budget: int | None) -> str | None:
    """The effort that a budget of tokens means; None without a budget."""
    if budget is None:
        return None
    if budget <= _LOW_BUDGET:
        return "low"
    return "medium" if budget <= _MEDIUM_BUDGET else "high"
