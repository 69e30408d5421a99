"""The turns of a conversation, and the texts that stay the same from turn to turn."""

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.dialects.message_list import (
    first_user_text,
    holds_tool_loop,
    is_user_turn,
    system_texts,
    tool_names,
    without_last_system,
)
from serve_app.domain import Json

IMAGE = {"type": "image_url", "image_url": {"url": "data:,"}}
REMINDER = "<system-reminder>use the tools</system-reminder>"
HOOK = "<user-prompt-submit-hook>ok</user-prompt-submit-hook>"


def user(*content: Json) -> Json:
    """A user message: one string as content, or several strings and parts as a list."""
    if len(content) == 1 and not isinstance(content[0], dict):
        return {"role": "user", "content": content[0]}
    parts = [text(part) if isinstance(part, str) else part for part in content]
    return {"role": "user", "content": parts}


def text(words: str) -> Json:
    return {"type": "text", "text": words}


def result(call: str | None = None) -> Json:
    return {"type": "tool_result", "tool_use_id": call, "content": "42"}


def tool(call: str | None) -> Json:
    return {"role": "tool", "tool_call_id": call, "content": "42"}


def calls(*ids: Json) -> Json:
    requested_calls = [{"id": id_, "type": "function", "function": {"name": "f"}} for id_ in ids]
    return {"role": "assistant", "content": None, "tool_calls": requested_calls}


def uses(*ids: str) -> Json:
    parts = [{"type": "tool_use", "id": id_, "name": "f", "input": {}} for id_ in ids]
    return {"role": "assistant", "content": [text("Let me see."), *parts]}


ANSWER = {"role": "assistant", "content": "42"}
SYSTEM = {"role": "system", "content": "Be brief."}
NOT_A_LIST: list[Json] = [None, 0, True, "user", {"role": "user", "content": "hi"}]
ODD: list[Json] = [
    [None],
    [7],
    ["user"],
    [[]],
    [{}],
    [{"role": None}],
    [{"role": ["user"], "content": "hi"}],
    [{"role": {}, "content": {}}],
    [user("hi"), None],
    [user(None)],
    [user(7)],
    [user({})],
    [{"role": "user", "content": [None, 7, "hi", [], {"text": 7}, {"type": "text"}]}],
    [{"role": "user", "content": {"type": "text", "text": "hi"}}],
    [{"role": "user"}],
]


@pytest.mark.parametrize(
    ("last", "turn"),
    [
        (user("Hi"), True),
        (user(f"{REMINDER}Hi"), True),
        (user(f"{REMINDER}\n{HOOK} Hi{REMINDER}"), True),
        (user("a <system-reminders> b"), True),
        (user("</system-reminder>"), True),
        (user("<environment_context>x</environment_context>"), True),
        (user(REMINDER), False),
        (user(f" \n{REMINDER}\t{HOOK}{REMINDER}\n"), False),
        (user("<system-reminder>Hi"), False),
        (user("<user-prompt-submit-hook>Hi"), False),
        (user(f"{REMINDER}<system-reminder>Hi\n\nthere"), False),
        (user("Hi<system-reminder>there"), True),
        (user("<user-prompt-submit-hook>a<system-reminder>b</user-prompt-submit-hook>Hi"), False),
        (user("<system-reminder>a<user-prompt-submit-hook>b</system-reminder>Hi"), True),
        (user(""), False),
        (user("  \n\u00a0"), False),
        (user(text("Hi")), True),
        (user(REMINDER, "Hi"), True),
        (user(REMINDER, HOOK), False),
        (user("<system-reminder>a", "Hi"), False),
        (user("<system-reminder>a", "b</system-reminder>"), False),
        (user("", " "), False),
        (user(IMAGE), True),
        (user(REMINDER, IMAGE), True),
        (user({"type": "input_audio"}), True),
        (user({"type": "file"}), True),
        (user({"type": "something_new"}), True),
        (user({"text": "Hi"}), True),
        (user(result("1")), False),
        (user(result("1"), REMINDER), False),
        (user(result("1"), "And now?"), True),
        (user(result("1"), IMAGE), True),
        (tool("1"), False),
        (calls("1"), False),
        (ANSWER, False),
        (SYSTEM, False),
        ({"role": "developer", "content": "Hi"}, False),
        ({"role": "User", "content": "Hi"}, False),
    ],
)  # fmt: skip
def test_user_turn_depends_on_last_message(last: Json, turn: bool) -> None:
    """A conversation is on the user's turn if its last message has the user's text or images."""
    assert is_user_turn([last]) is turn
    assert is_user_turn([user("Hi"), ANSWER, last]) is turn
    assert is_user_turn([last, ANSWER]) is False


@pytest.mark.parametrize(
    ("messages", "held"),
    [
        ([user("Hi")], False),
        ([user("Hi"), ANSWER], False),
        ([user("Hi"), ANSWER, user("And now?")], False),
        ([user("Hi"), calls("1")], True),
        ([user("Hi"), calls("1"), tool("1")], True),
        ([user("Hi"), calls("1", "2"), tool("1")], True),
        ([user("Hi"), calls("1", "2"), tool("2"), tool("1")], True),
        ([user("Hi"), calls("1"), tool("1"), ANSWER], False),
        ([user("Hi"), calls("1"), tool("1"), calls("2"), tool("2")], True),
        ([user("Hi"), calls("1"), tool("1"), user("And now?")], False),
        ([user("Hi"), calls("1", "2"), tool("1"), user("And now?")], True),
        ([user("Hi"), calls("1", "2"), tool("1"), user("And now?"), ANSWER], False),
        ([user("Hi"), calls("1"), user("Stop")], True),
        ([user("Hi"), calls("1"), user("Stop"), tool("1")], True),
        ([user("Hi"), calls("1"), tool("1"), user(REMINDER)], True),
        ([user("Hi"), calls("1"), tool("1"), SYSTEM], True),
        ([user("Hi"), calls("1"), tool("1"), user("And"), user(REMINDER)], False),
        ([user("Hi"), calls("1"), tool("1"), user(IMAGE)], False),
        ([tool("1")], True),
        ([user("Hi"), ANSWER, tool("1")], True),
        ([user("Hi"), calls()], False),
        ([user("Hi"), calls(None)], True),
        ([user("Hi"), calls(None), tool(None)], True),
        ([user("Hi"), calls(None), tool(None), user("And now?")], False),
        ([user("Hi"), calls([], {})], True),
        ([user("Hi"), uses("1")], True),
        ([user("Hi"), uses("1"), user(result("1"))], True),
        ([user("Hi"), uses("1", "2"), user(result("1"), result("2"))], True),
        ([user("Hi"), uses("1", "2"), user(result("1"), result("2"), "Go on")], False),
        ([user("Hi"), uses("1", "2"), user(result("1"), "Go on")], True),
        ([user("Hi"), uses("1"), user(result("1"), REMINDER)], True),
        ([user("Hi"), uses("1"), user(result("1")), ANSWER, user("And now?")], False),
        ([user("Hi"), {"role": "assistant", "content": [{"type": "server_tool_use", "id": "1"}]}], False),
        ([user("Hi"), {"role": "assistant", "function_call": {"name": "f"}}], True),
        ([{"role": "assistant", "function_call": {"name": "f"}}, {"role": "function", "content": "4"}], True),
        ([user("Hi"), {"role": "assistant", "tool_calls": "1", "function_call": None}], False),
        ([SYSTEM], False),
        ([], False),
    ],
)  # fmt: skip
def test_tool_loop_is_open_until_user_text(messages: Json, held: bool) -> None:
    """A tool loop is open while results come last or calls lack results; the user's own text ends
    it.
    """
    assert holds_tool_loop(messages) is held


@pytest.mark.parametrize(
    ("messages", "kept"),
    [
        ([user("Hi"), SYSTEM, SYSTEM], [user("Hi")]),
        ([user("Hi"), SYSTEM, {"role": "developer"}, ANSWER], 4),
        ([SYSTEM, {"role": "developer"}], []),
        ([SYSTEM, None], 2),
        (None, []),
    ],
)
def test_last_system_messages_can_be_left_out(messages: Json, kept: Json) -> None:
    """Only the system and developer messages at the end are left out, in a new list."""
    left = without_last_system(messages)
    assert left == (messages[:kept] if isinstance(kept, int) else kept)
    assert left is not messages


@pytest.mark.parametrize(
    ("messages", "texts"),
    [
        ([SYSTEM, user("Hi")], "Be brief."),
        ([SYSTEM, {"role": "developer", "content": "In French."}], "Be brief.\nIn French."),
        ([SYSTEM, user("Hi"), ANSWER, SYSTEM], "Be brief.\nBe brief."),
        ([{"role": "system", "content": [text("a"), IMAGE, text("b")]}, SYSTEM], "a\nb\nBe brief."),
        ([{"role": "system", "content": ""}, SYSTEM], "\nBe brief."),
        ([{"role": "system", "content": None}, SYSTEM], "Be brief."),
        ([{"role": "system"}, {"role": "system", "content": 7}], ""),
        ([{"role": "system", "content": f"a{REMINDER}"}], f"a{REMINDER}"),
        ([user("Hi"), ANSWER, tool("1")], ""),
        ([], ""),
    ],
)
def test_system_texts_join_system_and_developer_messages(messages: Json, texts: str) -> None:
    """The texts of system and developer messages are joined; an empty text is included and a
    message without content is skipped.
    """
    assert system_texts(messages) == texts


@pytest.mark.parametrize(
    ("messages", "first"),
    [
        ([SYSTEM, user("Hi"), ANSWER, user("And now?")], "Hi"),
        ([user("a", IMAGE, "b")], "a\nb"),
        ([user(f"{REMINDER}Hi")], f"{REMINDER}Hi"),
        ([user(""), user("Hi")], ""),
        ([user(IMAGE), user("Hi")], ""),
        ([user(None), user("Hi")], None),
        ([SYSTEM, ANSWER], None),
        ([], None),
    ],
)
def test_first_user_text_is_not_cleaned(messages: Json, first: str | None) -> None:
    """The first user message is returned whole, with all text that an agent has added, even if it
    has no text of the user.
    """
    assert first_user_text(messages) == first


@pytest.mark.parametrize(
    ("tools", "names"),
    [
        ([{"type": "function", "function": {"name": "b", "parameters": {}}}], ["b"]),
        ([{"function": {"name": "b"}}, {"function": {"name": "a"}}], ["b", "a"]),
        ([{"type": "custom", "custom": {"name": "c"}}], ["c"]),
        ([{"type": "function", "name": "d"}, {"name": "e", "input_schema": {}}], ["d", "e"]),
        ([{"type": "web_search"}, {"function": {}}, {"function": {"name": 7}}], []),
        ([{"function": "f", "custom": [], "name": "g"}, None, 7, "h", []], ["g"]),
        ([], []),
        (None, []),
        ({"name": "a"}, []),
        ("tools", []),
    ],
)
def test_tool_names_keep_order(tools: Json, names: list[str]) -> None:
    """The names of tools keep their order; tools without a name are left out."""
    assert tool_names(tools) == tuple(names)


@pytest.mark.parametrize("messages", [*NOT_A_LIST, []])
def test_messages_that_are_not_a_list_are_empty(messages: Json) -> None:
    """Messages that are not a list count as empty; another check reports them to the client."""
    assert not is_user_turn(messages)
    assert not holds_tool_loop(messages)
    assert (system_texts(messages), first_user_text(messages)) == ("", None)


@pytest.mark.parametrize("messages", ODD)
def test_malformed_messages_are_empty(messages: Json) -> None:
    """Malformed messages inside a list count as empty."""
    assert not is_user_turn(messages)
    assert not holds_tool_loop(messages)
    assert system_texts(messages) == ""


def anything(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    keys = ["role", "content", "type", "text", "tool_calls", "id", "tool_call_id", "function"]
    return st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(keys), inner, max_size=4)


WORDS = [
    "user",
    "assistant",
    "system",
    "tool",
    "text",
    "tool_result",
    "tool_use",
    REMINDER,
    "\ud800",
]
LEAVES = st.none() | st.booleans() | st.integers() | st.sampled_from(WORDS)


@given(st.recursive(LEAVES, anything, max_leaves=20))
def test_conversation_functions_accept_any_json(messages: Json) -> None:
    """The functions do not raise for any JSON value."""
    turn, held = is_user_turn(messages), holds_tool_loop(messages)
    assert isinstance(turn, bool)
    assert isinstance(without_last_system(messages), list)
    assert isinstance(held, bool)
    assert isinstance(system_texts(messages), str)
    assert isinstance(first_user_text(messages), str | None)
    assert all(isinstance(name, str) for name in tool_names(messages))


@pytest.mark.parametrize(
    "words",
    [
        "<system-reminder>" * 120_000,
        REMINDER * 42_000,
        "<system-reminder" * 130_000,
        "<user-prompt-submit-hook><system-reminder>" * 48_000,
        "<" * 2_000_000,
    ],
    ids=["unclosed", "closed", "cut off", "both", "brackets"],
)
def test_large_text_is_scanned_in_linear_time(words: str) -> None:
    """A text of two megabytes of tags is scanned in less than a second."""
    started = time.perf_counter()
    is_user_turn([user(words)])
    holds_tool_loop([user(words)])
    assert time.perf_counter() - started < 1.0
