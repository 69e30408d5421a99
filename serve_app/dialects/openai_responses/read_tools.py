"""Reads ``tools`` and ``tool_choice`` of a client.

Source: OpenAI API reference, "Responses", "Create a model response".
"""

from collections.abc import Sequence
from typing import Final

from serve_app.dialects import ir
from serve_app.dialects.json_values import object_of, objects_of, text_of
from serve_app.domain import Json
from serve_app.errors import InvalidRequest

_OWN: Final = ("function", "custom")
"""Types of tools that the client runs."""


class ToolsReader:
    """Collects the tools of one request, and the paths of what it leaves out."""

    def __init__(self) -> None:
        self.tools: list[ir.Tool] = []
        self.server_tools: list[ir.ServerTool] = []
        self.unsaid: list[str] = []

    def read(self, value: Json, at: str) -> None:
        """Adds the tools of a list. Raises InvalidRequest that names the place."""
        if value is None:
            return
        if not isinstance(value, list):
            raise InvalidRequest(f"{at} must be a list", at)
        for position, tool in enumerate(value):
            self._read(tool, f"{at}[{position}]", None)

    def _read(self, tool: Json, at: str, namespace: str | None) -> None:
        if not isinstance(tool, dict):
            raise InvalidRequest(f"{at} must be an object", at)
        kind = text_of(tool.get("type")) or "function"
        if kind in _OWN:
            self.tools.append(_own_tool({**tool, **object_of(tool.get(kind))}, at, namespace))
        elif kind == "namespace" and namespace is None:
            if tool.get("description"):
                self.unsaid.append(f"{at}.description")
            for position, inner in enumerate(objects_of(tool.get("tools"))):
                self._read(inner, f"{at}.tools[{position}]", text_of(tool.get("name")) or None)
        else:
            self.server_tools.append(ir.ServerTool(kind, at))


def _own_tool(tool: dict[str, Json], at: str, namespace: str | None) -> ir.Tool:
    """A tool of the client; its fields may be one level deeper, as in chat."""
    name, strict = text_of(tool.get("name")), tool.get("strict")
    if not name:
        raise InvalidRequest(f"{at}.name is required and must be a string", f"{at}.name")
    is_custom = tool.get("type") == "custom"
    return ir.Tool(
        name,
        text_of(tool.get("description")) or None,
        schema=None if is_custom else object_of(tool.get("parameters")) or None,
        strict=strict if isinstance(strict, bool) else None,
        is_custom=is_custom,
        custom_format=object_of(tool.get("format")) or None if is_custom else None,
        namespace=namespace,
    )


def read_tool_choice(value: Json, server_tools: Sequence[ir.ServerTool]) -> ir.ToolChoice | None:
    """The choice. Raises InvalidRequest if it forces a tool that the provider runs."""
    if value is None:
        return None
    choice = {"type": value} if isinstance(value, str) else object_of(value)
    kind = text_of(choice.get("type"))
    if kind in (ir.ToolMode.AUTO, ir.ToolMode.NONE, ir.ToolMode.REQUIRED):
        return ir.ToolChoice(ir.ToolMode(kind))
    if kind in _OWN:
        name = text_of({**choice, **object_of(choice.get(kind))}.get("name"))
        if not name:
            raise InvalidRequest("tool_choice.name is required", "tool_choice.name")
        return ir.ToolChoice(ir.ToolMode.NAMED, name)
    if kind == "allowed_tools":
        return _allowed({**choice, **object_of(choice.get(kind))})
    at = next((tool.at for tool in server_tools if tool.kind == kind), "tool_choice")
    message = f"{at}: {kind or value!r} needs a provider of the same dialect"
    raise InvalidRequest(f"{message}; choose a tool of type function or custom", at)


def _allowed(choice: dict[str, Json]) -> ir.ToolChoice:
    names = tuple(
        text_of({**tool, **object_of(tool.get("function"))}.get("name"))
        for tool in objects_of(choice.get("tools"))
        if tool.get("type") in _OWN
    )
    if not any(names):
        message = "tool_choice.tools: none of them is of type function or custom; allow one"
        raise InvalidRequest(message, "tool_choice.tools")
    is_required = choice.get("mode") == ir.ToolMode.REQUIRED
    mode = ir.ToolMode.REQUIRED if is_required else ir.ToolMode.AUTO
    return ir.ToolChoice(mode, allowed=tuple(filter(None, names)))
