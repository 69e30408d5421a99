"""What is kept of an answer, as bytes."""

import json

import pytest

from serve_app.conversations.turns import (
    StoredConversation,
    StoredTurn,
    key_of,
    read_conversation,
    read_turn,
    write_conversation,
    write_turn,
)
from serve_app.domain import ModelRef

MODEL = ModelRef("p", "m/x")
TURN = StoredTurn(
    MODEL,
    "côde",
    "f00",
    is_at_provider=True,
    chain=("r1", "r2"),
    items=({"role": "user", "content": "\ud800"},),
    answer={"id": "r3"},
)
CONVERSATION = StoredConversation(
    ("r1",),
    MODEL,
    "code",
    "f00",
    is_at_provider=True,
    items=({"content": "hi"},),
    created_at=7,
    metadata={"k": "v"},
)


@pytest.mark.parametrize("turn", [TURN, StoredTurn(MODEL)])
def test_turn_survives_the_way_there_and_back(turn: StoredTurn) -> None:
    """Writing and reading give the same turn, unpaired surrogates included."""
    assert read_turn(write_turn(turn)) == turn


@pytest.mark.parametrize("conversation", [CONVERSATION, StoredConversation()])
def test_conversation_survives_the_way_there_and_back(conversation: StoredConversation) -> None:
    """Writing and reading give the same conversation."""
    assert read_conversation(write_conversation(conversation)) == conversation


def _changed(value: bytes, **fields: object) -> bytes:
    return json.dumps({**json.loads(value), **fields}).encode()


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        _changed(write_turn(TURN), v=2),
        _changed(write_turn(TURN), model="none"),
        _changed(write_turn(TURN), model=None),
    ],
)
def test_unreadable_value_is_not_a_turn(value: bytes) -> None:
    """A value of another version or kind counts as absent."""
    assert read_turn(value) is None


@pytest.mark.parametrize(
    "value",
    [
        b"",
        write_turn(TURN),
        _changed(write_conversation(CONVERSATION), model="none"),
        _changed(write_conversation(CONVERSATION), v=None),
    ],
)
def test_unreadable_value_is_not_a_conversation(value: bytes) -> None:
    """A value of another version or kind counts as absent; so does a turn."""
    assert read_conversation(value) is None


def test_fields_of_other_types_count_as_absent() -> None:
    """A sloppy value loses the field, and not the rest."""
    turn = _changed(write_turn(TURN), chain="r1", items={}, answer=[], route=1)
    assert read_turn(turn) == StoredTurn(MODEL, None, "f00", is_at_provider=True)
    value = _changed(
        write_conversation(CONVERSATION), items=1, created_at="x", metadata=[], model=None
    )
    assert read_conversation(value) == StoredConversation(
        ("r1",), None, "code", "f00", is_at_provider=True
    )


def test_keys_of_scopes_differ() -> None:
    """The same id has another key for another client, and no key shows the client's."""
    assert key_of("alice", "r1") != key_of("bob", "r1")
    assert "alice" not in key_of("alice", "r1")
    assert key_of("alice", "r1").endswith(":r1")
