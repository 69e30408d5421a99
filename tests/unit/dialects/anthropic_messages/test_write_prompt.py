"""The conversation that an Anthropic provider gets."""

import base64
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.dialects import ir
from serve_app.dialects.anthropic_messages.write_messages import WrittenPrompt, write_prompt
from serve_app.domain import Json
from serve_app.errors import InvalidRequest

CACHE = {"type": "ephemeral"}
SYSTEM, DEVELOPER, USER, ASSISTANT = ir.Role
PDF = base64.b64encode(b"%PDF-1.7").decode()


def text(words: str) -> Json:
    return {"type": "text", "text": words}


def said(role: ir.Role, *parts: ir.Part | str, at: str = "messages[0]") -> ir.Message:
    whole = tuple(ir.Text(part) if isinstance(part, str) else part for part in parts)
    return ir.Message(role, whole, at)


def sent(*parts: ir.Part | str) -> Json:
    """The content of one message of the user."""
    return write_prompt([said(USER, *parts)]).messages[0]["content"]


def results(prompt: WrittenPrompt) -> list[str]:
    return [
        block["tool_use_id"]
        for message in prompt.messages
        for block in message["content"]
        if block["type"] == "tool_result"
    ]


def calls(prompt: WrittenPrompt) -> list[str]:
    return [
        block["id"]
        for message in prompt.messages
        for block in message["content"]
        if block["type"] == "tool_use"
    ]


def test_leading_system_messages_are_the_system_prompt() -> None:
    """Developer and system messages before the first turn keep their cache markers."""
    prompt = write_prompt(
        [
            said(SYSTEM, ir.Text("a", cache=CACHE), " "),
            said(DEVELOPER, "b"),
            said(USER, "c"),
        ]
    )
    assert prompt.system == [{**text("a"), "cache_control": CACHE}, text("b")]
    assert prompt.messages == [{"role": "user", "content": [text("c")]}]


def test_later_system_message_keeps_its_place() -> None:
    """It becomes a marked text of the user, behind results of tools that have to come first."""
    prompt = write_prompt(
        [
            said(USER, "a"),
            said(ASSISTANT, ir.ToolCall("i", "n")),
            said(SYSTEM, "b", ""),
            said(USER, ir.ToolResult("i", (ir.Text("r"),))),
        ]
    )
    result = {"type": "tool_result", "tool_use_id": "i", "content": [text("r")]}
    assert prompt.messages[2]["content"] == [result, text("<system>\nb\n</system>")]
    assert prompt.system == []


def test_neighbours_of_one_role_become_one_message() -> None:
    """Empty texts and messages are left out, because the API refuses them."""
    prompt = write_prompt(
        [
            said(USER, "a"),
            said(ASSISTANT, "", " \n"),
            said(USER, "b", ""),
            said(ASSISTANT, "c"),
            said(ASSISTANT, ir.Refusal("d")),
        ]
    )
    assert prompt.messages == [
        {"role": "user", "content": [text("a"), text("b")]},
        {"role": "assistant", "content": [text("c"), text("d")]},
    ]


@pytest.mark.parametrize("first", [said(ASSISTANT, "a"), said(SYSTEM, "a")])
def test_conversation_begins_with_the_user(first: ir.Message) -> None:
    """The API wants a message of the user first, also where the client has none."""
    messages = write_prompt([first]).messages
    assert messages[0] == {"role": "user", "content": [text(".")]}


def test_prefill_does_not_end_in_white_space() -> None:
    """An answer that the client begins is left as it is but for that."""
    prompt = write_prompt([said(USER, "a"), said(ASSISTANT, "b ", "c \n")])
    assert prompt.messages[-1]["content"] == [text("b "), text("c")]
    assert not prompt.can_think


def test_calls_and_results() -> None:
    """Arguments are objects; results have their blocks, their error and their marker."""
    image = ir.Image(ir.Media(url="u"))
    prompt = write_prompt(
        [
            said(USER, "a"),
            said(
                ASSISTANT,
                ir.ToolCall("1", "n", '{"x": 1}', cache=CACHE),
                ir.ToolCall("2", "n"),
                ir.ToolCall("3", "m", "{torn"),
                ir.ToolCall("4", "m", "[NaN]"),
            ),
            said(
                USER,
                "b",
                ir.ToolResult("1", (ir.Text("r"), image), cache=CACHE),
                ir.ToolResult("2", (ir.Text(""),), is_error=True),
            ),
        ]
    )
    assert [block["input"] for block in prompt.messages[1]["content"]] == [
        {"x": 1},
        {},
        {"raw_arguments": "{torn"},
        {"raw_arguments": "[NaN]"},
    ]
    assert prompt.messages[1]["content"][0]["cache_control"] == CACHE
    assert prompt.called == ("n", "m")
    assert prompt.messages[2]["content"] == [
        {
            "type": "tool_result",
            "tool_use_id": "1",
            "content": [text("r"), {"type": "image", "source": {"type": "url", "url": "u"}}],
            "cache_control": CACHE,
        },
        {"type": "tool_result", "tool_use_id": "2", "is_error": True},
        text("b"),
    ]


def test_ids_are_safe_and_unique() -> None:
    """Ids of other providers have any characters, and repeat in every answer."""
    turn = [
        said(ASSISTANT, ir.ToolCall("f.x:0", "n"), ir.ToolCall("", "n"), ir.ToolCall("a", "n")),
        said(USER, ir.ToolResult("f.x:0"), ir.ToolResult(""), ir.ToolResult("a")),
    ]
    messages = [said(USER, "a"), *turn, said(ASSISTANT, ir.ToolCall("a_2", "n")), *turn, *turn]
    messages.insert(4, said(USER, ir.ToolResult("a_2")))
    prompt = write_prompt(messages)
    ids = calls(prompt)
    assert ids == results(prompt)
    assert len(set(ids)) == len(ids) == 10
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]+", each) for each in ids)
    assert ids[2:4] == ["a", "a_2"]
    assert ids[6] == "a_3"
    assert calls(write_prompt(messages)) == ids


def test_repeated_id_in_one_answer_has_results_in_order() -> None:
    """Two calls of one id get their results one after the other."""
    prompt = write_prompt(
        [
            said(ASSISTANT, ir.ToolCall("a", "n"), ir.ToolCall("a", "n")),
            said(USER, ir.ToolResult("a"), ir.ToolResult("a"), ir.ToolResult("lost")),
        ]
    )
    assert calls(prompt) == ["a", "a_2"]
    assert results(prompt) == ["a", "a_2", "lost"]


THOUGHT = ir.Thinking("t", "s", "messages")
CALL, RESULT = ir.ToolCall("i", "n"), ir.ToolResult("i")


def test_thoughts_go_back_to_their_provider_only() -> None:
    """Thoughts of another origin, and those without a signature, are left out and reported."""
    prompt = write_prompt(
        [
            said(USER, "a"),
            said(
                ASSISTANT,
                THOUGHT,
                ir.Thinking("", "d", "messages", is_redacted=True),
                "b",
            ),
            said(ASSISTANT, ir.Thinking("t", "s", "chat"), at="messages[2]"),
            said(ASSISTANT, ir.Thinking("t", None, "messages"), at="messages[3]"),
        ]
    )
    assert prompt.messages[1]["content"] == [
        {"type": "thinking", "thinking": "t", "signature": "s"},
        {"type": "redacted_thinking", "data": "d"},
        text("b"),
    ]
    assert prompt.dropped == ("messages[2]", "messages[3]")


@pytest.mark.parametrize(
    ("messages", "can_think"),
    [
        ([said(USER, "a")], True),
        ([said(USER, "a"), said(ASSISTANT, CALL), said(USER, RESULT)], False),
        ([said(USER, "a"), said(ASSISTANT, THOUGHT, CALL), said(USER, RESULT)], True),
        ([said(USER, "a"), said(ASSISTANT, "b", THOUGHT, CALL), said(USER, RESULT, "c")], False),
        (
            [
                said(USER, "a"),
                said(ASSISTANT, CALL),
                said(USER, RESULT),
                said(ASSISTANT, "b"),
                said(USER, "c"),
            ],
            True,
        ),
        ([said(USER, RESULT)], True),
    ],
)
def test_open_tool_loop_needs_its_own_thoughts(
    messages: list[ir.Message], *, can_think: bool
) -> None:
    """A model can't begin to think in the middle of a turn."""
    assert write_prompt(messages).can_think is can_think


MEDIA: list[tuple[ir.Part, Json]] = [
    (
        ir.Image(ir.Media(data="AA==", media_type="image/jpg"), cache=CACHE),
        {
            "type": "image",
            "source": {"type": "base64", "media_type": "image/jpeg", "data": "AA=="},
            "cache_control": CACHE,
        },
    ),
    (
        ir.Image(ir.Media(data="iVBORw0KGgo=")),
        {
            "type": "image",
            "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="},
        },
    ),
    (
        ir.Image(ir.Media(file_id="f")),
        {"type": "image", "source": {"type": "file", "file_id": "f"}},
    ),
    (
        ir.File(ir.Media(data=PDF), "a.pdf", "C", CACHE),
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": PDF},
            "title": "a.pdf",
            "context": "C",
            "cache_control": CACHE,
        },
    ),
    (
        ir.File(ir.Media(url="u")),
        {"type": "document", "source": {"type": "url", "url": "u"}},
    ),
    (
        ir.File(ir.Media(text="d")),
        {
            "type": "document",
            "source": {"type": "text", "media_type": "text/plain", "data": "d"},
        },
    ),
    (
        ir.File(ir.Media(data="w6k=", media_type="text/markdown")),
        {
            "type": "document",
            "source": {"type": "text", "media_type": "text/plain", "data": "é"},
        },
    ),
]


@pytest.mark.parametrize(("part", "block"), MEDIA)
def test_images_and_documents(part: ir.Part, block: Json) -> None:
    """Each goes in the form that the API takes."""
    assert sent(part) == [block]


def test_empty_document_is_left_out() -> None:
    """The API refuses one, and it says nothing."""
    assert sent(ir.File(ir.Media(text=" ")), "a") == [text("a")]


@pytest.mark.parametrize(
    "part",
    [
        ir.Audio("AA==", "wav"),
        ir.Image(ir.Media(data="AA==", media_type="image/tiff")),
        ir.Image(ir.Media()),
        ir.File(ir.Media(data="AA==", media_type="application/zip")),
        ir.File(ir.Media(data="AA==")),
        ir.File(ir.Media(data="/w==", media_type="text/plain")),
        ir.File(ir.Media(data="!", media_type="text/plain")),
    ],
)
def test_unusable_media_are_refused(part: ir.Part) -> None:
    """The error names the client's message."""
    with pytest.raises(InvalidRequest) as caught:
        write_prompt([said(USER, part, at="input[3]")])
    assert caught.value.param == "input[3]"


def test_parts_in_odd_places_are_reported() -> None:
    """What a role cannot say in this dialect is left out."""
    image = ir.Image(ir.Media(url="u"))
    prompt = write_prompt(
        [
            said(SYSTEM, image, at="0"),
            said(USER, "a", ir.Foreign("x"), at="1"),
            said(ASSISTANT, image, ir.Foreign("y"), "b", at="2"),
        ]
    )
    assert prompt.dropped == ("0", "1", "2")
    assert prompt.messages[1]["content"] == [text("b")]


PARTS = st.sampled_from(
    ["", "a", " ", CALL, RESULT, THOUGHT, ir.Refusal("r"), ir.Foreign("f"), ir.Thinking("t")]
)
MESSAGES = st.lists(
    st.builds(
        lambda role, parts: said(role, *parts),
        st.sampled_from(ir.Role),
        st.lists(PARTS, max_size=4),
    ),
    max_size=8,
)


@given(MESSAGES)
def test_any_conversation_has_the_form_that_the_api_takes(messages: list[ir.Message]) -> None:
    """Roles alternate from the user on, no text is empty, results come first, ids are unique."""
    prompt = write_prompt(messages)
    roles = [message["role"] for message in prompt.messages]
    assert roles == [("user", "assistant")[at % 2] for at in range(len(roles))]
    assert roles
    for message in prompt.messages:
        kinds = [block["type"] for block in message["content"]]
        assert kinds
        assert kinds == sorted(kinds, key=lambda kind: kind != "tool_result")
        assert all(block["text"].strip() for block in message["content"] if "text" in block)
    assert len(set(calls(prompt))) == len(calls(prompt))
    assert isinstance(prompt.can_think, bool)
