"""Complete answers: read from an Anthropic provider, written for an Anthropic client.

Source: Anthropic API reference, "Messages", object ``Message``.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from serve_app.dialects import ir
from serve_app.dialects.anthropic_messages.arguments import read_arguments, write_arguments
from serve_app.dialects.anthropic_messages.errors import failure_in
from serve_app.dialects.anthropic_messages.read_blocks import DIALECT, read_citations
from serve_app.dialects.anthropic_messages.usage import read_usage, write_usage
from serve_app.dialects.json_values import object_of, text_of
from serve_app.dialects.protocol import Written
from serve_app.dialects.signatures import wrap
from serve_app.dialects.stable_ids import id_of_call
from serve_app.domain import Json

_FINISHES: Final[Mapping[str, ir.Finish]] = {
    "end_turn": ir.Finish.STOP,
    "stop_sequence": ir.Finish.STOP_SEQUENCE,
    "max_tokens": ir.Finish.LENGTH,
    "model_context_window_exceeded": ir.Finish.CONTEXT_FULL,
    "tool_use": ir.Finish.TOOL_CALLS,
    "refusal": ir.Finish.REFUSED,
    "pause_turn": ir.Finish.PAUSED,
    "compaction": ir.Finish.PAUSED,
}
_REASONS: Final[Mapping[ir.Finish, str]] = {
    ir.Finish.STOP: "end_turn",
    ir.Finish.STOP_SEQUENCE: "stop_sequence",
    ir.Finish.LENGTH: "max_tokens",
    ir.Finish.CONTEXT_FULL: "model_context_window_exceeded",
    ir.Finish.TOOL_CALLS: "tool_use",
    ir.Finish.FILTERED: "refusal",
    ir.Finish.REFUSED: "refusal",
    ir.Finish.PAUSED: "pause_turn",
}
_DONE: Final = (ir.Finish.STOP, ir.Finish.STOP_SEQUENCE)


def read_answer(answer: Mapping[str, Json]) -> ir.Answer:
    """The answer of a provider. Raises ValueError if it is not a message."""
    content = answer.get("content")
    if not isinstance(content, list):
        raise ValueError("the answer has no content list")  # noqa: TRY004 - as promised
    failure = failure_in(answer)
    if failure is not None:
        raise ValueError(failure.message)
    identity = text_of(answer.get("id"))
    try:
        parts = [read_part(block, identity, at) for at, block in enumerate(content)]
    except RecursionError:
        raise ValueError("the answer is nested too deeply") from None
    usage = object_of(answer.get("usage"))
    calls = any(isinstance(part, ir.ToolCall) for part in parts)
    finish = read_finish(answer.get("stop_reason"), calls=calls)
    refusal = read_refusal(answer, finish)
    return ir.Answer(
        id=identity,
        model=text_of(answer.get("model")),
        parts=(*parts, *([] if refusal is None else [refusal])),
        finish=finish,
        stop_sequence=text_of(answer.get("stop_sequence")) or None,
        usage=read_usage(usage),
        service_tier=text_of(usage.get("service_tier")) or None,
    )


def read_part(block: Json, answer_id: str, position: int) -> ir.AnswerPart:
    """The part that a block of an answer is."""
    fields = object_of(block)
    kind = text_of(fields.get("type"))
    match kind:
        case "text":
            return ir.Text(text_of(fields.get("text")), read_citations(fields.get("citations")))
        case "thinking":
            signature = text_of(fields.get("signature")) or None
            return ir.Thinking(text_of(fields.get("thinking")), signature, DIALECT)
        case "redacted_thinking":
            data = text_of(fields.get("data"))
            return ir.Thinking("", data, DIALECT, is_redacted=True)
        case "tool_use":
            identity = text_of(fields.get("id")) or call_id(answer_id, position)
            arguments = read_arguments(fields.get("input"))
            return ir.ToolCall(identity, text_of(fields.get("name")), arguments)
        case _:
            return ir.Foreign(kind or "unknown")


def call_id(answer_id: str, position: int) -> str:
    """An id for a call that its provider gave none; the same whenever the answer is read."""
    return id_of_call("toolu_", answer_id.removeprefix("msg_"), position)


def read_finish(reason: Json, *, calls: bool) -> ir.Finish:
    """Why an answer ended. ``calls``: it has tool calls, which some servers forget to say."""
    finish = _FINISHES.get(text_of(reason), ir.Finish.STOP)
    return ir.Finish.TOOL_CALLS if calls and finish is ir.Finish.STOP else finish


def read_refusal(fields: Mapping[str, Json], finish: ir.Finish) -> ir.Refusal | None:
    """Why the model declined; None if it did not, or the provider does not say."""
    explanation = text_of(object_of(fields.get("stop_details")).get("explanation"))
    return ir.Refusal(explanation) if explanation and finish is ir.Finish.REFUSED else None


def write_answer(answer: ir.Answer, request: ir.Request) -> Written:
    """The answer for a client, and what was left out of it."""
    dropped: dict[str, None] = {}
    content: list[Json] = []
    for position, part in enumerate(answer.parts):
        block = _block(part, answer.id, position)
        if block is not None:
            content.append(block)
        if isinstance(part, ir.Foreign):
            dropped[part.kind] = None
        elif isinstance(part, ir.Text) and part.citations:
            dropped["citations"] = None
    refusals = [part.text for part in answer.parts if isinstance(part, ir.Refusal)]
    body = {
        **message_head(answer.id, answer.model),
        "content": content,
        **write_finish(answer.finish, answer.stop_sequence, request, refusals=refusals),
        "usage": write_usage(answer.usage, answer.service_tier),
    }
    return Written(body, tuple(dropped))


def message_head(answer_id: str, model: str) -> dict[str, Json]:
    """The fields of a message that are known when it begins."""
    identity = answer_id if answer_id.startswith("msg_") else f"msg_{answer_id}"
    return {
        "id": identity,
        "type": "message",
        "role": "assistant",
        "model": model,
        "container": None,
    }


def write_finish(
    finish: ir.Finish,
    stop_sequence: str | None,
    request: ir.Request,
    *,
    refusals: Iterable[str],
) -> dict[str, Json]:
    """The fields that say why an answer ended. ``refusals``: the texts in which it declines."""
    explanation = "".join(refusals) or None
    if explanation and finish in _DONE:
        finish = ir.Finish.REFUSED
    if finish is ir.Finish.STOP_SEQUENCE and stop_sequence is None and len(request.stop) == 1:
        stop_sequence = request.stop[0]
    reason = _REASONS[finish]
    details = {"type": "refusal", "category": None, "explanation": explanation}
    return {
        "stop_reason": reason,
        "stop_sequence": stop_sequence if reason == "stop_sequence" else None,
        "stop_details": details if reason == "refusal" else None,
    }


def write_signature(thinking: ir.Thinking) -> str:
    """A signature for a client: in an envelope if it belongs to another dialect."""
    if not thinking.signature:
        return ""
    own = thinking.origin in ("", DIALECT)
    return thinking.signature if own else wrap(thinking.origin, thinking.signature)


def _block(part: ir.AnswerPart, answer_id: str, position: int) -> Json:
    """The block of a part; None for one that has none.

    A blank text is left out, because the API refuses it when the client sends it back.
    """
    match part:
        case ir.Text(text=text) | ir.Refusal(text=text):
            return {"type": "text", "text": text, "citations": None} if text.strip() else None
        case ir.ToolCall():
            return {
                "type": "tool_use",
                "id": part.id or call_id(answer_id, position),
                "name": part.name,
                "input": write_arguments(part.arguments),
            }
        case ir.Thinking(is_redacted=True):
            data = write_signature(part)
            return {"type": "redacted_thinking", "data": data} if data else None
        case ir.Thinking(text=text):
            signature = write_signature(part)
            if not text and not signature:
                return None
            return {"type": "thinking", "thinking": text, "signature": signature}
        case ir.Foreign():
            return None
