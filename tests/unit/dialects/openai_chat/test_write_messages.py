"""The messages that a provider of chat completions gets."""

import base64

import pytest

from serve_app.dialects import ir
from serve_app.domain import Json
from tests.unit.dialects.openai_chat.chat_samples import (
    CACHE,
    CODEC,
    PDF,
    PNG,
    PNG_PART,
    USER,
    request,
    said,
    written_messages,
)


@pytest.mark.parametrize(
    ("parts", "content"),
    [
        ((ir.Text("a"), ir.Text(""), ir.Text("b")), "a\n\nb"),
        ((), ""),
        ((ir.Foreign("container_upload"),), ""),
        ((ir.Text("a"), ir.Image(PNG)), [{"type": "text", "text": "a"}, PNG_PART]),
        (
            (ir.Image(ir.Media(url="https://a.example"), "low"),),
            [
                {
                    "type": "image_url",
                    "image_url": {"url": "https://a.example", "detail": "low"},
                }
            ],
        ),
        (
            (ir.Audio("AAAA", "wav"),),
            [{"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}],
        ),
        (
            (ir.File(PDF, "a.pdf"), ir.File(ir.Media(data="BBBB"))),
            [
                {
                    "type": "file",
                    "file": {
                        "filename": "a.pdf",
                        "file_data": "data:application/pdf;base64,AAAA",
                    },
                },
                {
                    "type": "file",
                    "file": {
                        "filename": "document.pdf",
                        "file_data": "data:application/pdf;base64,BBBB",
                    },
                },
            ],
        ),
        ((ir.File(ir.Media(text="words"), "Title", "context"),), "Title\n\ncontext\n\nwords"),
        (
            (ir.File(ir.Media(data=base64.b64encode(b"words").decode(), media_type="text/plain")),),
            "words",
        ),
        (
            (ir.File(ir.Media(data="/w==", media_type="text/plain"), "a.txt"),),
            [
                {
                    "type": "file",
                    "file": {"filename": "a.txt", "file_data": "data:text/plain;base64,/w=="},
                }
            ],
        ),
    ],
)
def test_user_content_is_written(parts: tuple[ir.Part, ...], content: Json) -> None:
    """Text alone is one string, which every server takes; anything else is a list of parts."""
    assert written_messages(said(*parts)) == [{"role": "user", "content": content}]


def test_files_of_openai_keep_their_ids() -> None:
    """A client of responses refers to files that OpenAI's chat knows too."""
    file = said(ir.File(ir.Media(file_id="file-1")))
    (message,) = written_messages(file, dialect="responses")
    assert message["content"] == [{"type": "file", "file": {"file_id": "file-1"}}]


def test_system_messages_stay_in_their_place() -> None:
    """Also the later ones, and a developer is the system for servers other than OpenAI."""
    messages = [
        said(ir.Text("a"), ir.Text("b"), role=ir.Role.SYSTEM, at="system"),
        said(ir.Text("c"), role=ir.Role.DEVELOPER),
        said(ir.Text("Hi")),
        said(ir.Text("d"), role=ir.Role.SYSTEM),
    ]
    assert written_messages(*messages) == [
        {"role": "system", "content": "a\n\nb"},
        {"role": "system", "content": "c"},
        USER,
        {"role": "system", "content": "d"},
    ]


def test_results_come_before_what_the_user_says() -> None:
    """The calls before them must be answered first; images follow in the user's message."""
    message = said(
        ir.Text("so?"),
        ir.ToolResult("c1", (ir.Text("a"), ir.Text("b"))),
        ir.ToolResult("c2", (ir.Image(PNG),)),
        ir.ToolResult("c3"),
    )
    assert written_messages(message) == [
        {"role": "tool", "tool_call_id": "c1", "content": "a\n\nb"},
        {
            "role": "tool",
            "tool_call_id": "c2",
            "content": "The result follows in the next message.",
        },
        {"role": "tool", "tool_call_id": "c3", "content": ""},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "From the result of tool call c2:"},
                PNG_PART,
                {"type": "text", "text": "so?"},
            ],
        },
    ]
    (alone,) = written_messages(said(ir.ToolResult("c1", (ir.Text("a"),))))
    assert alone["role"] == "tool"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("disk full", "Error: disk full"),
        ("", "Error"),
        ("<tool_use_error>no such file", "<tool_use_error>no such file"),
        ("Command failed", "Command failed"),
    ],
)
def test_failed_result_says_so(text: str, shown: str) -> None:
    """Chat has no flag for it, so the text has to tell the model."""
    result = ir.ToolResult("c1", (ir.Text(text),), is_error=True)
    (message,) = written_messages(said(result))
    assert message["content"] == shown


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ((ir.Text("a"), ir.Text("b")), {"content": "ab"}),
        ((ir.Text("a"), ir.Foreign("web_search"), ir.Text("b")), {"content": "a\n\nb"}),
        (
            (ir.ToolCall("c1", "f"), ir.ToolCall("c2", "g", '{"a":1}')),
            {
                "content": None,
                "tool_calls": [
                    {
                        "id": "c1",
                        "type": "function",
                        "function": {"name": "f", "arguments": "{}"},
                    },
                    {
                        "id": "c2",
                        "type": "function",
                        "function": {"name": "g", "arguments": '{"a":1}'},
                    },
                ],
            },
        ),
        ((ir.Refusal("no"),), {"content": None, "refusal": "no"}),
        (
            (ir.Thinking("hm", None, "chat"), ir.Text("a")),
            {"content": "a", "reasoning_content": "hm"},
        ),
        (
            (ir.Thinking("hm", '{"in":"reasoning"}', "chat"), ir.Text("a")),
            {"content": "a", "reasoning": "hm"},
        ),
        (
            (ir.Thinking("hm", '{"in":"no such"}', "chat"), ir.Text("a")),
            {"content": "a", "reasoning_content": "hm"},
        ),
        (
            (ir.Thinking("hm", '{"in":"thinking"}', "chat"), ir.Text("a")),
            {
                "content": [
                    {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
                    {"type": "text", "text": "a"},
                ]
            },
        ),
        (
            (
                ir.Thinking("hm", '{"in":"reasoning.text","signature":"s"}', "chat"),
                ir.Thinking("", '{"in":"reasoning.encrypted","data":"d","id":"i"}', "chat"),
                ir.Thinking("so", "signature of another make", "chat"),
                ir.Thinking("", "data of another make", "chat", is_redacted=True),
            ),
            {
                "content": "",
                "reasoning_details": [
                    {"type": "reasoning.text", "text": "hm", "signature": "s", "index": 0},
                    {"type": "reasoning.encrypted", "id": "i", "data": "d", "index": 1},
                    {
                        "type": "reasoning.text",
                        "text": "so",
                        "signature": "signature of another make",
                        "index": 2,
                    },
                    {"type": "reasoning.encrypted", "data": "data of another make", "index": 3},
                ],
            },
        ),
    ],
)
def test_answer_is_written(parts: tuple[ir.Part, ...], message: Json) -> None:
    """A provider gets its answers back as it gave them."""
    (only,) = written_messages(said(*parts, role=ir.Role.ASSISTANT))
    assert only == {"role": "assistant", **message}


def test_answer_without_anything_is_left_out() -> None:
    """Servers refuse an empty answer, and thoughts of another provider are not for this one."""
    foreign = said(ir.Thinking("hm", "s", "messages"), ir.Foreign("x"), role=ir.Role.ASSISTANT)
    body, dropped = CODEC.write_request(request(said(ir.Text("Hi")), foreign), "gpt")
    assert body["messages"] == [USER]
    assert dropped == ("thinking", "x")


def test_marks_for_a_cache_are_reported_once() -> None:
    """Wherever in the messages they are."""
    parts = (
        ir.Text("a", cache=CACHE),
        ir.Image(PNG, cache=CACHE),
        ir.File(PDF, cache=CACHE),
        ir.ToolResult("c", (ir.Text("r", cache=CACHE),), cache=CACHE),
    )
    spoken = said(ir.Text("b", cache=CACHE), role=ir.Role.ASSISTANT)
    assert CODEC.write_request(request(said(*parts), spoken), "gpt").dropped == ("cache_control",)
