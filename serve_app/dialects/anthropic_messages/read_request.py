"""Reads the request of an Anthropic client.

Source: Anthropic API reference, "Messages".
"""

from collections.abc import Mapping
from typing import Final

from serve_app.dialects import ir
from serve_app.dialects.anthropic_messages import read_settings
from serve_app.dialects.anthropic_messages.read_blocks import DIALECT, BlockReader
from serve_app.dialects.anthropic_messages.threads import check_thread
from serve_app.dialects.fields import GATEWAY_KEYS, PLANO_METADATA_KEYS, read_stream
from serve_app.dialects.json_edits import Document
from serve_app.dialects.json_values import object_of, text_of
from serve_app.domain import Json
from serve_app.errors import InvalidRequest, NestingTooDeep

_READ: Final = GATEWAY_KEYS | {
    "max_tokens",
    "messages",
    "metadata",
    "model",
    "output_config",
    "output_format",
    "service_tier",
    "stop_sequences",
    "stream",
    "system",
    "temperature",
    "thinking",
    "tool_choice",
    "tools",
    "top_k",
    "top_p",
    "mcp_servers",
}
_BILLING: Final = "x-anthropic-billing-header:"
"""How the block begins that Claude Code puts before its system prompt, for Anthropic alone.

Its value is another one in every request, so no provider could use its cache of the prompt.
"""

_ROLES: Final[Mapping[str, ir.Role]] = {
    "user": ir.Role.USER,
    "assistant": ir.Role.ASSISTANT,
    "system": ir.Role.SYSTEM,
}
_NAMES: Final[Mapping[str, str]] = {
    "max_output_tokens": "max_tokens",
    "stop": "stop_sequences",
    "parallel_tool_calls": "tool_choice.disable_parallel_tool_use",
    "user": "metadata.user_id",
}


def read_request(document: Document) -> ir.Request:
    """The request of a client. Raises InvalidRequest that names the field, or NestingTooDeep."""
    try:
        return _read(document)
    except RecursionError:
        raise NestingTooDeep from None


def _read(document: Document) -> ir.Request:
    check_thread(document.get("thread"))
    _refuse_duties(document)
    reader = BlockReader()
    system = _system(document.get("system"), reader)
    messages = _messages(document.get("messages"), reader)
    tools = read_settings.read_tools(document)
    json_format, format_path = read_settings.read_json_format(document)
    has_thinking = document.get("thinking") is not None
    return ir.Request(
        dialect=DIALECT,
        messages=(*system, *messages),
        tools=tools.own,
        server_tools=tools.server,
        tool_choice=tools.choice,
        parallel_tool_calls=tools.parallel,
        max_output_tokens=read_settings.read_max_tokens(document),
        stop=read_settings.read_stop(document),
        sampling=read_settings.read_sampling(document),
        reasoning=read_settings.read_reasoning(document),
        json_format=json_format,
        user=text_of(object_of(document.get("metadata")).get("user_id")) or None,
        service_tier=read_settings.read_tier(document),
        stream=read_stream(document),
        unsaid=(*_unsaid(document), *reader.unsaid, *tools.unsaid),
        names={
            **_NAMES,
            "json_format": format_path,
            "reasoning": "thinking" if has_thinking else "output_config.effort",
        },
    )


def _refuse_duties(document: Document) -> None:
    """Raises InvalidRequest for what only Anthropic does, and the client counts on."""
    if document.get("safeguards") is not None:
        message = (
            "safeguards: the provider of this model does not check safeguards; "
            "send the request without `safeguards`"
        )
        raise InvalidRequest(message, "safeguards")
    if document.get("mcp_servers"):
        message = (
            "mcp_servers: the provider of this model does not call MCP servers; "
            "call them from the client, or choose a model of Anthropic"
        )
        raise InvalidRequest(message, "mcp_servers")


def _system(system: Json, reader: BlockReader) -> list[ir.Message]:
    if system is None:
        return []
    parts = reader.read(system, "system")
    if isinstance(system, list):
        parts = tuple(part for part in parts if not _is_billing(part))
        reader.unsaid += (
            f"system[{position}]"
            for position, block in enumerate(system)
            if text_of(block.get("text")).startswith(_BILLING)
        )
    return [ir.Message(ir.Role.SYSTEM, parts, "system")] if parts else []


def _is_billing(part: ir.Part) -> bool:
    return isinstance(part, ir.Text) and part.text.startswith(_BILLING)


def _messages(messages: Json, reader: BlockReader) -> list[ir.Message]:
    if not isinstance(messages, list) or not messages:
        text = "messages is required and must be a list of at least one message"
        raise InvalidRequest(text, "messages")
    read: list[ir.Message] = []
    for position, message in enumerate(messages):
        at = f"messages[{position}]"
        if not isinstance(message, dict):
            raise InvalidRequest(f"{at} must be an object", at)
        role = _ROLES.get(text_of(message.get("role")))
        if role is None:
            path = f"{at}.role"
            raise InvalidRequest(f"{path} must be user, assistant or system", path)
        is_user = role is ir.Role.USER
        parts = reader.read(message.get("content"), f"{at}.content", is_user=is_user)
        read.append(ir.Message(role, parts, at))
    return read


def _unsaid(document: Document) -> list[str]:
    """Paths of fields that only Anthropic has, or that are not known here."""
    members = document.members.items()
    unsaid = [key for key, member in members if key not in _READ and member.value is not None]
    for key, known in (
        ("metadata", PLANO_METADATA_KEYS | {"user_id"}),
        ("output_config", {"effort", "format"}),
    ):
        fields = object_of(document.get(key))
        unsaid += [
            f"{key}.{name}"
            for name, value in fields.items()
            if name not in known and value is not None
        ]
    return unsaid
