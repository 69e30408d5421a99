"""A chat client's request as ``ir.Request``.

Source: OpenAI API reference, "Chat", "Create chat completion"; ``reasoning`` as OpenRouter has it.
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final

from serve_app.dialects import ir
from serve_app.dialects.fields import GATEWAY_KEYS, PLANO_METADATA_KEYS, read_stream
from serve_app.dialects.json_edits import Document
from serve_app.dialects.json_values import count_of, object_of, text_of
from serve_app.dialects.openai_chat.read_messages import MessageList
from serve_app.dialects.openai_chat.reasoning import CHAT
from serve_app.dialects.openai_chat.tools import read_tool_choice, read_tools
from serve_app.dialects.plain_fields import read_boolean, read_integer, read_number, read_string
from serve_app.domain import Json
from serve_app.errors import InvalidRequest

_EFFORTS: Final = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
_LIMITS: Final = ("max_completion_tokens", "max_tokens")
_USERS: Final = ("user", "safety_identifier")
_TEXT_ONLY: Final[tuple[Json, ...]] = (["text"], [])
_UNDERSTOOD: Final = (
    GATEWAY_KEYS
    | {*_LIMITS, *_USERS}
    | {"model", "messages", "stream", "stream_options", "n", "modalities", "web_search_options"}
    | {"tools", "tool_choice", "parallel_tool_calls", "functions", "function_call", "stop"}
    | {"temperature", "top_p", "top_k", "seed", "frequency_penalty", "presence_penalty"}
    | {"logit_bias", "logprobs", "top_logprobs", "response_format", "reasoning_effort"}
    | {"reasoning", "verbosity", "metadata", "service_tier", "prompt_cache_key", "store"}
)


def read_request(document: Document) -> ir.Request:
    """The request of a chat client. Raises InvalidRequest that names the field."""
    _check_answer_kind(document)
    messages = MessageList()
    tools, server_tools = read_tools(document)
    is_legacy = document.get("functions") is not None and document.get("tools") is None
    metadata, lost = _metadata(document.get("metadata"))
    limit, max_output_tokens = _limit(document)
    user, other_user = _user(document)
    usage = object_of(document.get("stream_options")).get("include_usage")
    names = {
        "json_format": "response_format",
        "include_usage": "stream_options.include_usage",
        "max_output_tokens": limit,
        "user": user,
        "reasoning": "reasoning_effort" if document.get("reasoning") is None else "reasoning",
    }
    if is_legacy:
        names |= {"tools": "functions", "tool_choice": "function_call"}
    return ir.Request(
        dialect=CHAT,
        messages=messages.read(document.get("messages")),
        tools=tools,
        server_tools=server_tools,
        tool_choice=read_tool_choice(document),
        # an answer has room for one call only where the client speaks of functions
        parallel_tool_calls=False if is_legacy else read_boolean(document, "parallel_tool_calls"),
        max_output_tokens=max_output_tokens,
        stop=_stop(document.get("stop")),
        sampling=_sampling(document),
        reasoning=_reasoning(document),
        json_format=_json_format(document.get("response_format")),
        verbosity=read_string(document, "verbosity"),
        user=read_string(document, user),
        metadata=metadata,
        service_tier=read_string(document, "service_tier"),
        prompt_cache_key=read_string(document, "prompt_cache_key"),
        store=read_boolean(document, "store"),
        stream=read_stream(document),
        include_usage=usage is True,
        unsaid=(*_unknown(document), *other_user, *lost, *messages.unsaid),
        names=MappingProxyType(names),
    )


def _check_answer_kind(document: Document) -> None:
    """Refuses what asks for another kind of answer than one text."""
    choices = document.get("n")
    if choices is not None and count_of(choices) != 1:
        why = "the provider's dialect gives one answer per request; send n: 1, or several requests"
        raise InvalidRequest(f"n: {why}", "n")
    modalities = document.get("modalities")
    if modalities is not None and modalities not in _TEXT_ONLY:
        why = 'the provider\'s dialect answers in text only; send ["text"], or leave it out'
        raise InvalidRequest(f"modalities: {why}", "modalities")


def _unknown(document: Document) -> Iterator[str]:
    for key, member in document.members.items():
        if key not in _UNDERSTOOD and member.value is not None:
            yield key


def _limit(document: Document) -> tuple[str, int | None]:
    """The client's name of the limit of output tokens, and the limit."""
    key = next((key for key in _LIMITS if document.get(key) is not None), _LIMITS[0])
    return key, read_integer(document, key, 1)


def _user(document: Document) -> tuple[str, tuple[str, ...]]:
    """The key that names the end user, and those that are left out beside it."""
    keys = [key for key in _USERS if document.get(key) is not None]
    return (keys[0], tuple(keys[1:])) if keys else (_USERS[0], ())


def _metadata(value: Json) -> tuple[Mapping[str, str] | None, tuple[str, ...]]:
    """The metadata that are for the provider, and the paths of those that are not strings."""
    if value is None:
        return None, ()
    if not isinstance(value, dict):
        raise InvalidRequest("metadata must be an object", "metadata")
    others = {key: item for key, item in value.items() if key not in PLANO_METADATA_KEYS}
    texts = {key: item for key, item in others.items() if isinstance(item, str)}
    return texts or None, tuple(f"metadata.{key}" for key in others if key not in texts)


def _stop(value: Json) -> tuple[str, ...]:
    sequences = [value] if isinstance(value, str) else value
    if sequences is None:
        return ()
    if not isinstance(sequences, list) or not all(isinstance(item, str) for item in sequences):
        raise InvalidRequest("stop must be a string or a list of strings", "stop")
    return tuple(item for item in sequences if item)


def _sampling(document: Document) -> ir.Sampling:
    bias = document.get("logit_bias")
    if bias is not None and not isinstance(bias, dict):
        raise InvalidRequest("logit_bias must be an object", "logit_bias")
    return ir.Sampling(
        temperature=read_number(document, "temperature"),
        top_p=read_number(document, "top_p"),
        top_k=read_integer(document, "top_k"),
        seed=read_integer(document, "seed"),
        frequency_penalty=read_number(document, "frequency_penalty"),
        presence_penalty=read_number(document, "presence_penalty"),
        logit_bias=bias or None,
        logprobs=read_boolean(document, "logprobs"),
        top_logprobs=read_integer(document, "top_logprobs"),
    )


def _reasoning(document: Document) -> ir.Reasoning | None:
    """``reasoning_effort``, or the object ``reasoning``, whose fields win."""
    effort = document.get("reasoning_effort")
    at = "reasoning_effort"
    fields = document.get("reasoning")
    if fields is not None and not isinstance(fields, dict):
        raise InvalidRequest("reasoning must be an object", "reasoning")
    fields = fields or {}
    if fields.get("effort") is not None:
        effort, at = fields["effort"], "reasoning.effort"
    if effort is not None and effort not in _EFFORTS:
        raise InvalidRequest(f"{at} must be one of {', '.join(_EFFORTS)}", at)
    enabled, budget = fields.get("enabled"), count_of(fields.get("max_tokens"))
    read = ir.Reasoning(
        enabled=enabled if isinstance(enabled, bool) else None,
        effort=text_of(effort) or None,
        budget_tokens=budget or None,
        summary="none" if fields.get("exclude") is True else None,
    )
    return None if read == ir.Reasoning() else read


def _json_format(value: Json) -> ir.JsonFormat | None:
    if value is None:
        return None
    kind = object_of(value).get("type")
    if kind == "text":
        return None
    if kind == "json_object":
        return ir.JsonFormat()
    if kind != "json_schema":
        why = "must be text, json_object or json_schema; use one of these"
        raise InvalidRequest(f"response_format.type {why}", "response_format.type")
    form = object_of(value.get("json_schema"))
    schema, strict = form.get("schema"), form.get("strict")
    if schema is not None and not isinstance(schema, dict):
        at = "response_format.json_schema.schema"
        raise InvalidRequest(f"{at} must be an object", at)
    return ir.JsonFormat(
        schema=schema,
        name=text_of(form.get("name")) or None,
        description=text_of(form.get("description")) or None,
        strict=strict if isinstance(strict, bool) else None,
    )
