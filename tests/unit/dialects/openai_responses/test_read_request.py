"""Requests of clients that speak responses, read into the form between dialects."""

import pytest

from serve_app.dialects import ir
from serve_app.dialects.signatures import wrap
from serve_app.domain import Json
from tests.unit.dialects.openai_responses.samples import CITATION, read, user

USER, ASSISTANT = ir.Role.USER, ir.Role.ASSISTANT
PNG = "data:image/png;base64,aGk="


def parts_of(*items: Json) -> list[tuple[ir.Role, tuple[ir.Part, ...]]]:
    return [(message.role, message.parts) for message in read(input=list(items)).messages]


def test_text_is_the_users() -> None:
    """A text is one message of the user; instructions come before it."""
    asked = read(instructions="Be brief")
    assert asked.messages == (
        ir.Message(ir.Role.SYSTEM, (ir.Text("Be brief"),), "instructions"),
        ir.Message(USER, (ir.Text("Hi"),), "input"),
    )


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ({"type": "input_text", "text": "Hi"}, ir.Text("Hi")),
        ({"type": "text", "text": ""}, ir.Text("")),
        ({"type": "refusal", "refusal": "No"}, ir.Text("No")),
        (
            {"type": "input_image", "image_url": PNG, "detail": "low"},
            ir.Image(ir.Media(data="aGk=", media_type="image/png"), "low"),
        ),
        (
            {"type": "input_image", "image_url": {"url": "https://a.example/i"}},
            ir.Image(ir.Media(url="https://a.example/i")),
        ),
        ({"type": "input_image", "file_id": "file_1"}, ir.Image(ir.Media(file_id="file_1"))),
        (
            {"type": "input_file", "file_data": "aGk=", "filename": "a.csv"},
            ir.File(ir.Media(data="aGk=", media_type="text/csv"), "a.csv"),
        ),
        (
            {"type": "input_file", "file_data": "aGk="},
            ir.File(ir.Media(data="aGk=", media_type="application/pdf")),
        ),
        (
            {"type": "input_file", "file_data": "data:,a%20b"},
            ir.File(ir.Media(text="a b", media_type="text/plain")),
        ),
        (
            {"type": "input_file", "file_url": "https://a.example/f"},
            ir.File(ir.Media(url="https://a.example/f")),
        ),
        ({"type": "input_file", "file_id": "file_1"}, ir.File(ir.Media(file_id="file_1"))),
        (
            {"type": "input_audio", "input_audio": {"data": "aGk=", "format": "wav"}},
            ir.Audio("aGk=", "wav"),
        ),
    ],
)
def test_contents_of_user(content: Json, part: ir.Part) -> None:
    """Each content of a user's message is one part."""
    assert parts_of(user(content)) == [(USER, (part,))]


TURN: list[Json] = [
    {"role": "developer", "content": "Be brief"},
    {"type": "message", "role": "user", "content": "Go"},
    {
        "type": "reasoning",
        "id": "rs_1",
        "summary": [{"type": "summary_text", "text": "Hm"}],
        "content": None,
        "encrypted_content": "abc",
    },
    {
        "type": "message",
        "role": "assistant",
        "content": [
            {
                "type": "output_text",
                "text": "So",
                "annotations": [
                    {
                        "type": "url_citation",
                        "url": CITATION.url,
                        "title": "A",
                        "start_index": 0,
                        "end_index": 2,
                    }
                ],
            },
            {"type": "refusal", "refusal": "No"},
        ],
    },
    {
        "type": "function_call",
        "id": "fc_1",
        "call_id": "call_1",
        "name": "find",
        "arguments": "{}",
        "namespace": "n",
    },
    {"type": "custom_tool_call", "call_id": "call_2", "name": "patch", "input": "***"},
    {"type": "web_search_call", "id": "ws_1"},
    {"type": "function_call_output", "call_id": "call_1", "output": "ok"},
    {
        "type": "custom_tool_call_output",
        "call_id": "call_2",
        "output": [
            {"type": "input_text", "text": "seen"},
            {"type": "input_image", "image_url": PNG},
        ],
    },
    {"type": "shell_call_output", "call_id": "call_3", "output": []},
    {"role": "user", "content": "More"},
    {"role": "user", "content": "and more"},
]


def test_items_of_a_turn_are_one_message() -> None:
    """What the model did in a row is one message, and so are the results of its calls."""
    signature = '{"id": "rs_1", "encrypted_content": "abc"}'
    image = ir.Image(ir.Media(data="aGk=", media_type="image/png"))
    assert parts_of(*TURN) == [
        (ir.Role.DEVELOPER, (ir.Text("Be brief"),)),
        (USER, (ir.Text("Go"),)),
        (
            ASSISTANT,
            (
                ir.Thinking("Hm", signature, "responses"),
                ir.Text("So", (CITATION,)),
                ir.Refusal("No"),
                ir.ToolCall("call_1", "find", "{}", namespace="n"),
                ir.ToolCall("call_2", "patch", "***", is_custom=True),
                ir.Foreign("web_search_call"),
            ),
        ),
        (
            USER,
            (
                ir.ToolResult("call_1", (ir.Text("ok"),)),
                ir.ToolResult("call_2", (ir.Text("seen"), image), is_custom=True),
                ir.Foreign("shell_call_output"),
            ),
        ),
        (USER, (ir.Text("More"),)),
        (USER, (ir.Text("and more"),)),
    ]
    assert [message.at for message in read(input=TURN).messages][2:4] == ["input[2]", "input[7]"]


@pytest.mark.parametrize(
    ("item", "part"),
    [
        ({"encrypted_content": wrap("messages", "s")}, ir.Thinking("", "s", "messages")),
        (
            {"encrypted_content": wrap("messages", "redacted:s")},
            ir.Thinking("", "s", "messages", is_redacted=True),
        ),
        (
            {"content": [{"type": "reasoning_text", "text": "Hm"}], "summary": []},
            ir.Thinking("Hm", None, "responses"),
        ),
    ],
)
def test_thoughts_keep_their_origin(item: dict[str, Json], part: ir.Part) -> None:
    """The proof of another provider comes out of its envelope."""
    assert parts_of({"type": "reasoning", **item}) == [(ASSISTANT, (part,))]


def test_empty_items_are_left_out() -> None:
    """Thoughts that show and prove nothing, and messages without content, are not messages."""
    reasoning: Json = {"type": "reasoning", "summary": [], "encrypted_content": None}
    empty = {"role": "assistant", "content": [{"type": "output_text", "text": ""}]}
    assert parts_of(reasoning, empty, {"role": "user", "content": ""}) == []


def test_tools_of_every_kind() -> None:
    """Functions, custom tools and namespaces are the client's, all else is the provider's."""
    grammar = {"type": "grammar", "syntax": "lark", "definition": "start: /a/"}
    schema = {"type": "object", "properties": {"a": {}}}
    asked = read(
        tools=[
            {"type": "function", "name": "find", "parameters": schema, "strict": True},
            {"type": "function", "function": {"name": "old", "description": "As in chat"}},
            {"type": "custom", "name": "patch", "description": "Patches", "format": grammar},
            {
                "type": "namespace",
                "name": "n",
                "description": "Inner",
                "tools": [
                    {"type": "function", "name": "in"},
                    {"type": "custom", "name": "any"},
                    {"type": "mcp", "name": "m"},
                ],
            },
            {"type": "web_search"},
        ],
        input=[
            {
                "type": "additional_tools",
                "role": "developer",
                "tools": [{"type": "function", "name": "late"}, {"type": "shell"}],
            },
            {"role": "user", "content": "Hi"},
        ],
    )
    assert asked.tools == (
        ir.Tool("find", schema=schema, strict=True),
        ir.Tool("old", "As in chat"),
        ir.Tool("patch", "Patches", is_custom=True, custom_format=grammar),
        ir.Tool("in", namespace="n"),
        ir.Tool("any", is_custom=True, namespace="n"),
        ir.Tool("late"),
    )
    assert asked.server_tools == (
        ir.ServerTool("mcp", "tools[3].tools[2]"),
        ir.ServerTool("web_search", "tools[4]"),
        ir.ServerTool("shell", "input[0].tools[1]"),
    )
    assert asked.unsaid == ("tools[3].description",)
    assert len(asked.messages) == 1


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, None),
        ("auto", ir.ToolChoice(ir.ToolMode.AUTO)),
        ("none", ir.ToolChoice(ir.ToolMode.NONE)),
        ("required", ir.ToolChoice(ir.ToolMode.REQUIRED)),
        ({"type": "function", "name": "f"}, ir.ToolChoice(ir.ToolMode.NAMED, "f")),
        ({"type": "function", "function": {"name": "f"}}, ir.ToolChoice(ir.ToolMode.NAMED, "f")),
        ({"type": "custom", "name": "c"}, ir.ToolChoice(ir.ToolMode.NAMED, "c")),
        (
            {
                "type": "allowed_tools",
                "mode": "required",
                "tools": [{"type": "function", "name": "f"}, {"type": "image_generation"}],
            },
            ir.ToolChoice(ir.ToolMode.REQUIRED, allowed=("f",)),
        ),
        (
            {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "custom", "name": "c"}]},
            ir.ToolChoice(ir.ToolMode.AUTO, allowed=("c",)),
        ),
    ],
)
def test_tool_choice_of_every_form(choice: Json, expected: ir.ToolChoice | None) -> None:
    """Each form of the choice has its value."""
    assert read(tool_choice=choice).tool_choice == expected


def test_settings() -> None:
    """Each setting has its field, and the answer repeats what the API repeats."""
    fields = {
        "parallel_tool_calls": False,
        "max_output_tokens": 100,
        "temperature": 0,
        "top_p": 0.5,
        "top_logprobs": 0,
        "include": ["reasoning.encrypted_content", "message.output_text.logprobs"],
        "reasoning": {"effort": "low", "generate_summary": "auto", "context": "auto"},
        "text": {
            "format": {"type": "json_schema", "name": "n", "schema": {"a": 1}, "strict": True},
            "verbosity": "low",
        },
        "safety_identifier": "u",
        "user": "old",
        "metadata": {"a": "b", "c": 1},
        "service_tier": "flex",
        "prompt_cache_key": "k",
        "store": False,
        "stream": True,
        "stream_options": {"include_obfuscation": False},
    }
    asked = read(**fields)
    assert asked.sampling == ir.Sampling(temperature=0, top_p=0.5, logprobs=True, top_logprobs=0)
    assert asked.reasoning == ir.Reasoning(effort="low", summary="auto")
    assert asked.json_format == ir.JsonFormat({"a": 1}, "n", strict=True)
    assert (asked.verbosity, asked.user, asked.service_tier) == ("low", "u", "flex")
    assert (asked.parallel_tool_calls, asked.max_output_tokens) == (False, 100)
    assert (asked.prompt_cache_key, asked.store, asked.stream) == ("k", False, True)
    assert asked.metadata == {"a": "b"}
    assert asked.echo["temperature"] == 0
    assert "include" not in asked.echo
    assert asked.unsaid == ("reasoning.context",)
    assert asked.path_of("json_format") == "text.format"
    assert asked.path_of("user") == "safety_identifier"
    assert read(user="u").path_of("user") == "user"


def test_nothing_but_text() -> None:
    """A setting that is missing is unknown; probabilities count only where they are included."""
    asked = read(top_logprobs=3, text={"format": {"type": "text"}}, reasoning={})
    assert asked.sampling == ir.Sampling()
    assert (asked.json_format, asked.reasoning, asked.stream, asked.store) == (None,) * 2 + (
        False,
        None,
    )
    assert read(text={"format": {"type": "json_object"}}).json_format == ir.JsonFormat()


def test_unknown_fields_are_reported() -> None:
    """Fields that only this dialect has are named, unless they say the default."""
    marked = {"type": "input_text", "text": "Hi", "prompt_cache_breakpoint": {"mode": "explicit"}}
    asked = read(
        input=[user(marked, marked)],
        include=["file_search_call.results"],
        truncation="auto",
        max_tool_calls=3,
        context_management=[{"type": "compaction"}],
        moderation=None,
        background=False,
        new_field={"a": 1},
    )
    assert set(asked.unsaid) == {
        "include",
        "truncation",
        "max_tool_calls",
        "context_management",
        "new_field",
        "prompt_cache_breakpoint",
    }
    assert read(truncation="disabled").unsaid == ()
