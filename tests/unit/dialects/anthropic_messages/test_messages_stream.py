"""How far a stream of Anthropic messages has come."""

import json
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.dialects.anthropic_messages.errors import MessagesErrors
from serve_app.dialects.anthropic_messages.stream import MessagesWatch
from serve_app.dialects.pipe import PassThrough
from serve_app.dialects.protocol import StreamState
from serve_app.dialects.registry import error_dialect
from serve_app.dialects.sse import MAX_HELD_BYTES
from serve_app.domain import Json
from serve_app.errors import UpstreamTimeout
from tests.unit.dialects.streams import event_streams, json_values, named, unnamed, watch_stream
from tests.unit.fakes import pieces

PREAMBLE, SPEAKING = StreamState.PREAMBLE, StreamState.SPEAKING
COMPLETE, EMPTY, FAILED = StreamState.COMPLETE, StreamState.EMPTY, StreamState.FAILED
USAGE = {"input_tokens": 3, "output_tokens": 1}
START = named("message_start", message={"id": "msg_1", "content": [], "usage": USAGE})
PING = named("ping")
COMMENT = ": keep-alive\n\n"
WORD = named("content_block_delta", index=0, delta={"type": "text_delta", "text": "Hé"})
QUOTED = named("content_block_delta", index=0, delta={"text": "message_stop error"})
STOPPED = named("content_block_stop", index=0)
DELTA = named("message_delta", delta={"stop_reason": "end_turn"}, usage=USAGE)
STOP = named("message_stop")
BROKEN = named("message_delta", delta={"stop_reason": "error"}, usage=USAGE)
REPORTED = named(
    "message_delta",
    delta={"stop_reason": "error", "error": {"code": 503, "message": "upstream down"}},
)
OVERLOADED = {"type": "overloaded_error", "message": "Overloaded"}
ERROR = named("error", error=OVERLOADED)
FOREIGN = 'data: {"error": {"message": "no", "type": "rate_limit_error"}}\n\n'


def block(**fields: Json) -> str:
    return named("content_block_start", index=0, content_block=fields)


OPEN = block(type="text", text="")
CALL = block(type="tool_use", id="t", name="f", input={})
WHOLE = START + PING + OPEN + WORD + STOPPED + DELTA + STOP
STREAMS: list[tuple[str, str, StreamState, str | None]] = [
    ("whole", WHOLE, COMPLETE, None),
    ("nothing", "", PREAMBLE, None),
    ("start", START, PREAMBLE, None),
    ("preamble", COMMENT + START + PING + OPEN, PREAMBLE, None),
    ("thinking", START + block(type="thinking", thinking="", signature=""), PREAMBLE, None),
    ("tool", START + CALL, PREAMBLE, None),
    ("name without data", START + "event: message_stop\n\n", PREAMBLE, None),
    ("not json", START + "data: <html>\n\n", PREAMBLE, None),
    ("chat", 'data: {"choices": [{"delta": {"content": "Hi"}}]}\n\n', PREAMBLE, None),
    ("done", "data: [DONE]\n\n", PREAMBLE, None),
    ("no type", START + 'data: {"type": 7, "error": null}\n\n', PREAMBLE, None),
    ("word", START + OPEN + WORD, SPEAKING, None),
    ("quoted", START + OPEN + QUOTED, SPEAKING, None),
    ("unnamed word", unnamed("content_block_delta", index=0), SPEAKING, None),
    ("block with text", START + block(type="text", text="Hi"), SPEAKING, None),
    ("block with input", START + block(type="tool_use", input={"a": 1}), SPEAKING, None),
    ("redacted", START + block(type="redacted_thinking", data="x"), SPEAKING, None),
    ("block that is a string", named("content_block_start", content_block="x"), SPEAKING, None),
    ("torn block", 'event: content_block_start\ndata: {"content\n\n', SPEAKING, None),
    ("unknown", START + named("something_new"), SPEAKING, None),
    ("stop reason", START + DELTA, PREAMBLE, None),
    ("no stop reason", START + named("message_delta", delta={"stop_reason": None}), PREAMBLE, None),
    ("word and stop reason", START + WORD + DELTA, SPEAKING, None),
    ("foreign error after word", START + WORD + FOREIGN, SPEAKING, None),
    ("no content", START + DELTA + STOP, COMPLETE, None),
    ("start and stop", START + STOP, EMPTY, None),
    ("call and stop", START + CALL + STOPPED + STOP, COMPLETE, None),
    ("block and stop", START + OPEN + STOPPED + STOP + WORD, EMPTY, None),
    ("word and stop", WORD + STOP, COMPLETE, None),
    ("unnamed stop", DELTA + unnamed("message_stop"), COMPLETE, None),
    ("default name", DELTA + "event: message\n" + unnamed("message_stop"), COMPLETE, None),
    ("type last", WORD + 'data: {"a": 1, "type": "message_stop"}\n\n', COMPLETE, None),
    ("error after word", START + WORD + ERROR, COMPLETE, None),
    ("after the end", WHOLE + WORD + ERROR, COMPLETE, None),
    ("stop alone", STOP, EMPTY, None),
    ("ping and stop", PING + STOP + WORD, EMPTY, None),
    ("error", ERROR, COMPLETE, "Overloaded"),
    ("error after start", START + PING + ERROR + WORD, COMPLETE, "Overloaded"),
    ("unnamed error", START + unnamed("error", error=OVERLOADED), COMPLETE, "Overloaded"),
    ("error of text", "event: error\ndata: no\n\n", COMPLETE, "no"),
    ("foreign error", START + FOREIGN + STOP, PREAMBLE, "no"),
    ("failed", START + BROKEN + STOP, FAILED, "stop_reason 'error'"),
    ("failed after word", START + WORD + BROKEN + STOP, FAILED, "stop_reason 'error'"),
    ("failed with words", START + WORD + REPORTED + WORD + STOP, FAILED, "upstream down"),
]  # fmt: skip


def _before_loss(sent: bytes, state: StreamState) -> bytes:
    """What a client gets of a stream: nothing from an end on that must not look like a good one."""
    marks = {EMPTY: b"message_stop", FAILED: b"message_delta"}
    at = sent.find(b"event: " + marks[state]) if state in marks else len(sent)
    return sent[:at]


@pytest.mark.parametrize(
    ("stream", "state", "message"),
    [case[1:] for case in STREAMS],
    ids=[case[0] for case in STREAMS],
)
@pytest.mark.parametrize("returns", [False, True])
def test_messages_watch_knows_state_at_every_split(
    stream: str, state: StreamState, message: str | None, *, returns: bool
) -> None:
    """State and error are the same wherever the chunks are cut, and all bytes go through."""
    sent = (stream.replace("\n", "\r\n") if returns else stream).encode()
    for cuts in combinations(range(0, len(sent) + 1, 1 + len(sent) // 25), 2):
        watched = watch_stream(MessagesWatch(), pieces(sent, cuts))
        assert watched.passed == _before_loss(sent, state)
        assert watched.state is state
        told = None if watched.error is None else watched.error.message
        assert told == message or str(told).endswith(message or "?")


def test_messages_watch_reports_each_step() -> None:
    """The stream is committed at its first content, and complete at its last event only."""
    watch, states = MessagesWatch(), []
    for event in (START, PING, OPEN, WORD, QUOTED, STOPPED, DELTA, STOP):
        watch.feed(event.encode())
        states.append(watch.state.value)
    assert states == ["preamble"] * 3 + ["speaking"] * 4 + ["complete"]


@pytest.mark.parametrize(
    ("event", "status", "code", "own"),
    [
        (ERROR, 529, "overloaded_error", True),
        (named("error", error={"type": "rate_limit_error"}), 429, "rate_limit_error", True),
        (named("error", error={"type": "api_error"}), 500, "api_error", True),
        (named("error", error={"type": "new_error"}), 502, "new_error", True),
        (named("error", error={}), 502, None, True),
        (named("error", error="no"), 502, None, False),
        (named("error", message="no", code="insufficient_quota"), 429, "insufficient_quota", False),
        ("event: error\ndata: no\n\n", 502, None, False),
        ("event: error\ndata: [1]\n\n", 502, None, False),
        (FOREIGN, 429, None, False),
    ],
)
def test_error_before_content_has_status(
    event: str, status: int, code: str | None, *, own: bool
) -> None:
    """An error has its status by its type; it can go to a client as it is if it is Anthropic's."""
    error = watch_stream(MessagesWatch(), [START.encode(), event.encode()]).error
    assert error is not None
    assert (error.status, error.code) == (status, code)
    data = event.partition("data: ")[2].strip().encode()
    assert error.body == (data if own else b"")


@pytest.mark.parametrize(
    ("stream", "torn", "passed", "state"),
    [
        (DELTA + "event: message_stop\n" + 'data: {"type": "message_stop"}', False, ..., COMPLETE),
        (DELTA + "event: message_stop\n" + 'data: {"type": "message_stop"}', True, DELTA, PREAMBLE),
        (DELTA + 'data: {"type": "message_stop"}\n', True, ..., COMPLETE),
        (START + 'data: {"type": "message_stop"}\n', True, START, EMPTY),
        (START + WORD + BROKEN.rstrip(), False, START + WORD, FAILED),
        (START + "event: message_stop", False, START, PREAMBLE),
        (START + 'data: {"type": "mess', False, START, PREAMBLE),
        (WHOLE + "data: [DONE]", False, ..., COMPLETE),
        (WHOLE + "data: [DONE]", True, WHOLE, COMPLETE),
    ],
)
def test_messages_watch_cuts_torn_line(
    stream: str, passed: Json, state: StreamState, *, torn: bool
) -> None:
    """The last event may lack its blank line; a line that was cut in its middle is left out."""
    watched = watch_stream(MessagesWatch(), [stream.encode()], torn=torn)
    assert watched.passed == (stream if passed is ... else passed).encode()
    assert watched.state is state


def test_large_last_event_is_complete_at_its_end() -> None:
    """An event that is too large to be held is passed in pieces, and ends a stream at its end."""
    data = json.dumps({"type": "message_stop", "x": "a" * MAX_HELD_BYTES}).encode()
    last = b"data: " + data + b"\n\n"
    watch = MessagesWatch()
    watch.feed(WORD.encode())
    assert watch.feed(last[:-30]) == last[:-30]
    assert watch.state is SPEAKING
    assert watch.feed(last[-30:]) == last[-30:]
    assert watch.state is COMPLETE


@pytest.mark.parametrize(("torn", "state"), [(True, SPEAKING), (False, COMPLETE)])
def test_large_last_event_may_lack_its_blank_line(state: StreamState, *, torn: bool) -> None:
    """It is incomplete if the connection broke inside it."""
    last = named("message_stop", x="a" * MAX_HELD_BYTES).encode().strip()
    watched = watch_stream(MessagesWatch(), [WORD.encode(), last[:-5], last[-5:]], torn=torn)
    assert watched.passed == WORD.encode() + (last[:-5] if torn else last)
    assert watched.state is state


def test_incomplete_stream_ends_with_error_event() -> None:
    """A client that got content gets an error event of its dialect; the SDKs raise on it."""
    pipe = PassThrough(MessagesWatch(), MessagesErrors())
    pipe.feed((START + OPEN + WORD).encode())
    end = pipe.end(UpstreamTimeout("late"))
    assert end == error_dialect("/v1/messages", ()).render_error_event(UpstreamTimeout("late"))
    assert end.startswith(b"event: error\ndata: ")


KINDS = [
    "message_start", "message_stop", "message_delta", "content_block_start",
    "content_block_delta", "ping", "error", "message", "new", "",
]  # fmt: skip
VALUES = json_values(["type", "error", "content_block", "message", "text", "code"], KINDS)


@given(event_streams(KINDS, VALUES), st.lists(st.integers(0, 400), max_size=6), st.booleans())
def test_messages_watch_accepts_any_stream_at_any_split(
    stream: bytes, cuts: list[int], torn: bool
) -> None:
    """No JSON event raises, and neither bytes nor state nor error depend on the chunks."""
    whole = watch_stream(MessagesWatch(), [stream], torn=torn)
    inside = [cut for cut in cuts if cut < len(stream)]
    assert watch_stream(MessagesWatch(), pieces(stream, inside), torn=torn) == whole
    assert stream.startswith(whole.passed)
    if whole.error is not None:
        assert whole.error.status in range(400, 600)
