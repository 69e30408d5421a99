"""Requests for providers that speak responses."""

import pytest

from serve_app.dialects import ir
from serve_app.dialects.openai_responses.output_items import item_id
from serve_app.domain import Json
from serve_app.errors import InvalidRequest
from tests.unit.dialects.openai_responses.samples import (
    CODEC,
    dropped,
    message,
    read,
    request,
    written,
)

SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}
TOOL = ir.Tool("find", "Finds", SCHEMA)
DATA_URL = "data:application/pdf;base64,aGk="


def test_smallest_request() -> None:
    """Nothing is stored, and encrypted thoughts are asked for."""
    assert written(request()) == {
        "model": "gpt-5",
        "input": [
            {
                "type": "message",
                "role": "user",
                "content": [{"type": "input_text", "text": "Hi"}],
            }
        ],
        "store": False,
        "include": ["reasoning.encrypted_content"],
    }


def test_tools_and_choice() -> None:
    """A function says that it is not strict, unlike the default, and has a schema."""
    custom = ir.Tool("patch", is_custom=True, custom_format={"type": "text"})
    asked = request(
        tools=(
            TOOL,
            custom,
            ir.Tool("in", namespace="n", strict=True),
            ir.Tool("m", namespace="n"),
        ),
        tool_choice=ir.ToolChoice(ir.ToolMode.REQUIRED, allowed=("find", "patch")),
        parallel_tool_calls=False,
    )
    body = written(asked)
    empty = {"type": "object", "properties": {}}
    assert body["tools"] == [
        {
            "type": "function",
            "name": "find",
            "description": "Finds",
            "parameters": SCHEMA,
            "strict": False,
        },
        {"type": "custom", "name": "patch", "format": {"type": "text"}},
        {
            "type": "namespace",
            "name": "n",
            "description": "n",
            "tools": [
                {"type": "function", "name": "in", "parameters": empty, "strict": True},
                {"type": "function", "name": "m", "parameters": empty, "strict": False},
            ],
        },
    ]
    assert body["tool_choice"] == {
        "type": "allowed_tools",
        "mode": "required",
        "tools": [{"type": "function", "name": "find"}, {"type": "custom", "name": "patch"}],
    }
    assert body["parallel_tool_calls"] is False


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (ir.ToolChoice(ir.ToolMode.AUTO), "auto"),
        (ir.ToolChoice(ir.ToolMode.NONE, allowed=("find",)), "none"),
        (ir.ToolChoice(ir.ToolMode.NAMED, "find"), {"type": "function", "name": "find"}),
        (ir.ToolChoice(ir.ToolMode.NAMED, "patch"), {"type": "custom", "name": "patch"}),
    ],
)
def test_tool_choice_is_written(choice: ir.ToolChoice, expected: Json) -> None:
    """Each mode has its form."""
    tools = (TOOL, ir.Tool("patch", is_custom=True))
    assert written(request(tools=tools, tool_choice=choice))["tool_choice"] == expected
    assert "tool_choice" not in written(request(tool_choice=choice))


def test_settings_are_written() -> None:
    """Each setting has its field; those that this dialect lacks are reported."""
    asked = request(
        max_output_tokens=5,
        sampling=ir.Sampling(
            temperature=0.5,
            top_p=0.9,
            top_k=4,
            seed=0,
            frequency_penalty=1,
            presence_penalty=1,
            logit_bias={"1": 2},
            logprobs=True,
            top_logprobs=2,
        ),
        json_format=ir.JsonFormat(SCHEMA, None, "A thing", strict=True),
        verbosity="low",
        user="u" * 65,
        metadata={"a": "b"},
        service_tier="standard_only",
        prompt_cache_key="k",
        store=True,
        stream=True,
        names={"max_output_tokens": "max_tokens"},
    )
    body = written(asked)
    expected = {
        "max_output_tokens": 16,
        "temperature": 0.5,
        "top_p": 0.9,
        "top_logprobs": 2,
        "include": ["message.output_text.logprobs", "reasoning.encrypted_content"],
        "text": {
            "format": {
                "type": "json_schema",
                "name": "answer",
                "schema": SCHEMA,
                "description": "A thing",
                "strict": True,
            },
            "verbosity": "low",
        },
        "metadata": {"a": "b"},
        "prompt_cache_key": "k",
        "store": True,
        "stream": True,
    }
    assert {key: body[key] for key in expected} == expected
    assert len(body["user"]) == 64
    assert set(dropped(asked)) == {
        "top_k",
        "seed",
        "frequency_penalty",
        "presence_penalty",
        "logit_bias",
        "max_tokens",
        "service_tier",
    }


def test_settings_within_limits_are_kept() -> None:
    """Short names of users, limits above the least, and tiers of OpenAI go as they are."""
    plain = request(json_format=ir.JsonFormat(), user="u", max_output_tokens=20)
    body = written(plain)
    assert body["text"] == {"format": {"type": "json_object"}}
    assert (body["user"], body["max_output_tokens"]) == ("u", 20)
    assert written(read(service_tier="flex"))["service_tier"] == "flex"


@pytest.mark.parametrize(
    ("reasoning", "expected"),
    [
        (ir.Reasoning(effort="high"), {"effort": "high"}),
        (ir.Reasoning(enabled=True, budget_tokens=4096), {"effort": "low", "summary": "auto"}),
        (ir.Reasoning(enabled=True, budget_tokens=16384, summary="none"), {"effort": "medium"}),
        (ir.Reasoning(budget_tokens=16385, summary="concise"), {"effort": "high", "summary": "concise"}),
        (ir.Reasoning(enabled=True), {"summary": "auto"}),
        (ir.Reasoning(enabled=False, budget_tokens=9), None),
    ],
)  # fmt: skip
def test_reasoning_is_written(reasoning: ir.Reasoning, expected: Json) -> None:
    """Budgets become efforts, and a client that shows thoughts gets a summary."""
    asked = request(reasoning=reasoning)
    assert written(asked).get("reasoning") == expected
    assert (dropped(asked) == ()) is (expected is not None)


@pytest.mark.parametrize(
    ("model", "reasons"),
    [
        ("gpt-4o", False),
        ("openai/gpt-4.1-mini", False),
        ("gpt-5-chat-latest", False),
        ("gpt-5.1-codex", True),
        ("o4-mini", True),
        ("openai/gpt-oss-120b", True),
    ],
)
def test_models_without_thoughts_are_not_asked_for_them(model: str, *, reasons: bool) -> None:
    """OpenAI refuses these fields for models that do not reason."""
    asked = request(reasoning=ir.Reasoning(effort="low"))
    body = written(asked, model)
    assert ("reasoning" in body, "include" in body) == (reasons, reasons)
    assert (dropped(asked, model) == ()) is reasons


def test_tools_of_the_provider_are_dropped() -> None:
    """They are left out where the client has tools of its own."""
    search = ir.ServerTool("web_search_20250305", "tools[1]")
    named = ir.ToolChoice(ir.ToolMode.NAMED, "find")
    asked = request(tools=(TOOL,), server_tools=(search,), tool_choice=named)
    assert dropped(asked) == ("tools[1]",)


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        (request(stop=("END",), names={"stop": "stop_sequences"}), "stop_sequences"),
        (request(message(ir.Audio("aGk=", "wav"), at="messages[4]")), "messages[4]"),
        (request(message(ir.Image(ir.Media(file_id="f")), at="messages[1]")), "messages[1]"),
        (request(message(ir.Image(ir.Media(text="x")), at="messages[1]")), "messages[1]"),
        (
            request(message(ir.ToolResult("c", (ir.File(ir.Media(file_id="f")),)), at="m")),
            "m",
        ),
        (request(server_tools=(ir.ServerTool("bash", "tools[0]"),)), "tools[0]"),
        (
            request(
                tools=(TOOL,),
                server_tools=(ir.ServerTool("bash", "tools[1]"),),
                tool_choice=ir.ToolChoice(ir.ToolMode.NAMED, "bash"),
            ),
            "tools[1]",
        ),
    ],
)
def test_refused_request_names_the_field(asked: ir.Request, param: str) -> None:
    """What would change the answer is refused with the client's own path."""
    with pytest.raises(InvalidRequest) as caught:
        CODEC.write_request(asked, "gpt-5")
    assert caught.value.param == param
    assert str(caught.value).startswith(f"{param}: ")


def test_request_of_this_dialect_comes_back() -> None:
    """A request that is read and written again says the same."""
    body: dict[str, Json] = {
        "instructions": "Be brief",
        "input": [
            {
                "type": "message",
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "Hi"},
                    {"type": "input_image", "image_url": "https://a.example/i", "detail": "low"},
                    {"type": "input_file", "filename": "a.pdf", "file_data": DATA_URL},
                ],
            },
            {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "abc"},
            {
                "type": "message",
                "id": item_id("msg", "input", 2),
                "status": "completed",
                "role": "assistant",
                "content": [{"type": "output_text", "text": "So", "annotations": []}],
            },
            {"type": "function_call", "call_id": "c", "name": "find", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": "ok"},
            {"type": "custom_tool_call", "call_id": "d", "name": "patch", "input": "***"},
            {"type": "custom_tool_call_output", "call_id": "d", "output": "ok"},
        ],
        "tools": [
            {"type": "function", "name": "find", "parameters": SCHEMA, "strict": True},
            {"type": "custom", "name": "patch"},
        ],
        "tool_choice": {"type": "function", "name": "find"},
        "parallel_tool_calls": True,
        "max_output_tokens": 100,
        "temperature": 0.5,
        "reasoning": {"effort": "low", "summary": "auto"},
        "text": {"format": {"type": "json_object"}, "verbosity": "low"},
        "include": ["reasoning.encrypted_content"],
        "store": False,
        "stream": True,
        "user": "u",
        "metadata": {"a": "b"},
        "service_tier": "auto",
        "prompt_cache_key": "k",
    }
    asked = read(**body)
    assert asked.unsaid == ()
    assert dropped(asked) == ()
    assert written(asked) == {"model": "gpt-5", **body}
