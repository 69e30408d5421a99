"""What a conversation of OpenAI responses says, for decisions and sessions."""

import json

import pytest
from hypothesis import given

from serve_app.dialects.json_edits import read_document
from serve_app.dialects.openai_responses.conversation import ResponsesConversation
from serve_app.domain import Json, Turn
from serve_app.errors import InvalidRequest
from tests.unit.dialects.streams import json_values

REMINDER = "<system-reminder>use the tools</system-reminder>"
ANSWER = {
    "type": "message",
    "role": "assistant",
    "content": [{"type": "output_text", "text": "Hi", "annotations": []}],
}
DEVELOPER = {"role": "developer", "content": [{"type": "input_text", "text": "In French."}]}
IMAGE = {"type": "input_image", "image_url": "https://x"}
REASONING = {"type": "reasoning", "summary": [], "encrypted_content": "x"}
SEARCH = {"type": "web_search_call", "id": "ws_1", "status": "completed"}


def conversation(value: Json, **fields: Json) -> ResponsesConversation:
    body = json.dumps({"input": value, **fields}).encode()
    return ResponsesConversation(read_document(body, unique=frozenset()))


def user(*content: Json) -> Json:
    parts = [{"type": "input_text", "text": c} if isinstance(c, str) else c for c in content]
    return {"type": "message", "role": "user", "content": parts}


def call(call_id: str | None = "c1", kind: str = "function_call") -> Json:
    return {"type": kind, "call_id": call_id, "name": "f", "arguments": "{}"}


def output(call_id: str | None = "c1", kind: str = "function_call_output") -> Json:
    return {"type": kind, "call_id": call_id, "output": "42"}


def test_string_is_one_turn_of_the_user() -> None:
    """A plain text is a conversation of one message."""
    read = conversation("Hello", instructions="Be brief.")
    assert read.turns == (Turn("user", "Hello"),)
    assert (read.system_text, read.first_user_text) == ("Be brief.", "Hello")
    assert read.user_spoke_last
    assert not read.has_open_tool_loop
    assert not read.has_provider_state


def test_turns_are_text_of_user_and_assistant() -> None:
    """Calls, outputs, reasoning, images and messages of others are left out."""
    items = [
        DEVELOPER,
        {"role": "user", "content": "Hello"},
        REASONING,
        ANSWER,
        call(),
        output(),
        SEARCH,
        {"role": "assistant", "content": "42"},
        user(IMAGE, "Look", "here"),
    ]
    assert conversation(items).turns == (
        Turn("user", "Hello"),
        Turn("assistant", "Hi"),
        Turn("assistant", "42"),
        Turn("user", "Look\nhere"),
    )


def test_turns_name_the_place_of_a_malformed_item() -> None:
    """An item that is not an object is refused with its position."""
    with pytest.raises(InvalidRequest) as caught:
        _ = conversation([user("Hi"), "x"]).turns
    assert caught.value.param == "input[1]"


def test_request_without_input_has_no_turns() -> None:
    """A template of the provider may stand for the input."""
    read = conversation(None, prompt={"id": "pmpt_1"})
    assert (read.turns, read.first_user_text, read.user_spoke_last) == ((), None, False)


@pytest.mark.parametrize(
    ("instructions", "items", "texts"),
    [
        ("Be brief.", [user("Hi")], "Be brief."),
        ("Be brief.", [DEVELOPER, user("Hi")], "Be brief.\nIn French."),
        (None, [{"role": "system", "content": "a"}, user("Hi"), DEVELOPER], "a\nIn French."),
        ("", [], ""),
        (["x"], "Hi", ""),
    ],
)
def test_system_text_has_instructions_and_messages(
    instructions: Json, items: Json, texts: str
) -> None:
    """The instructions come first, then the messages of system and developer."""
    assert conversation(items, instructions=instructions).system_text == texts


@pytest.mark.parametrize(
    ("last", "spoke"),
    [
        (user("Hi"), True),
        (user(REMINDER), False),
        (user(IMAGE), True),
        (user({"type": "input_file", "file_id": "f"}), True),
        (user(""), False),
        (output(), False),
        (call(), False),
        (ANSWER, False),
    ],
)
def test_user_spoke_last_with_content_of_its_own(last: Json, *, spoke: bool) -> None:
    """Tool outputs and reminders are not the user's; developer messages after it do not count."""
    assert conversation([ANSWER, last]).user_spoke_last is spoke
    assert conversation([ANSWER, last, DEVELOPER]).user_spoke_last is spoke


@pytest.mark.parametrize(
    ("items", "is_open"),
    [
        ([user("Hi")], False),
        ([user("Hi"), call()], True),
        ([user("Hi"), call(), output()], True),
        ([user("Hi"), REASONING, ANSWER, call("a"), call("b"), output("a"), output("b")], True),
        ([user("Hi"), call("a"), call("b"), output("b"), user("And now?")], True),
        ([user("Hi"), call("a"), call("b"), output("b"), output("a"), user("And now?")], False),
        ([user("Hi"), call(kind="custom_tool_call"), output(kind="custom_tool_call_output")], True),
        ([user("Hi"), call(kind="shell_call")], True),
        ([user("Hi"), call(kind="shell_call"), output(kind="shell_call_output"), ANSWER], False),
        ([user("Hi"), call(None)], True),
        ([user("Hi"), SEARCH], False),
        ([user("Hi"), SEARCH, ANSWER], False),
        ([user("Hi"), call("a"), {"type": "local_shell_call_output", "id": "a"}, user("Go")], False),
        ([output(), DEVELOPER], True),
        ([], False),
    ],
)  # fmt: skip
def test_tool_loop_is_open_until_text_of_the_user(items: Json, *, is_open: bool) -> None:
    """Calls of the client's tools and their outputs hold it open; the provider's tools do not."""
    assert conversation(items).has_open_tool_loop is is_open


@pytest.mark.parametrize(
    ("fields", "items", "held"),
    [
        ({}, [user("Hi"), REASONING, {"type": "message", "id": "msg_1"}], False),
        ({"previous_response_id": None, "conversation": None}, "Hi", False),
        ({"previous_response_id": ""}, "Hi", False),
        ({"previous_response_id": "resp_1"}, "Hi", True),
        ({"conversation": "conv_1"}, "Hi", True),
        ({"conversation": {"id": "conv_1"}}, "Hi", True),
        ({}, [{"type": "item_reference", "id": "msg_1"}], True),
        ({}, [{"id": "msg_1"}], True),
        ({}, [{"id": "msg_1", "role": "user", "content": "Hi"}], False),
    ],
)
def test_references_are_held_by_their_provider(fields: Json, items: Json, *, held: bool) -> None:
    """An earlier answer, a conversation or an item that only a provider has."""
    assert conversation(items, **fields).has_provider_state is held


def test_tool_names_keep_order() -> None:
    """The tools of a namespace stand in its place; tools without a name are left out."""
    tools = [
        {"type": "function", "name": "a", "parameters": {}},
        {"type": "namespace", "name": "mcp", "tools": [{"type": "function", "name": "b"}]},
        {"type": "custom", "name": "c"},
        {"type": "web_search"},
        {"type": "namespace", "name": "empty"},
        7,
    ]
    assert conversation("Hi", tools=tools).tool_names == ("a", "b", "c")


KEYS = ["type", "role", "content", "text", "call_id", "id", "name", "tools"]
WORDS = ["user", "assistant", "message", "input_text", "function_call", "x_output", "namespace"]
VALUES = json_values(KEYS, WORDS)


@given(VALUES, VALUES)
def test_conversation_accepts_any_json(items: Json, value: Json) -> None:
    """Nothing but the turns raises, and these raise InvalidRequest."""
    read = conversation(
        items, instructions=value, tools=value, previous_response_id=value, conversation=value
    )
    assert isinstance(read.system_text, str)
    assert isinstance(read.first_user_text, str | None)
    assert all(isinstance(name, str) for name in read.tool_names)
    for truth in (read.user_spoke_last, read.has_open_tool_loop, read.has_provider_state):
        assert isinstance(truth, bool)
    if isinstance(items, list) and not all(isinstance(item, dict) for item in items):
        with pytest.raises(InvalidRequest, match="input"):
            _ = read.turns
    else:
        assert all(isinstance(turn, Turn) for turn in read.turns)
