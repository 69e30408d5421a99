"""The fields of the body that a provider of chat completions gets."""

import pytest

from serve_app.dialects import ir
from serve_app.domain import Json
from serve_app.errors import InvalidRequest
from tests.unit.dialects.openai_chat.chat_samples import (
    CACHE,
    CODEC,
    USER,
    request,
    said,
    written,
)

TOOL = ir.Tool("f", "does", {"type": "object"})
TOOL_BODY = {
    "type": "function",
    "function": {"name": "f", "description": "does", "parameters": {"type": "object"}},
}
SEARCH = ir.ServerTool("web_search", "tools[1]")


def named(name: str) -> ir.ToolChoice:
    return ir.ToolChoice(ir.ToolMode.NAMED, name)


@pytest.mark.parametrize(
    ("fields", "body"),
    [
        ({}, {}),
        ({"stream": True}, {"stream": True, "stream_options": {"include_usage": True}}),
        ({"max_output_tokens": 9}, {"max_tokens": 9}),
        ({"stop": ("a",)}, {"stop": ["a"]}),
        (
            {
                "sampling": ir.Sampling(
                    0, 1, None, 3, 0.1, -0.1, logit_bias={"1": 2}, logprobs=True, top_logprobs=2
                )
            },
            {
                "temperature": 0,
                "top_p": 1,
                "seed": 3,
                "frequency_penalty": 0.1,
                "presence_penalty": -0.1,
                "logit_bias": {"1": 2},
                "logprobs": True,
                "top_logprobs": 2,
            },
        ),
        ({"json_format": ir.JsonFormat()}, {"response_format": {"type": "json_object"}}),
        (
            {"json_format": ir.JsonFormat({"type": "object"})},
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "answer", "schema": {"type": "object"}},
                }
            },
        ),
        (
            {"json_format": ir.JsonFormat({}, "a", "b", strict=True)},
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "a", "schema": {}, "description": "b", "strict": True},
                }
            },
        ),
        ({"reasoning": ir.Reasoning()}, {}),
        ({"reasoning": ir.Reasoning(effort="high")}, {"reasoning_effort": "high"}),
        ({"reasoning": ir.Reasoning(budget_tokens=4096)}, {"reasoning_effort": "low"}),
        ({"reasoning": ir.Reasoning(budget_tokens=16384)}, {"reasoning_effort": "medium"}),
        ({"reasoning": ir.Reasoning(budget_tokens=16385)}, {"reasoning_effort": "high"}),
        ({"reasoning": ir.Reasoning(enabled=False)}, {}),
        ({"reasoning": ir.Reasoning(enabled=False, effort="low")}, {"reasoning_effort": "none"}),
        ({"verbosity": "low"}, {"verbosity": "low"}),
        ({"user": "u"}, {"user": "u"}),
        ({"user": "u" * 65}, {}),
        ({"metadata": {"a": "b"}, "service_tier": "x", "store": True}, {}),
        (
            {
                "dialect": "responses",
                "metadata": {"a": "b"},
                "service_tier": "flex",
                "store": True,
                "prompt_cache_key": "k",
            },
            {"metadata": {"a": "b"}, "service_tier": "flex", "store": True},
        ),
        ({"dialect": "responses", "store": False}, {}),
        ({"dialect": "chat", "prompt_cache_key": "k"}, {"prompt_cache_key": "k"}),
        ({"tools": (TOOL,)}, {"tools": [TOOL_BODY]}),
        (
            {"tools": (ir.Tool("g", strict=True),), "parallel_tool_calls": False},
            {
                "tools": [
                    {
                        "type": "function",
                        "function": {
                            "name": "g",
                            "parameters": {"type": "object", "properties": {}},
                            "strict": True,
                        },
                    }
                ],
                "parallel_tool_calls": False,
            },
        ),
        ({"tool_choice": ir.ToolChoice(ir.ToolMode.AUTO), "parallel_tool_calls": True}, {}),
        (
            {"tools": (TOOL,), "tool_choice": ir.ToolChoice(ir.ToolMode.REQUIRED)},
            {"tools": [TOOL_BODY], "tool_choice": "required"},
        ),
        (
            {"tools": (TOOL,), "tool_choice": named("f")},
            {
                "tools": [TOOL_BODY],
                "tool_choice": {"type": "function", "function": {"name": "f"}},
            },
        ),
        (
            {
                "tools": (TOOL, ir.Tool("g")),
                "tool_choice": ir.ToolChoice(ir.ToolMode.AUTO, allowed=("f",)),
            },
            {"tools": [TOOL_BODY], "tool_choice": "auto"},
        ),
    ],
)
def test_field_is_written(fields: dict[str, Json], body: Json) -> None:
    """Only what the client asked for is in the body: servers refuse keys that they don't know."""
    assert written(request(**fields)) == {"model": "gpt", "messages": [USER], **body}


@pytest.mark.parametrize(
    ("fields", "dropped"),
    [
        ({"sampling": ir.Sampling(top_k=3)}, ("top_k",)),
        (
            {"reasoning": ir.Reasoning(enabled=False), "names": {"reasoning": "thinking"}},
            ("thinking",),
        ),
        ({"user": "u" * 65, "names": {"user": "metadata.user_id"}}, ("metadata.user_id",)),
        ({"metadata": {"a": "b"}, "service_tier": "x"}, ("metadata", "service_tier")),
        ({"dialect": "responses", "prompt_cache_key": "k"}, ("prompt_cache_key",)),
        ({"dialect": "responses", "store": False}, ()),
        ({"tools": (TOOL,), "server_tools": (SEARCH,)}, ("tools[1]",)),
        ({"tools": (ir.Tool("f", cache=CACHE), ir.Tool("g", cache=CACHE))}, ("cache_control",)),
    ],
)
def test_loss_is_reported(fields: dict[str, Json], dropped: tuple[str, ...]) -> None:
    """The client learns by its own paths what the provider does not get."""
    assert CODEC.write_request(request(**fields), "gpt").dropped == dropped


EFFORT = {"reasoning": ir.Reasoning(effort="high"), "names": {"reasoning": "thinking"}}


@pytest.mark.parametrize(
    "model",
    [
        *("gpt-3.5-turbo", "gpt-4", "gpt-4o-mini", "openai/gpt-4.1", "chatgpt-4o-latest"),
        *("mistral-large-latest", "open-mistral-nemo", "open-mixtral-8x22b", "codestral-latest"),
        *("ministral-8b-latest", "pixtral-large", "devstral-small", "llama3.2:latest"),
        *("meta-llama/Llama-3.3-70B-Instruct", "accounts/fireworks/models/llama-v3p1-8b"),
        *("google/gemma-3-27b-it", "command-a-03-2025"),
    ],
)
def test_effort_is_left_out_for_models_that_refuse_it(model: str) -> None:
    """The model answers as it always does, and the client learns that its wish is not known."""
    body, dropped = CODEC.write_request(request(**EFFORT), model)
    assert body == {"model": model, "messages": [USER]}
    assert dropped == ("thinking",)
    off = request(reasoning=ir.Reasoning(enabled=False, effort="low"))
    assert CODEC.write_request(off, model) == (body, ("reasoning",))
    assert CODEC.write_request(request(reasoning=ir.Reasoning()), model).dropped == ()


@pytest.mark.parametrize(
    "model",
    [
        *("gpt-5.1", "openai/gpt-oss-120b", "o3", "magistral-medium-latest", "deepseek-chat"),
        *("gemini-3-pro-preview", "my-gpt-4", "llama/other", "codellama"),
    ],
)
def test_effort_is_written_for_other_models(model: str) -> None:
    """Only the beginning of the name counts, without the vendor before it."""
    body, dropped = CODEC.write_request(request(**EFFORT), model)
    assert body["reasoning_effort"] == "high"
    assert dropped == ()


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"server_tools": (SEARCH,)}, "tools[1]"),
        (
            {"tools": (TOOL,), "server_tools": (SEARCH,), "tool_choice": named("web_search")},
            "tools[1]",
        ),
        ({"messages": (said(ir.Image(ir.Media(file_id="f"))),)}, "messages[0]"),
        ({"messages": (said(ir.Image(ir.Media(text="<svg>"))),)}, "messages[0]"),
        ({"messages": (said(ir.File(ir.Media(file_id="f"))),)}, "messages[0]"),
        ({"messages": (said(ir.File(ir.Media(url="https://a.example"))),)}, "messages[0]"),
    ],
)
def test_what_changes_the_answer_is_refused(fields: dict[str, Json], param: str) -> None:
    """The error names the client's field."""
    with pytest.raises(InvalidRequest) as caught:
        written(ir.Request(**{"dialect": "messages", "messages": (said(ir.Text("Hi")),), **fields}))
    assert caught.value.param == param
