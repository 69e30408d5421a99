"""What a client of Anthropic messages asks for, in the common form."""

import json

import pytest

from serve_app.dialects import ir
from serve_app.dialects.anthropic_messages.codec import MessagesCodec
from serve_app.dialects.json_edits import read_document
from serve_app.dialects.signatures import wrap
from serve_app.domain import Json

ASKED = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
CACHE = {"type": "ephemeral", "ttl": "1h"}
PNG = {"type": "base64", "media_type": "image/png", "data": "AA=="}


def read(**fields: Json) -> ir.Request:
    body = json.dumps({**ASKED, **fields}).encode()
    return MessagesCodec().read_request(read_document(body, unique=frozenset()))


def parts_of(*blocks: Json, role: str = "user") -> tuple[ir.Part, ...]:
    return read(messages=[{"role": role, "content": list(blocks)}]).messages[0].parts


def test_smallest_request() -> None:
    """Fields that the client leaves out are left to the provider."""
    assert read() == ir.Request(
        dialect="messages",
        messages=(ir.Message(ir.Role.USER, (ir.Text("Hi"),), "messages[0]"),),
        max_output_tokens=9,
        names=read().names,
    )


def test_system_messages_stay_in_their_places() -> None:
    """`system` is the first message; later ones may be strings or blocks."""
    request = read(
        system=[{"type": "text", "text": "S", "cache_control": CACHE}],
        messages=[
            {"role": "user", "content": "a"},
            {"role": "system", "content": "b"},
            {"role": "system", "content": [{"type": "text", "text": "c"}]},
            {"role": "assistant", "content": ""},
        ],
    )
    system, user, assistant = ir.Role.SYSTEM, ir.Role.USER, ir.Role.ASSISTANT
    assert request.messages == (
        ir.Message(system, (ir.Text("S", cache=CACHE),), "system"),
        ir.Message(user, (ir.Text("a"),), "messages[0]"),
        ir.Message(system, (ir.Text("b"),), "messages[1]"),
        ir.Message(system, (ir.Text("c"),), "messages[2]"),
        ir.Message(assistant, (), "messages[3]"),
    )
    assert read(system="S").messages[0].parts == (ir.Text("S"),)
    assert len(read(system="").messages) == 1


def test_block_of_claude_code_for_anthropic_is_left_out() -> None:
    """It is different in every request, so that a provider could use no cache of the prompt."""
    billing = {"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1; cch=0a1b2;"}
    brief = {"type": "text", "text": "Be brief. x-anthropic-billing-header: is a header."}
    request = read(system=[billing, brief])
    assert request.messages[0].parts == (ir.Text(brief["text"]),)
    assert request.unsaid == ("system[0]",)
    alone = read(system=[billing])
    assert [message.role for message in alone.messages] == [ir.Role.USER]
    told = read(messages=[{"role": "user", "content": [billing]}])
    assert told.messages[0].parts == (ir.Text(billing["text"]),)


BLOCKS: list[tuple[Json, tuple[ir.Part, ...]]] = [
    ({"type": "text", "text": "a", "cache_control": CACHE}, (ir.Text("a", cache=CACHE),)),
    (
        {
            "type": "text",
            "text": "a",
            "citations": [
                {"type": "web_search_result_location", "url": "u", "title": "t", "cited_text": "c"},
                {"type": "char_location", "cited_text": "c", "document_index": 0},
            ],
        },
        (ir.Text("a", (ir.Citation("u", "t", cited="c"),)),),
    ),
    ({"type": "image", "source": PNG}, (ir.Image(ir.Media(data="AA==", media_type="image/png")),)),
    ({"type": "image", "source": {"type": "url", "url": "u"}}, (ir.Image(ir.Media(url="u")),)),
    (
        {"type": "image", "source": {"type": "file", "file_id": "f"}, "cache_control": CACHE},
        (ir.Image(ir.Media(file_id="f"), cache=CACHE),),
    ),
    (
        {"type": "document", "source": {**PNG, "media_type": "application/pdf"}, "title": "T"},
        (ir.File(ir.Media(data="AA==", media_type="application/pdf"), "T"),),
    ),
    (
        {
            "type": "document",
            "source": {"type": "text", "media_type": "text/plain", "data": "d"},
            "context": "C",
        },
        (ir.File(ir.Media(text="d", media_type="text/plain"), None, "C"),),
    ),
    (
        {
            "type": "document",
            "source": {
                "type": "content",
                "content": [
                    {"type": "text", "text": "a"},
                    {"type": "image", "source": PNG},
                    {"type": "text", "text": "b"},
                ],
            },
        },
        (
            ir.File(ir.Media(text="a\n\nb", media_type="text/plain")),
            ir.Image(ir.Media(data="AA==", media_type="image/png")),
        ),
    ),
    (
        {"type": "document", "source": {"type": "content", "content": "whole"}},
        (ir.File(ir.Media(text="whole", media_type="text/plain")),),
    ),
    (
        {"type": "tool_use", "id": "i", "name": "n", "input": {"a": [1, "é"]}},
        (ir.ToolCall("i", "n", '{"a":[1,"é"]}'),),
    ),
    ({"type": "tool_use", "id": "i", "name": "n", "input": {}}, (ir.ToolCall("i", "n", "{}"),)),
    ({"type": "tool_result", "tool_use_id": "i"}, (ir.ToolResult("i"),)),
    (
        {"type": "tool_result", "tool_use_id": "i", "content": "r", "is_error": True},
        (ir.ToolResult("i", (ir.Text("r"),), is_error=True),),
    ),
    (
        {
            "type": "tool_result",
            "tool_use_id": "i",
            "content": [
                {"type": "text", "text": "r"},
                {"type": "image", "source": PNG},
                {"type": "tool_reference", "tool_name": "grep"},
            ],
        },
        (
            ir.ToolResult(
                "i",
                (
                    ir.Text("r"),
                    ir.Image(ir.Media(data="AA==", media_type="image/png")),
                    ir.Text("Tool found: grep"),
                ),
            ),
        ),
    ),
    (
        {"type": "thinking", "thinking": "t", "signature": "sig"},
        (ir.Thinking("t", "sig", "messages"),),
    ),
    (
        {"type": "thinking", "thinking": "t", "signature": wrap("chat", "sig")},
        (ir.Thinking("t", "sig", "chat"),),
    ),
    (
        {"type": "thinking", "thinking": "t", "signature": ""},
        (ir.Thinking("t", None, "messages"),),
    ),
    (
        {"type": "redacted_thinking", "data": wrap("responses", "d")},
        (ir.Thinking("", "d", "responses", is_redacted=True),),
    ),
    (
        {
            "type": "search_result",
            "title": "T",
            "source": "https://x",
            "content": [{"type": "text", "text": "c"}],
        },
        (ir.Text("T\nhttps://x\nc"),),
    ),
    ({"type": "compaction", "content": "summary"}, (ir.Text("summary"),)),
    ({"type": "compaction", "content": None}, (ir.Foreign("compaction"),)),
    (
        {"type": "server_tool_use", "id": "i", "name": "web_search", "input": {}},
        (ir.Foreign("server_tool_use"),),
    ),
    (
        {"type": "web_search_tool_result", "tool_use_id": "i", "content": []},
        (ir.Foreign("web_search_tool_result"),),
    ),
    ({"type": "of_tomorrow"}, (ir.Foreign("of_tomorrow"),)),
]


@pytest.mark.parametrize(("block", "parts"), BLOCKS)
def test_block_becomes_parts(block: Json, parts: tuple[ir.Part, ...]) -> None:
    """Each block has its part; blocks of the model that only Anthropic has are named."""
    is_foreign = any(isinstance(part, ir.Foreign) for part in parts)
    assert parts_of(block, role="assistant" if is_foreign else "user") == parts


def test_what_has_no_place_is_reported() -> None:
    """Fields that an answer can do without are named by their paths, and never refused."""
    document = {"type": "text", "media_type": "text/plain", "data": "d"}
    result = [{"type": "text", "text": "r"}, {"type": "browser_state"}]
    content = [
        {"type": "document", "source": document, "citations": {"enabled": True}},
        {"type": "tool_result", "tool_use_id": "i", "content": result},
        {
            "type": "search_result",
            "title": "",
            "source": "",
            "content": [],
            "citations": {"enabled": True},
        },
    ]
    tools = [
        {"name": "a", "input_schema": {}, "defer_loading": True, "input_examples": None},
        {"name": "b", "input_schema": {}, "defer_loading": True},
    ]
    request = read(
        messages=[{"role": "user", "content": content}],
        tools=tools,
        context_management={"edits": []},
        container="c",
        speed=None,
        betas=["x"],
        models=["y"],
        output_config={"effort": "low", "task_budget": {}},
        metadata={"user_id": "u", "team": "t", "plano_preference_config": "p"},
        mcp_servers=[],
    )
    assert request.unsaid == (
        "context_management",
        "container",
        "betas",
        "metadata.team",
        "output_config.task_budget",
        "messages[0].content[0].citations",
        "messages[0].content[1].content",
        "messages[0].content[2].citations",
        "tools[0].defer_loading",
    )


def test_tools_of_client_and_provider() -> None:
    """Tools without a schema of the client are those of Anthropic, whoever runs them."""
    schema = {"type": "object"}
    request = read(
        tools=[
            {
                "type": "custom",
                "name": "a",
                "description": "A",
                "input_schema": schema,
                "strict": True,
                "cache_control": CACHE,
            },
            {"type": "web_search_20250305", "name": "web_search"},
            {"type": "bash_20250124", "name": "bash"},
            {"type": None, "name": "b"},
        ],
        tool_choice={"type": "any", "disable_parallel_tool_use": True},
    )
    assert request.tools == (
        ir.Tool("a", "A", schema, strict=True, cache=CACHE, at="tools[0]"),
        ir.Tool("b", at="tools[3]"),
    )
    assert request.server_tools == (
        ir.ServerTool("web_search_20250305", "tools[1]"),
        ir.ServerTool("bash_20250124", "tools[2]"),
    )
    assert request.tool_choice == ir.ToolChoice(ir.ToolMode.REQUIRED)
    assert request.parallel_tool_calls is False


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({"type": "auto"}, ir.ToolChoice(ir.ToolMode.AUTO)),
        ({"type": "none"}, ir.ToolChoice(ir.ToolMode.NONE)),
        ({"type": "tool", "name": "a"}, ir.ToolChoice(ir.ToolMode.NAMED, "a")),
        (None, None),
    ],
)
def test_tool_choice(choice: Json, expected: ir.ToolChoice | None) -> None:
    """Every choice of Anthropic has its like."""
    assert read(tool_choice=choice).tool_choice == expected


REASONINGS: list[tuple[dict[str, Json], ir.Reasoning | None]] = [
    ({"thinking": {"type": "disabled"}}, ir.Reasoning(enabled=False)),
    (
        {"thinking": {"type": "enabled", "budget_tokens": 2000}},
        ir.Reasoning(enabled=True, budget_tokens=2000, summary="auto"),
    ),
    (
        {
            "thinking": {"type": "adaptive", "display": "omitted"},
            "output_config": {"effort": "max"},
        },
        ir.Reasoning(enabled=True, effort="max", summary="none"),
    ),
    ({"output_config": {"effort": "low"}}, ir.Reasoning(effort="low")),
    ({"output_config": {"effort": None}}, None),
]


@pytest.mark.parametrize(("fields", "expected"), REASONINGS)
def test_reasoning(fields: dict[str, Json], expected: ir.Reasoning | None) -> None:
    """Thinking and effort are one wish."""
    assert read(**fields).reasoning == expected


def test_settings() -> None:
    """The other settings have their like, and their names for errors."""
    request = read(
        temperature=0.5,
        top_p=1,
        top_k=40,
        stop_sequences=["x"],
        stream=True,
        service_tier="standard_only",
        metadata={"user_id": "u"},
        output_format={"type": "json_schema", "schema": {"type": "object"}},
    )
    assert request.sampling == ir.Sampling(temperature=0.5, top_p=1, top_k=40)
    assert (request.stop, request.stream, request.user) == (("x",), True, "u")
    assert request.service_tier == "default"
    assert request.json_format == ir.JsonFormat({"type": "object"})
    assert request.path_of("json_format") == "output_format"
    assert request.path_of("max_output_tokens") == "max_tokens"
    assert request.path_of("reasoning") == "output_config.effort"
    config = {"format": {"type": "json_schema", "schema": {}}}
    again = read(output_config=config, thinking={"type": "adaptive"}, service_tier="auto")
    assert again.json_format == ir.JsonFormat({})
    assert again.path_of("json_format") == "output_config.format"
    assert again.path_of("reasoning") == "thinking"
    assert again.service_tier == "auto"
