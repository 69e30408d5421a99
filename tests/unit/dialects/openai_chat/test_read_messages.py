"""What the messages of a chat client become."""

import json

import pytest

from serve_app.dialects import ir, signatures
from serve_app.domain import Json
from serve_app.errors import InvalidRequest
from tests.unit.dialects.openai_chat.chat_samples import USER, read, read_parts

CACHE = {"type": "ephemeral"}
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
PNG = ir.Media(data="AAAA", media_type="image/png")


def assistant(**fields: Json) -> Json:
    return {"role": "assistant", "content": None, **fields}


def user(*parts: Json) -> Json:
    return {"role": "user", "content": list(parts)}


def chat_thinking(text: str, signed: Json) -> ir.Thinking:
    is_redacted = "data" in signed
    signature = json.dumps(signed, separators=(",", ":"))
    return ir.Thinking(text, signature, "chat", is_redacted=is_redacted)


@pytest.mark.parametrize(
    ("message", "parts"),
    [
        (USER, (ir.Text("Hi"),)),
        ({**USER, "cache_control": CACHE}, (ir.Text("Hi", cache=CACHE),)),
        (
            user({"type": "text", "text": "a", "cache_control": CACHE}, {"text": "b"}),
            (ir.Text("a", cache=CACHE), ir.Text("b")),
        ),
        (
            user(
                {
                    "type": "image_url",
                    "image_url": {"url": "https://a.example", "detail": "low"},
                    "cache_control": CACHE,
                }
            ),
            (ir.Image(ir.Media(url="https://a.example"), "low", cache=CACHE),),
        ),
        (user({"type": "image_url", "image_url": "data:image/png;base64,AAAA"}), (ir.Image(PNG),)),
        (
            user({"type": "image_url", "image_url": {"url": "data:;base64,AAAA"}}),
            (ir.Image(ir.Media(data="AAAA")),),
        ),
        (
            user({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}),
            (ir.Audio("AAAA", "wav"),),
        ),
        (
            user(
                {
                    "type": "file",
                    "file": {
                        "filename": "a.pdf",
                        "file_data": "data:application/pdf;base64,AAAA",
                    },
                },
                {"type": "file", "file": {"file_data": "AAAA"}},
                {"type": "file", "file": {"file_data": "https://a.example"}},
                {"type": "file", "file": {"file_id": "file-1"}},
            ),
            (
                ir.File(ir.Media(data="AAAA", media_type="application/pdf"), "a.pdf"),
                ir.File(ir.Media(data="AAAA", media_type="application/pdf")),
                ir.File(ir.Media(url="https://a.example")),
                ir.File(ir.Media(file_id="file-1")),
            ),
        ),
        (assistant(content="a"), (ir.Text("a"),)),
        (assistant(content=""), ()),
        (
            assistant(
                content=[
                    {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
                    {"type": "text", "text": "a"},
                    {"type": "refusal", "refusal": "no"},
                    {"type": "reference", "reference_ids": [1]},
                ]
            ),
            (
                chat_thinking("hm", {"in": "thinking"}),
                ir.Text("a"),
                ir.Refusal("no"),
                ir.Foreign("reference"),
            ),
        ),
        (assistant(refusal="no"), (ir.Refusal("no"),)),
        (
            assistant(tool_calls=[CALL], reasoning_content="hm"),
            (ir.Thinking("hm", None, "chat"), ir.ToolCall("c1", "f", '{"a":1}')),
        ),
        (assistant(reasoning="hm"), (ir.Thinking("hm", None, "chat"),)),
        (
            assistant(
                reasoning="hm",
                reasoning_details=[
                    {"type": "reasoning.text", "text": "hm", "signature": "s", "format": "f"},
                    {"type": "reasoning.encrypted", "data": "d", "id": "i"},
                    {"type": "reasoning.encrypted"},
                    {"type": "reasoning.summary", "summary": "short"},
                    {"type": "reasoning.text", "text": ""},
                    {"type": "other"},
                ],
            ),
            (
                chat_thinking("hm", {"in": "reasoning.text", "format": "f", "signature": "s"}),
                chat_thinking("", {"in": "reasoning.encrypted", "id": "i", "data": "d"}),
                chat_thinking("short", {"in": "reasoning.summary"}),
            ),
        ),
        (
            assistant(
                reasoning_content="hm",
                reasoning_details=[
                    {
                        "type": "reasoning.encrypted",
                        "data": signatures.wrap("messages", "secret"),
                    },
                ],
            ),
            (
                ir.Thinking("hm", None, "chat"),
                ir.Thinking("", "secret", "messages", is_redacted=True),
            ),
        ),
        (
            assistant(
                tool_calls=[
                    {"id": "c1", "function": {"name": "f", "arguments": {"a": 1}}},
                    {"id": "c2", "function": {"name": "f"}},
                    {"id": "c3", "type": "custom", "custom": {"name": "g", "input": "x"}},
                ]
            ),
            (
                ir.ToolCall("c1", "f", '{"a":1}'),
                ir.ToolCall("c2", "f", ""),
                ir.ToolCall("c3", "g", "x", is_custom=True),
            ),
        ),
        (
            {"role": "tool", "tool_call_id": "c1", "content": "42", "cache_control": CACHE},
            (ir.ToolResult("c1", (ir.Text("42"),), cache=CACHE),),
        ),
        (
            {"role": "tool", "tool_call_id": "c1", "content": None},
            (ir.ToolResult("c1", (ir.Text(""),)),),
        ),
    ],
)
def test_message_is_read(message: Json, parts: tuple[ir.Part, ...]) -> None:
    """Each part of a message has its place in the one form."""
    assert read_parts(message) == parts


def test_roles_and_places_are_kept() -> None:
    """Results in a row are one message of the user, at the place of the first."""
    messages = [
        {"role": "system", "content": "s"},
        {"role": "developer", "content": "d"},
        USER,
        assistant(tool_calls=[CALL]),
        {"role": "tool", "tool_call_id": "c1", "content": "1"},
        {"role": "tool", "tool_call_id": "c2", "content": [{"type": "text", "text": "2"}]},
        USER,
        {"role": "tool", "tool_call_id": "c3", "content": "3"},
    ]
    read_messages = read(messages=messages).messages
    roles = [message.role for message in read_messages]
    assert roles == ["system", "developer", "user", "assistant", "user", "user", "user"]
    places = [message.at for message in read_messages]
    assert places == [f"messages[{position}]" for position in (0, 1, 2, 3, 4, 6, 7)]
    results = read_messages[4].parts
    assert [part.call_id for part in results if isinstance(part, ir.ToolResult)] == ["c1", "c2"]


def test_result_of_a_function_belongs_to_its_call() -> None:
    """A ``function_call`` has no id, so both get one."""
    messages = [
        USER,
        assistant(function_call={"name": "f", "arguments": "{}"}),
        {"role": "function", "name": "f", "content": "1"},
    ]
    _, call, result = read(messages=messages).messages
    assert call.parts == (ir.ToolCall("call_1", "f", "{}"),)
    assert result.parts == (ir.ToolResult("call_1", (ir.Text("1"),)),)
    (alone,) = read_parts({"role": "function", "name": "f", "content": "1"})
    assert isinstance(alone, ir.ToolResult)
    assert alone.call_id


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        (None, "messages"),
        ({}, "messages"),
        ([1], "messages[0]"),
        ([{"content": "a"}], "messages[0].role"),
        ([{"role": "robot"}], "messages[0].role"),
        ([{"role": "user"}], "messages[0].content"),
        ([user(1)], "messages[0].content[0]"),
        ([user({"type": "text"})], "messages[0].content[0].text"),
        ([user({"type": "video_url"})], "messages[0].content[0].type"),
        ([user({"type": "refusal", "refusal": "no"})], "messages[0].content[0].type"),
        ([user({"type": "image_url"})], "messages[0].content[0].image_url.url"),
        (
            [user({"type": "image_url", "image_url": "data:image/svg+xml,<svg>"})],
            "messages[0].content[0].image_url.url",
        ),
        ([user({"type": "input_audio"})], "messages[0].content[0].input_audio"),
        ([user({"type": "file"})], "messages[0].content[0].file"),
        ([USER, {"role": "tool", "content": "a"}], "messages[1].tool_call_id"),
        (
            [{"role": "tool", "tool_call_id": "c", "content": [{"type": "input_audio"}]}],
            "messages[0].content[0].type",
        ),
        ([assistant(audio={"id": "a"})], "messages[0].audio"),
        ([assistant(tool_calls={})], "messages[0].tool_calls"),
        ([assistant(tool_calls=[1])], "messages[0].tool_calls[0].id"),
        ([assistant(tool_calls=[{"id": "a"}])], "messages[0].tool_calls[0].function.name"),
        (
            [assistant(tool_calls=[{"id": "a", "type": "custom", "custom": {"input": ""}}])],
            "messages[0].tool_calls[0].custom.name",
        ),
        ([assistant(function_call={"arguments": ""})], "messages[0].function_call.name"),
    ],
)
def test_invalid_message_is_refused(messages: Json, param: str) -> None:
    """The error names the place of what has no meaning."""
    with pytest.raises(InvalidRequest) as caught:
        read(messages=messages)
    assert caught.value.param == param
    assert str(caught.value).startswith(param)
