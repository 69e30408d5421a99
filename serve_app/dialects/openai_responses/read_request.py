"""Reads a request of a client.

Source: OpenAI API reference, "Responses", "Create a model response".
"""

from typing import Final

from serve_app.dialects import ir
from serve_app.dialects.fields import read_stream
from serve_app.dialects.json_edits import Document
from serve_app.dialects.json_values import object_of, text_of
from serve_app.dialects.openai_responses.answers import ECHO_DEFAULTS
from serve_app.dialects.openai_responses.output_items import ORIGIN
from serve_app.dialects.openai_responses.read_input import InputReader
from serve_app.dialects.openai_responses.read_tools import ToolsReader, read_tool_choice
from serve_app.dialects.plain_fields import read_boolean, read_integer, read_number, read_string
from serve_app.domain import Json
from serve_app.errors import InvalidRequest

ENCRYPTED: Final = "reasoning.encrypted_content"
LOGPROBS: Final = "message.output_text.logprobs"
"""What ``include`` names that an answer has beyond its defaults."""

_KEEPS_STATE: Final = "needs a provider that keeps state"
_REFUSED: Final = {
    "prompt": f"{_KEEPS_STATE}; send the prompt's text in `instructions` and `input`",
    "background": f"{_KEEPS_STATE}; leave it out, and use `stream` for long answers",
}
_UNDERSTOOD: Final = frozenset(
    {
        *_REFUSED,
        "conversation",  # the gateway has put it into ``input``
        "include",
        "input",
        "instructions",
        "max_output_tokens",
        "metadata",
        "model",
        "parallel_tool_calls",
        "previous_response_id",  # as above
        "prompt_cache_key",
        "reasoning",
        "safety_identifier",
        "service_tier",
        "store",
        "stream",
        "stream_options",  # only about padding, which no translated stream has
        "temperature",
        "text",
        "tool_choice",
        "tools",
        "top_logprobs",
        "top_p",
        "user",
    }
)
_REASONING: Final = frozenset({"effort", "summary", "generate_summary"})


def read_request(document: Document) -> ir.Request:
    """The request of a client. Raises InvalidRequest that names the field."""
    for key, why in _REFUSED.items():
        if document.get(key):
            raise InvalidRequest(f"{key} {why}", key)
    tools = _read_tools(document)
    reader = InputReader()
    messages = _instructions(document) + reader.read(document.get("input"))
    included = _strings(document, "include")
    text = _object(document, "text")
    user = read_string(document, "safety_identifier") or read_string(document, "user")
    unsaid = [*_unsaid(document), *tools.unsaid, *reader.unsaid]
    return ir.Request(
        dialect=ORIGIN,
        messages=tuple(messages),
        tools=tuple(tools.tools),
        server_tools=tuple(tools.server_tools),
        tool_choice=read_tool_choice(document.get("tool_choice"), tools.server_tools),
        parallel_tool_calls=read_boolean(document, "parallel_tool_calls"),
        max_output_tokens=read_integer(document, "max_output_tokens", 1),
        sampling=_sampling(document, has_logprobs=LOGPROBS in included),
        reasoning=_reasoning(_object(document, "reasoning")),
        json_format=_json_format(text.get("format")),
        verbosity=text_of(text.get("verbosity")) or None,
        user=user,
        metadata=_metadata(document),
        service_tier=read_string(document, "service_tier"),
        prompt_cache_key=read_string(document, "prompt_cache_key"),
        store=read_boolean(document, "store"),
        stream=read_stream(document),
        echo={key: document.get(key) for key in ECHO_DEFAULTS if document.get(key) is not None},
        unsaid=tuple(dict.fromkeys(unsaid)),
        names={
            "json_format": "text.format",
            "verbosity": "text.verbosity",
            "user": "safety_identifier" if document.get("safety_identifier") else "user",
            "logprobs": "include",
            "server_tools": "tools",
        },
    )


def _read_tools(document: Document) -> ToolsReader:
    """The tools of ``tools``, and those that items add in the middle of the conversation."""
    reader = ToolsReader()
    reader.read(document.get("tools"), "tools")
    items = document.get("input")
    for position, item in enumerate(items if isinstance(items, list) else ()):
        if isinstance(item, dict) and item.get("type") == "additional_tools":
            reader.read(item.get("tools"), f"input[{position}].tools")
    return reader


def _instructions(document: Document) -> list[ir.Message]:
    text = read_string(document, "instructions")
    return [ir.Message(ir.Role.SYSTEM, (ir.Text(text),), "instructions")] if text else []


def _unsaid(document: Document) -> list[str]:
    """Top-level fields and values that only this dialect has."""
    unsaid = [
        key
        for key in document.members
        if key not in _UNDERSTOOD and document.get(key) not in (None, "disabled", [], {})
    ]
    if not set(_strings(document, "include")) <= {ENCRYPTED, LOGPROBS}:
        unsaid.append("include")
    unsaid += [
        f"reasoning.{key}" for key in _object(document, "reasoning") if key not in _REASONING
    ]
    return unsaid


def _sampling(document: Document, *, has_logprobs: bool) -> ir.Sampling:
    """Probabilities are part of an answer only where ``include`` names them."""
    return ir.Sampling(
        temperature=read_number(document, "temperature"),
        top_p=read_number(document, "top_p"),
        logprobs=True if has_logprobs else None,
        top_logprobs=read_integer(document, "top_logprobs", 0) if has_logprobs else None,
    )


def _reasoning(value: dict[str, Json]) -> ir.Reasoning | None:
    effort = text_of(value.get("effort")) or None
    summary = text_of(value.get("summary")) or text_of(value.get("generate_summary")) or None
    return ir.Reasoning(effort=effort, summary=summary) if effort or summary else None


def _json_format(value: Json) -> ir.JsonFormat | None:
    form = object_of(value)
    kind, strict = form.get("type", "text"), form.get("strict")
    if kind == "text":
        return None
    if kind == "json_object":
        return ir.JsonFormat()
    if kind != "json_schema" or not isinstance(form.get("schema"), dict):
        at = "text.format"
        raise InvalidRequest(f"{at} must be text, json_object, or json_schema with a schema", at)
    return ir.JsonFormat(
        form["schema"],
        text_of(form.get("name")) or None,
        text_of(form.get("description")) or None,
        strict if isinstance(strict, bool) else None,
    )


def _metadata(document: Document) -> dict[str, str] | None:
    metadata = _object(document, "metadata")
    return {key: value for key, value in metadata.items() if isinstance(value, str)} or None


def _object(document: Document, key: str) -> dict[str, Json]:
    value = document.get(key)
    if value is not None and not isinstance(value, dict):
        raise InvalidRequest(f"{key} must be an object", key)
    return value or {}


def _strings(document: Document, key: str) -> list[str]:
    value = document.get(key)
    if value is not None and not isinstance(value, list):
        raise InvalidRequest(f"{key} must be a list", key)
    return [entry for entry in value or () if isinstance(entry, str)]
