"""Who sends a request, as its client key says."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Client:
    """The holder of a client key."""

    id: str = ""
    """The same text for the same key, and not the key; empty where no key is needed."""
    name: str = ""
    """What logs and metrics call it; empty where no key is needed."""
    team: str = ""
    """Who shares its limits and budgets; empty if it has no team."""


ANONYMOUS: Final = Client()
"""The client of a gateway without client keys."""
