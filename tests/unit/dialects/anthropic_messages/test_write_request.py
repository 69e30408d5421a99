"""The settings that an Anthropic provider gets."""

from dataclasses import replace

import pytest

from serve_app.dialects import ir
from serve_app.dialects.anthropic_messages.codec import MessagesCodec
from serve_app.dialects.anthropic_messages.model_facts import ThinkingStyle, facts_of
from serve_app.dialects.anthropic_messages.schemas import binding_schema
from serve_app.dialects.protocol import Written
from serve_app.domain import Json
from serve_app.errors import InvalidRequest, NestingTooDeep

OLD, BUDGET, ADAPTIVE, NEWEST = (
    "claude-3-5-haiku-20241022",
    "claude-sonnet-4-5-20250929",
    "claude-opus-4-6",
    "claude-opus-4-8",
)
USER = ir.Message(ir.Role.USER, (ir.Text("Hi"),))
PLAIN = ir.Request("chat", (USER,))
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}


def write(model: str = BUDGET, request: ir.Request = PLAIN, **fields: Json) -> Written:
    return MessagesCodec().write_request(replace(request, **fields), model)


def test_smallest_request() -> None:
    """The API wants a limit of output tokens, and nothing else is made up."""
    assert write() == Written(
        {
            "model": BUDGET,
            "max_tokens": 32000,
            "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
        }
    )
    assert (
        write(max_output_tokens=5, stream=True).body.items()
        >= {
            "max_tokens": 5,
            "stream": True,
        }.items()
    )


@pytest.mark.parametrize(
    ("model", "limit", "style"),
    [
        ("claude-2.1", 4096, ThinkingStyle.NONE),
        ("claude-instant-1.2", 4096, ThinkingStyle.NONE),
        ("claude-instant-v1", 4096, ThinkingStyle.NONE),
        ("anthropic.claude-3-haiku-20240307-v1:0", 4096, ThinkingStyle.NONE),
        ("claude-3-5-sonnet-20241022", 8192, ThinkingStyle.NONE),
        ("claude-3-7-sonnet-latest", 32000, ThinkingStyle.BUDGET),
        ("claude-opus-4@20250514", 32000, ThinkingStyle.BUDGET),
        ("claude-4-opus-20250514", 32000, ThinkingStyle.BUDGET),
        ("claude-opus-4-1-20250805", 32000, ThinkingStyle.BUDGET),
        ("anthropic/claude-haiku-4.5", 32000, ThinkingStyle.BUDGET),
        ("claude-sonnet-4-6", 32000, ThinkingStyle.ADAPTIVE),
        ("claude-opus-5-5", 32000, ThinkingStyle.ADAPTIVE),
        ("claude-mythos-preview", 32000, ThinkingStyle.ADAPTIVE),
        ("kimi-k2-0905-preview", 8192, ThinkingStyle.BUDGET),
    ],
)
def test_facts_of_models(model: str, limit: int, style: ThinkingStyle) -> None:
    """A version is found in all spellings of a name."""
    facts = facts_of(model)
    assert (facts.default_output, facts.thinking) == (limit, style)


@pytest.mark.parametrize(
    ("model", "sampling", "written", "dropped"),
    [
        (OLD, ir.Sampling(temperature=0.5, top_k=3), {"temperature": 0.5, "top_k": 3}, ()),
        (OLD, ir.Sampling(temperature=1.5), {"temperature": 1}, ("temperature",)),
        (OLD, ir.Sampling(temperature=0, top_p=0.9), {"temperature": 0}, ("top_p",)),
        (OLD, ir.Sampling(top_p=0.9), {"top_p": 0.9}, ()),
        (
            NEWEST,
            ir.Sampling(temperature=0, top_p=1, top_k=1),
            {},
            ("temperature", "top_p", "top_k"),
        ),
        (
            OLD,
            ir.Sampling(seed=1, frequency_penalty=0.5, presence_penalty=0, logit_bias={"1": 1}),
            {},
            ("seed", "frequency_penalty", "logit_bias"),
        ),
        (OLD, ir.Sampling(logprobs=False, top_logprobs=0), {}, ()),
    ],
)
def test_sampling(
    model: str, sampling: ir.Sampling, written: dict[str, Json], dropped: tuple[str, ...]
) -> None:
    """Numbers out of range are clamped, those that a model refuses are left out and reported."""
    body, left_out = write(model, sampling=sampling)
    assert body == {**write(model).body, **written}
    assert left_out == dropped


def test_logprobs_are_refused() -> None:
    """An answer without them is not what the client counts on."""
    with pytest.raises(InvalidRequest) as caught:
        write(sampling=ir.Sampling(logprobs=True), names={"logprobs": "include"})
    assert caught.value.param == "include"


def test_other_settings_are_reported_if_they_ask_for_something() -> None:
    """Defaults are not worth a report."""
    written = write(
        verbosity="high",
        store=True,
        prompt_cache_key="k",
        metadata={"a": "b"},
        service_tier="flex",
        stop=("x", "\n"),
        names={"verbosity": "text.verbosity"},
    )
    assert written.dropped == (
        "stop",
        "text.verbosity",
        "store",
        "prompt_cache_key",
        "metadata",
        "service_tier",
    )
    assert written.body["stop_sequences"] == ["x"]
    defaults = write(verbosity="medium", store=False, service_tier="auto", stop=(" ",))
    assert defaults.dropped == ("stop",)
    assert "stop_sequences" not in defaults.body


@pytest.mark.parametrize(
    ("user", "is_hashed"),
    [("u-1", False), ("a@b.c", True), ("+49 (170) 123-45", True), ("x" * 257, True)],
)
def test_user_is_opaque(user: str, *, is_hashed: bool) -> None:
    """The API refuses addresses, telephone numbers and long names."""
    name = write(user=user).body["metadata"]["user_id"]
    assert (name != user) is is_hashed
    assert len(name) <= 256


TOOL = ir.Tool("a", "A", SCHEMA, cache={"type": "ephemeral"})
WRITTEN_TOOL = {
    "name": "a",
    "description": "A",
    "input_schema": SCHEMA,
    "cache_control": {"type": "ephemeral"},
}
BARE = {"name": "b", "input_schema": {"type": "object", "properties": {}}}
CHOICES: list[tuple[ir.ToolChoice | None, bool | None, Json]] = [
    (None, None, None),
    (None, True, None),
    (None, False, {"type": "auto", "disable_parallel_tool_use": True}),
    (ir.ToolChoice(ir.ToolMode.AUTO), None, {"type": "auto"}),
    (ir.ToolChoice(ir.ToolMode.NONE), False, {"type": "none"}),
    (
        ir.ToolChoice(ir.ToolMode.REQUIRED),
        False,
        {"type": "any", "disable_parallel_tool_use": True},
    ),
    (ir.ToolChoice(ir.ToolMode.NAMED, "b"), None, {"type": "tool", "name": "b"}),
]


@pytest.mark.parametrize(("choice", "parallel", "written"), CHOICES)
def test_tool_choice(choice: ir.ToolChoice | None, parallel: bool | None, written: Json) -> None:
    """Each choice has its like, and a ban of parallel calls goes with it."""
    body = write(tools=(TOOL, ir.Tool("b")), tool_choice=choice, parallel_tool_calls=parallel).body
    assert body["tools"] == [WRITTEN_TOOL, BARE]
    assert body.get("tool_choice") == written


def test_schema_of_a_tool_is_that_of_an_object() -> None:
    """The API takes no other; other keywords stay."""
    schema = write(tools=(ir.Tool("a", schema={"anyOf": []}),)).body["tools"][0]["input_schema"]
    assert schema == {"anyOf": [], "type": "object", "properties": {}}


def test_only_allowed_tools_are_offered() -> None:
    """The API has no list of allowed tools."""
    choice = ir.ToolChoice(ir.ToolMode.AUTO, allowed=("b",))
    assert write(tools=(TOOL, ir.Tool("b")), tool_choice=choice).body["tools"] == [BARE]


def test_strict_tools_are_reported_once() -> None:
    """A strict schema is not bound here, and its first place is named."""
    tools = (TOOL, ir.Tool("b", strict=True, at="tools[1]"), ir.Tool("c", strict=True))
    assert write(tools=tools).dropped == ("tools[1].strict",)


def test_calls_without_tools_get_tools() -> None:
    """The API refuses a conversation with calls and without tools."""
    history = (
        USER,
        ir.Message(ir.Role.ASSISTANT, (ir.ToolCall("i", "b"),)),
        ir.Message(ir.Role.USER, (ir.ToolResult("i"),)),
    )
    body = write(messages=history).body
    assert body["tools"] == [BARE]
    assert body["tool_choice"] == {"type": "none"}


def test_forced_call_without_tools_is_refused() -> None:
    """A forced choice needs tools; other choices without tools say nothing."""
    with pytest.raises(InvalidRequest) as caught:
        write(tool_choice=ir.ToolChoice(ir.ToolMode.REQUIRED))
    assert caught.value.param == "tool_choice"
    assert write(tool_choice=ir.ToolChoice(ir.ToolMode.AUTO)) == write()


def test_tools_of_other_providers() -> None:
    """They are left out beside other tools, and refused where the client counts on them."""
    server = (ir.ServerTool("web_search", "tools[1]"),)
    assert write(tools=(TOOL,), server_tools=server).dropped == ("tools[1]",)
    forced = ir.ToolChoice(ir.ToolMode.NAMED, "web_search")
    for fields in ({"tools": ()}, {"tools": (TOOL,), "tool_choice": forced}):
        with pytest.raises(InvalidRequest) as caught:
            write(server_tools=server, **fields)
        assert caught.value.param == "tools[1]"


def test_json_formats() -> None:
    """A schema binds the answer where the model can be bound; else words ask for it."""
    bound = write(BUDGET, json_format=ir.JsonFormat(SCHEMA)).body
    assert bound["output_config"]["format"] == {
        "type": "json_schema",
        "schema": {**SCHEMA, "additionalProperties": False},
    }
    assert "system" not in bound
    with_effort = write(
        NEWEST, json_format=ir.JsonFormat(SCHEMA), reasoning=ir.Reasoning(effort="low")
    ).body
    assert with_effort["output_config"].keys() == {"effort", "format"}
    any_object = write(BUDGET, json_format=ir.JsonFormat()).body
    assert "one JSON object" in any_object["system"][0]["text"]
    assert "output_config" not in any_object
    worded = write(OLD, json_format=ir.JsonFormat(SCHEMA)).body
    assert '"a":{"type":"string"}' in worded["system"][-1]["text"]
    assert "output_config" not in worded


@pytest.mark.parametrize(
    ("schema", "bound"),
    [
        (True, True),
        ({"type": "integer", "minimum": 1}, {"type": "integer", "description": '{"minimum":1}'}),
        (
            {"type": "string", "format": "phone", "description": "D"},
            {"type": "string", "description": 'D\n\n{"format":"phone"}'},
        ),
        ({"type": "string", "format": "date"}, {"type": "string", "format": "date"}),
        (
            {"type": "array", "items": {"type": "object"}, "minItems": 1},
            {
                "type": "array",
                "items": {"type": "object", "properties": {}, "additionalProperties": False},
                "minItems": 1,
            },
        ),
        (
            {"type": ["string", "null"], "maxLength": 3, "description": "D"},
            {
                "description": "D",
                "anyOf": [
                    {"type": "string", "description": '{"maxLength":3}'},
                    {"type": "null"},
                ],
            },
        ),
        ({"type": ["string", "null"], "enum": ["a", None]}, {"enum": ["a", None]}),
        (
            {"oneOf": [{"type": "string"}], "allOf": [{"$ref": "#/$defs/A"}]},
            {"anyOf": [{"type": "string"}], "allOf": [{"$ref": "#/$defs/A"}]},
        ),
        (
            {
                "$schema": "x",
                "properties": {"minimum": {"const": 1}},
                "$defs": {"A": {"type": "string"}},
                "additionalProperties": True,
            },
            {
                "type": "object",
                "properties": {"minimum": {"const": 1}},
                "$defs": {"A": {"type": "string"}},
                "additionalProperties": False,
            },
        ),
    ],
)
def test_schema_is_brought_into_the_subset_of_the_api(schema: Json, bound: Json) -> None:
    """What the subset lacks is told to the model in a description."""
    assert binding_schema(schema) == bound


def test_deep_schema_is_refused() -> None:
    """A schema that is nested too deeply to be walked is an error of the client."""
    deep: Json = {}
    for _ in range(100_000):
        deep = {"items": deep}
    with pytest.raises(NestingTooDeep):
        write(json_format=ir.JsonFormat(deep))
