"""Earlier answers of OpenAI responses."""

import json
from typing import Any

import pytest

from serve_app.dialects.earlier_answers import KeptAnswer, Reference, StateWish
from serve_app.dialects.json_edits import Document, read_document
from serve_app.dialects.openai_responses.state import ResponsesState
from serve_app.errors import InvalidRequest, ResponseNotFound

STATE = ResponsesState()


def _document(**fields: Any) -> Document:
    return read_document(json.dumps(fields).encode(), unique=frozenset())


@pytest.mark.parametrize(
    ("fields", "wish"),
    [
        ({}, StateWish(None, keeps=True)),
        ({"store": None}, StateWish(None, keeps=True)),
        ({"store": False}, StateWish(None, keeps=False)),
        (
            {"previous_response_id": "r1"},
            StateWish(Reference("r1", "previous_response_id"), keeps=True),
        ),
        ({"previous_response_id": ""}, StateWish(None, keeps=True)),
        (
            {"conversation": "c1", "store": False},
            StateWish(Reference("c1", "conversation", is_conversation=True), keeps=False),
        ),
        (
            {"conversation": {"id": "c1"}},
            StateWish(Reference("c1", "conversation", is_conversation=True), keeps=True),
        ),
    ],
)
def test_wish_is_read_from_the_request(fields: dict[str, Any], wish: StateWish) -> None:
    """What a request continues, and whether its answer is kept."""
    assert STATE.read_wish(_document(**fields)) == wish


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"previous_response_id": 1}, "previous_response_id"),
        ({"conversation": ["c1"]}, "conversation"),
        ({"conversation": {"id": 1}}, "conversation"),
        ({"previous_response_id": "r1", "conversation": "c1"}, "previous_response_id"),
    ],
)
def test_wrong_reference_is_refused(fields: dict[str, Any], param: str) -> None:
    """The error names the field."""
    with pytest.raises(InvalidRequest) as caught:
        STATE.read_wish(_document(**fields))
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("body", "kept"),
    [
        (b'{"id":"r1","store":true}', KeptAnswer("r1", True, {"id": "r1", "store": True})),  # noqa: FBT003 - as the provider says
        (b'{"id":"r1","store":1}', KeptAnswer("r1", None, {"id": "r1", "store": 1})),
        (b'{"output":[]}', None),
        (b"[]", None),
    ],
)
def test_answer_is_kept_by_its_id(body: bytes, kept: KeptAnswer | None) -> None:
    """An answer without an id can't be referred to."""
    assert STATE.read_answer(body) == kept


def _event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


@pytest.mark.parametrize("kind", ["response.completed", "response.incomplete"])
def test_watch_finds_the_answer_in_the_last_event(kind: str) -> None:
    """Text that only mentions the event's name is not it."""
    watch = STATE.watch()
    assert watch.feed(_event("response.created", response={"id": "r1"})) is None
    assert watch.feed(_event("response.output_text.delta", delta=kind)) is None
    kept = watch.feed(b": ping\n\n" + _event(kind, response={"id": "r1"}))
    assert kept == KeptAnswer("r1", None, {"id": "r1"})
    assert STATE.watch().feed(_event(kind, response=1)) is None
    assert STATE.watch().feed(f"data: {kind}\n\n".encode()) is None


def test_items_are_those_of_the_input() -> None:
    """A text is one message of the user."""
    user = {"type": "message", "role": "user", "content": "hi"}
    assert STATE.items(_document(input="hi")) == (user,)
    assert STATE.items(_document(input=[user])) == (user,)
    assert STATE.items(_document(prompt={})) == ()
    assert STATE.answer_items({"output": [{"type": "message"}, 1]}) == ({"type": "message"},)
    assert STATE.answer_items({}) == ()


def test_history_comes_before_the_input() -> None:
    """All other bytes stay; the reference goes, unless a translation repeats it."""
    text = '{ "model" : "m", "previous_response_id": "r1", "input": "two", "x": 1.0 }'
    document = read_document(text.encode(), unique=frozenset())
    bare = {"type": "reasoning", "id": "rs_1", "summary": []}
    said = {"type": "reasoning", "id": "rs_2", "summary": [{"type": "summary_text", "text": "t"}]}
    one = {"role": "user", "content": "öne"}
    for keeps in (False, True):
        changed = STATE.with_history(document, [one, bare, said], keeps_reference=keeps)
        items = changed.get("input")
        assert [item.get("content") for item in items] == ["öne", None, "two"]
        assert items[1] == said
        assert changed.get("previous_response_id") == ("r1" if keeps else None)
        assert changed.text.startswith('{ "model" : "m", ')
        assert changed.text.endswith('"x": 1.0 }')


def test_history_of_a_request_without_input() -> None:
    """A request with a template alone gets an input."""
    changed = STATE.with_history(
        _document(prompt={"id": "p"}), [{"role": "user"}], keeps_reference=False
    )
    assert changed.get("input") == [{"role": "user"}]
    only = STATE.with_history(_document(conversation="c"), [], keeps_reference=False)
    assert json.loads(only.text) == {"input": []}


def test_thoughts_are_left_out() -> None:
    """All reasoning items go; a request without any is not changed."""
    items = [{"type": "reasoning", "encrypted_content": "x"}, {"role": "user", "content": "a"}, 1]
    healed = STATE.without_thoughts(_document(input=items))
    assert healed is not None
    assert healed.get("input") == items[1:]
    assert STATE.without_thoughts(_document(input=items[1:])) is None
    assert STATE.without_thoughts(_document(input="a")) is None


def test_missing_answer_is_an_error_that_clients_know() -> None:
    """The error has OpenAI's code, and says what to do."""
    error = STATE.not_found(Reference("r1", "previous_response_id"), "it is gone")
    assert isinstance(error, ResponseNotFound)
    assert error.code == "previous_response_not_found"
    assert str(error) == (
        "Previous response with id 'r1' not found: it is gone; "
        "send the whole conversation in `input`"
    )
    conversation = Reference("c1", "conversation", is_conversation=True)
    assert str(STATE.not_found(conversation, "it is gone")).startswith("Conversation with id 'c1'")
