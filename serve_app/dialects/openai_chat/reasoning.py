"""Where chat completions hold what a model thought, and the proof of it.

OpenAI has no field for it. DeepSeek, Moonshot and most servers of open models write
``reasoning_content``, some ``reasoning``; OpenRouter adds the list ``reasoning_details`` (source:
OpenRouter, "Reasoning tokens"), and Mistral writes parts of type ``thinking`` into ``content``
(source: Mistral, "Reasoning"). Gemini signs a call of a tool in the call's ``extra_content``, and
Gemini 3 refuses the call without it (source: Gemini API, "Thought signatures", "OpenAI").

A provider must get its thoughts back in its own form, or it refuses the request or loses its
thread between tool calls. So the reader packs the form into the signature, even where the provider
signs nothing.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from serve_app.dialects import ir, signatures
from serve_app.dialects.json_values import json_text, object_of, objects_of, text_of
from serve_app.domain import Json

CHAT: Final = "chat"
EXTRA: Final = "extra_content"
"""The key of a call that holds what its provider wants back."""

_FIELDS: Final = ("reasoning_content", "reasoning")
_IN_CONTENT: Final = "thinking"
_OF_CALL: Final = "tool_calls"
_TEXTS: Final = MappingProxyType({"reasoning.text": "text", "reasoning.summary": "summary"})
"""By type of an entry of ``reasoning_details``, the key of its text."""
_ENCRYPTED: Final = "reasoning.encrypted"
_PROOFS: Final = ("signature", "data")
_KEPT: Final = ("format", "id", *_PROOFS)
"""Keys of an entry that its provider wants back."""
_FORMATS: Final = MappingProxyType(
    {"messages": "anthropic-claude-v1", "responses": "openai-responses-v1"}
)


@dataclass(frozen=True, slots=True)
class Thought:
    """A piece of what a model thought, and how its provider writes it."""

    text: str
    form: str
    """A key of the message, ``thinking``, or a type of ``reasoning_details``."""
    kept: Mapping[str, Json] = field(default_factory=dict)
    index: Json = None

    @property
    def is_redacted(self) -> bool:
        """True if there is no text to read."""
        return self.form == _ENCRYPTED

    @property
    def is_signed(self) -> bool:
        """True if the piece holds the provider's proof."""
        return any(key in self.kept for key in _PROOFS)

    @property
    def place(self) -> tuple[str, Json]:
        """Equal for pieces of one part."""
        return self.form, self.index if isinstance(self.index, int | str) else None


def thoughts_in(message: Mapping[str, Json]) -> Iterator[Thought]:
    """What a message or a delta holds of thoughts, except in ``content``."""
    details = [_read_entry(entry) for entry in objects_of(message.get("reasoning_details"))]
    if not any(thought and thought.text for thought in details):  # else it is there twice
        for key in _FIELDS:
            text = text_of(message.get(key))
            if text:
                yield Thought(text, key)
                break
    for thought in details:
        if thought is not None and (thought.text or thought.is_signed):
            yield thought


def _read_entry(entry: Mapping[str, Json]) -> Thought | None:
    kind = text_of(entry.get("type"))
    if kind not in _TEXTS and kind != _ENCRYPTED:
        return None
    kept = {key: value for key in _KEPT if (value := text_of(entry.get(key)))}
    if kind == _ENCRYPTED and "data" not in kept:
        return None
    return Thought(text_of(entry.get(_TEXTS.get(kind, ""))), kind, kept, entry.get("index"))


def thought_of_part(part: Mapping[str, Json]) -> Thought:
    """The thought in a part of type ``thinking`` of a content list."""
    inner = part.get("thinking")
    if isinstance(inner, str):
        return Thought(inner, _IN_CONTENT)
    texts = (text_of(piece.get("text")) for piece in objects_of(inner))
    return Thought("".join(texts), _IN_CONTENT)


def sign(form: str, kept: Mapping[str, Json]) -> str:
    """The signature of thoughts of a chat provider: their form, and what it wants back."""
    return json_text({"in": form, **kept})


def thoughts_of_call(call_id: str, extra: Json) -> Iterator[ir.Thinking]:
    """The ``extra_content`` of a call as hidden thoughts; nothing if there is none."""
    if not object_of(extra):
        return
    try:
        signature = sign(_OF_CALL, {"id": call_id, EXTRA: extra})
    except RecursionError:
        return
    yield ir.Thinking("", signature, CHAT, is_redacted=True)


def extras_of_calls(thoughts: Iterable[ir.Thinking]) -> dict[str, dict[str, Json]]:
    """What calls have in their ``extra_content``, by their ids."""
    opened = (_opened(thinking) for thinking in thoughts if thinking.is_redacted)
    return {
        text_of(packed.get("id")): object_of(packed.get(EXTRA))
        for packed in opened
        if packed["in"] == _OF_CALL
    }


def _opened(thinking: ir.Thinking) -> Mapping[str, Json]:
    """What ``sign`` packed; a signature of another make counts as one of ``reasoning.text``."""
    signature = thinking.signature
    if not signature:
        return {"in": _FIELDS[0]}
    try:
        packed = object_of(json.loads(signature))
    except (ValueError, RecursionError):
        packed = {}
    if text_of(packed.get("in")):
        return packed
    if thinking.is_redacted:
        return {"in": _ENCRYPTED, "data": signature}
    return {"in": "reasoning.text", "signature": signature}


def read_thinking(thought: Thought) -> ir.Thinking:
    """Thoughts that a provider answers."""
    signature = sign(thought.form, thought.kept)
    return ir.Thinking(thought.text, signature, CHAT, is_redacted=thought.is_redacted)


def read_returned(thought: Thought) -> ir.Thinking:
    """Thoughts that a client returns; an envelope names the dialect that they are from."""
    proof = next((thought.kept[key] for key in _PROOFS if key in thought.kept), None)
    envelope = None if proof is None else signatures.unwrap(proof)
    if envelope is not None:
        origin, signature = envelope
        return ir.Thinking(thought.text, signature, origin, is_redacted=thought.is_redacted)
    if thought.form in _FIELDS:
        return ir.Thinking(thought.text, None, CHAT)
    return read_thinking(thought)


def thoughts_for_provider(
    thoughts: Iterable[ir.Thinking],
) -> tuple[dict[str, Json], list[dict[str, Json]]]:
    """Keys of a message that hold thoughts of the chat dialect, and parts for its content list."""
    fields: dict[str, list[str]] = {}
    details: list[Json] = []
    parts: list[dict[str, Json]] = []
    for thinking in thoughts:
        packed = _opened(thinking)
        form = packed["in"]
        if form == _OF_CALL:
            continue  # goes with its call
        if form == _IN_CONTENT:
            parts.append({"type": form, form: [{"type": "text", "text": thinking.text}]})
        elif form in _TEXTS or form == _ENCRYPTED:
            details.append(_entry(thinking.text, packed, len(details)))
        else:
            fields.setdefault(form if form in _FIELDS else _FIELDS[0], []).append(thinking.text)
    keys: dict[str, Json] = {key: "\n\n".join(texts) for key, texts in fields.items()}
    if details:
        keys["reasoning_details"] = details
    return keys, parts


def details_for_client(text: str, thinking: ir.Thinking, index: int) -> dict[str, Json] | None:
    """The entry of ``reasoning_details`` for thoughts; None if they are not signed."""
    signature = thinking.signature
    if not signature:
        return None
    if thinking.origin != CHAT:
        kind = _ENCRYPTED if thinking.is_redacted else "reasoning.text"
        proof = "data" if thinking.is_redacted else "signature"
        envelope = signatures.wrap(thinking.origin, signature)
        packed: Mapping[str, Json] = {"in": kind, proof: envelope, **format_of(thinking)}
    else:
        packed = _opened(thinking)
    is_entry = packed["in"] in _TEXTS or packed["in"] == _ENCRYPTED
    return _entry(text, packed, index) if is_entry else None


def format_of(thinking: ir.Thinking) -> dict[str, Json]:
    """OpenRouter's name of the kind of proof that thoughts of this origin have."""
    return {"format": _FORMATS.get(thinking.origin, "unknown")}


def _entry(text: str, packed: Mapping[str, Json], index: int) -> dict[str, Json]:
    kind = packed["in"]
    entry: dict[str, Json] = {"type": kind}
    if kind in _TEXTS:
        entry[_TEXTS[kind]] = text
    return entry | {key: packed[key] for key in _KEPT if key in packed} | {"index": index}
