"""What a conversation of OpenAI chat refers to, and what it says of itself."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.dialects.json_edits import read_document
from serve_app.dialects.openai_chat.conversation import ChatConversation, refers_to_audio
from serve_app.domain import Json, Turn

ANSWER = {"role": "assistant", "content": "42"}


def user(content: Json) -> Json:
    return {"role": "user", "content": content}


@pytest.mark.parametrize(
    ("messages", "refers"),
    [
        ([user("Hi"), {"role": "assistant", "audio": {"id": "audio_1"}}, user("Go on")], True),
        ([user("Hi"), {"role": "assistant", "content": "Hi", "audio": None}], False),
        ([user([{"type": "input_audio", "input_audio": {"data": ""}}]), ANSWER], False),
        ([{"role": "user", "audio": {"id": "audio_1"}}], False),
        ([], False),
    ],
)
def test_answer_in_audio_is_held_by_its_provider(messages: Json, refers: bool) -> None:
    """The conversation has only its id; audio of the user is in the conversation itself."""
    assert refers_to_audio(messages) is refers


VALUES = st.recursive(
    st.none() | st.booleans() | st.sampled_from(["assistant", "user", "text"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["role", "audio", "content"]), inner, max_size=3)
    ),
)


@given(VALUES)
def test_audio_is_sought_in_any_json(messages: Json) -> None:
    """No JSON value raises."""
    assert isinstance(refers_to_audio(messages), bool)


def test_chat_conversation_has_what_decisions_need() -> None:
    """A conversation has its turns, its system text, its tools and its size."""
    body = {
        "messages": [{"role": "system", "content": "Be brief."}, user("Hi"), ANSWER],
        "tools": [{"type": "function", "function": {"name": "f"}}],
    }
    text = json.dumps(body)
    conversation = ChatConversation(read_document(text.encode(), unique=frozenset()))
    assert conversation.turns == (Turn("user", "Hi"), Turn("assistant", "42"))
    assert (conversation.system_text, conversation.tool_names) == ("Be brief.", ("f",))
    assert (conversation.first_user_text, conversation.user_spoke_last) == ("Hi", False)
    assert not conversation.has_open_tool_loop
    assert not conversation.has_provider_state
    assert conversation.characters == len(text)
