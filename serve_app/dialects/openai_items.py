"""Items of kept answers and conversations, as clients of OpenAI list them.

Source: OpenAI API reference, "List input items" and "List items".
"""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from serve_app.dialects.json_values import text_of
from serve_app.dialects.stable_ids import digest_of
from serve_app.domain import Json
from serve_app.errors import InvalidRequest

_MAX_LIMIT: Final = 100
_LIMIT: Final = 20
_ORDERS: Final = ("asc", "desc")
_ID_DIGITS: Final = 32


class ItemQuery(NamedTuple):
    """Which part of a list of items a client wants."""

    limit: int = _LIMIT
    after: str | None = None
    is_ascending: bool = False

    @classmethod
    def read(cls, query: Mapping[str, str]) -> "ItemQuery":
        """Reads the query of an address; unknown parameters are ignored. Raises InvalidRequest."""
        limit, order = query.get("limit", str(_LIMIT)), query.get("order", "desc")
        is_number = limit.isascii() and limit.isdecimal() and len(limit) <= len(str(_MAX_LIMIT))
        if not is_number or not 1 <= int(limit) <= _MAX_LIMIT:
            raise InvalidRequest(f"limit must be an integer from 1 to {_MAX_LIMIT}", "limit")
        if order not in _ORDERS:
            raise InvalidRequest("order must be 'asc' or 'desc'", "order")
        return cls(int(limit), query.get("after"), order == "asc")


def item_page(items: Sequence[Json], owner: str, query: ItemQuery) -> dict[str, Json]:
    """One page of the items of ``owner``, an answer or a conversation, given the oldest first.

    Raises InvalidRequest if ``query.after`` is not the id of an item.
    """
    listed = [
        _listed(item, owner, place) for place, item in enumerate(items) if isinstance(item, dict)
    ]
    if not query.is_ascending:
        listed.reverse()
    names = [text_of(item["id"]) for item in listed]
    start = 0
    if query.after is not None:
        if query.after not in names:
            message = f"after must be the id of an item of this list, not {query.after!r}"
            raise InvalidRequest(f"{message}; start without after", "after")
        start = names.index(query.after) + 1
    end = start + query.limit
    shown = names[start:end]
    return {
        "object": "list",
        "data": listed[start:end],
        "first_id": shown[0] if shown else None,
        "last_id": shown[-1] if shown else None,
        "has_more": end < len(names),
    }


def _listed(item: Mapping[str, Json], owner: str, place: int) -> dict[str, Json]:
    """An item with an id, and a message in its full form.

    An id that is missing is made of ``owner`` and the item's place, which never changes.
    """
    shown = dict(item)
    if not text_of(item.get("id")):
        shown["id"] = f"msg_{digest_of(f'{owner} {place}', _ID_DIGITS)}"
    if "type" not in item and "role" in item:
        shown["type"] = "message"
    if shown.get("type") != "message":
        return shown
    content = item.get("content")
    if isinstance(content, str):
        is_answer = item.get("role") == "assistant"
        part: dict[str, Json] = {"type": "output_text" if is_answer else "input_text"}
        shown["content"] = [part | {"text": content} | ({"annotations": []} if is_answer else {})]
    shown.setdefault("status", "completed")
    return shown
