"""What requests for providers of another dialect share."""

import pytest

from serve_app.dialects import ir
from serve_app.dialects.openai_requests import needs_error_mark, parameters_of, schema_fields
from serve_app.dialects.reasoning_effort import effort_of_budget
from serve_app.dialects.server_tools import places_of_server_tools
from serve_app.domain import Json
from serve_app.errors import InvalidRequest

FIND = ir.Tool("find")
SEARCH = ir.ServerTool("web_search", "tools[1]")
SHELL = ir.ServerTool("bash_20250124", "tools[2]")


def test_function_always_has_parameters() -> None:
    """Strict servers refuse a function without them."""
    assert parameters_of(FIND) == {"type": "object", "properties": {}}
    assert parameters_of(ir.Tool("find", schema={})) == {}


@pytest.mark.parametrize(
    ("form", "fields"),
    [
        (ir.JsonFormat({}), {"name": "answer", "schema": {}}),
        (
            ir.JsonFormat({}, "a", "b", strict=False),
            {"name": "a", "schema": {}, "description": "b", "strict": False},
        ),
    ],
)
def test_format_has_a_name(form: ir.JsonFormat, fields: Json) -> None:
    """OpenAI requires one; the rest is only there if the client says it."""
    assert schema_fields(form) == fields


@pytest.mark.parametrize(
    ("texts", "needs_mark"),
    [
        ([], True),
        (["not found"], True),
        (["not found", "ValueError: no"], False),
        (["Traceback (most recent call last)"], False),
        (["command FAILED"], False),
        (["x" * 300 + "error"], True),
    ],
)
def test_error_that_calls_itself_one_needs_no_mark(texts: list[str], *, needs_mark: bool) -> None:
    """Only the head of each text counts."""
    assert needs_error_mark(ir.ToolResult("c", (), is_error=True), texts) is needs_mark
    assert not needs_error_mark(ir.ToolResult("c", ()), texts)


@pytest.mark.parametrize(
    ("budget", "effort"),
    [(None, None), (1, "low"), (4096, "low"), (4097, "medium"), (16384, "medium"), (16385, "high")],
)
def test_budget_means_an_effort(budget: int | None, effort: str | None) -> None:
    """Without a budget the model decides."""
    assert effort_of_budget(budget) == effort


def request(
    *tools: ir.Tool, server: tuple[ir.ServerTool, ...] = (SEARCH, SHELL), forced: str = ""
) -> ir.Request:
    """A request that offers tools, one of which the model may have to call."""
    choice = ir.ToolChoice(ir.ToolMode.NAMED, forced) if forced else None
    return ir.Request("chat", (), tools=tools, server_tools=server, tool_choice=choice)


@pytest.mark.parametrize(
    ("asked", "places"),
    [
        (request(FIND), ["tools[1]", "tools[2]"]),
        (request(FIND, forced="find"), ["tools[1]", "tools[2]"]),
        (request(FIND, ir.Tool("web_search"), forced="web_search"), ["tools[1]", "tools[2]"]),
        (request(server=()), []),
        (request(server=(), forced="find"), []),
    ],
)
def test_tools_of_the_provider_are_left_out(asked: ir.Request, places: list[str]) -> None:
    """The client can do without them while it offers tools of its own."""
    assert places_of_server_tools(asked) == places


@pytest.mark.parametrize(
    ("asked", "place"),
    [
        (request(), "tools[1]"),
        (request(FIND, forced="bash_20250124"), "tools[2]"),
        (request(FIND, forced="bash"), "tools[1]"),
    ],
)
def test_tool_that_the_client_counts_on_is_refused(asked: ir.Request, place: str) -> None:
    """It is the only tool, or the model has to call it, by its kind or by another name."""
    with pytest.raises(InvalidRequest) as caught:
        places_of_server_tools(asked)
    assert caught.value.param == place
    assert str(caught.value).startswith(f"{place}: ")
