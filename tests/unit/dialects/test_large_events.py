"""Events that are too large to be kept: a watch knows what they say at their end."""

import json
import random
from collections.abc import Iterable

import pytest

from serve_app.dialects.anthropic_messages.stream import MessagesWatch
from serve_app.dialects.openai_chat.stream import ChatWatch
from serve_app.dialects.openai_responses.stream import ResponsesWatch
from serve_app.dialects.protocol import StreamState, StreamWatch
from serve_app.dialects.sse import MAX_HELD_BYTES, Framer
from serve_app.domain import Json
from tests.unit.dialects.streams import Watched, named, watch_stream

COMPLETE, SPEAKING = StreamState.COMPLETE, StreamState.SPEAKING
PREAMBLE, FAILED = StreamState.PREAMBLE, StreamState.FAILED
TEXT = 'é"\\{[data: [DONE]\n\n' * (MAX_HELD_BYTES // 16)
CHAT_WORD = b'data: {"choices": [{"index": 0, "delta": {"content": "Hi"}}]}\n\n'
SPEECH = named("content_block_delta", delta={"type": "text_delta", "text": "Hi"}).encode()
WORD = named("response.output_text.delta", delta="Hi", sequence_number=3).encode()


def event(name: str = "", **fields: Json) -> bytes:
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(fields)}\n\n".encode()


def chat(finish: str | None, index: int = 0, **fields: Json) -> bytes:
    """A chunk whose finish reason comes last."""
    choice = {"index": index, "delta": {"content": TEXT}, **fields, "finish_reason": finish}
    return event(choices=[choice])


def response(**fields: Json) -> Json:
    return {"id": "resp_1", "instructions": TEXT, "output": [{"text": TEXT}], **fields}


LAST: list[tuple[str, StreamWatch, bytes, bytes, StreamState, str | None]] = [
    ("finish", ChatWatch(), b"", chat("stop"), COMPLETE, None),
    ("finish after word", ChatWatch(), CHAT_WORD, chat("length"), COMPLETE, None),
    ("no finish", ChatWatch(), CHAT_WORD, chat(None), SPEAKING, None),
    ("one of two", ChatWatch(2), CHAT_WORD, chat("stop", 1), SPEAKING, None),
    ("both of two", ChatWatch(2), chat("stop", 1), chat("stop"), COMPLETE, None),
    ("failure", ChatWatch(), CHAT_WORD, chat("error", error={"message": "no"}), FAILED, "no"),
    ("error", ChatWatch(), CHAT_WORD, event(x=TEXT, error={"message": "no"}), COMPLETE, None),
    ("first error", ChatWatch(), b"", event(x=TEXT, error={"message": "no"}), COMPLETE, "no"),
    ("role", ChatWatch(), b"", event(x=TEXT, choices=[{"delta": {}}]), PREAMBLE, None),
    ("stop", MessagesWatch(), SPEECH, event(x=TEXT, type="message_stop"), COMPLETE, None),
    ("named stop", MessagesWatch(), SPEECH, event("message_stop", x=TEXT), COMPLETE, None),
    ("error type", MessagesWatch(), b"", event(x=TEXT, type="error", error={"message": "no"}), COMPLETE, "no"),
    ("block", MessagesWatch(), b"", event("content_block_start", content_block={"text": TEXT}), SPEAKING, None),
    ("completed", ResponsesWatch(), WORD, event(response=response(), type="response.completed"), COMPLETE, None),
    ("only", ResponsesWatch(), b"", event("response.completed", response=response()), COMPLETE, None),
    ("created", ResponsesWatch(), b"", event("response.created", response=response()), PREAMBLE, None),
    ("failed", ResponsesWatch(), WORD, event("response.completed", response=response(
        status="failed", error={"message": "no"})), FAILED, "no"),
]  # fmt: skip


def watched(watch: StreamWatch, first: bytes, last: bytes, ends: Iterable[int]) -> Watched:
    """Feeds all of a stream, its last event cut at these places."""
    at, chunks = 0, [first]
    for end in (*ends, len(last)):
        chunks.append(last[at:end])
        at = end
    return watch_stream(watch, [chunk for chunk in chunks if chunk])


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(
    ("watch", "first", "last", "state", "message"),
    [case[1:] for case in LAST],
    ids=[case[0] for case in LAST],
)
def test_large_event_is_read_wherever_it_is_cut(
    watch: StreamWatch,
    first: bytes,
    last: bytes,
    state: StreamState,
    message: str | None,
    line_end: str,
) -> None:
    """Its bytes go out as they are; a failure that would pass for a good end is never whole."""
    last = last.replace(b"\n", line_end.encode())
    sizes, size = random.Random(line_end), len(last)
    several = [sorted(sizes.sample(range(size), 9)) for _ in range(2)]
    near_end = [[MAX_HELD_BYTES + 9, size - back] for back in (1, 2, 3, 30)]
    for ends in (*several, *near_end, [MAX_HELD_BYTES + 9, size - 3, size - 2, size - 1]):
        found = watched(type(watch)(*_arguments(watch)), first, last, ends)
        assert found.state is state, ends
        assert (None if found.error is None else found.error.message) == message
        is_cut = state is FAILED and len(found.passed) < len(first + last)
        assert found.passed == first + last or is_cut
        assert (first + last).startswith(found.passed)


def _arguments(watch: StreamWatch) -> tuple[int, ...]:
    return (2,) if isinstance(watch, ChatWatch) and watch._several else ()


@pytest.mark.parametrize("torn", [False, True])
def test_large_last_event_may_lack_its_blank_line(*, torn: bool) -> None:
    """It counts if the connection was closed in order, or after the end of its line."""
    last = chat("stop").rstrip()
    chunks = [CHAT_WORD, last[:-9], last[-9:]]
    assert watch_stream(ChatWatch(), chunks, torn=torn).state is (SPEAKING if torn else COMPLETE)
    whole = watch_stream(ChatWatch(), [*chunks, b"\n"], torn=torn)
    assert (whole.passed, whole.state) == (CHAT_WORD + last + b"\n", COMPLETE)


def test_events_after_a_large_one_are_read() -> None:
    """The last piece of an event may come together with the next events, or right before them."""
    large, end = chat(None), b'data: {"choices": [{"index": 0, "finish_reason": "stop"}]}\n\n'
    for after in ([end + CHAT_WORD], [end, CHAT_WORD], [end[:9], end[9:]]):
        chunks = [large[:-5], large[-5:] + after[0], *after[1:]]
        assert watch_stream(ChatWatch(), chunks).state is COMPLETE
        assert watch_stream(ChatWatch(), [large[:-5], large[-5:], *after]).state is COMPLETE
    twice = [large[:-5], large[-5:] + large[:-1], large[-1:] + end[:-1], end[-1:]]
    assert watch_stream(ChatWatch(), twice).state is COMPLETE


def test_failed_response_keeps_what_a_large_start_said() -> None:
    """The id of a response that began in a large event is in the error event, too."""
    watch = ResponsesWatch()
    start = event("response.created", response=response(status="in_progress"))
    assert watch.feed(start[:-7]) + watch.feed(start[-7:]) == start
    assert watch._response == {"id": "resp_1", "instructions": "...", "status": "in_progress"}


def test_framer_tells_what_to_read_of_large_events() -> None:
    """In place of the pieces there is the outline, with the last piece."""
    framer = Framer(max_held_bytes=10)
    assert (framer.feed(b"data: 1\n\n"), framer.split) == (b"data: 1\n\n", None)
    assert (framer.feed(b'data: {"a": "b\n'), framer.split) == (b'data: {"a": "b', b"")
    assert (framer.feed(b"c"), framer.split) == (b"", b"")
    assert (framer.feed(b'"}\n\nda'), framer.split) == (b'\nc"}\n\n', b'data: {"a": "b\nc"}\n\n')
    assert (framer.feed(b"ta: 2\n\n"), framer.split) == (b"data: 2\n\n", None)
    assert (framer.feed(b"data: 3\n\n"), framer.split) == (b"data: 3\n\n", None)
    assert (framer.feed(b"data: 1234567"), framer.rest()) == (b"data: 1234567", b"")
    assert framer.split == b"data: 1234567"
