"""What people paste and edit: how it is read, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from serve_app.api.playground.inputs import read_edit, read_json_object, read_pasted
from serve_app.errors import DuplicateKey, GatewayError, InvalidJson, InvalidRequest
from serve_app.snapshot import Snapshot
from tests.unit.fakes import snapshot_of
from tests.unit.requests.gateway_rig import ROUTES, TEXT

USER = {"role": "user", "content": "fix it"}


@pytest.fixture
def snapshot(tmp_path: Path) -> Snapshot:
    return snapshot_of(tmp_path, TEXT + ROUTES)


def turns_of(text: str, dialect: str | None = None) -> list[tuple[str, str]]:
    pasted = read_pasted(text, dialect)
    assert pasted is not None
    conversation = pasted.dialect.read_conversation(pasted.document)
    return [(turn.role, turn.text) for turn in conversation.turns]


@pytest.mark.parametrize(
    ("text", "read_as", "turns"),
    [
        ("fix it", "text", [("user", "fix it")]),
        ("{ not json", "text", [("user", "{ not json")]),
        ("[1, 2]", "text", [("user", "[1, 2]")]),
        ("Note that User: is a word", "text", [("user", "Note that User: is a word")]),
        ("User: a\nAssistant: b\nUser: c", "turns", [("user", "a"), ("assistant", "b"), ("user", "c")]),
        ("Human: a\nand more\n\nAI: b", "turns", [("user", "a\nand more"), ("assistant", "b")]),
        (json.dumps([USER]), "messages", [("user", "fix it")]),
        (json.dumps({"messages": [USER]}), "chat", [("user", "fix it")]),
        (json.dumps({"system": "s", "messages": [USER]}), "messages", [("user", "fix it")]),
        (json.dumps({"input": "fix it"}), "responses", [("user", "fix it")]),
        (json.dumps({"prompt": "fix it"}), "completions", [("user", "fix it")]),
    ],
)  # fmt: skip
def test_pasted_conversation_is_read_by_what_it_looks_like(
    text: str, read_as: str, turns: list[tuple[str, str]]
) -> None:
    """A body of any dialect, a list of messages, named turns, or plain text."""
    pasted = read_pasted(text)
    assert pasted is not None
    assert pasted.read_as == read_as
    assert turns_of(text) == turns


def test_empty_conversation_is_none() -> None:
    """Nothing is decided about white space."""
    assert read_pasted(" \n") is None


def test_named_dialect_wins_over_the_keys() -> None:
    """A person may know better than the keys of a body."""
    body = json.dumps({"messages": [USER]})
    pasted = read_pasted(body, "messages")
    assert pasted is not None
    assert pasted.dialect.name == "messages"
    with pytest.raises(InvalidRequest, match="use one of chat, messages, responses"):
        read_pasted(body, "decisions")


def test_fault_of_a_body_is_that_of_the_api() -> None:
    """A pasted body is read as strictly as one that is sent."""
    with pytest.raises(DuplicateKey):
        read_pasted('{"messages": [], "messages": []}')


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b"[" * 100_000])
def test_call_has_to_be_a_json_object(body: bytes) -> None:
    """Whatever else is sent is refused as a fault of the client."""
    with pytest.raises(InvalidJson):
        read_json_object(body)


def route(**changes: Any) -> dict[str, Any]:
    return {"name": "r", "description": "d", "models": ["openai/b"], **changes}


def test_edit_replaces_routes_and_thresholds(snapshot: Snapshot) -> None:
    """What it leaves out stays as configured."""
    value = {
        "routing_preferences": [route(examples=["e"], models=[{"model": "b", "effort": "low"}])],
        "no_route_examples": ["hi"],
        "min_confidence": 1,
    }
    edit = read_edit(value, snapshot.policy)
    assert edit is not None
    assert [(one.name, one.examples) for one in edit.routes] == [("r", ("e",))]
    assert str(edit.routes[0].models[0]) == "openai/b"
    assert edit.no_route_examples == ("hi",)
    assert (edit.min_confidence, edit.min_margin) == (1.0, None)
    unchanged = read_edit({}, snapshot.policy)
    assert unchanged is not None
    assert unchanged.applied_to(snapshot) is snapshot
    assert read_edit(None, snapshot.policy) is None


@pytest.mark.parametrize(
    ("value", "param"),
    [
        ([], "edit"),
        ({"routing_preferences": [route(models=["openai/x"])]}, "routing_preferences[0].models[0]"),
        ({"routing_preferences": [route(description="")]}, "routing_preferences[0].description"),
        ({"routing_preferences": [route(), route()]}, "routing_preferences[1].name"),
        ({"routing_preferences": [route()] * 129}, "routing_preferences"),
        ({"routing_preferences": [route(description="x" * 70_000)]}, "routing_preferences"),
        ({"no_route_examples": "hi"}, "no_route_examples"),
        ({"no_route_examples": [""]}, "no_route_examples"),
        ({"no_route_examples": ["x"] * 65}, "no_route_examples"),
        ({"no_route_examples": ["x" * 70_000]}, "no_route_examples"),
        ({"min_confidence": 1.5}, "min_confidence"),
        ({"min_confidence": True}, "min_confidence"),
        ({"min_margin": "0"}, "min_margin"),
    ],
)
def test_faulty_edit_names_its_field(value: Any, param: str, snapshot: Snapshot) -> None:
    """The page shows the message beside the field."""
    with pytest.raises(GatewayError) as refused:
        read_edit(value, snapshot.policy)
    assert refused.value.param == param
