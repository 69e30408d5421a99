"""Complete answers: the object ``Response``.

Source: OpenAI API reference, "Responses", "The response object".
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final, TypeAlias
from uuid import uuid4

from serve_app.dialects import ir
from serve_app.dialects.json_values import object_of, seconds_of, text_of
from serve_app.dialects.openai_responses.output_items import (
    call_item,
    item_id,
    kind_of,
    message_item,
    read_item,
    reasoning_item,
    refusal_content,
    text_content,
    whole_arguments,
)
from serve_app.dialects.openai_usage import UsageNames
from serve_app.dialects.protocol import Written
from serve_app.domain import Json

ECHO_DEFAULTS: Final[Mapping[str, Json]] = {
    "background": False,
    "conversation": None,
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "reasoning": {"effort": None, "summary": None},
    "safety_identifier": None,
    "store": True,
    "temperature": 1.0,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
}
"""Fields of a request that its answer repeats, and what the API says where they are missing."""

USAGE: Final = UsageNames("input_tokens", "output_tokens")

DECLINED: Final = "The model declined to answer."
"""The refusal where a provider reports one without words."""

_SERVICE_TIERS: Final = {"auto", "default", "flex", "scale", "priority", "fast", "ultrafast"}
_FAILED: Final = {"failed", "cancelled", "queued", "in_progress"}
_INCOMPLETE: Final[Mapping[ir.Finish, str]] = {
    ir.Finish.LENGTH: "max_output_tokens",
    ir.Finish.CONTEXT_FULL: "max_output_tokens",
    ir.Finish.PAUSED: "max_output_tokens",  # the closest: the answer is not whole, ask again
    ir.Finish.FILTERED: "content_filter",
}

_Said: TypeAlias = ir.Text | ir.Refusal


def read_answer(answer: Mapping[str, Json]) -> ir.Answer:
    """The answer of a provider. Raises ValueError if it is not complete."""
    output, status, error = answer.get("output"), text_of(answer.get("status")), answer.get("error")
    if status in _FAILED or error:
        raise ValueError(text_of(object_of(error).get("message")) or f"the answer is {status}")
    if not isinstance(output, list):
        raise ValueError("the answer has no `output`")  # noqa: TRY004 - of the provider's JSON
    parts = tuple(
        part
        for position, item in enumerate(output)
        for part in read_item(object_of(item), position)
    )
    return ir.Answer(
        id=text_of(answer.get("id")),
        model=text_of(answer.get("model")),
        parts=parts,
        finish=read_finish(answer, parts),
        usage=USAGE.read(answer.get("usage")),
        created=seconds_of(answer.get("created_at")),
        service_tier=text_of(answer.get("service_tier")) or None,
    )


def read_finish(response: Mapping[str, Json], parts: Iterable[ir.AnswerPart]) -> ir.Finish:
    """Why an answer with these parts ended."""
    if response.get("status") == "incomplete":
        reason = object_of(response.get("incomplete_details")).get("reason")
        return ir.Finish.FILTERED if reason == "content_filter" else ir.Finish.LENGTH
    kinds = {type(part) for part in parts}
    if ir.ToolCall in kinds:
        return ir.Finish.TOOL_CALLS
    return ir.Finish.REFUSED if ir.Refusal in kinds else ir.Finish.STOP


def write_answer(answer: ir.Answer, request: ir.Request) -> Written:
    """The answer for a client."""
    frame = response_frame(request, answer)
    output = _output(answer, frame["id"])
    body = close_response(frame, answer.finish, output, answer.usage)
    foreign = [part.kind for part in answer.parts if isinstance(part, ir.Foreign)]
    return Written(body, tuple(dict.fromkeys(foreign)))


def response_frame(request: ir.Request, head: ir.Answer | ir.Started) -> dict[str, Json]:
    """A Response in progress, with what the API repeats of the request."""
    echoed = {key: _echo(request, key, default) for key, default in ECHO_DEFAULTS.items()}
    tier = head.service_tier if isinstance(head, ir.Answer) else None
    return {
        "id": _response_id(head.id),
        "object": "response",
        "created_at": int(time.time()) if head.created is None else head.created,
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "model": head.model,
        "output": [],
        **echoed,
        "service_tier": tier if tier in _SERVICE_TIERS else None,
        "usage": None,
    }


def _echo(request: ir.Request, key: str, default: Json) -> Json:
    value = request.echo.get(key)
    if value is None:
        return default
    if key == "conversation" and isinstance(value, str):
        return {"id": value}
    if key in ("text", "reasoning") and isinstance(value, dict):
        return {**default, **value}
    return value


def _response_id(answer_id: str) -> str:
    """The id that a client sees; unique also where the provider sends none."""
    if answer_id.startswith("resp_"):
        return answer_id
    return f"resp_{answer_id or uuid4().hex}"


def close_response(
    frame: Mapping[str, Json],
    finish: ir.Finish,
    output: Sequence[Json],
    usage: ir.Usage | None,
) -> dict[str, Json]:
    """The Response at its end."""
    reason = _INCOMPLETE.get(finish)
    return {
        **frame,
        "status": "incomplete" if reason else "completed",
        "incomplete_details": {"reason": reason} if reason else None,
        "output": list(output),
        "usage": None if usage is None else write_usage(usage),
    }


def write_usage(usage: ir.Usage) -> dict[str, Json]:
    """Tokens with every field that the API promises."""
    return USAGE.write(usage if usage.reasoning else replace(usage, reasoning=0))


def _output(answer: ir.Answer, response_id: str) -> list[Json]:
    """The items of an answer; texts and refusals in a row are one message."""
    output: list[Json] = []
    said: list[_Said] = []
    parts = list(answer.parts)
    refused = any(isinstance(part, ir.Refusal) for part in parts)
    if answer.finish is ir.Finish.REFUSED and not refused:
        parts.append(ir.Refusal(DECLINED))
    for part in parts:
        if isinstance(part, ir.Text | ir.Refusal):
            said.append(part)
        elif not isinstance(part, ir.Foreign):
            output += _messages(said, response_id, len(output))
            said = []
            output.append(_item(part, response_id, len(output)))
    return output + _messages(said, response_id, len(output))


def _messages(said: Sequence[_Said], response_id: str, index: int) -> list[Json]:
    if not said:
        return []
    content: list[Json] = [
        text_content(part.text, part.citations, part.logprobs)
        if isinstance(part, ir.Text)
        else refusal_content(part.text)
        for part in said
    ]
    return [message_item(item_id("msg", response_id, index), content, "completed")]


def _item(part: ir.ToolCall | ir.Thinking, response_id: str, index: int) -> dict[str, Json]:
    if isinstance(part, ir.Thinking):
        return reasoning_item(item_id("rs", response_id, index), part.text, part)
    call_id = item_id(kind_of(part).prefix, response_id, index)
    return call_item(call_id, part, whole_arguments(part, part.arguments), "completed")
