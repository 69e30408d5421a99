"""What streams of providers say, tidy ones and sloppy ones."""

import time
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.dialects import ir
from serve_app.dialects.sse import Event
from serve_app.domain import Json
from tests.unit.dialects.openai_chat.chat_samples import (
    CODEC,
    USAGE,
    USAGE_BODY,
    check_order,
    chunk,
    completion,
    events_of,
    parts_of,
    read_stream,
    stream,
)
from tests.unit.dialects.openai_chat.chat_streams import (
    DONE,
    FIRST,
    HI,
    PARTS,
    ROLE,
    SHORT,
    tool,
    tools,
)
from tests.unit.dialects.streams import json_values
from tests.unit.fakes import pieces

ERROR: Final = {"error": {"message": "overloaded", "code": "rate_limit_exceeded"}}


@pytest.mark.parametrize("done", [True, False])
@pytest.mark.parametrize(("chunks", "parts"), PARTS)
def test_parts_are_read(chunks: list[Json], parts: list[ir.AnswerPart], done: bool) -> None:
    """However a provider cuts its answer, and whether it says ``[DONE]`` or just closes."""
    events = read_stream(*chunks, done=done)
    check_order(events)
    assert parts_of(events) == parts
    assert events[-1] == ir.Ended()


@pytest.mark.parametrize(
    ("chunks", "finish"),
    [
        ([HI, DONE], ir.Finish.STOP),
        ([HI], ir.Finish.STOP),
        ([chunk({"content": " "})], ir.Finish.STOP),
        ([tools(FIRST)], ir.Finish.TOOL_CALLS),
        ([tools(FIRST), DONE], ir.Finish.TOOL_CALLS),
        ([HI, chunk({}, "tool_calls")], ir.Finish.STOP),
        ([HI, chunk({}, "other")], ir.Finish.STOP),
        ([chunk({"content": "Hi"}, "length")], ir.Finish.LENGTH),  # G
        ([chunk({"content": "Hi"}, ""), chunk({}, "length")], ir.Finish.LENGTH),
        ([HI, chunk({}, "content_filter")], ir.Finish.FILTERED),
        ([chunk({"refusal": "no"}), DONE], ir.Finish.REFUSED),
        ([DONE], ir.Finish.STOP),
    ],
)
def test_finish_is_read(chunks: list[Json], finish: ir.Finish) -> None:
    """Also where only ``[DONE]`` marks the end."""
    assert read_stream(*chunks)[-2:] == [ir.Finished(finish), ir.Ended()]


def test_stop_sequence_of_vllm_is_read() -> None:
    """It comes along with the finish reason."""
    events = read_stream(HI, chunk({}, "stop", choice={"stop_reason": "END"}))
    assert events[-2] == ir.Finished(ir.Finish.STOP_SEQUENCE, "END")


@pytest.mark.parametrize(
    ("chunks", "usages"),
    [
        ([HI, DONE, {"choices": [], "usage": USAGE_BODY}], [USAGE]),  # H
        ([chunk({"content": "Hi"}, "stop", usage=USAGE_BODY)], [USAGE]),
        ([HI, DONE], []),
        ([HI, chunk({}, "stop", usage=None)], []),
        (
            [
                chunk({"content": "Hi"}, usage=SHORT),
                chunk({"content": "!"}, usage=SHORT),
                chunk({}, "stop", usage=USAGE_BODY),
            ],
            [ir.Usage(1, output=1), USAGE],
        ),
        ([HI, chunk({}, "stop", choice={"usage": SHORT})], [ir.Usage(1, output=1)]),
        ([HI, chunk({}, "stop", x_groq={"usage": SHORT})], [ir.Usage(1, output=1)]),
    ],
)
def test_usage_is_read(chunks: list[Json], usages: list[ir.Usage]) -> None:
    """Wherever it comes, and once each time that it changes."""
    events = read_stream(*chunks)
    check_order(events)
    assert [event.usage for event in events if isinstance(event, ir.Counted)] == usages


@pytest.mark.parametrize(
    ("chunks", "started"),
    [
        ([HI], ir.Started("chatcmpl-1", "gpt", 1)),
        (
            [{"id": "", "model": "", "choices": [], "prompt_filter_results": []}, HI],
            ir.Started("chatcmpl-1", "gpt", 1),
        ),
        ([{"choices": [{"delta": {"content": "a"}}], "created": 7}], ir.Started("7", "", 7)),
        ([{"choices": [{"delta": {"content": "a"}}]}], ir.Started("", "")),
    ],
)
def test_start_is_read(chunks: list[Json], started: ir.Started) -> None:
    """From the first chunk that says something; Azure's first one has no id."""
    assert read_stream(*chunks)[0] == started


@pytest.mark.parametrize(
    ("event", "failed"),
    [
        (ERROR, ir.Failed("overloaded", 429, "rate_limit_exceeded")),  # I
        ({"error": {"message": "full", "code": 503}}, ir.Failed("full", 503)),
        ({"error": "broken"}, ir.Failed("broken", 502)),
        ({"error": {"message": "\ud800", "code": "\ud800"}}, ir.Failed("?", 502, "?")),
        ("{torn", ir.Failed("the provider sent an event that is not JSON", 502)),
        ("[" * 5000, ir.Failed("the provider sent an event that is not JSON", 502)),
        (
            chunk({}, "error"),
            ir.Failed("the provider ended its answer with finish_reason 'error'", 502),
        ),
    ],
)
def test_failure_ends_the_stream(event: Json, failed: ir.Failed) -> None:
    """Nothing follows it, neither a finish nor more content."""
    events = read_stream(ROLE, HI, event, HI, DONE)
    check_order(events)
    assert events[-1] == failed
    assert read_stream(event)[-1] == failed


def test_error_by_the_name_of_its_event_is_read() -> None:
    """Some servers put the error at top level then."""
    events = list(CODEC.reader().read(Event("error", b'{"message": "full", "type": "x"}')))
    assert events == [ir.Failed("full", 502)]


def test_error_that_cannot_be_shown_is_still_one() -> None:
    """An error may be nested more deeply than it can be written again."""
    for depth in range(700, 1000):
        deep = b'{"error":' + b'{"a":' * depth + b"1" + b"}" * (depth + 1)
        (failed,) = CODEC.reader().read(Event("", deep))
        assert isinstance(failed, ir.Failed)


@pytest.mark.parametrize("chunks", [[], [ROLE], [ROLE, HI], [tools(FIRST)]])
def test_stream_that_breaks_off_is_not_complete(chunks: list[Json]) -> None:
    """J: the connection closes without a finish reason and without ``[DONE]``."""
    events = read_stream(*chunks, done=False)
    check_order(events)
    assert not any(isinstance(event, ir.Finished | ir.Ended) for event in events)


@pytest.mark.parametrize("chunks", [[], [ROLE], [3], ["null"], ['"text"'], [""]])
def test_stream_without_content_says_nothing(chunks: list[Json]) -> None:
    """``[DONE]`` alone is not an answer."""
    assert not any(isinstance(event, ir.Finished | ir.Ended) for event in read_stream(*chunks))


def test_what_is_torn_after_the_end_does_no_harm() -> None:
    """The answer is complete by its finish reason."""
    events = events_of([stream(HI, DONE, done=False), b"data: [DO"])
    assert events[-1] == ir.Ended()


def test_comments_say_nothing() -> None:
    """Many servers send them to keep the connection."""
    assert list(CODEC.reader().read(Event("", None))) == []


@given(st.sampled_from([chunks for chunks, _ in PARTS]), st.data())
def test_cuts_of_a_stream_do_not_matter(chunks: list[Json], data: st.DataObject) -> None:
    """The same events come of it in any pieces."""
    whole = stream(*chunks)
    cuts = data.draw(st.lists(st.integers(0, len(whole)), max_size=8))
    assert events_of(pieces(whole, cuts)) == events_of([whole])


KEYS: Final = [
    *("choices", "index", "delta", "content", "type", "text", "thinking", "refusal", "usage"),
    *("tool_calls", "id", "function", "custom", "name", "arguments", "input", "function_call"),
    "extra_content",
    *("reasoning_content", "reasoning_details", "signature", "data", "annotations", "url"),
    *("finish_reason", "logprobs", "token", "logprob", "error", "message", "created", "model"),
]
VALUES: Final = json_values(KEYS, ["stop", "reasoning.text", "reasoning.encrypted", "{", "}"])
DELTAS: Final = st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=5)
CHUNKS: Final = st.one_of(
    VALUES,
    st.builds(chunk, DELTAS, VALUES),
    st.builds(
        lambda entries: chunk({"tool_calls": entries}),
        st.lists(
            st.builds(
                tool,
                st.sampled_from([None, 0, 1]),
                id=st.sampled_from([None, "a", "b"]),
                name=st.sampled_from([None, "f", "g"]),
                arguments=st.sampled_from([None, "", "{", "}", "{}", {"a": 1}]),
            ),
            max_size=3,
        ),
    ),
    st.builds(lambda text: chunk({"content": text}), st.sampled_from(["", "\n", "a"])),
)


@given(st.lists(CHUNKS, max_size=6), st.booleans())
def test_any_events_are_read_in_order(chunks: list[Json], done: bool) -> None:
    """The reader raises on nothing, and its events keep the order that others rely on."""
    check_order(read_stream(*chunks, done=done))


@pytest.mark.parametrize(
    "chunks",
    [
        [chunk({"content": "x" * (2 << 20)})],
        [chunk({"content": "word "})] * 10_000,
        [tools(FIRST), *[tools(tool(arguments="word "))] * 10_000],
        [chunk({"content": "\n"})] * 10_000,
        [tools(tool(None, name="f", arguments="}"))] * 10_000,
        [
            tools(FIRST),
            tools(tool(1, id="c2", name="g")),
            *[tools(tool(1, arguments="}"))] * 10_000,
        ],
    ],
)
def test_long_streams_are_read_in_linear_time(chunks: list[Json]) -> None:
    """A large delta, or many small ones."""
    start = time.process_time()
    read_stream(*chunks, DONE)
    assert time.process_time() - start < 5


def test_answer_and_stream_say_the_same() -> None:
    """A provider that answers both ways is read alike."""
    message = {
        "content": "Hi",
        "reasoning_content": "hm",
        "tool_calls": [{"id": "c1", "function": {"name": "f", "arguments": '{"a":1}'}}],
    }
    whole = CODEC.read_answer(completion(message, "tool_calls", usage=USAGE_BODY))
    events = read_stream(chunk(message, "tool_calls", usage=USAGE_BODY))
    assert tuple(parts_of(events)) == whole.parts
    assert ir.Finished(whole.finish) in events
    assert whole.usage is not None
    assert ir.Counted(whole.usage) in events
