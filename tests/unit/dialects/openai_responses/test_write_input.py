"""Conversations for providers that speak responses."""

import json

import pytest

from serve_app.dialects import ir
from serve_app.domain import Json
from tests.unit.dialects.openai_responses.samples import (
    CITATION,
    dropped,
    message,
    read,
    request,
    written,
)

ASSISTANT = ir.Role.ASSISTANT
SIGNATURE = json.dumps({"id": "rs_1", "encrypted_content": "abc"})
CACHE = {"type": "ephemeral"}
PDF = ir.Media(data="aGk=", media_type="application/pdf")
DATA_URL = "data:application/pdf;base64,aGk="


def items_of(*messages: ir.Message) -> list[Json]:
    items: list[Json] = written(request(*messages))["input"]
    return items


def test_turns_become_items() -> None:
    """Each part has its item, in the order of the conversation."""
    items = items_of(
        message(ir.Text("Be brief"), role=ir.Role.SYSTEM, at="system"),
        message(ir.Text("Now"), role=ir.Role.DEVELOPER),
        message(
            ir.Thinking("Hm", SIGNATURE, "responses"),
            ir.Text("So", (CITATION,)),
            ir.Refusal("No"),
            ir.ToolCall("call_1", "find"),
            ir.ToolCall("call_2", "patch", "***", is_custom=True),
            ir.ToolCall("x" * 70, "in", "{}", namespace="n"),
            role=ASSISTANT,
        ),
        message(
            ir.ToolResult("call_1", (ir.Text("a"), ir.Text("b"))),
            ir.ToolResult("call_2", is_custom=True),
            ir.ToolResult("x" * 70, (ir.Text("no file"),), is_error=True),
            ir.Text("Go on"),
        ),
    )
    kinds = [(item["type"], item.get("role")) for item in items]
    assert kinds == [
        ("message", "system"),
        ("message", "developer"),
        ("reasoning", None),
        ("message", "assistant"),
        ("function_call", None),
        ("custom_tool_call", None),
        ("function_call", None),
        ("function_call_output", None),
        ("custom_tool_call_output", None),
        ("function_call_output", None),
        ("message", "user"),
    ]
    assert items[2] == {
        "type": "reasoning",
        "id": "rs_1",
        "summary": [{"type": "summary_text", "text": "Hm"}],
        "encrypted_content": "abc",
    }
    assert [content["type"] for content in items[3]["content"]] == ["output_text", "refusal"]
    assert items[3]["content"][0]["annotations"][0]["url"] == CITATION.url
    assert items[4]["arguments"] == "{}"
    assert items[5]["input"] == "***"
    assert items[6]["namespace"] == "n"
    assert items[6]["call_id"] == items[9]["call_id"]
    assert len(items[6]["call_id"]) <= 64
    assert [item["output"] for item in items[7:10]] == ["a\nb", "", "Error:\nno file"]


@pytest.mark.parametrize(
    ("part", "content"),
    [
        (
            ir.Image(ir.Media(data="aGk=")),
            [{"type": "input_image", "detail": "auto", "image_url": "data:image/png;base64,aGk="}],
        ),
        (
            ir.Image(ir.Media(url="https://a.example/i"), "low"),
            [{"type": "input_image", "detail": "low", "image_url": "https://a.example/i"}],
        ),
        (
            ir.File(PDF, "a.pdf"),
            [{"type": "input_file", "filename": "a.pdf", "file_data": DATA_URL}],
        ),
        (
            ir.File(PDF, context="From the archive"),
            [
                {"type": "input_text", "text": "From the archive"},
                {"type": "input_file", "filename": "document.pdf", "file_data": DATA_URL},
            ],
        ),
        (
            ir.File(ir.Media(url="https://a.example/f")),
            [{"type": "input_file", "file_url": "https://a.example/f"}],
        ),
        (
            ir.File(ir.Media(text="a,b"), "a.csv", "Numbers"),
            [{"type": "input_text", "text": "a.csv\n\nNumbers\n\na,b"}],
        ),
        (
            ir.File(ir.Media(data="aGk=", media_type="text/plain")),
            [{"type": "input_text", "text": "hi"}],
        ),
        (
            ir.File(ir.Media(data="/w==", media_type="text/plain")),
            [
                {
                    "type": "input_file",
                    "filename": "document.pdf",
                    "file_data": "data:text/plain;base64,/w==",
                }
            ],
        ),
    ],
)
def test_media_of_user_and_of_results(part: ir.Image | ir.File, content: list[Json]) -> None:
    """Images and documents are contents of a message and of a tool's result."""
    first, second = items_of(message(part), message(ir.ToolResult("c", (part,), is_error=True)))
    assert first["content"] == content
    assert second["output"] == [{"type": "input_text", "text": "Error:"}, *content]


def test_files_of_openai_keep_their_ids() -> None:
    """Clients of OpenAI's dialects name files that OpenAI has."""
    image = {"type": "input_image", "file_id": "file_1", "detail": "auto"}
    document = {"type": "input_file", "file_id": "file_2"}
    asked = read(input=[{"role": "user", "content": [image, document]}])
    assert written(asked)["input"][0]["content"] == [image, document]


def test_error_that_calls_itself_one_stays() -> None:
    """A result that says that it is an error gets no second word for it."""
    result = ir.ToolResult("c", (ir.Text("ValueError: no"),), is_error=True)
    assert items_of(message(result))[0]["output"] == "ValueError: no"


def test_what_is_left_out_is_reported_once() -> None:
    """Thoughts of other providers, their tools and cache markers are named by kind."""
    thinking = ir.Thinking("Hm", "s", "messages")
    asked = request(
        message(ir.Text("Hi", cache=CACHE)),
        message(
            thinking,
            ir.Thinking("Hm", "not JSON", "responses"),
            ir.Thinking("Hm", '{"id": "rs_1"}', "responses"),
            ir.Foreign("server_tool_use"),
            ir.Image(PDF),
            ir.Text(""),
            role=ASSISTANT,
            at="messages[1]",
        ),
        message(thinking, ir.Foreign("server_tool_use"), role=ASSISTANT),
        tools=(ir.Tool("find", cache=CACHE),),
    )
    assert dropped(asked) == ("cache_control", "thinking", "server_tool_use", "messages[1]")
    assert len(written(asked)["input"]) == 1


def test_proof_without_id_is_enough() -> None:
    """A server that gives its thoughts no id gets them back without one."""
    signature = json.dumps({"id": "", "encrypted_content": "abc"})
    (item,) = items_of(message(ir.Thinking("", signature, "responses"), role=ASSISTANT))
    assert item == {"type": "reasoning", "summary": [], "encrypted_content": "abc"}
