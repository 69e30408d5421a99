"""Message threads: the messages before stay with the provider that has the thread.

Source: Anthropic API reference, "Messages", field ``thread`` (beta message-threads-2026-08-12).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from serve_app.dialects.earlier_answers import AnswerWatch, KeptAnswer, Reference, StateWish
from serve_app.dialects.json_edits import Document, read_object
from serve_app.dialects.json_values import object_of, text_of
from serve_app.dialects.sse import iterate_events
from serve_app.domain import Json
from serve_app.errors import GatewayError, ThreadNotFound

_PREVIOUS: Final = "previous_message_id"
_START, _STOP = b"message_start", b"message_stop"
_STOPPED: Final = re.compile(rb'"type"\s*:\s*"message_stop"')


@dataclass(frozen=True, slots=True)
class MessagesState:
    """Which thread a request continues. The gateway keeps no messages itself."""

    def read_wish(self, document: Document) -> StateWish:
        """What a request wants; without ``thread`` it wants nothing."""
        thread = document.get("thread")
        previous = text_of(object_of(thread).get(_PREVIOUS))
        reference = Reference(previous, f"thread.{_PREVIOUS}") if previous else None
        return StateWish(reference, keeps=isinstance(thread, dict))

    def read_answer(self, body: bytes) -> KeptAnswer | None:
        """The message in a complete body; None without an id."""
        return _kept(read_object(body) or {})

    def watch(self) -> AnswerWatch:
        """A watch for the id in the first event."""
        return MessageIdWatch()

    def items(self, document: Document) -> tuple[Json, ...] | None:
        """Nothing: the provider alone keeps threads."""
        del document
        return None

    def answer_items(self, answer: Mapping[str, Json]) -> tuple[Json, ...]:
        """Nothing, as above."""
        del answer
        return ()

    def with_history(
        self, document: Document, items: Sequence[Json], *, keeps_reference: bool
    ) -> Document:
        """The request as it is, as above."""
        del items, keeps_reference
        return document

    def without_thoughts(self, document: Document) -> Document | None:
        """Nothing: the clients of this dialect leave thoughts out by themselves when refused."""
        del document
        return None

    def not_found(self, reference: Reference, why: str) -> GatewayError:
        """The error after which the official SDKs send the whole conversation."""
        message = f"thread: {why}; send the whole conversation without `thread`"
        return ThreadNotFound(message, reference.param)


class MessageIdWatch:
    """Takes the id from the first event of a stream, and waits for the last one."""

    def __init__(self) -> None:
        self._kept: KeptAnswer | None = None

    def feed(self, events: bytes) -> KeptAnswer | None:
        """The message, once it is complete."""
        if self._kept is None and _START in events:
            for event in iterate_events(events):
                message = object_of((read_object(event.data or b"") or {}).get("message"))
                self._kept = self._kept or _kept(message)
        ended = _STOP in events and _STOPPED.search(events) is not None
        return self._kept if ended else None


def _kept(message: dict[str, Json]) -> KeptAnswer | None:
    name = text_of(message.get("id"))
    return KeptAnswer(name, is_stored=True, answer=None) if name else None
