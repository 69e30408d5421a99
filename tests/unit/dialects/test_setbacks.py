"""Tools that fail again and again, as each dialect shows it."""

import json
from typing import Any

import pytest

from serve_app.dialects import registry
from serve_app.dialects.json_edits import read_document
from serve_app.dialects.setbacks import begins_like_error
from serve_app.domain import Setback

FAILED, WORKED = "Error: no such file", "3 passed"
USER = {"role": "user", "content": "Fix the test"}


def setback_of(dialect: str, body: dict[str, Any]) -> Setback | None:
    """The setback of a conversation."""
    spoken = registry.client_dialect(dialect)
    document = read_document(json.dumps(body).encode(), unique=spoken.fields.read)
    return spoken.read_conversation(document).setback


def chat(*turns: list[tuple[str, str]]) -> list[Any]:
    """Turns of an agent in chat: in each, some tools with the texts of their results."""
    messages: list[Any] = []
    for number, turn in enumerate(turns):
        ids = [f"c{number}.{place}" for place in range(len(turn))]
        calls = [
            {"id": key, "type": "function", "function": {"name": tool, "arguments": "{}"}}
            for key, (tool, _) in zip(ids, turn, strict=True)
        ]
        messages.append({"role": "assistant", "content": None, "tool_calls": calls})
        messages += [
            {"role": "tool", "tool_call_id": key, "content": text}
            for key, (_, text) in zip(ids, turn, strict=True)
        ]
    return messages


def messages_of(*turns: list[tuple[str, str]]) -> list[Any]:
    """The same in Anthropic messages; results are marked as errors."""
    messages: list[Any] = []
    for number, turn in enumerate(turns):
        uses: list[Any] = [{"type": "text", "text": "I'll try"}]
        results: list[Any] = [{"type": "text", "text": "<system-reminder>x</system-reminder>"}]
        for place, (tool, text) in enumerate(turn):
            key = f"t{number}.{place}"
            uses.append({"type": "tool_use", "id": key, "name": tool, "input": {}})
            result = {"type": "tool_result", "tool_use_id": key, "content": text}
            results.append({**result, **({"is_error": True} if text is FAILED else {})})
        messages += [{"role": "assistant", "content": uses}, {"role": "user", "content": results}]
    return messages


def items_of(*turns: list[tuple[str, str]]) -> list[Any]:
    """The same as items of responses."""
    items: list[Any] = []
    for number, turn in enumerate(turns):
        for place, (tool, text) in enumerate(turn):
            key = f"f{number}.{place}"
            call = {"type": "function_call", "call_id": key, "name": tool, "arguments": "{}"}
            output = [{"type": "input_text", "text": text}] if place else text
            items += [call, {"type": "function_call_output", "call_id": key, "output": output}]
    return items


def all_of(*turns: list[tuple[str, str]]) -> set[Setback | None]:
    """What all three dialects find."""
    return {
        setback_of("chat", {"messages": [USER, *chat(*turns)]}),
        setback_of("messages", {"messages": [USER, *messages_of(*turns)]}),
        setback_of("responses", {"input": [USER, *items_of(*turns)]}),
    }


EDIT, READ, EDITED = [("edit", FAILED)], [("read", WORKED)], [("edit", WORKED)]


@pytest.mark.parametrize(
    ("turns", "fails"),
    [
        ([], False),
        ([EDIT] * 2, False),
        ([EDIT] * 3, True),
        ([EDIT] * 4, False),
        ([EDIT] * 6, True),
        ([EDIT, READ, EDIT, READ, EDIT], True),
        ([EDIT, EDIT, EDIT, READ], False),
        ([EDIT, EDITED, EDIT, EDIT], False),
        ([EDIT, EDITED, EDIT, EDIT, EDIT], True),
        ([EDIT, [("read", FAILED)], EDIT], False),
        ([EDIT, EDIT, [("read", WORKED), ("edit", FAILED)]], True),
    ],
)
def test_tool_fails_after_three_failures_in_a_row(
    turns: list[list[tuple[str, str]]], fails: bool
) -> None:
    """Of the newest results' tool, in every dialect; other tools between do not matter."""
    assert all_of(*turns) == {Setback.TOOL_FAILS if fails else None}


@pytest.mark.parametrize(
    ("parallel", "fails"),
    [
        ([("edit", FAILED), ("edit", FAILED)], True),
        ([("edit", FAILED), ("edit", WORKED)], False),
        ([("edit", WORKED), ("edit", FAILED)], False),
    ],
)
@pytest.mark.parametrize("dialect", ["chat", "messages"])
def test_calls_at_once_count_as_one(
    dialect: str, parallel: list[tuple[str, str]], fails: bool
) -> None:
    """An answer fails for a tool if all of its calls of that tool do."""
    written = chat if dialect == "chat" else messages_of
    turns = written(parallel, parallel, parallel)
    expected = Setback.TOOL_FAILS if fails else None
    assert setback_of(dialect, {"messages": [USER, *turns]}) is expected
    once = written(parallel)
    assert setback_of(dialect, {"messages": [USER, *once]}) is None


def test_user_begins_a_new_row() -> None:
    """Failures before the user's last words do not count; those of an agent's text do."""
    note = {"role": "user", "content": "<system-reminder>Be brief.</system-reminder>"}
    for between, expected in ((USER, None), (note, Setback.TOOL_FAILS)):
        messages = [USER, *messages_of(EDIT, EDIT), between, *messages_of(EDIT)]
        assert setback_of("messages", {"messages": messages}) is expected


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [{"role": "assistant", "tool_calls": [{"id": 1, "function": 3}, {"custom": {"name": 4}}]}],
        [{"role": "tool", "content": [{"type": "text"}, 3]}],
        [{"role": "assistant", "content": [{"type": "tool_use", "name": {}}]}],
    ],
)
def test_odd_messages_are_not_a_setback(messages: Any) -> None:
    """Messages of another shape count as absent."""
    assert setback_of("chat", {"messages": messages}) is None
    assert setback_of("messages", {"messages": messages}) is None


@pytest.mark.parametrize("dialect", ["chat", "messages"])
def test_user_says_that_it_is_still_wrong(dialect: str) -> None:
    """The last message of the user counts, also beside results of tools."""
    parts = [{"type": "text", "text": "No, it's still broken."}]
    assert setback_of(dialect, {"messages": [USER, {"role": "user", "content": parts}]}) is (
        Setback.STILL_WRONG
    )
    said = {"role": "user", "content": "still wrong"}
    assert setback_of(dialect, {"messages": [said, {"role": "assistant", "content": "x"}]}) is None
    assert setback_of(dialect, {"messages": [said, USER]}) is None


@pytest.mark.parametrize(
    "text",
    [
        "Error: no such file",
        "error",
        "[ERROR] it broke",
        '{"error": "no such file"}',
        "<error>no</error>",
        "Traceback (most recent call last):\n  File",
        "TypeError: x is not a function",
        "requests.exceptions.HTTPError: 404",
        "fatal: not a git repository",
        "Failed to read file",
        "Tool call failed: timeout",
        "Command failed with exit code 1",
        "Exit code: 1\nWall time: 0.1 seconds\nOutput:\n",
        "Chunk ID: 1a\nWall time: 0.1 seconds\nProcess exited with code 2\nOutput:",
    ],
)
def test_text_begins_like_error(text: str) -> None:
    """Errors of tools, of languages, and the status of a failed command."""
    assert begins_like_error(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "12 passed, 0 failed",
        "Error handling was improved in 3 files",
        "errors.py\nfatal.py",
        "failures are counted here",
        "The file describes what happens if an error: occurs",
        "Exit code: 0\nOutput:\nerror: none",
        "Process exited with code 0",
        'class ParseError(Exception): """x"""',
    ],
)
def test_text_with_the_word_does_not_begin_like_error(text: str) -> None:
    """Texts that speak of errors are not one."""
    assert not begins_like_error(text)
