"""Streams of providers of responses: strict ones, and those of servers that leave events out."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.dialects import ir
from serve_app.dialects.sse import Event
from serve_app.domain import Json
from tests.unit.dialects.openai_responses.samples import (
    ANSWERS,
    CODEC,
    events_of,
    folded,
    read,
    stream,
    streamed,
)
from tests.unit.dialects.openai_responses.stream_cases import (
    CASES,
    CREATED,
    DELTA,
    WHOLE_CALL,
    completed,
    event,
    message,
)
from tests.unit.dialects.streams import event_streams, json_values
from tests.unit.fakes import pieces


@pytest.mark.parametrize(
    ("events", "parts"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_stream_holds_each_part_once(events: list[Json], parts: list[ir.AnswerPart]) -> None:
    """Each part comes whole and once, however a server tells of it."""
    read_events = streamed([stream(*events)])
    assert isinstance(read_events[-1], ir.Ended)
    answer = folded(read_events)
    assert list(answer.parts) == parts
    assert answer.usage == ir.Usage(6, 4, 0, 3, reasoning=2)


@given(ANSWERS, st.lists(st.integers(0, 3000), max_size=6))
def test_written_stream_reads_as_answer(answer: ir.Answer, cuts: list[int]) -> None:
    """What the writer sends is read as the complete answer is, wherever the chunks are cut."""
    writer = CODEC.writer(read())
    sent = b"".join(writer.write(event) for event in events_of(answer))
    chunks = pieces(sent, [cut % (len(sent) + 1) for cut in cuts])
    expected = CODEC.read_answer(CODEC.write_answer(answer, read()).body)
    assert folded(streamed(chunks)) == expected


KINDS = sorted({
    *(entry["type"] for _, events, _ in CASES for entry in events),
    "error", "response.failed", "response.incomplete", "response.unknown", "",
})  # fmt: skip
KEYS = [
    "type", "item", "part", "content", "text", "delta", "annotation", "annotations", "response",
    "output", "output_index", "content_index", "summary_index", "name", "id", "item_id", "status",
    "usage", "input_tokens", "code", "message", "arguments", "encrypted_content", "logprobs",
]  # fmt: skip
TYPES = ["message", "function_call", "reasoning", "output_text", "refusal", "completed", *KINDS]
OBJECTS = st.dictionaries(st.sampled_from(KEYS), json_values(KEYS, TYPES), max_size=8)


@given(st.lists(st.tuples(st.sampled_from(KINDS), OBJECTS), max_size=12))
def test_reader_takes_any_json(events: list[tuple[str, dict[str, Json]]]) -> None:
    """Values of any type raise nothing, and the events stay in the order that ``ir`` promises."""
    reader = CODEC.reader()
    out: list[ir.Event] = []
    for kind, fields in events:
        out += reader.read(Event(kind, json.dumps(fields | {"type": kind}).encode()))
    folded([*out, *reader.end()])


@given(event_streams(KINDS, json_values(KEYS, TYPES)))
def test_reader_takes_any_stream(sent: bytes) -> None:
    """Comments, torn events and data without a type raise nothing."""
    folded(streamed([sent]))


@pytest.mark.parametrize(
    ("fields", "finish"),
    [
        ({}, ir.Finish.STOP),
        ({"status": "incomplete"}, ir.Finish.LENGTH),
        ({"status": ["?"]}, ir.Finish.STOP),
        (
            {"status": "incomplete", "incomplete_details": {"reason": "content_filter"}},
            ir.Finish.FILTERED,
        ),
        (
            {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}},
            ir.Finish.LENGTH,
        ),
        ({"output": [WHOLE_CALL]}, ir.Finish.TOOL_CALLS),
        ({"output": [message({"type": "refusal", "refusal": "No"})]}, ir.Finish.REFUSED),
    ],
)
def test_finish_is_that_of_answer(fields: dict[str, Json], finish: ir.Finish) -> None:
    """A stream ends for the same reason as the complete answer."""
    last = completed(**fields)
    assert folded(streamed([stream(CREATED, last)])).finish is finish
    assert CODEC.read_answer(last["response"]).finish is finish


def test_incomplete_event_means_incomplete() -> None:
    """The type of the last event counts where its response has no status."""
    last = {"type": "response.incomplete", "response": None}
    assert folded(streamed([stream(DELTA, last)])).finish is ir.Finish.LENGTH


FAILURES: list[tuple[Json, ir.Failed]] = [
    (
        {"type": "error", "code": "rate_limit_exceeded", "message": "slow", "param": None},
        ir.Failed("slow", 429, "rate_limit_exceeded"),
    ),
    (
        {"type": "error", "error": {"type": "invalid_request_error", "message": "bad"}},
        ir.Failed("bad", 400, "invalid_request_error"),
    ),
    (
        {"type": "response.failed", "response": {"error": {"code": "server_error", "message": "x"}}},
        ir.Failed("x", 500, "server_error"),
    ),
    (
        completed(status="failed", error={"code": "context_length_exceeded", "message": "long"}),
        ir.Failed("long", 400, "context_length_exceeded"),
    ),
    ({"type": "", "error": {"code": 503, "message": "busy"}}, ir.Failed("busy", 503)),
    ({"type": "", "error": "busy"}, ir.Failed("busy")),
    ({"type": "error"}, ir.Failed("the provider reports an error")),
    ({"type": "response.failed"}, ir.Failed("the provider reports an error")),
]  # fmt: skip


@pytest.mark.parametrize(("failure", "failed"), FAILURES)
def test_error_ends_stream(failure: Json, failed: ir.Failed) -> None:
    """The provider's words, the status that they mean, and nothing after them."""
    events = streamed([stream(CREATED, DELTA, failure, DELTA, completed())])
    assert events[-1] == failed
    assert sum(isinstance(event, ir.Failed) for event in events) == 1


def test_end_without_last_event_is_not_complete() -> None:
    """A stream that stops is not complete, and neither is one that says [DONE] alone."""
    events = streamed([stream(CREATED, DELTA), b": ping\n\n", b"data: [DONE]\n\n"])
    assert not any(isinstance(event, ir.Finished | ir.Ended) for event in events)


def test_name_of_event_stands_in_for_type() -> None:
    """A server that writes the type only as the event's name is understood."""
    sent = b'event: response.output_text.delta\ndata: {"delta": "Hi", "output_index": 0}\n\n'
    assert ir.Delta("Hi") in streamed([sent])


def test_head_comes_first() -> None:
    """The first event gives id and model, and a stream that lacks it begins without."""
    assert streamed([stream(CREATED)]) == [ir.Started("resp_1", "m", 7)]
    assert streamed([stream(DELTA)])[0] == ir.Started("", "")


def test_long_stream_is_read_in_linear_time() -> None:
    """2 MB in one piece, 10,000 small pieces and 10,000 contents are read at once."""
    started = time.monotonic()
    events = [event("output_text.delta", delta="x" * (2 << 20))]
    events += [event("output_text.delta", delta="y") for _ in range(10_000)]
    events += [event("output_text.delta", 1, content_index=n, delta="z") for n in range(10_000)]
    assert len(streamed([stream(*events, completed())])) > 30_000
    assert time.monotonic() - started < 20
