"""What the fields of a chat client's request become."""

import pytest

from serve_app.dialects import ir
from serve_app.domain import Json
from serve_app.errors import InvalidRequest
from tests.unit.dialects.openai_chat.chat_samples import SEARCH, read

SCHEMA = {"type": "object", "properties": {"q": {"type": "string"}}}
CACHE = {"type": "ephemeral"}


@pytest.mark.parametrize(
    ("sent", "field", "value"),
    [
        ({}, "include_usage", False),
        ({"stream_options": {"include_usage": True}}, "include_usage", True),
        ({"stream_options": None}, "include_usage", False),
        ({"stream": True}, "stream", True),
        ({"max_tokens": 9}, "max_output_tokens", 9),
        ({"max_tokens": 9, "max_completion_tokens": 8}, "max_output_tokens", 8),
        ({"stop": "a"}, "stop", ("a",)),
        ({"stop": ["a", "", "b"]}, "stop", ("a", "b")),
        ({"stop": None}, "stop", ()),
        ({"parallel_tool_calls": False}, "parallel_tool_calls", False),
        ({"verbosity": "low"}, "verbosity", "low"),
        ({"user": "u"}, "user", "u"),
        ({"safety_identifier": "s"}, "user", "s"),
        ({"metadata": {"a": "b", "plano_preference_config": "x"}}, "metadata", {"a": "b"}),
        ({"metadata": {"archgw_preference_config": "x"}}, "metadata", None),
        ({"service_tier": "flex"}, "service_tier", "flex"),
        ({"prompt_cache_key": "k"}, "prompt_cache_key", "k"),
        ({"store": True}, "store", True),
        ({"n": 1, "modalities": ["text"]}, "dialect", "chat"),
        ({"response_format": {"type": "text"}}, "json_format", None),
        ({"response_format": {"type": "json_object"}}, "json_format", ir.JsonFormat()),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {
                        "name": "a",
                        "description": "b",
                        "strict": True,
                        "schema": SCHEMA,
                    },
                }
            },
            "json_format",
            ir.JsonFormat(SCHEMA, "a", "b", strict=True),
        ),
        ({"reasoning_effort": "low"}, "reasoning", ir.Reasoning(effort="low")),
        ({"reasoning": {}}, "reasoning", None),
        (
            {"reasoning": {"max_tokens": 2000, "enabled": True, "exclude": True}},
            "reasoning",
            ir.Reasoning(enabled=True, budget_tokens=2000, summary="none"),
        ),
        (
            {"reasoning": {"effort": "high"}, "reasoning_effort": "low"},
            "reasoning",
            ir.Reasoning(effort="high"),
        ),
        (
            {
                "temperature": 0.5,
                "top_p": 1,
                "top_k": 4,
                "seed": 3,
                "frequency_penalty": 0.1,
                "presence_penalty": -0.1,
                "logit_bias": {"1": 2},
                "logprobs": True,
                "top_logprobs": 2,
            },
            "sampling",
            ir.Sampling(
                0.5, 1, 4, 3, 0.1, -0.1, logit_bias={"1": 2}, logprobs=True, top_logprobs=2
            ),
        ),
        ({"tools": None, "functions": None}, "tools", ()),
        (
            {"tools": [{**SEARCH, "cache_control": CACHE}]},
            "tools",
            (ir.Tool("search", cache=CACHE, at="tools[0].function"),),
        ),
        (
            {
                "tools": [
                    {
                        "type": "function",
                        "function": {
                            "name": "a",
                            "description": "b",
                            "parameters": SCHEMA,
                            "strict": True,
                        },
                    },
                    {"name": "flat"},
                ]
            },
            "tools",
            (
                ir.Tool("a", "b", SCHEMA, strict=True, at="tools[0].function"),
                ir.Tool("flat", at="tools[1].function"),
            ),
        ),
        (
            {
                "tools": [
                    {"type": "custom", "custom": {"name": "c", "description": "d"}},
                    {
                        "type": "custom",
                        "custom": {
                            "name": "e",
                            "format": {
                                "type": "grammar",
                                "grammar": {"syntax": "lark", "definition": "x"},
                            },
                        },
                    },
                ]
            },
            "tools",
            (
                ir.Tool("c", "d", is_custom=True, at="tools[0].custom"),
                ir.Tool(
                    "e",
                    is_custom=True,
                    custom_format={"type": "grammar", "syntax": "lark", "definition": "x"},
                    at="tools[1].custom",
                ),
            ),
        ),
        ({"functions": [{"name": "f"}]}, "tools", (ir.Tool("f", at="functions[0]"),)),
        ({"functions": [{"name": "f"}]}, "parallel_tool_calls", False),
        (
            {"tools": [{"type": "web_search"}], "web_search_options": {}},
            "server_tools",
            (
                ir.ServerTool("web_search", "tools[0]"),
                ir.ServerTool("web_search", "web_search_options"),
            ),
        ),
        ({"tool_choice": "auto"}, "tool_choice", ir.ToolChoice(ir.ToolMode.AUTO)),
        ({"tool_choice": "none"}, "tool_choice", ir.ToolChoice(ir.ToolMode.NONE)),
        ({"tool_choice": "any"}, "tool_choice", ir.ToolChoice(ir.ToolMode.REQUIRED)),
        ({"tool_choice": SEARCH}, "tool_choice", ir.ToolChoice(ir.ToolMode.NAMED, "search")),
        (
            {"tool_choice": {"type": "custom", "custom": {"name": "c"}}},
            "tool_choice",
            ir.ToolChoice(ir.ToolMode.NAMED, "c"),
        ),
        (
            {"tool_choice": {"type": "web_search"}},
            "tool_choice",
            ir.ToolChoice(ir.ToolMode.NAMED, "web_search"),
        ),
        ({"function_call": {"name": "f"}}, "tool_choice", ir.ToolChoice(ir.ToolMode.NAMED, "f")),
        (
            {
                "tool_choice": {
                    "type": "allowed_tools",
                    "allowed_tools": {"mode": "required", "tools": [SEARCH]},
                }
            },
            "tool_choice",
            ir.ToolChoice(ir.ToolMode.REQUIRED, allowed=("search",)),
        ),
    ],
)
def test_field_is_read(sent: dict[str, Json], field: str, value: Json) -> None:
    """Each field of a chat request has its place in the one form."""
    assert getattr(read(**sent), field) == value


@pytest.mark.parametrize(
    ("sent", "unsaid"),
    [
        ({"min_p": 0.1, "prediction": None, "guided_json": {}}, ("min_p", "guided_json")),
        ({"user": "u", "safety_identifier": "s"}, ("safety_identifier",)),
        ({"metadata": {"a": 1}}, ("metadata.a",)),
        ({"messages": [{"role": "user", "content": "a", "name": "b"}]}, ("messages[0].name",)),
        ({"models": ["a"], "routing_preferences": []}, ()),
    ],
)
def test_unknown_field_is_reported(sent: dict[str, Json], unsaid: tuple[str, ...]) -> None:
    """What no other dialect has is named, and never refused."""
    assert read(**sent).unsaid == unsaid


@pytest.mark.parametrize(
    ("sent", "field", "path"),
    [
        ({"max_tokens": 9}, "max_output_tokens", "max_tokens"),
        ({}, "max_output_tokens", "max_completion_tokens"),
        ({"safety_identifier": "s"}, "user", "safety_identifier"),
        ({"reasoning": {"effort": "low"}}, "reasoning", "reasoning"),
        ({"reasoning_effort": "low"}, "reasoning", "reasoning_effort"),
        ({}, "json_format", "response_format"),
        ({}, "top_k", "top_k"),
        ({"functions": [{"name": "f"}]}, "tool_choice", "function_call"),
        ({"functions": [{"name": "f"}], "tools": [SEARCH]}, "tools", "tools"),
    ],
)
def test_path_is_the_clients(sent: dict[str, Json], field: str, path: str) -> None:
    """Errors name a field as the client wrote it."""
    assert read(**sent).path_of(field) == path


@pytest.mark.parametrize(
    ("sent", "param"),
    [
        ({"n": 2}, "n"),
        ({"n": True}, "n"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"seed": 1.5}, "seed"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"stop": 3}, "stop"),
        ({"stop": [3]}, "stop"),
        ({"store": "yes"}, "store"),
        ({"user": 3}, "user"),
        ({"metadata": []}, "metadata"),
        ({"logit_bias": []}, "logit_bias"),
        ({"stream": 1}, "stream"),
        ({"reasoning": "high"}, "reasoning"),
        ({"reasoning_effort": "huge"}, "reasoning_effort"),
        ({"reasoning": {"effort": []}}, "reasoning.effort"),
        ({"response_format": {"type": "grammar"}}, "response_format.type"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": 1}}},
            "response_format.json_schema.schema",
        ),
        ({"tools": {}}, "tools"),
        ({"tools": [1]}, "tools[0]"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
        ({"tools": [{"function": {"name": "a", "parameters": 1}}]}, "tools[0].function.parameters"),
        ({"functions": [{}]}, "functions[0].name"),
        ({"tool_choice": "maybe"}, "tool_choice"),
        ({"tool_choice": {"type": "function"}}, "tool_choice"),
        ({"tool_choice": 3}, "tool_choice"),
        (
            {"tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": 1}}},
            "tool_choice.allowed_tools.mode",
        ),
        ({"tool_choice": {"type": "allowed_tools", "tools": [1]}}, "tool_choice.tools"),
    ],
)
def test_invalid_field_is_refused(sent: dict[str, Json], param: str) -> None:
    """The error names the field that no provider could take."""
    with pytest.raises(InvalidRequest) as caught:
        read(**sent)
    assert caught.value.param == param
    assert str(caught.value).startswith(param)
