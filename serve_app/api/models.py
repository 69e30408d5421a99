"""The list of models, as OpenAI's clients and as Anthropic's clients read it.

Source: OpenAI API reference, "List models"; Anthropic API reference, "List Models".
"""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from serve_app.api.model_directory import ModelEntry
from serve_app.domain import Json
from serve_app.errors import InvalidRequest

_NEVER: Final = "1970-01-01T00:00:00Z"
"""The gateway does not know when a model was made."""
_MAX_LIMIT: Final = 1000
"""Entries of a page, also of one whose client does not say how many it takes."""


class PageQuery(NamedTuple):
    """Which part of the list a client of Anthropic wants."""

    limit: int = _MAX_LIMIT
    after: str | None = None
    before: str | None = None

    @classmethod
    def read(cls, query: Mapping[str, str]) -> "PageQuery":
        """Reads the query of an address; unknown parameters are ignored. Raises InvalidRequest."""
        limit = query.get("limit", str(_MAX_LIMIT))
        is_number = limit.isascii() and limit.isdecimal() and len(limit) <= len(str(_MAX_LIMIT))
        if not is_number or not 1 <= int(limit) <= _MAX_LIMIT:
            raise InvalidRequest(f"limit must be an integer from 1 to {_MAX_LIMIT}", "limit")
        return cls(int(limit), query.get("after_id"), query.get("before_id"))


def render_models(
    entries: Sequence[ModelEntry], *, anthropic: bool, query: Mapping[str, str]
) -> Json:
    """The names that clients may use: all of them, or a page for a client of Anthropic.

    Raises InvalidRequest for such a client whose query is not valid.
    """
    if anthropic:
        return _anthropic_page(entries, PageQuery.read(query))
    return {"object": "list", "data": [render_model(entry, anthropic=False) for entry in entries]}


def render_model(entry: ModelEntry, *, anthropic: bool) -> Json:
    """One name that clients may use."""
    known: dict[str, Json] = {
        "description": entry.description,
        "max_input_tokens": entry.max_input_tokens,
        "max_tokens": entry.max_output_tokens,
    }
    shown: dict[str, Json] = {"id": entry.name}
    if anthropic:
        shown |= {"type": "model", "display_name": entry.display_name, "created_at": _NEVER}
    else:
        shown |= {"object": "model", "created": 0, "owned_by": entry.owner}
    return shown | {key: value for key, value in known.items() if value is not None}


def _anthropic_page(entries: Sequence[ModelEntry], query: PageQuery) -> Json:
    """The first entries behind ``after``, or the last ones before ``before``."""
    names = [entry.name for entry in entries]
    start = 0 if query.after is None else _position(names, query.after, "after_id") + 1
    end = len(names) if query.before is None else _position(names, query.before, "before_id")
    whole = entries[start:end]
    page = whole[: query.limit] if query.before is None else whole[-query.limit :]
    return {
        "data": [render_model(entry, anthropic=True) for entry in page],
        "has_more": len(page) < len(whole),
        "first_id": page[0].name if page else None,
        "last_id": page[-1].name if page else None,
    }


def _position(names: Sequence[str], cursor: str, field: str) -> int:
    if cursor not in names:
        message = f"{field} must be an id of this list, not {cursor!r}; start without {field}"
        raise InvalidRequest(message, field)
    return names.index(cursor)
