"""Items of kept answers, as clients of OpenAI list them."""

from typing import Any

import pytest

from serve_app.dialects.openai_items import ItemQuery, item_page
from serve_app.errors import InvalidRequest

ITEMS: Any = [
    {"role": "user", "content": "one"},
    "not an item",
    {"id": "msg_1", "type": "message", "role": "assistant", "content": [{"type": "output_text"}]},
    {"role": "assistant", "content": "two"},
    {"id": 5, "type": "function_call", "name": "f"},
    {"type": "message", "role": "user", "content": "three", "status": "incomplete"},
]


def page(**query: str) -> Any:
    return item_page(ITEMS, "resp_1", ItemQuery.read(query))


def test_items_are_listed_newest_first() -> None:
    """With the ids of the first and the last of them."""
    listed = page()
    assert [item.get("role") for item in listed["data"]] == [
        "user", None, "assistant", "assistant", "user"
    ]  # fmt: skip
    assert listed["object"] == "list"
    assert listed["first_id"] == listed["data"][0]["id"]
    assert listed["last_id"] == listed["data"][-1]["id"]
    assert listed["has_more"] is False


def test_messages_are_listed_in_their_full_form() -> None:
    """Text becomes a part, of the kind that its role writes."""
    first, known, answer, call, unfinished = page(order="asc")["data"]
    assert first["type"] == "message"
    assert first["content"] == [{"type": "input_text", "text": "one"}]
    assert known == {**ITEMS[2], "status": "completed"}
    assert answer["content"] == [{"type": "output_text", "text": "two", "annotations": []}]
    assert call == {"id": call["id"], "type": "function_call", "name": "f"}
    assert unfinished["status"] == "incomplete"


def test_missing_ids_are_made_of_owner_and_place() -> None:
    """They are the same each time, also when the list has grown, and differ between owners."""
    names = [item["id"] for item in page(order="asc")["data"]]
    assert len(set(names)) == 5
    assert all(name.startswith("msg_") for name in names)
    query = ItemQuery(is_ascending=True)
    grown: Any = item_page([*ITEMS, {"role": "user", "content": "x"}], "resp_1", query)
    assert [item["id"] for item in grown["data"]][:5] == names
    other: Any = item_page(ITEMS, "resp_2", query)
    assert set(names) & {item["id"] for item in other["data"]} == {"msg_1"}


def test_pages_follow_one_another() -> None:
    """Each begins after the item that the client names."""
    listed: list[str] = []
    query = {"limit": "2", "order": "asc"}
    while True:
        part = page(**query)
        listed += [item["id"] for item in part["data"]]
        if not part["has_more"]:
            break
        query["after"] = part["last_id"]
    assert listed == [item["id"] for item in page(order="asc")["data"]]
    assert page(after=listed[0])["data"] == []
    assert page(after=listed[0])["last_id"] is None


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({"limit": "0"}, "limit"),
        ({"limit": "101"}, "limit"),
        ({"limit": "1000"}, "limit"),
        ({"limit": "x"}, "limit"),
        ({"limit": "²"}, "limit"),
        ({"order": "up"}, "order"),
        ({"after": "msg_none"}, "after"),
    ],
)
def test_faulty_query_is_refused(query: dict[str, str], param: str) -> None:
    """The error names the parameter."""
    with pytest.raises(InvalidRequest) as caught:
        page(**query)
    assert caught.value.param == param
