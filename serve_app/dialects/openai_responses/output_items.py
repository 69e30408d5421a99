"""The items of an answer's ``output``, which the next request's ``input`` repeats.

Source: OpenAI API reference, "Responses", "The response object".
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from serve_app.dialects import ir
from serve_app.dialects.json_values import count_of, object_of, objects_of, text_of
from serve_app.dialects.signatures import unwrap, wrap
from serve_app.dialects.stable_ids import digest_of
from serve_app.dialects.tool_arguments import arguments_of
from serve_app.domain import Json

ORIGIN: Final = "responses"
"""The name of this dialect in signatures."""

_REDACTED: Final = "redacted:"
"""In the envelope, before the signature of thoughts without a text; no base64 has a colon."""

_LEAST_LOGPROB: Final = -9999.0
"""What OpenAI writes for a probability of zero."""


@dataclass(frozen=True, slots=True)
class CallKind:
    """The names in which one of the two kinds of tool calls differs from the other."""

    item: str
    content: str
    """The key of what the tool gets."""
    prefix: str
    events: str


FUNCTION_CALL: Final = CallKind(
    "function_call", "arguments", "fc", "response.function_call_arguments"
)
CUSTOM_CALL: Final = CallKind("custom_tool_call", "input", "ctc", "response.custom_tool_call_input")
CALLS: Final = {kind.item: kind for kind in (FUNCTION_CALL, CUSTOM_CALL)}


def kind_of(call: ir.ToolCall) -> CallKind:
    """How a call is written."""
    return CUSTOM_CALL if call.is_custom else FUNCTION_CALL


def read_item(item: Mapping[str, Json], position: int) -> tuple[ir.AnswerPart, ...]:
    """The parts of one item; empty if it holds nothing."""
    kind = text_of(item.get("type"))
    if kind == "message":
        return tuple(read_contents(item.get("content")))
    if kind in CALLS:
        return (read_call(item, CALLS[kind], position),)
    if kind == "reasoning":
        thinking = ir.Thinking(thoughts(item), read_signature(item), ORIGIN)
        return (thinking,) if thinking.text or thinking.signature else ()
    return (ir.Foreign(kind),) if kind else ()


def read_contents(content: Json) -> Iterable[ir.Text | ir.Refusal | ir.Foreign]:
    """The parts of an assistant's message; those without a text are left out."""
    if isinstance(content, str):
        content = [{"type": "output_text", "text": content}]
    for part in objects_of(content):
        kind = text_of(part.get("type"))
        if kind == "refusal":
            yield from filter(_has_text, [ir.Refusal(text_of(part.get("refusal")))])
        elif "text" in part:
            text = text_of(part["text"])
            read = ir.Text(text, read_citations(part), read_logprobs(part.get("logprobs")))
            yield from filter(_has_text, [read])
        elif kind:
            yield ir.Foreign(kind)


def _has_text(part: ir.Text | ir.Refusal) -> bool:
    return bool(part.text)


def read_call(item: Mapping[str, Json], kind: CallKind, position: int) -> ir.ToolCall:
    """A call of a client's tool; servers that name it by ``id`` alone are understood."""
    call_id = text_of(item.get("call_id")) or text_of(item.get("id")) or f"call_{position}"
    return ir.ToolCall(
        call_id,
        text_of(item.get("name")),
        arguments_of(item.get(kind.content)),
        is_custom=kind is CUSTOM_CALL,
        namespace=text_of(item.get("namespace")) or None,
    )


def thoughts(item: Mapping[str, Json]) -> str:
    """What a reasoning item shows: the thoughts if it has them, else their summary."""
    for key in ("content", "summary"):
        texts = [text_of(part.get("text")) for part in objects_of(item.get(key))]
        if any(texts):
            return "\n\n".join(filter(None, texts))
    return ""


def read_signature(item: Mapping[str, Json]) -> str | None:
    """The proof in a reasoning item of a provider: the item's id and its encrypted content."""
    encrypted = text_of(item.get("encrypted_content"))
    if not encrypted:
        return None
    return json.dumps({"id": text_of(item.get("id")), "encrypted_content": encrypted})


def restore_signed(thinking: ir.Thinking) -> dict[str, Json] | None:
    """The reasoning item that a provider of this dialect sent; None without its proof."""
    if thinking.origin != ORIGIN or not thinking.signature:
        return None
    try:
        signed = object_of(json.loads(thinking.signature))
    except (ValueError, RecursionError):
        return None
    if not text_of(signed.get("encrypted_content")):
        return None
    item = reasoning_item(text_of(signed.get("id")), thinking.text, None)
    item["encrypted_content"] = signed["encrypted_content"]
    if not item["id"]:
        del item["id"]
    return item


def read_client_thinking(item: Mapping[str, Json]) -> ir.Thinking:
    """The thoughts that a client sends back, with the proof of whichever provider made it."""
    text, encrypted = thoughts(item), text_of(item.get("encrypted_content"))
    enveloped = unwrap(encrypted)
    if enveloped is None:
        return ir.Thinking(text, read_signature(item), ORIGIN)
    origin, signature = enveloped
    is_redacted = signature.startswith(_REDACTED)
    return ir.Thinking(text, signature.removeprefix(_REDACTED), origin, is_redacted)


def read_citations(part: Mapping[str, Json]) -> tuple[ir.Citation, ...]:
    """The web sources of a text."""
    read = (read_citation(annotation) for annotation in objects_of(part.get("annotations")))
    return tuple(citation for citation in read if citation is not None)


def read_citation(annotation: Mapping[str, Json]) -> ir.Citation | None:
    """A web source; None for an annotation of another kind."""
    url = text_of(annotation.get("url"))
    if annotation.get("type") != "url_citation" or not url:
        return None
    start, end = count_of(annotation.get("start_index")), count_of(annotation.get("end_index"))
    return ir.Citation(url, text_of(annotation.get("title")), start, end)


def read_logprobs(value: Json) -> tuple[Json, ...]:
    """The probabilities of tokens."""
    return tuple(objects_of(value))


def item_id(prefix: str, response_id: str, index: int) -> str:
    """The id of an item: the same for the same answer, and short, as the API limits ids to 64."""
    return f"{prefix}_{digest_of(response_id, 32)}{index:04x}"


def text_content(
    text: str, citations: Sequence[ir.Citation] = (), logprobs: Iterable[Json] = ()
) -> dict[str, Json]:
    """A text of the model."""
    return {
        "type": "output_text",
        "text": text,
        "annotations": [annotation(citation) for citation in citations],
        "logprobs": write_logprobs(logprobs),
    }


def refusal_content(text: str) -> dict[str, Json]:
    """A refusal of the model."""
    return {"type": "refusal", "refusal": text}


def annotation(citation: ir.Citation) -> dict[str, Json]:
    """A web source; the API requires both indexes, so unknown ones are 0."""
    return {
        "type": "url_citation",
        "url": citation.url,
        "title": citation.title,
        "start_index": citation.start or 0,
        "end_index": citation.end or 0,
    }


def write_logprobs(logprobs: Iterable[Json]) -> list[Json]:
    """Probabilities with every field that the API promises."""
    return [
        {**_logprob(entry), "top_logprobs": [_logprob(top) for top in tops]}
        for entry in objects_of(list(logprobs))
        for tops in (objects_of(entry.get("top_logprobs")),)
    ]


def _logprob(entry: Mapping[str, Json]) -> dict[str, Json]:
    token, logprob, raw = text_of(entry.get("token")), entry.get("logprob"), entry.get("bytes")
    if not isinstance(logprob, int | float) or not math.isfinite(logprob):
        logprob = _LEAST_LOGPROB  # JSON has no infinity
    if not isinstance(raw, list):
        raw = list(token.encode("utf-8", "surrogatepass"))
    return {"token": token, "bytes": raw, "logprob": logprob}


def message_item(item_id: str, content: list[Json], status: str) -> dict[str, Json]:
    """A message of the model."""
    return {
        "id": item_id,
        "type": "message",
        "status": status,
        "role": "assistant",
        "content": content,
    }


def call_item(item_id: str, call: ir.ToolCall, content: str, status: str) -> dict[str, Json]:
    """A call of a client's tool, which gets ``content``."""
    kind = kind_of(call)
    item: dict[str, Json] = {
        "id": item_id,
        "type": kind.item,
        "status": status,
        "call_id": call.id or item_id.replace(kind.prefix, "call", 1),
        "name": call.name,
        kind.content: content,
    }
    if call.namespace:
        item["namespace"] = call.namespace
    return item


def whole_arguments(call: ir.ToolCall, arguments: str) -> str:
    """What a tool gets; clients parse the arguments of a function even if there are none."""
    return arguments if call.is_custom or arguments.strip() else f"{arguments}{{}}"


def reasoning_item(item_id: str, text: str, signed: ir.Thinking | None) -> dict[str, Json]:
    """Thoughts for a client, with the proof of ``signed`` in its envelope.

    The API encrypts the thoughts of every answer, so the proof is there unasked.
    """
    summary = [{"type": "summary_text", "text": text}] if text else []
    item: dict[str, Json] = {"id": item_id, "type": "reasoning", "summary": summary}
    if signed is not None and signed.signature:
        item["encrypted_content"] = _encrypted(signed, signed.signature)
    return item


def _encrypted(thinking: ir.Thinking, signature: str) -> str:
    if thinking.origin == ORIGIN:
        restored = restore_signed(thinking)
        return text_of(restored["encrypted_content"]) if restored else signature
    return wrap(thinking.origin, (_REDACTED if thinking.is_redacted else "") + signature)
