"""What the stream of an Anthropic provider says, whole or sloppy."""

import json
import time
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.dialects import ir
from serve_app.dialects.anthropic_messages.codec import MessagesCodec
from serve_app.dialects.sse import Framer, iterate_events
from serve_app.domain import Json
from tests.unit.dialects.streams import named
from tests.unit.fakes import pieces

START = named(
    "message_start",
    message={"id": "msg_1", "model": "m", "content": [], "usage": {"input_tokens": 3}},
)
STARTED = ir.Started("msg_1", "m", usage=ir.Usage(3))
STOP = named("message_stop")


def begin(index: int, **block: Json) -> str:
    return named("content_block_start", index=index, content_block=block)


def delta(index: int, kind: str, **fields: Json) -> str:
    return named("content_block_delta", index=index, delta={"type": kind, **fields})


def end(index: int) -> str:
    return named("content_block_stop", index=index)


def finish(reason: Json, usage: Json = None, **fields: Json) -> str:
    return named("message_delta", delta={"stop_reason": reason, **fields}, usage=usage)


def read_chunks(chunks: Iterable[bytes]) -> list[ir.Event]:
    reader, framer = MessagesCodec().reader(), Framer()
    events: list[ir.Event] = []
    for chunk in chunks:
        for event in iterate_events(framer.feed(chunk)):
            events += reader.read(event)
    return [*events, *reader.end()]


def read(*events: str) -> list[ir.Event]:
    return read_chunks(["".join(events).encode()])


WHOLE = "".join(
    [
        START,
        named("ping"),
        ": comment\n\n",
        begin(0, type="thinking", thinking="", signature=""),
        delta(0, "thinking_delta", thinking="hm"),
        delta(0, "signature_delta", signature="s"),
        end(0),
        begin(1, type="redacted_thinking", data="d"),
        end(1),
        begin(2, type="text", text=""),
        delta(2, "text_delta", text="Hé"),
        delta(2, "text_delta", text="llo"),
        delta(2, "citations_delta", citation={"url": "u", "title": "t", "cited_text": "c"}),
        delta(2, "citations_delta", citation={"type": "char_location"}),
        end(2),
        begin(3, type="server_tool_use", id="i", name="web_search", input={}),
        delta(3, "input_json_delta", partial_json='{"q":1}'),
        end(3),
        begin(4, type="tool_use", id="i", name="n", input={}),
        delta(4, "input_json_delta", partial_json=""),
        delta(4, "input_json_delta", partial_json='{"a"'),
        delta(4, "input_json_delta", partial_json=":1}"),
        end(4),
        finish("tool_use", {"output_tokens": 9, "cache_read_input_tokens": 2}),
        STOP,
    ]
)
WHOLE_EVENTS: list[ir.Event] = [
    STARTED,
    ir.PartStarted(ir.Thinking("", None, "messages")),
    ir.Delta("hm"),
    ir.Signed("s"),
    ir.PartEnded(),
    ir.PartStarted(ir.Thinking("", None, "messages", is_redacted=True)),
    ir.Signed("d"),
    ir.PartEnded(),
    ir.PartStarted(ir.Text("")),
    ir.Delta("Hé"),
    ir.Delta("llo"),
    ir.Cited(ir.Citation("u", "t", cited="c")),
    ir.PartEnded(),
    ir.PartStarted(ir.Foreign("server_tool_use")),
    ir.PartEnded(),
    ir.PartStarted(ir.ToolCall("i", "n")),
    ir.Delta('{"a"'),
    ir.Delta(":1}"),
    ir.PartEnded(),
    ir.Finished(ir.Finish.TOOL_CALLS),
    ir.Counted(ir.Usage(3, cache_read=2, output=9)),
    ir.Ended(),
]


@given(st.lists(st.integers(0, len(WHOLE))))
def test_any_splitting_gives_the_same_events(cuts: list[int]) -> None:
    """A whole stream is read alike, however its bytes come."""
    assert read_chunks(pieces(WHOLE.encode(), cuts)) == WHOLE_EVENTS


def test_events_without_names_are_known_by_their_type() -> None:
    """Some servers leave the names out."""
    lines = (line for line in WHOLE.splitlines(keepends=True) if not line.startswith("event:"))
    assert read("".join(lines)) == WHOLE_EVENTS


def test_names_stand_in_for_types() -> None:
    """Some servers leave the types out of the data."""
    assert read(f"event: message_start\ndata: {json.dumps({'message': {'id': 'x'}})}\n\n") == [
        ir.Started("x", "")
    ]


def parts(*events: str) -> list[ir.Event]:
    """The events between the start and the end of a stream of these."""
    read_events = read(START, *events, finish("end_turn"), STOP)
    assert read_events[0] == STARTED
    assert isinstance(read_events[-2], ir.Finished)
    assert read_events[-1] == ir.Ended()
    return read_events[1:-2]


CALL = ir.PartStarted(ir.ToolCall("i", "n"))
SLOPPY: list[tuple[list[str], list[ir.Event]]] = [
    (
        [begin(0, type="tool_use", id="i", name="n", input={"a": 1}), end(0)],
        [CALL, ir.Delta('{"a":1}'), ir.PartEnded()],
    ),
    (
        [
            begin(0, type="tool_use", id="i", name="n", input={"a": 1}),
            delta(0, "input_json_delta", partial_json='{"a":2}'),
        ],
        [CALL, ir.Delta('{"a":2}'), ir.PartEnded()],
    ),
    (
        [
            begin(0, type="tool_use", id="i", name="n"),
            delta(0, "input_json_delta", partial_json={"a": 1}),
        ],
        [CALL, ir.Delta('{"a":1}'), ir.PartEnded()],
    ),
    ([begin(0, type="tool_use", id="i", name="n", input={}), end(0)], [CALL, ir.PartEnded()]),
    (
        [begin(0, type="tool_use", name="n"), end(0)],
        [ir.PartStarted(ir.ToolCall("toolu_1_0", "n")), ir.PartEnded()],
    ),
    (
        [begin(0, type="text", text="a", citations=[{"url": "u"}]), end(0)],
        [
            ir.PartStarted(ir.Text("")),
            ir.Delta("a"),
            ir.Cited(ir.Citation("u")),
            ir.PartEnded(),
        ],
    ),
    (
        [begin(0, type="thinking", thinking="t", signature="s"), end(0)],
        [
            ir.PartStarted(ir.Thinking("", None, "messages")),
            ir.Delta("t"),
            ir.Signed("s"),
            ir.PartEnded(),
        ],
    ),
    (
        [  # one index for every block, and none of them ended
            begin(0, type="text", text=""),
            delta(0, "text_delta", text="a"),
            begin(0, type="text", text=""),
            delta(0, "text_delta", text="b"),
        ],
        [
            ir.PartStarted(ir.Text("")),
            ir.Delta("a"),
            ir.PartEnded(),
            ir.PartStarted(ir.Text("")),
            ir.Delta("b"),
            ir.PartEnded(),
        ],
    ),
    (
        [  # no indexes, and no start
            named("content_block_delta", delta={"type": "thinking_delta", "thinking": "t"}),
            named("content_block_stop"),
            named("content_block_delta", delta={"type": "text_delta", "text": "a"}),
        ],
        [
            ir.PartStarted(ir.Thinking("", None, "messages")),
            ir.Delta("t"),
            ir.PartEnded(),
            ir.PartStarted(ir.Text("")),
            ir.Delta("a"),
            ir.PartEnded(),
        ],
    ),
    (
        [  # calls side by side
            begin(0, type="tool_use", id="i", name="n"),
            begin(1, type="tool_use", id="j", name="n"),
            delta(0, "input_json_delta", partial_json="{"),
            delta(1, "input_json_delta", partial_json='{"b":2}'),
            delta(0, "input_json_delta", partial_json="}"),
        ],
        [
            CALL,
            ir.Delta("{"),
            ir.Delta("}"),
            ir.PartEnded(),
            ir.PartStarted(ir.ToolCall("j", "n")),
            ir.Delta('{"b":2}'),
            ir.PartEnded(),
        ],
    ),
    (
        [  # what does not fit, or is not known
            delta(5, "input_json_delta", partial_json="{}"),
            end(5),
            named("of_tomorrow", index=0),
            "data: [DONE]\n\n",
            "data: [1]\n\n",
            START,
            begin(0, type="text"),
            delta(0, "input_json_delta", partial_json="{}"),
            delta(0, "thinking_delta", thinking="t"),
            delta(0, "signature_delta", signature="s"),
            delta(0, "of_tomorrow", text="x"),
            delta(0, "text_delta", text=None),
            end(0),
            begin(1, type="thinking"),
            delta(1, "signature_delta"),
            end(1),
        ],
        [
            ir.PartStarted(ir.Text("")),
            ir.PartEnded(),
            ir.PartStarted(ir.Thinking("", None, "messages")),
            ir.PartEnded(),
        ],
    ),
]


@pytest.mark.parametrize(("events", "expected"), SLOPPY)
def test_sloppy_blocks(events: list[str], expected: list[ir.Event]) -> None:
    """What can be told is filled in, and the rest is ignored."""
    assert parts(*events) == expected


def test_calls_finish_a_stream_whose_server_forgets_it() -> None:
    """Clients run tools only if the reason says so."""
    events = read(START, begin(0, type="tool_use", id="i", name="n"), finish("end_turn"), STOP)
    assert ir.Finished(ir.Finish.TOOL_CALLS) in events


def test_usage_is_cumulative() -> None:
    """Later counts replace earlier ones, and a zero replaces none."""
    events = read(
        START,
        finish(None, {"input_tokens": 0, "output_tokens": 1}),
        finish("stop_sequence", {"input_tokens": 5, "output_tokens": 8}, stop_sequence="x"),
        finish("end_turn", {"cache_creation": {"ephemeral_1h_input_tokens": 2}}),
        STOP,
    )
    assert events == [
        STARTED,
        ir.Counted(ir.Usage(3, output=1)),
        ir.Finished(ir.Finish.STOP_SEQUENCE, "x"),
        ir.Counted(ir.Usage(5, output=8)),
        ir.Ended(),
    ]


def test_refusal_is_explained() -> None:
    """The explanation comes with the reason, and is a part of its own."""
    details = {"type": "refusal", "explanation": "no"}
    assert read(START, finish("refusal", stop_details=details), STOP)[1:-1] == [
        ir.PartStarted(ir.Refusal("")),
        ir.Delta("no"),
        ir.PartEnded(),
        ir.Finished(ir.Finish.REFUSED),
    ]


@pytest.mark.parametrize(
    ("data", "failed"),
    [
        (
            {"type": "error", "error": {"type": "overloaded_error", "message": "full"}},
            ir.Failed("full", 529, "overloaded_error"),
        ),
        (
            {"type": "error", "error": {"type": "rate_limit_error", "message": "slow"}},
            ir.Failed("slow", 429, "rate_limit_error"),
        ),
        (
            {"error": {"message": "no", "type": "server_error", "code": 503}},
            ir.Failed("no", 503, None),
        ),
    ],
)
def test_errors_end_the_stream(data: Json, failed: ir.Failed) -> None:
    """The provider's words are kept, and nothing follows."""
    error = f"data: {json.dumps(data)}\n\n"
    assert read(START, error, begin(0, type="text"), STOP) == [STARTED, failed]


@pytest.mark.parametrize(
    "events",
    [
        [START],
        [START, begin(0, type="text"), delta(0, "text_delta", text="a")],
        [START, finish("end_turn", {"output_tokens": 1})],
        [STOP],
        [START, STOP],
        [START, begin(0, type="text", text=""), STOP],
        [finish(None)],
        [START, finish(None), STOP],
    ],
)
def test_stream_without_its_end_is_not_complete(events: list[str]) -> None:
    """Only `message_stop` completes an answer that has content or a stop reason."""
    assert not any(isinstance(event, ir.Ended) for event in read(*events))


def test_stream_without_its_start_is_read() -> None:
    """A start is made up where the server leaves it out."""
    for events in (
        [begin(0, type="text", text="a")],
        [delta(0, "text_delta", text="a")],
        [finish(None, {"output_tokens": 1})],
    ):
        assert read(*events)[0] == ir.Started("", "")


def test_nothing_follows_the_finish() -> None:
    """Parts after the reason are ignored, and so is all that follows the end."""
    late = [begin(1, type="text", text="b"), delta(0, "text_delta", text="b")]
    assert read(START, finish("end_turn"), *late, STOP, START) == [
        STARTED,
        ir.Finished(ir.Finish.STOP),
        ir.Ended(),
    ]
    word = [begin(0, type="text"), delta(0, "text_delta", text="a")]
    assert read(START, *word, STOP)[-2:] == [ir.Finished(ir.Finish.STOP), ir.Ended()]


def nested(depth: int) -> str:
    return '{"a":' * depth + "1" + "}" * depth


def test_deep_nesting_fails_or_is_ignored() -> None:
    """An event that is nested too deeply does not raise."""
    block = '{"type": "tool_use", "id": "i", "name": "n", "input": '
    for depth in range(500, 1000):
        data = f'{{"type": "content_block_start", "content_block": {block}{nested(depth)}}}}}'
        for event in read(START, f"data: {data}\n\n")[1:]:
            assert isinstance(event, ir.PartStarted | ir.Failed)


def test_long_streams_take_linear_time() -> None:
    """A large delta and ten thousand small ones are read in seconds."""
    start = time.perf_counter()
    large = delta(0, "text_delta", text="x" * (2 << 20))
    small = [delta(1, "input_json_delta", partial_json='"1",') for _ in range(10_000)]
    call = begin(1, type="tool_use", id="i", name="n")
    events = read(START, begin(0, type="text"), large, end(0), call, *small, end(1), STOP)
    assert len(events) > 10_000
    assert time.perf_counter() - start < 20
