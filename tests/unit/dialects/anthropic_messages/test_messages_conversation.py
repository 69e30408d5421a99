"""What a conversation of Anthropic messages says, for decisions and sessions."""

import json

import pytest
from hypothesis import given

from serve_app.dialects.anthropic_messages.conversation import MessagesConversation
from serve_app.dialects.json_edits import read_document
from serve_app.domain import Json, Turn
from serve_app.errors import InvalidRequest
from tests.unit.dialects.streams import json_values

REMINDER = "<system-reminder>use the tools</system-reminder>"
SYSTEM = {"role": "system", "content": "In French."}
ANSWER = {"role": "assistant", "content": [{"type": "text", "text": "Hi"}]}
IMAGE = {"type": "image", "source": {"type": "url", "url": "https://x"}}
DOCUMENT = {"type": "document", "source": {"type": "text", "data": "x"}}
RESULT = {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "42"}]}
USE = {
    "role": "assistant",
    "content": [
        {"type": "thinking", "thinking": "Hm", "signature": "s"},
        {"type": "text", "text": "Let me see."},
        {"type": "tool_use", "id": "t1", "name": "f", "input": {}},
    ],
}


def conversation(messages: Json, **fields: Json) -> MessagesConversation:
    body = json.dumps({"messages": messages, **fields}).encode()
    return MessagesConversation(read_document(body, unique=frozenset()))


def text(words: str) -> Json:
    return {"type": "text", "text": words}


def user(*content: Json) -> Json:
    return {"role": "user", "content": [text(c) if isinstance(c, str) else c for c in content]}


def test_turns_are_text_of_user_and_assistant() -> None:
    """Tool calls and results, thoughts, images and system messages are left out."""
    messages = [
        {"role": "user", "content": "Hello"},
        SYSTEM,
        USE,
        user(RESULT),
        ANSWER,
        user(RESULT, IMAGE, "Look", "here"),
    ]
    assert conversation(messages).turns == (
        Turn("user", "Hello"),
        Turn("assistant", "Let me see."),
        Turn("assistant", "Hi"),
        Turn("user", "Look\nhere"),
    )


def test_turns_name_the_place_of_a_malformed_message() -> None:
    """A message that is not an object is refused with its position."""
    with pytest.raises(InvalidRequest) as caught:
        _ = conversation([user("Hi"), "x"]).turns
    assert caught.value.param == "messages[1]"


@pytest.mark.parametrize(
    ("system", "messages", "texts"),
    [
        ("Be brief.", [user("Hi")], "Be brief."),
        ([text("Be"), text("brief.")], [user("Hi")], "Be\nbrief."),
        ("Be brief.", [user("Hi"), SYSTEM], "Be brief.\nIn French."),
        (None, [SYSTEM, user("Hi"), SYSTEM], "In French.\nIn French."),
        ("", [user("Hi")], ""),
        (7, [{"role": "system"}], ""),
        ([7, {"type": "image"}], [], ""),
    ],
)
def test_system_text_has_field_and_messages(system: Json, messages: Json, texts: str) -> None:
    """The field comes first, then the system messages in the middle of the conversation."""
    assert conversation(messages, system=system).system_text == texts


@pytest.mark.parametrize(
    ("last", "spoke"),
    [
        (["Hi"], True),
        ([REMINDER], False),
        ([REMINDER, "Hi"], True),
        ([RESULT], False),
        ([RESULT, REMINDER], False),
        ([RESULT, "And now?"], True),
        ([RESULT, IMAGE], True),
        ([DOCUMENT], True),
        ([""], False),
    ],
)
def test_user_spoke_last_with_content_of_its_own(last: list[Json], *, spoke: bool) -> None:
    """Tool results and reminders alone are not the user's; system messages after it do not count."""
    assert conversation([ANSWER, user(*last)]).user_spoke_last is spoke
    assert conversation([ANSWER, user(*last), SYSTEM]).user_spoke_last is spoke
    assert not conversation([user(*last), ANSWER]).user_spoke_last
    assert not conversation([user(*last), ANSWER, SYSTEM]).user_spoke_last


@pytest.mark.parametrize(
    ("messages", "is_open"),
    [
        ([user("Hi")], False),
        ([user("Hi"), USE], True),
        ([user("Hi"), USE, user(RESULT)], True),
        ([user("Hi"), USE, user(RESULT, REMINDER)], True),
        ([user("Hi"), USE, user(RESULT), SYSTEM], True),
        ([user(RESULT)], True),
        ([user("Hi"), USE, user(RESULT, "And now?")], False),
        ([user("Hi"), USE, user(RESULT), ANSWER, user("And now?")], False),
    ],
)
def test_tool_loop_is_open_until_text_of_the_user(messages: Json, *, is_open: bool) -> None:
    """Calls and results at the end hold the loop open."""
    assert conversation(messages).has_open_tool_loop is is_open


@pytest.mark.parametrize(
    ("fields", "held"),
    [
        ({}, False),
        ({"thread": {"type": "create"}}, False),
        ({"thread": {"type": "continue", "previous_message_id": "msg_1"}}, True),
        ({"thread": "continue"}, False),
        ({"container": "container_1"}, True),
        ({"container": {"id": "container_1", "skills": []}}, True),
        ({"container": {"skills": []}}, False),
        ({"container": {"id": ""}}, False),
        ({"container": None}, False),
        ({"container": ""}, False),
    ],
)
def test_threads_and_containers_are_held_by_their_provider(fields: Json, *, held: bool) -> None:
    """A request that continues a thread or names a container belongs to one provider."""
    assert conversation([user("Hi")], **fields).has_provider_state is held


def test_step_of_a_thread_stays_with_its_provider() -> None:
    """A step that carries only the results of tools moves to no other model."""
    thread = {"type": "continue", "previous_message_id": "msg_1"}
    read = conversation([user(RESULT)], thread=thread)
    assert read.has_open_tool_loop
    assert read.has_provider_state
    assert not read.user_spoke_last


def test_tools_and_first_text_are_read() -> None:
    """Names of tools keep their order, those of the provider included; the first text is whole."""
    tools = [{"name": "f", "input_schema": {}}, {"type": "web_search_20250305", "name": "search"}]
    read = conversation([SYSTEM, user(REMINDER, "Hi"), ANSWER], tools=tools)
    assert read.tool_names == ("f", "search")
    assert read.first_user_text == f"{REMINDER}\nHi"
    assert read.characters > 100
    assert conversation([ANSWER]).first_user_text is None


KEYS = ["role", "content", "type", "text", "id", "tool_use_id", "messages", "system", "thread"]
WORDS = ["user", "assistant", "system", "text", "tool_use", "tool_result", "continue", REMINDER]
VALUES = json_values(KEYS, WORDS)


@given(VALUES, VALUES, VALUES)
def test_conversation_accepts_any_json(messages: Json, value: Json, thread: Json) -> None:
    """Nothing but the turns raises, and these raise InvalidRequest."""
    read = conversation(messages, system=value, tools=value, thread=thread, container=value)
    assert isinstance(read.system_text, str)
    assert isinstance(read.first_user_text, str | None)
    assert all(isinstance(name, str) for name in read.tool_names)
    for truth in (read.user_spoke_last, read.has_open_tool_loop, read.has_provider_state):
        assert isinstance(truth, bool)
    if isinstance(messages, list) and all(isinstance(message, dict) for message in messages):
        assert all(isinstance(turn, Turn) for turn in read.turns)
    else:
        with pytest.raises(InvalidRequest, match="messages"):
            _ = read.turns
