"""The tools of a client as plain functions, and their calls restored."""

import json
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.dialects import ir
from serve_app.dialects.client_tools import ClientTools
from serve_app.dialects.protocol import ToolLimits
from serve_app.domain import Json
from tests.unit.dialects.tool_requests import (
    LIMITS,
    answer_of,
    names_of,
    request_of,
    restored,
    streamed,
)

CUSTOM = ToolLimits(64, has_custom=True)
NAMESPACES = ToolLimits(64, has_custom=True, has_namespaces=True)

LONG = "read_" * 20
GRAMMAR = {"type": "grammar", "syntax": "lark", "definition": 'start: "a"'}
SCHEMA = {
    "type": "object",
    "properties": {"input": {"type": "string"}},
    "required": ["input"],
    "additionalProperties": False,
}

NAME = st.one_of(
    st.sampled_from(["a", "b", "a__b", "b__a", "__", "a_b", "a b", "a.b", LONG, LONG + "s"]),
    st.text(max_size=80),
)
TOOL = st.builds(
    ir.Tool,
    name=NAME,
    namespace=st.one_of(st.none(), NAME),
    is_custom=st.booleans(),
)


PLAIN = [ir.Tool("read"), ir.Tool("a-B_9", schema={"type": "object"}, namespace="")]
PLAIN_CALL = ir.ToolCall("1", "read", "{}")


@pytest.mark.parametrize("limits", [LIMITS, CUSTOM, NAMESPACES])
def test_plain_tools_are_left_alone(limits: ToolLimits) -> None:
    """A request without anything to change is the same object, and so are answers and events."""
    choice = ir.ToolChoice(ir.ToolMode.NAMED, "unknown!", ("read",))
    calls: list[ir.Part] = [ir.Text("hi"), PLAIN_CALL, ir.ToolResult("1", (ir.Text("x"),))]
    request = request_of(*PLAIN, calls=calls, tool_choice=choice)
    tools = ClientTools.of(request, limits)
    assert tools.request is request
    assert tools.dropped == ()
    answer = answer_of(PLAIN_CALL)
    assert tools.restore(answer) is answer
    started = ir.PartStarted(PLAIN_CALL)
    ((passed,),) = streamed(tools, started)
    assert passed is started


def test_what_limits_allow_is_left_alone() -> None:
    """A dialect with custom tools and namespaces gets them."""
    tool = ir.Tool("patch", is_custom=True, custom_format=GRAMMAR, namespace="fs")
    call = ir.ToolCall("1", "patch", "raw", is_custom=True, namespace="fs")
    request = request_of(tool, calls=[call, ir.ToolResult("1", is_custom=True)])
    assert ClientTools.of(request, NAMESPACES).request is request


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("a b", r"a_b_[0-9a-f]{8}"),
        ("mcp.github/search", r"mcp_github_search_[0-9a-f]{8}"),
        (LONG, LONG[:55] + r"_[0-9a-f]{8}"),
        ("x" * 64, "x" * 64),
        ("x" * 65, "x" * 55 + r"_[0-9a-f]{8}"),
        ("suche_für", r"suche_f_r_[0-9a-f]{8}"),
        ("read\n", r"read__[0-9a-f]{8}"),
        ("", r"_[0-9a-f]{8}"),
        ("\ud800", r"__[0-9a-f]{8}"),
    ],
)
def test_names_become_plain(name: str, plain: str) -> None:
    """A name that the provider's dialect doesn't take keeps a readable head, and is restored."""
    tools = ClientTools.of(request_of(ir.Tool(name)), LIMITS)
    (given_name,) = names_of(tools)
    assert re.fullmatch(plain, given_name)
    assert len(given_name) <= 64
    assert (
        names_of(ClientTools.of(request_of(ir.Tool("b"), ir.Tool(name)), LIMITS))[1] == given_name
    )
    call = ir.ToolCall("1", given_name, "{}", cache={"type": "ephemeral"})
    assert restored(tools, call) == replace(call, name=name)


def test_namespaces_become_part_of_names() -> None:
    """A call of a namespaced tool is restored to the name and the namespace."""
    tool = ir.Tool("search", "Searches.", {"type": "object"}, namespace="github")
    tools = ClientTools.of(request_of(tool), LIMITS)
    assert tools.request.tools == (replace(tool, name="github__search", namespace=None),)
    call = restored(tools, ir.ToolCall("1", "github__search", '{"q":1}'))
    assert call == ir.ToolCall("1", "search", '{"q":1}', namespace="github")


def test_namespace_stays_where_the_dialect_has_them() -> None:
    """Only the name is replaced, and the call is restored within its namespace."""
    request = request_of(ir.Tool("a b", namespace="n"), ir.Tool("a b"))
    tools = ClientTools.of(request, NAMESPACES)
    in_namespace, outside = tools.request.tools
    assert (in_namespace.namespace, outside.namespace) == ("n", None)
    call = restored(tools, ir.ToolCall("1", in_namespace.name, "{}", namespace="n"))
    assert (call.name, call.namespace) == ("a b", "n")


def test_names_do_not_collide() -> None:
    """A joined name that another tool has is not given again."""
    tools = ClientTools.of(
        request_of(
            ir.Tool("b", namespace="a"),
            ir.Tool("a__b"),
            ir.Tool("b__c", namespace="a"),
            ir.Tool("c", namespace="a__b"),
        ),
        LIMITS,
    )
    names = names_of(tools)
    assert len(set(names)) == 4
    assert names[1] == "a__b"
    assert restored(tools, ir.ToolCall("1", "a__b")).namespace is None
    assert restored(tools, ir.ToolCall("1", names[0])).namespace == "a"
    assert restored(tools, ir.ToolCall("1", names[2])).namespace == "a"
    assert restored(tools, ir.ToolCall("1", names[3])).namespace == "a__b"


def test_name_that_looks_replaced_is_not_given_again() -> None:
    """The client may have a tool with the very name that another one would get."""
    (given_name,) = names_of(ClientTools.of(request_of(ir.Tool("a b")), LIMITS))
    tools = ClientTools.of(request_of(ir.Tool("a b"), ir.Tool(given_name)), LIMITS)
    first, second = names_of(tools)
    assert second == given_name
    assert re.fullmatch(r"a_b_[0-9a-f]{8}", first)
    assert first != second


def test_declared_tools_keep_their_names_as_conversation_goes_on() -> None:
    """Old calls of other tools do not change what declared tools are called."""
    tool = ir.Tool("b", namespace="a")
    calls = [ir.ToolCall("1", "a__b", "{}"), ir.ToolCall("2", "b", "{}", namespace="a")]
    tools = ClientTools.of(request_of(tool, calls=calls), LIMITS)
    assert names_of(tools) == ["a__b"]
    other, same = tools.request.messages[0].parts
    assert isinstance(other, ir.ToolCall)
    assert re.fullmatch(r"a__b_[0-9a-f]{8}", other.name)
    assert same == ir.ToolCall("2", "a__b", "{}")
    assert restored(tools, other) == calls[0]


@pytest.mark.parametrize(
    ("custom_format", "description", "told"),
    [
        (None, "Patches.", "Patches."),
        (None, None, None),
        ({"type": "text"}, "Patches.", "Patches."),
        (GRAMMAR, None, '`input` must match this lark grammar:\nstart: "a"'),
        (GRAMMAR, "Do.", 'Do.\n\n`input` must match this lark grammar:\nstart: "a"'),
        (
            {"type": "grammar", "grammar": {"syntax": "regex", "definition": "a+"}},
            "Do.",
            "Do.\n\n`input` must match this regex grammar:\na+",
        ),
        ({"type": "grammar", "definition": "x"}, None, "`input` must match this grammar:\nx"),
        ({"type": "grammar", "grammar": 3, "definition": 4}, "Do.", "Do."),
        ({"type": "new"}, None, None),
        ("text", "Do.", "Do."),
    ],
)
def test_custom_tools_become_functions(
    custom_format: Json, description: str | None, told: str | None
) -> None:
    """The description tells the model the grammar that a function has no field for."""
    tool = ir.Tool("patch", description, is_custom=True, custom_format=custom_format)
    tools = ClientTools.of(request_of(ir.Tool("read"), tool), LIMITS)
    assert tools.request.tools == (ir.Tool("read"), ir.Tool("patch", told, SCHEMA))
    is_lost = isinstance(custom_format, dict) and custom_format["type"] != "text"
    assert tools.dropped == (("tools[1].format",) if is_lost else ())


def test_dropped_format_has_the_path_of_the_client() -> None:
    """A reader may know better where a tool is, and what the client calls the tools."""
    tool = ir.Tool("patch", is_custom=True, custom_format=GRAMMAR)
    request = request_of(tool, replace(tool, name="b", at="tools[4].custom"))
    request = replace(request, names={"tools": "functions"})
    assert ClientTools.of(request, LIMITS).dropped == (
        "functions[0].format",
        "tools[4].custom.format",
    )


def test_custom_tools_stay_where_the_dialect_has_them() -> None:
    """Only the name is replaced; the input is not wrapped, in either direction."""
    tool = ir.Tool("a b", is_custom=True, custom_format=GRAMMAR)
    call = ir.ToolCall("1", "a b", "raw", is_custom=True)
    result = ir.ToolResult("1", is_custom=True)
    tools = ClientTools.of(request_of(tool, calls=[call, result]), CUSTOM)
    (plain,) = tools.request.tools
    assert plain == replace(tool, name=plain.name)
    assert tools.dropped == ()
    written, unchanged = tools.request.messages[0].parts
    assert written == replace(call, name=plain.name)
    assert unchanged is result
    assert restored(tools, replace(call, name=plain.name)) == call


def test_history_becomes_plain() -> None:
    """Calls and results of the conversation, also of tools that are not declared any more."""
    first = ir.Message(ir.Role.USER, (ir.Text("hi"),))
    second = ir.Message(
        ir.Role.ASSISTANT,
        (
            ir.Text("ok"),
            ir.ToolCall("1", "patch", 'say "ä"\n', is_custom=True, cache={"type": "ephemeral"}),
            ir.ToolCall("2", "gone", '{"a":1}', namespace="old"),
        ),
    )
    content = (ir.Text("done"),)
    third = ir.Message(
        ir.Role.USER,
        (ir.ToolResult("1", content, is_error=True, is_custom=True), ir.ToolResult("2", content)),
        "input[3]",
    )
    request = ir.Request("responses", (first, second, third))
    tools = ClientTools.of(request, LIMITS)
    kept, assistant, user = tools.request.messages
    assert kept is first
    assert assistant.parts == (
        ir.Text("ok"),
        ir.ToolCall("1", "patch", '{"input":"say \\"ä\\"\\n"}', cache={"type": "ephemeral"}),
        ir.ToolCall("2", "old__gone", '{"a":1}'),
    )
    assert user == ir.Message(
        ir.Role.USER,
        (ir.ToolResult("1", content, is_error=True), ir.ToolResult("2", content)),
        "input[3]",
    )
    # A model may call what it sees in the conversation.
    assert restored(tools, ir.ToolCall("3", "old__gone", "{}")).namespace == "old"
    assert restored(tools, ir.ToolCall("3", "patch", '{"input":"x"}')).arguments == "x"


def test_declared_kind_of_tool_counts() -> None:
    """A tool that is a function now stays one, however an old call of it was written."""
    call = ir.ToolCall("1", "run", "raw", is_custom=True)
    tools = ClientTools.of(request_of(ir.Tool("run"), calls=[call]), LIMITS)
    assert tools.request.messages[0].parts == (ir.ToolCall("1", "run", '{"input":"raw"}'),)
    answered = ir.ToolCall("2", "run", '{"input":"x"}')
    assert restored(tools, answered) is answered


@pytest.mark.parametrize(
    ("choice", "plain"),
    [
        (None, None),
        (ir.ToolChoice(ir.ToolMode.AUTO), ir.ToolChoice(ir.ToolMode.AUTO)),
        (
            ir.ToolChoice(ir.ToolMode.NAMED, "search"),
            ir.ToolChoice(ir.ToolMode.NAMED, "github__search"),
        ),
        (ir.ToolChoice(ir.ToolMode.NAMED, "open"), ir.ToolChoice(ir.ToolMode.NAMED, "open")),
        (ir.ToolChoice(ir.ToolMode.NAMED, "gone"), ir.ToolChoice(ir.ToolMode.NAMED, "gone")),
        (
            ir.ToolChoice(ir.ToolMode.REQUIRED, allowed=("open", "search", "search")),
            ir.ToolChoice(
                ir.ToolMode.REQUIRED, allowed=("open", "github__search", "gitlab__search")
            ),
        ),
    ],
)
def test_choice_follows_names(choice: ir.ToolChoice | None, plain: ir.ToolChoice | None) -> None:
    """A choice has no namespace: it means the tool without one, else those in namespaces."""
    request = request_of(
        ir.Tool("search", namespace="github"),
        ir.Tool("search", namespace="gitlab"),
        ir.Tool("open"),
        ir.Tool("open", namespace="door"),
        tool_choice=choice,
    )
    assert ClientTools.of(request, LIMITS).request.tool_choice == plain


@given(
    st.lists(TOOL, max_size=8, unique_by=lambda tool: (tool.namespace or None, tool.name)),
    st.lists(TOOL, max_size=4),
    st.sampled_from([LIMITS, CUSTOM, NAMESPACES, ToolLimits(12)]),
    st.text(max_size=10),
)
def test_every_tool_is_within_limits_and_restored(
    declared: list[ir.Tool], old: list[ir.Tool], limits: ToolLimits, text: str
) -> None:
    """Whatever a client calls its tools, the provider can call each, and the client knows it."""
    calls = [
        ir.ToolCall("1", tool.name, text, tool.is_custom, tool.namespace or None) for tool in old
    ]
    tools = ClientTools.of(request_of(*declared, calls=calls), limits)
    seen: dict[tuple[str | None, str], ir.Tool] = {}
    written: list[ir.Tool | ir.Part] = [*tools.request.tools, *tools.request.messages[0].parts]
    for tool, plain in zip([*declared, *old], written, strict=True):
        assert isinstance(plain, ir.Tool | ir.ToolCall)
        assert re.fullmatch(r"[a-zA-Z0-9_-]+", plain.name)
        assert len(plain.name) <= limits.max_name
        assert limits.has_namespaces or not plain.namespace
        assert limits.has_custom or not plain.is_custom
        known = seen.setdefault((plain.namespace or None, plain.name), tool)
        assert (known.namespace or None, known.name) == (tool.namespace or None, tool.name)
    for tool, plain in zip(declared, tools.request.tools, strict=True):
        wrapped = tool.is_custom and not plain.is_custom
        arguments = json.dumps({"input": text}) if wrapped else text
        call = ir.ToolCall("1", plain.name, arguments, plain.is_custom, plain.namespace)
        back = restored(tools, call)
        assert (back.name, back.namespace or None) == (tool.name, tool.namespace or None)
        assert (back.is_custom, back.arguments) == (tool.is_custom, text)
        start = ir.PartStarted(replace(call, arguments=""))
        events = streamed(tools, start, ir.Delta(arguments), ir.PartEnded())
        assert [event for out in events for event in out] == [
            ir.PartStarted(replace(back, arguments="")),
            ir.Delta(text),
            ir.PartEnded(),
        ]
