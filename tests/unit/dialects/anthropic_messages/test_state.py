"""Message threads, which only their provider has."""

import json
from typing import Any

import pytest

from serve_app.dialects.anthropic_messages.state import MessagesState
from serve_app.dialects.earlier_answers import KeptAnswer, Reference, StateWish
from serve_app.dialects.json_edits import Document, read_document
from serve_app.errors import ThreadNotFound

STATE = MessagesState()
KEPT = KeptAnswer("msg_1", is_stored=True, answer=None)


def _document(**fields: Any) -> Document:
    return read_document(json.dumps(fields).encode(), unique=frozenset())


@pytest.mark.parametrize(
    ("thread", "wish"),
    [
        (None, StateWish(None, keeps=False)),
        ("x", StateWish(None, keeps=False)),
        ({"type": "create"}, StateWish(None, keeps=True)),
        (
            {"type": "continue", "previous_message_id": "msg_1"},
            StateWish(Reference("msg_1", "thread.previous_message_id"), keeps=True),
        ),
    ],
)
def test_wish_is_that_of_the_thread(thread: Any, wish: StateWish) -> None:
    """Only requests of a thread refer to a message, or are referred to."""
    assert STATE.read_wish(_document(thread=thread)) == wish


def test_message_is_known_by_its_id() -> None:
    """The provider keeps it; the gateway does not."""
    assert STATE.read_answer(b'{"id":"msg_1"}') == KEPT
    assert STATE.read_answer(b"{}") is None


def test_watch_returns_the_message_with_its_last_event() -> None:
    """The id is in the first event, and the message counts once the last one came."""
    start = b'event: message_start\ndata: {"type":"message_start","message":{"id":"msg_1"}}\n\n'
    text = b'event: content_block_delta\ndata: {"delta":{"text":"message_stop"}}\n\n'
    stop = b'event: message_stop\ndata: {"type": "message_stop"}\n\n'
    watch = STATE.watch()
    assert [watch.feed(events) for events in (start, text, stop)] == [None, None, KEPT]
    assert STATE.watch().feed(b": ping\n\n" + start + stop) == KEPT
    assert STATE.watch().feed(stop) is None


def test_gateway_keeps_no_messages() -> None:
    """Nothing is put into a request or taken out of it."""
    document = _document(messages=[])
    assert STATE.items(document) is None
    assert STATE.answer_items({}) == ()
    assert STATE.with_history(document, [], keeps_reference=False) is document
    assert STATE.without_thoughts(document) is None


def test_missing_thread_is_an_error_that_sdks_know() -> None:
    """The SDK sends the whole conversation after it."""
    error = STATE.not_found(Reference("msg_1", "thread.previous_message_id"), "it is not here")
    assert isinstance(error, ThreadNotFound)
    assert error.status == 404
    assert "without `thread`" in str(error)
