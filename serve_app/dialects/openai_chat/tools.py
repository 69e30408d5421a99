"""The tools of a chat client, and which of them the model calls.

Source: OpenAI API reference, "Chat", fields ``tools`` and ``tool_choice``, and the older
``functions`` and ``function_call``.
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final, NoReturn

from serve_app.dialects import ir
from serve_app.dialects.cache_marks import cache_of
from serve_app.dialects.json_edits import Document
from serve_app.dialects.json_values import object_of, objects_of, text_of, text_or_none
from serve_app.domain import Json
from serve_app.errors import InvalidRequest

_MODES: Final = MappingProxyType(
    {
        "auto": ir.ToolMode.AUTO,
        "none": ir.ToolMode.NONE,
        "required": ir.ToolMode.REQUIRED,
        "any": ir.ToolMode.REQUIRED,  # Mistral's word
    }
)
_NAMED: Final = ("function", "custom")


def read_tools(document: Document) -> tuple[tuple[ir.Tool, ...], tuple[ir.ServerTool, ...]]:
    """The client's tools, and those that the provider runs. Raises InvalidRequest."""
    tools: list[ir.Tool] = []
    server_tools: list[ir.ServerTool] = []
    for at, entry in _entries(document, "tools"):
        tool = _read_tool(entry, at)
        if isinstance(tool, ir.Tool):
            tools.append(tool)
        else:
            server_tools.append(tool)
    tools += [_function(entry, at, entry) for at, entry in _entries(document, "functions")]
    if document.get("web_search_options") is not None:
        server_tools.append(ir.ServerTool("web_search", "web_search_options"))
    return tuple(tools), tuple(server_tools)


def _entries(document: Document, key: str) -> Iterator[tuple[str, dict[str, Json]]]:
    entries = document.get(key)
    if entries is None:
        return
    if not isinstance(entries, list):
        _refuse(key, "must be a list")
    for position, entry in enumerate(entries):
        at = f"{key}[{position}]"
        if not isinstance(entry, dict):
            _refuse(at, "must be an object")
        yield at, entry


def _read_tool(tool: Mapping[str, Json], at: str) -> ir.Tool | ir.ServerTool:
    kind = text_of(tool.get("type")) or "function"
    if kind == "function":
        function = tool.get("function")
        return _function(object_of(function) or tool, f"{at}.function", tool)
    if kind != "custom":
        return ir.ServerTool(kind, at)
    custom = object_of(tool.get("custom")) or tool
    return ir.Tool(
        _name(custom, f"{at}.custom"),
        text_or_none(custom.get("description")),
        is_custom=True,
        custom_format=_grammar(object_of(custom.get("format"))),
        cache=cache_of(tool),
        at=f"{at}.custom",
    )


def _grammar(form: Mapping[str, Json]) -> Json:
    """The format of a custom tool as the responses dialect writes it, without the inner object."""
    grammar = form.get("grammar")
    if isinstance(grammar, dict):
        return {"type": form.get("type"), **grammar}
    return dict(form) or None


def _function(function: Mapping[str, Json], at: str, tool: Mapping[str, Json]) -> ir.Tool:
    schema, strict = function.get("parameters"), function.get("strict")
    if schema is not None and not isinstance(schema, dict):
        _refuse(f"{at}.parameters", "must be a JSON Schema, an object")
    return ir.Tool(
        _name(function, at),
        text_or_none(function.get("description")),
        schema,
        strict if isinstance(strict, bool) else None,
        cache=cache_of(tool) or cache_of(function),
        at=at,
    )


def _name(tool: Mapping[str, Json], at: str) -> str:
    return text_of(tool.get("name")) or _refuse(f"{at}.name", "is required and must be a string")


def read_tool_choice(document: Document) -> ir.ToolChoice | None:
    """Which tools the model calls; None where the client says nothing. Raises InvalidRequest."""
    at = "function_call" if document.get("tool_choice") is None else "tool_choice"
    choice = document.get(at)
    if choice is None:
        return None
    if isinstance(choice, str):
        return ir.ToolChoice(_mode(choice, at))
    fields = object_of(choice)
    kind = text_of(fields.get("type"))
    if kind == "allowed_tools":
        allowed = object_of(fields.get(kind)) or fields
        at = at if allowed is fields else f"{at}.{kind}"
        mode = _mode(allowed.get("mode", "auto"), f"{at}.mode")
        names = tuple(filter(None, map(_chosen, objects_of(allowed.get("tools")))))
        if not names:
            _refuse(f"{at}.tools", "must name at least one tool")
        return ir.ToolChoice(mode, allowed=names)
    name = _chosen(fields) or ("" if kind in _NAMED else kind)
    if not name:
        _refuse(at, "must be auto, none, required, or name a tool")
    return ir.ToolChoice(ir.ToolMode.NAMED, name)


def _chosen(choice: Mapping[str, Json]) -> str | None:
    """The name of the tool in an entry, whichever object it is in."""
    places = (choice, *(object_of(choice.get(kind)) for kind in _NAMED))
    return next((name for place in places if (name := text_of(place.get("name")))), None)


def _mode(value: Json, at: str) -> ir.ToolMode:
    if not isinstance(value, str) or value not in _MODES:
        _refuse(at, f"must be one of {', '.join(_MODES)}")
    return _MODES[value]


def _refuse(at: str, why: str) -> NoReturn:
    raise InvalidRequest(f"{at} {why}", at)
