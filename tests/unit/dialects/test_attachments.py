"""What a request contains besides text, and how long its answer may be."""

import json
from typing import Any, Final

import pytest

from serve_app.dialects.attachments import Attachments, read_attachments
from serve_app.dialects.json_edits import read_document
from serve_app.dialects.registry import client_dialect
from serve_app.dialects.text_conversation import TextConversation
from serve_app.domain import Conversation, Need

URL: Final = "data:image/png;base64," + 178 * "A"
SOURCE: Final = {"type": "base64", "media_type": "image/png", "data": 200 * "A"}
IMAGE: Final = {"type": "image", "source": SOURCE}


def conversation(dialect: str, **fields: Any) -> Conversation:
    body: dict[str, Any] = {"input": "x"} if dialect == "responses" else {"messages": []}
    document = read_document(json.dumps({**body, **fields}).encode(), unique=frozenset())
    return client_dialect(dialect).read_conversation(document)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("text", Attachments()),
        (None, Attachments()),
        ([{"type": "text", "text": 300 * "x"}, 1, {}], Attachments()),
        (
            [{"type": "image_url", "image_url": {"url": URL}}],
            Attachments(has_images=True, characters=200),
        ),
        ([{"type": "input_image", "image_url": URL}], Attachments(has_images=True, characters=200)),
        ([IMAGE, IMAGE], Attachments(has_images=True, characters=400)),
        (
            [{"type": "tool_result", "content": [IMAGE]}],
            Attachments(has_images=True, characters=200),
        ),
        ([{"type": "tool_result", "content": "x"}], Attachments()),
        (
            [{"type": "input_audio", "input_audio": {"data": 90 * "A"}}],
            Attachments(has_images=False, characters=90),
        ),
        (
            [{"type": "file", "file": {"file_data": 90 * "A"}}],
            Attachments(has_images=False, characters=90),
        ),
        (
            [{"type": "input_file", "file_data": 90 * "A"}],
            Attachments(has_images=False, characters=90),
        ),
        ([{"type": "document", "source": SOURCE}], Attachments(has_images=False, characters=200)),
        ([{"type": "document", "source": {"type": "text", "data": "x"}}], Attachments()),
    ],
)
def test_attachments_are_read_from_every_form(content: Any, expected: Attachments) -> None:
    """Data of images and files counts, text in any place does not."""
    messages = [{"role": "user", "content": content}]
    assert read_attachments(messages, json.dumps(messages)) == expected


def test_results_of_tools_may_be_images() -> None:
    """An item of OpenAI responses has its output beside the messages."""
    shot = {"type": "computer_screenshot", "image_url": URL}
    items: list[Any] = [{"type": "computer_call_output", "output": shot}]
    assert read_attachments(items, URL) == Attachments(has_images=True, characters=200)
    items = [
        {"type": "function_call_output", "output": [{"type": "input_image", "image_url": URL}]}
    ]
    assert read_attachments(items, URL) == Attachments(has_images=True, characters=200)


SCHEMA: Final = {"type": "json_schema", "json_schema": {"name": "a", "schema": {}}}


@pytest.mark.parametrize(
    ("dialect", "fields", "needs"),
    [
        ("chat", {}, set()),
        ("chat", {"tools": [], "response_format": {"type": "json_object"}}, set()),
        ("chat", {"tools": [{"type": "function"}]}, {Need.TOOLS}),
        ("chat", {"functions": [{"name": "f"}]}, {Need.TOOLS}),
        ("chat", {"response_format": SCHEMA}, {Need.STRUCTURED_OUTPUT}),
        ("chat", {"response_format": "json_schema"}, set()),
        ("messages", {"output_config": {"effort": "low"}}, set()),
        ("messages", {"output_config": {"format": {}}}, {Need.STRUCTURED_OUTPUT}),
        ("messages", {"output_format": {}}, {Need.STRUCTURED_OUTPUT}),
        ("messages", {"messages": [{"role": "user", "content": [IMAGE]}]}, {Need.IMAGES}),
        ("responses", {"text": {"format": {"type": "text"}}}, set()),
        ("responses", {"text": {"format": {"type": "json_schema"}}}, {Need.STRUCTURED_OUTPUT}),
        (
            "responses",
            {
                "tools": [{"type": "web_search"}],
                "input": [{"role": "user", "content": [{"type": "input_image"}]}],
            },
            {Need.TOOLS, Need.IMAGES},
        ),
    ],
)
def test_needs_are_read_from_each_dialect(
    dialect: str, fields: dict[str, Any], needs: set[Need]
) -> None:
    """Images, tools and a schema of the answer, where the dialect has them."""
    assert conversation(dialect, **fields).needs == needs


@pytest.mark.parametrize(
    ("dialect", "fields", "limit"),
    [
        ("chat", {}, 0),
        ("chat", {"max_tokens": 10}, 10),
        ("chat", {"max_completion_tokens": 20, "max_tokens": 10}, 20),
        ("messages", {"max_tokens": 30}, 30),
        ("responses", {"max_output_tokens": 40}, 40),
        ("responses", {"max_output_tokens": "x"}, 0),
    ],
)
def test_output_limit_is_read_from_each_dialect(
    dialect: str, fields: dict[str, Any], limit: int
) -> None:
    """The field has a name of its own in each dialect; a value of another type does not count."""
    assert conversation(dialect, **fields).max_output_tokens == limit


def test_text_alone_needs_nothing() -> None:
    """A request that is one text fits every model by its contents."""
    text = TextConversation("Hello", 20)
    assert (text.needs, text.attached_characters, text.max_output_tokens) == (frozenset(), 0, 0)
