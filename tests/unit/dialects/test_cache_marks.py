"""How long a request asks its provider to cache the prompt."""

import json
from typing import Any

import pytest

from serve_app.dialects.json_edits import read_document
from serve_app.dialects.registry import client_dialect

HOUR, SHORT = {"type": "ephemeral", "ttl": "1h"}, {"type": "ephemeral", "ttl": "5m"}
PLAIN = {"type": "ephemeral"}


def lifetime(surface: str, **fields: Any) -> float:
    body = json.dumps({"messages": [], "input": [], **fields}).encode()
    dialect = client_dialect(surface)
    document = read_document(body, unique=frozenset())
    return dialect.read_conversation(document).cache_lifetime_s


def text(mark: Any) -> dict[str, Any]:
    return {"type": "text", "text": "a", "cache_control": mark}


RESULT = {"type": "tool_result", "tool_use_id": "1", "content": [text(HOUR)]}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, 0.0),
        ({"system": [text(PLAIN)]}, 0.0),
        ({"cache_control": HOUR}, 3600.0),
        ({"system": [text(HOUR)]}, 3600.0),
        ({"tools": [{"name": "f"}, {"name": "g", "cache_control": HOUR}]}, 3600.0),
        ({"messages": [{"role": "user", "content": [text(HOUR)]}]}, 3600.0),
        ({"messages": [{"role": "user", "content": "a", "cache_control": HOUR}]}, 3600.0),
        ({"messages": [{"role": "user", "content": [RESULT]}]}, 3600.0),
        ({"system": [text(PLAIN), text(HOUR)], "cache_control": None}, 3600.0),
        ({"tools": [{"cache_control": HOUR}], "system": [text(SHORT)]}, 3600.0),
        ({"system": [text(SHORT)]}, 300.0),
        ({"system": [text({"ttl": "9999h"})]}, 86_400.0),
        ({"system": [text({"ttl": "1h30m"})]}, 0.0),
        ({"system": [text({"ttl": 5})]}, 0.0),
        ({"system": "ttl", "tools": {"ttl": 1}, "messages": ["ttl", 1]}, 0.0),
        ({"messages": [{"role": "user", "content": 'say {"ttl": "1h"}'}]}, 0.0),
    ],
)
def test_marks_of_messages_are_read_wherever_they_are(fields: Any, expected: float) -> None:
    """The first mark with a `ttl` counts, in the order of the prompt, and a day is the maximum."""
    assert lifetime("messages", **fields) == expected


@pytest.mark.parametrize("surface", ["chat", "responses"])
@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"prompt_cache_retention": "24h"}, 86_400.0),
        ({"prompt_cache_retention": "in_memory"}, 0.0),
        ({"prompt_cache_retention": ["24h"]}, 0.0),
        ({"prompt_cache_options": {"ttl": "30m"}}, 1800.0),
        ({"prompt_cache_options": {"ttl": "30m"}, "prompt_cache_retention": "24h"}, 86_400.0),
        ({"prompt_cache_options": "30m"}, 0.0),
        ({}, 0.0),
    ],
)
def test_fields_of_openai_are_read(surface: str, fields: Any, expected: float) -> None:
    """The longest time that one of them names counts."""
    assert lifetime(surface, **fields) == expected


def test_text_without_conversation_asks_nothing() -> None:
    """A legacy completion has no field for it."""
    assert lifetime("completions", prompt="a") == 0.0
