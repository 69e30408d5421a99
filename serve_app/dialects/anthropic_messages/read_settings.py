"""Reads what a client's request says besides its conversation.

Source: Anthropic API reference, "Messages".
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from serve_app.dialects import ir
from serve_app.dialects.cache_marks import cache_of
from serve_app.dialects.json_edits import Document
from serve_app.dialects.json_values import object_of, text_of
from serve_app.dialects.plain_fields import read_integer, read_number
from serve_app.domain import Json
from serve_app.errors import InvalidRequest

_TOOL_KEYS: Final = frozenset(
    {"type", "name", "description", "input_schema", "strict", "cache_control"}
)
_MODES: Final[Mapping[str, ir.ToolMode]] = {
    "auto": ir.ToolMode.AUTO,
    "any": ir.ToolMode.REQUIRED,
    "tool": ir.ToolMode.NAMED,
    "none": ir.ToolMode.NONE,
}
_TIERS: Final[Mapping[str, str]] = {"standard_only": "default"}
"""Service tiers that OpenAI has under another name, which is the one in ``ir``."""


class ToolSettings(NamedTuple):
    """The tools of a request."""

    own: tuple[ir.Tool, ...]
    server: tuple[ir.ServerTool, ...]
    choice: ir.ToolChoice | None
    parallel: bool | None
    unsaid: tuple[str, ...]


def read_tools(document: Document) -> ToolSettings:
    """The tools, and which of them the model calls. Raises InvalidRequest."""
    entries = document.get("tools")
    if entries is not None and not isinstance(entries, list):
        raise InvalidRequest("tools must be a list", "tools")
    own: list[ir.Tool] = []
    server: list[ir.ServerTool] = []
    server_names: dict[str, str] = {}
    unsaid: dict[str, str] = {}
    for position, tool in enumerate(entries or ()):
        at = f"tools[{position}]"
        if not isinstance(tool, dict):
            raise InvalidRequest(f"{at} must be an object", at)
        kind = text_of(tool.get("type"))
        if kind not in ("", "custom"):
            server.append(ir.ServerTool(kind, at))
            server_names[text_of(tool.get("name"))] = at
            continue
        own.append(_tool(tool, at))
        for key in tool.keys() - _TOOL_KEYS:
            if tool[key] is not None:
                unsaid.setdefault(key, f"{at}.{key}")  # agents set one on every tool
    choice, parallel = _choice(document.get("tool_choice"), server_names)
    return ToolSettings(tuple(own), tuple(server), choice, parallel, tuple(sorted(unsaid.values())))


def _tool(tool: dict[str, Json], at: str) -> ir.Tool:
    name, schema = tool.get("name"), tool.get("input_schema")
    if not isinstance(name, str) or not name:
        raise InvalidRequest(f"{at}.name is required and must be a string", f"{at}.name")
    if schema is not None and not isinstance(schema, dict):
        path = f"{at}.input_schema"
        raise InvalidRequest(f"{path} must be a JSON Schema, which is an object", path)
    description, strict = tool.get("description"), tool.get("strict")
    return ir.Tool(
        name,
        description if isinstance(description, str) else None,
        schema,
        strict if isinstance(strict, bool) else None,
        cache=cache_of(tool),
        at=at,
    )


def _choice(
    choice: Json, server_names: Mapping[str, str]
) -> tuple[ir.ToolChoice | None, bool | None]:
    """Which tools are called, and whether several at once; only a ban of that is a wish."""
    if choice is None:
        return None, None
    fields = object_of(choice)
    mode, name = _MODES.get(text_of(fields.get("type"))), fields.get("name")
    if mode is None:
        path = "tool_choice.type"
        raise InvalidRequest(f"{path} must be auto, any, tool or none", path)
    parallel = False if fields.get("disable_parallel_tool_use") is True else None
    if mode is not ir.ToolMode.NAMED:
        return ir.ToolChoice(mode), parallel
    if not isinstance(name, str):
        path = "tool_choice.name"
        raise InvalidRequest(f"{path} is required and must be a string", path)
    if name in server_names:
        message = (
            f"tool_choice: the tool {name!r} belongs to Anthropic, and another provider answers "
            "here; choose a tool of your own, or a model of Anthropic"
        )
        raise InvalidRequest(message, server_names[name])
    return ir.ToolChoice(mode, name), parallel


def read_max_tokens(document: Document) -> int:
    """The limit of output tokens. Raises InvalidRequest."""
    limit = document.get("max_tokens")
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
        message = "max_tokens is required and must be a positive integer"
        raise InvalidRequest(message, "max_tokens")
    return limit


def read_stop(document: Document) -> tuple[str, ...]:
    """The sequences that end the answer. Raises InvalidRequest."""
    stop = document.get("stop_sequences")
    if stop is None:
        return ()
    if not isinstance(stop, list) or not all(isinstance(text, str) for text in stop):
        raise InvalidRequest("stop_sequences must be a list of strings", "stop_sequences")
    return tuple(stop)


def read_sampling(document: Document) -> ir.Sampling:
    """Temperature and its like. Raises InvalidRequest."""
    return ir.Sampling(
        temperature=read_number(document, "temperature"),
        top_p=read_number(document, "top_p"),
        top_k=read_integer(document, "top_k"),
    )


def read_reasoning(document: Document) -> ir.Reasoning | None:
    """How the model is to think. Raises InvalidRequest."""
    thinking = document.get("thinking")
    effort = object_of(document.get("output_config")).get("effort")
    if effort is not None and not isinstance(effort, str):
        path = "output_config.effort"
        raise InvalidRequest(f"{path} must be low, medium, high, xhigh or max", path)
    if thinking is None:
        return ir.Reasoning(effort=effort) if effort else None
    fields = object_of(thinking)
    kind = text_of(fields.get("type"))
    if not kind:
        path = "thinking.type"
        raise InvalidRequest(f"{path} must be adaptive, enabled or disabled", path)
    if kind == "disabled":
        return ir.Reasoning(enabled=False, effort=effort)
    budget = fields.get("budget_tokens")
    if budget is not None and (not isinstance(budget, int) or isinstance(budget, bool)):
        path = "thinking.budget_tokens"
        raise InvalidRequest(f"{path} must be an integer", path)
    summary = "none" if fields.get("display") == "omitted" else "auto"
    return ir.Reasoning(enabled=True, effort=effort, budget_tokens=budget, summary=summary)


def read_json_format(document: Document) -> tuple[ir.JsonFormat | None, str]:
    """The schema of the answer, and the path where the client gives it. Raises InvalidRequest."""
    path = "output_config.format"
    wanted = object_of(document.get("output_config")).get("format")
    if wanted is None:
        path = "output_format"
        wanted = document.get(path)
    if wanted is None:
        return None, "output_config.format"
    fields = object_of(wanted)
    schema = fields.get("schema")
    if fields.get("type") != "json_schema" or not isinstance(schema, dict):
        message = f"{path} must have the type json_schema and a schema, which is an object"
        raise InvalidRequest(message, path)
    return ir.JsonFormat(schema), path


def read_tier(document: Document) -> str | None:
    """The service tier in the words of ``ir``."""
    tier = document.get("service_tier")
    return _TIERS.get(tier, tier) if isinstance(tier, str) else None
