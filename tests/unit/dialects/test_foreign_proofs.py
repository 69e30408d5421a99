"""Thoughts of other dialects in bodies that are passed on."""

import json
from typing import Any

import pytest

from serve_app.dialects.foreign_proofs import without_foreign_proofs
from serve_app.dialects.json_edits import read_document
from serve_app.dialects.registry import client_dialect
from serve_app.dialects.signatures import wrap

ENVELOPE = wrap("chat", "proof")
TEXT = {"type": "text", "text": "é"}


def sent(dialect: str, body: dict[str, Any]) -> Any:
    document = read_document(json.dumps(body).encode(), unique=frozenset())
    return json.loads(without_foreign_proofs(document, client_dialect(dialect).fields).text)


@pytest.mark.parametrize(
    "block",
    [
        {"type": "thinking", "thinking": "t", "signature": ENVELOPE},
        {"type": "redacted_thinking", "data": ENVELOPE},
    ],
)
def test_messages_lose_thoughts_of_other_dialects(block: dict[str, Any]) -> None:
    """A thinking block in an envelope is taken out; its message stays if it holds anything else."""
    own = {"type": "thinking", "thinking": "t", "signature": "EqQB"}
    messages = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": [block, own, TEXT]},
        {"role": "assistant", "content": [block]},
    ]
    body = sent("messages", {"model": "m", "messages": messages, "stop": ["x"]})
    assert body == {
        "model": "m",
        "messages": [messages[0], {"role": "assistant", "content": [own, TEXT]}],
        "stop": ["x"],
    }


def test_responses_lose_reasoning_of_other_dialects() -> None:
    """A reasoning item in an envelope is taken out, and the provider's own stays."""
    own = {"type": "reasoning", "id": "rs_1", "encrypted_content": "gAAA", "summary": []}
    items = [own, {**own, "encrypted_content": ENVELOPE}, {"role": "user", "content": "a"}]
    assert sent("responses", {"input": items})["input"] == [items[0], items[2]]


def test_chat_loses_details_of_other_dialects() -> None:
    """Details in an envelope are taken out of a message."""
    message = {"role": "assistant", "content": "a", "reasoning_details": [{"signature": ENVELOPE}]}
    assert sent("chat", {"messages": [message]})["messages"] == [
        {"role": "assistant", "content": "a", "reasoning_details": []}
    ]


@pytest.mark.parametrize(
    ("dialect", "body"),
    [
        ("messages", '{"messages" : [{"role": "user", "content": "fingerpost.chat is no proof"}]}'),
        ("messages", '{"messages": "fingerpost."}'),
        ("messages", '{"messages": [1, null, {"content": [2]}], "x": "fingerpost."}'),
        ("responses", '{"input": "fingerpost."}'),
        ("embeddings", '{"input": ["fingerpost."]}'),
    ],
)
def test_body_without_envelopes_stays_as_it_is(dialect: str, body: str) -> None:
    """Words that look like the beginning of an envelope change nothing."""
    document = read_document(body.encode(), unique=frozenset())
    assert without_foreign_proofs(document, client_dialect(dialect).fields) is document
