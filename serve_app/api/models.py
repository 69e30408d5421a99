"""The list of models, as OpenAI's clients and as Anthropic's clients read it.

Source: OpenAI API reference, "List models"; Anthropic API reference, "List Models".
"""

from collections.abc import Sequence
from typing import Final

from serve_app.domain import Json
from serve_app.routing.policy import Policy

_NEVER: Final = "1970-01-01T00:00:00Z"
"""The gateway does not know when a model was made."""


def render_models(policy: Policy, *, anthropic: bool) -> Json:
    """All names that clients may use, as one page."""
    names = policy.names()
    if anthropic:
        return _anthropic_page(names)
    return {"object": "list", "data": [render_model(policy, name) for name in names]}


def render_model(policy: Policy, name: str, *, anthropic: bool = False) -> Json:
    """One name that clients may use."""
    if anthropic:
        return {"type": "model", "id": name, "display_name": name, "created_at": _NEVER}
    target = policy.resolve(name)
    owner = "fingerpost" if target is None or str(target[0]) != name else target[0].provider
    return {"id": name, "object": "model", "created": 0, "owned_by": owner}


def _anthropic_page(names: Sequence[str]) -> Json:
    entries = [
        {"type": "model", "id": name, "display_name": name, "created_at": _NEVER} for name in names
    ]
    first, last = (names[0], names[-1]) if names else (None, None)
    return {"data": entries, "has_more": False, "first_id": first, "last_id": last}
