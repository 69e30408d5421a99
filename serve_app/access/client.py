"""Who sends a request, as its client key says."""

from dataclasses import dataclass
from typing import Final

from serve_app.access.allowance import Allowance
from serve_app.access.terms import LimitRule


@dataclass(frozen=True, slots=True)
class Client:
    """The holder of a client key."""

    id: str = ""
    """The same text for the same key, and not the key; empty where no key is needed."""
    name: str = ""
    """What logs and metrics call it; empty where no key is needed."""
    team: str = ""
    """Who shares its limits and budgets; empty if it has no team."""
    tenant: str = ""
    """Whose sessions its requests belong to; empty where no key is needed."""
    allowance: Allowance | None = None
    """What it may use; None for everything."""
    rules: tuple[LimitRule, ...] = ()
    """Its limits and budgets, and those of its team."""
    has_budget: bool = False
    """True if any of them is a budget, so that each of its requests needs a price."""


ANONYMOUS: Final = Client()
"""The client of a gateway without client keys."""
