"""Requests of clients that speak responses which no other dialect can say."""

import pytest

from serve_app.domain import Json
from serve_app.errors import InvalidRequest
from tests.unit.dialects.openai_responses.samples import read, user


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": {"id": "pmpt_1"}}, "prompt"),
        ({"background": True}, "background"),
        ({"input": None}, "input"),
        ({"input": {"role": "user"}}, "input"),
        ({"input": ["Hi"]}, "input[0]"),
        ({"input": [{"id": "msg_1"}]}, "input[0]"),
        ({"input": [user(), {"type": "item_reference", "id": "msg_1"}]}, "input[1]"),
        ({"input": [{"type": "compaction_trigger"}]}, "input[0]"),
        ({"input": [{"type": "compaction", "encrypted_content": "x"}]}, "input[0]"),
        ({"input": [{"role": "tool", "content": "x"}]}, "input[0].role"),
        ({"input": [{"role": ["user"], "content": "x"}]}, "input[0].role"),
        ({"input": [{"role": "user", "content": 1}]}, "input[0].content"),
        ({"input": [user("Hi")]}, "input[0].content[0]"),
        ({"input": [user({"type": "input_video"})]}, "input[0].content[0]"),
        ({"input": [user({"type": ["input_text"]})]}, "input[0].content[0]"),
        ({"input": [user({"type": "input_text"})]}, "input[0].content[0].text"),
        ({"input": [user({"type": "input_image"})]}, "input[0].content[0]"),
        ({"input": [user({"type": "input_file"})]}, "input[0].content[0]"),
        ({"input": [user({"type": "input_audio"})]}, "input[0].content[0].data"),
        ({"input": [{"type": "function_call", "name": "f"}]}, "input[0].call_id"),
        ({"input": [{"type": "custom_tool_call", "call_id": "c"}]}, "input[0].name"),
        ({"input": [{"type": "function_call_output"}]}, "input[0].call_id"),
        ({"input": [{"type": "function_call_output", "output": 1}]}, "input[0].output"),
        (
            {
                "input": [
                    {
                        "type": "function_call_output",
                        "call_id": "c",
                        "output": [
                            {
                                "type": "input_audio",
                                "input_audio": {"data": "aGk=", "format": "wav"},
                            }
                        ],
                    }
                ]
            },
            "input[0].output",
        ),
        ({"tools": {}}, "tools"),
        ({"tools": ["find"]}, "tools[0]"),
        ({"tools": [{"type": "function"}]}, "tools[0].name"),
        ({"tool_choice": {"type": "function"}}, "tool_choice.name"),
        ({"tool_choice": "sometimes"}, "tool_choice"),
        ({"tool_choice": {"type": "mcp", "server_label": "s"}}, "tool_choice"),
        (
            {"tool_choice": {"type": "web_search"}, "tools": [{"type": "web_search"}]},
            "tools[0]",
        ),
        (
            {"tool_choice": {"type": "allowed_tools", "tools": [{"type": "mcp"}]}},
            "tool_choice.tools",
        ),
        ({"text": {"format": {"type": "xml"}}}, "text.format"),
        ({"text": {"format": {"type": "json_schema"}}}, "text.format"),
        ({"text": "json"}, "text"),
        ({"include": "all"}, "include"),
        ({"instructions": [1]}, "instructions"),
        ({"store": "no"}, "store"),
        ({"temperature": True}, "temperature"),
        ({"top_p": "1"}, "top_p"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"max_output_tokens": 1.5}, "max_output_tokens"),
    ],
)
def test_refusal_names_the_field(fields: dict[str, Json], param: str) -> None:
    """A request that cannot be translated is refused, and the error names the place."""
    with pytest.raises(InvalidRequest) as caught:
        read(**fields)
    assert caught.value.param == param
    assert str(caught.value).startswith(param)
