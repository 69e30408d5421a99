"""Earlier answers of OpenAI responses: ``previous_response_id``, ``conversation`` and ``store``.

Source: OpenAI API reference, "Responses" and "Conversation state".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from serve_app.dialects.earlier_answers import (
    AnswerWatch,
    KeptAnswer,
    Reference,
    StateWish,
)
from serve_app.dialects.json_edits import Document, edit_document, read_object
from serve_app.dialects.json_values import object_of, objects_of, text_of
from serve_app.dialects.sse import iterate_blocks, parse_event
from serve_app.domain import Json
from serve_app.errors import GatewayError, InvalidRequest, ResponseNotFound

PREVIOUS: Final = "previous_response_id"
CONVERSATION: Final = "conversation"

_REFERENCES: Final = frozenset({PREVIOUS, CONVERSATION})
_ENDS: Final = (b"response.completed", b"response.incomplete")
_WHOLE: Final = "send the whole conversation in `input`"


@dataclass(frozen=True, slots=True)
class ResponsesState:
    """What clients of OpenAI responses refer to."""

    def read_wish(self, document: Document) -> StateWish:
        """What a request wants. Raises InvalidRequest."""
        previous, conversation = document.get(PREVIOUS), document.get(CONVERSATION)
        if isinstance(conversation, dict):
            conversation = conversation.get("id")
        if previous is not None and not isinstance(previous, str):
            raise InvalidRequest(f"{PREVIOUS} must be the id of a response", PREVIOUS)
        if conversation is not None and not isinstance(conversation, str):
            message = f"{CONVERSATION} must be the id of a conversation, or an object with `id`"
            raise InvalidRequest(message, CONVERSATION)
        if previous and conversation:
            message = f"{PREVIOUS} and {CONVERSATION} exclude each other; send one of them"
            raise InvalidRequest(message, PREVIOUS)
        reference: Reference | None = None
        if previous:
            reference = Reference(previous, PREVIOUS)
        elif conversation:
            reference = Reference(conversation, CONVERSATION, is_conversation=True)
        return StateWish(reference, keeps=document.get("store") is not False)

    def read_answer(self, body: bytes) -> KeptAnswer | None:
        """The answer in a complete body; None without an id."""
        return _kept(read_object(body) or {})

    def watch(self) -> AnswerWatch:
        """A watch for the last event, which has the whole answer."""
        return ResponseEndWatch()

    def items(self, document: Document) -> tuple[Json, ...] | None:
        """The items of ``input``."""
        value = document.get("input")
        if isinstance(value, str):
            return ({"type": "message", "role": "user", "content": value},)
        return tuple(value) if isinstance(value, list) else ()

    def answer_items(self, answer: Mapping[str, Json]) -> tuple[Json, ...]:
        """The items of ``output``."""
        return tuple(objects_of(answer.get("output")))

    def with_history(
        self, document: Document, items: Sequence[Json], *, keeps_reference: bool
    ) -> Document:
        """The request with the items of its conversation before its own.

        Thoughts of which only an id is known stay out: their provider does not know them either.
        """
        history = [item for item in items if not _is_bare_thought(item)]
        whole = [*history, *(self.items(document) or ())]
        cut = frozenset() if keeps_reference else _REFERENCES
        return edit_document(document, values={"input": whole}, cut=cut)

    def without_thoughts(self, document: Document) -> Document | None:
        """The request without reasoning items; None if it has none."""
        value = document.get("input")
        if not isinstance(value, list):
            return None
        kept = [item for item in value if not _is_thought(item)]
        if len(kept) == len(value):
            return None
        return edit_document(document, values={"input": kept})

    def not_found(self, reference: Reference, why: str) -> GatewayError:
        """The error that clients know by its code ``previous_response_not_found``."""
        kind = "Conversation" if reference.is_conversation else "Previous response"
        message = f"{kind} with id {reference.name!r} not found: {why}; {_WHOLE}"
        return ResponseNotFound(message, reference.param)


class ResponseEndWatch:
    """Looks for the event that ends a response."""

    def feed(self, events: bytes) -> KeptAnswer | None:
        """The answer of the event ``response.completed`` or ``response.incomplete``, if it came."""
        if not any(end in events for end in _ENDS):
            return None
        for block in iterate_blocks(events):
            if any(end in block for end in _ENDS):
                fields = read_object(parse_event(block).data or b"") or {}
                if text_of(fields.get("type")).encode() in _ENDS:
                    return _kept(object_of(fields.get("response")))
        return None


def _kept(answer: dict[str, Json]) -> KeptAnswer | None:
    name, stored = text_of(answer.get("id")), answer.get("store")
    if not name:
        return None
    return KeptAnswer(name, stored if isinstance(stored, bool) else None, answer)


def _is_thought(item: Json) -> bool:
    return isinstance(item, dict) and item.get("type") == "reasoning"


def _is_bare_thought(item: Json) -> bool:
    return _is_thought(item) and not any(
        item.get(key) for key in ("encrypted_content", "content", "summary")
    )
