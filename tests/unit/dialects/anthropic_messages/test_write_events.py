"""The stream that a client of Anthropic messages gets, and how the official SDK reads it."""

import json
import time
from collections.abc import Iterable, Iterator

import anthropic
import httpx2
import pytest
from anthropic.types import Message, MessageDeltaUsage, RawMessageStreamEvent
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from serve_app.dialects import ir
from serve_app.dialects.anthropic_messages.codec import MessagesCodec
from serve_app.dialects.signatures import wrap
from serve_app.dialects.sse import iterate_events, parse_events
from serve_app.domain import Json
from serve_app.errors import UpstreamFailed

CODEC = MessagesCodec()
REQUEST = ir.Request("messages", ())
STARTED = ir.Started("1", "m", usage=ir.Usage(3, cache_read=1))
USAGE = ir.Usage(3, 1, 2, 9, 4, 1)
END: list[ir.Event] = [ir.Finished(ir.Finish.STOP), ir.Counted(USAGE), ir.Ended()]
EVENTS: TypeAdapter[RawMessageStreamEvent] = TypeAdapter(RawMessageStreamEvent)


def written(events: Iterable[ir.Event], request: ir.Request = REQUEST) -> bytes:
    writer = CODEC.writer(request)
    return b"".join(map(writer.write, events))


def datas(stream: bytes) -> list[dict[str, Json]]:
    """The data of every event, each checked against its name and the types of the SDK."""
    found = []
    for event in parse_events(stream):
        data = json.loads(event.data or b"")
        assert event.name == data["type"]
        EVENTS.validate_python(data, strict=True)
        found.append(data)
    return found


def blocks(*events: ir.Event) -> list[dict[str, Json]]:
    """The events between the start and the end of a message."""
    found = datas(written([STARTED, *events, *END]))
    kinds = [data["type"] for data in found]
    assert (kinds[0], kinds[-2:]) == ("message_start", ["message_delta", "message_stop"])
    return found[1:-2]


def accumulated(stream: bytes) -> Message:
    """The message that the official SDK makes of a stream."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=stream)

    transport = httpx2.MockTransport(answer)
    with (
        httpx2.Client(transport=transport) as http,
        anthropic.Anthropic(api_key="k", base_url="http://x", http_client=http) as client,
        client.messages.stream(
            model="m", max_tokens=9, messages=[{"role": "user", "content": "Hi"}]
        ) as events,
    ):
        return events.get_final_message()


def streamed(answer: ir.Answer) -> Iterator[ir.Event]:
    """A complete answer as a stream."""
    yield ir.Started(answer.id, answer.model)
    for part in answer.parts:
        match part:
            case ir.Text(text=text) | ir.Refusal(text=text):
                empty: ir.AnswerPart = type(part)("")
            case ir.Thinking(text=text):
                empty = ir.Thinking("", None, part.origin, part.is_redacted)
            case ir.ToolCall(arguments=text):
                empty = ir.ToolCall(part.id, part.name)
            case _:
                empty, text = part, ""
        yield ir.PartStarted(empty)
        middle = len(text) // 2
        yield from (ir.Delta(text[:middle]), ir.Delta(text[middle:]))
        if isinstance(part, ir.Thinking) and part.signature:
            yield ir.Signed(part.signature)
        yield ir.PartEnded()
    yield ir.Finished(answer.finish, answer.stop_sequence)
    if answer.usage is not None:
        yield ir.Counted(answer.usage)
    yield ir.Ended()


def test_start_and_end_of_a_message() -> None:
    """The start is a whole message, and the end has all counts, because clients take either."""
    start, delta, stop = datas(written([STARTED, *END]))
    message = start["message"]
    assert (message["id"], message["model"], message["content"]) == ("msg_1", "m", [])
    assert message["stop_reason"] is None
    assert (message["usage"]["input_tokens"], message["usage"]["output_tokens"]) == (3, 0)
    assert delta["delta"] == {"stop_reason": "end_turn", "stop_sequence": None, "stop_details": None}  # fmt: skip
    assert delta["usage"].keys() == MessageDeltaUsage.model_fields.keys()
    assert delta["usage"] == {
        "input_tokens": 3,
        "cache_creation_input_tokens": 2,
        "cache_read_input_tokens": 1,
        "output_tokens": 9,
        "output_tokens_details": {"thinking_tokens": 4},
        "server_tool_use": None,
    }
    assert stop == {"type": "message_stop"}


def test_usage_of_the_start_counts_where_no_other_comes() -> None:
    """A provider that counts only at the start is not forgotten at the end."""
    delta = datas(written([STARTED, ir.Finished(ir.Finish.LENGTH), ir.Ended()]))[1]
    assert delta["usage"]["input_tokens"] == 3
    assert delta["delta"]["stop_reason"] == "max_tokens"


def test_blocks_of_every_part() -> None:
    """Indexes count the blocks that the client sees."""
    assert blocks(
        ir.PartStarted(ir.Thinking("", None, "chat")),
        ir.Delta("t"),
        ir.Signed("s"),
        ir.PartEnded(),
        ir.PartStarted(ir.Foreign("web_search_call")),
        ir.Delta("x"),
        ir.PartEnded(),
        ir.PartStarted(ir.Text("")),
        ir.Delta(""),
        ir.Delta("a"),
        ir.Cited(ir.Citation("u")),
        ir.PartEnded(),
        ir.PartStarted(ir.ToolCall("i", "n")),
        ir.Delta('{"a":1}'),
        ir.PartEnded(),
    ) == [
        {
            "type": "content_block_start",
            "index": 0,
            "content_block": {"type": "thinking", "thinking": "", "signature": ""},
        },
        {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "thinking_delta", "thinking": "t"},
        },
        {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "signature_delta", "signature": wrap("chat", "s")},
        },
        {"type": "content_block_stop", "index": 0},
        {
            "type": "content_block_start",
            "index": 1,
            "content_block": {"type": "text", "text": "", "citations": None},
        },
        {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "a"}},
        {"type": "content_block_stop", "index": 1},
        {
            "type": "content_block_start",
            "index": 2,
            "content_block": {"type": "tool_use", "id": "i", "name": "n", "input": {}},
        },
        {
            "type": "content_block_delta",
            "index": 2,
            "delta": {"type": "input_json_delta", "partial_json": ""},
        },
        {
            "type": "content_block_delta",
            "index": 2,
            "delta": {"type": "input_json_delta", "partial_json": '{"a":1}'},
        },
        {"type": "content_block_stop", "index": 2},
    ]


def texts(*events: ir.Event) -> list[str]:
    return [
        "".join(
            data["delta"]["text"]
            for data in blocks(*events)
            if data["type"] == "content_block_delta" and data["index"] == index
        )
        for index in {data["index"] for data in blocks(*events)}
    ]


def test_blank_texts_have_no_block() -> None:
    """The API refuses blank texts when the client sends them back."""
    start, end = ir.PartStarted(ir.Text("")), ir.PartEnded()
    assert blocks(start, ir.Delta("\n"), end, start, end) == []
    assert texts(start, ir.Delta("\n"), ir.Delta(" a"), ir.Delta(" "), end) == ["\n a "]
    assert texts(start, ir.Delta("\n"), end, ir.PartStarted(ir.Text("b")), end) == ["b"]
    assert blocks(ir.PartStarted(ir.Thinking("", None, "chat")), end) == []


def test_call_without_arguments_has_an_empty_object() -> None:
    """Clients parse what the deltas add up to."""
    pieces = [
        data["delta"]["partial_json"]
        for data in blocks(ir.PartStarted(ir.ToolCall("", "n")), ir.Delta(" "), ir.PartEnded())
        if data["type"] == "content_block_delta"
    ]
    assert "".join(pieces).strip() == "{}"


def test_hidden_thoughts_are_one_block() -> None:
    """Their proof is in the start of the block; without one there is none."""
    hidden = ir.Thinking("", None, "responses", is_redacted=True)
    data = wrap("responses", "d")
    expected = [
        {
            "type": "content_block_start",
            "index": 0,
            "content_block": {"type": "redacted_thinking", "data": data},
        },
        {"type": "content_block_stop", "index": 0},
    ]
    assert blocks(ir.PartStarted(hidden), ir.Signed("d"), ir.PartEnded()) == expected
    known = ir.Thinking("", "d", "responses", is_redacted=True)
    assert blocks(ir.PartStarted(known), ir.Signed("d"), ir.PartEnded()) == expected
    assert blocks(ir.PartStarted(hidden), ir.Delta("x"), ir.PartEnded()) == []


def test_parts_without_their_end_are_closed() -> None:
    """A block is never left open, and events without a part say nothing."""
    found = blocks(
        ir.Delta("x"),
        ir.Signed("s"),
        ir.PartStarted(ir.Thinking("t", "s", "messages")),
        ir.PartStarted(ir.Text("a")),
    )
    kinds = [data["type"] for data in found]
    assert kinds.count("content_block_start") == kinds.count("content_block_stop") == 2


def test_stream_without_its_start_begins_with_one() -> None:
    """A client reads nothing before `message_start`."""
    assert datas(written(END))[0]["type"] == "message_start"


def test_refusal_is_a_text_with_its_reason() -> None:
    """The reason says what the text is."""
    said = (ir.PartStarted(ir.Refusal("")), ir.Delta("n"), ir.Delta("o"), ir.PartEnded())
    message = accumulated(written([STARTED, *said, *END]))
    assert message.stop_reason == "refusal"
    assert message.stop_details
    assert message.stop_details.explanation == "no"
    assert message.content[0].type == "text"
    assert message.content[0].text == "no"


def test_error_ends_the_stream() -> None:
    """The official SDK raises it with its message."""
    writer = CODEC.writer(REQUEST)
    stream = writer.write(STARTED) + writer.fail(UpstreamFailed("broke"))
    assert stream.count(b"event: error\n") == 1
    with pytest.raises(anthropic.APIStatusError, match="broke"):
        accumulated(stream)


ANSWER = ir.Answer(
    "msg_1",
    "m",
    (
        ir.Thinking("hm", "s", "messages"),
        ir.Thinking("", "d", "chat", is_redacted=True),
        ir.Text("Hé"),
        ir.ToolCall("i", "n", '{"a": [1, "é"]}'),
        ir.ToolCall("j", "n", ""),
        ir.Foreign("x"),
    ),
    ir.Finish.TOOL_CALLS,
    usage=USAGE,
)
PARTS = st.one_of(
    st.builds(ir.Text, st.text(max_size=5)),
    st.builds(ir.Refusal, st.sampled_from(["no", " "])),
    st.builds(
        ir.Thinking,
        st.sampled_from(["", "t"]),
        st.sampled_from([None, "s"]),
        st.sampled_from(["messages", "chat"]),
        st.booleans(),
    ),
    st.builds(
        ir.ToolCall, st.sampled_from(["i", "j"]), st.just("n"), st.sampled_from(["", '{"a":1}'])
    ),
    st.just(ir.Foreign("x")),
)
ANSWERS = st.builds(
    ir.Answer,
    st.just("msg_1"),
    st.just("m"),
    st.lists(PARTS, max_size=5).map(tuple),
    st.sampled_from(ir.Finish),
    usage=st.sampled_from([None, USAGE]),
)


def test_sdk_accumulates_the_stream() -> None:
    """It is the message that the client would get without streaming."""
    assert_same_as_complete(ANSWER)


@given(ANSWERS)
def test_stream_adds_up_to_the_complete_answer(answer: ir.Answer) -> None:
    """Streamed or not, a client gets the same message."""
    assert_same_as_complete(answer)


def assert_same_as_complete(answer: ir.Answer) -> None:
    redacted = ir.Thinking("", None, "chat", is_redacted=True)
    parts = tuple(
        redacted
        if isinstance(part, ir.Thinking) and part.is_redacted and not part.signature
        else part
        for part in answer.parts
    )
    complete = CODEC.write_answer(ir.Answer(**{**fields_of(answer), "parts": parts}), REQUEST).body
    message = accumulated(written(streamed(answer)))
    got = message.model_dump(exclude={"usage"}, exclude_none=True)
    expected = Message.model_validate(complete).model_dump(exclude={"usage"}, exclude_none=True)
    for block in got["content"]:
        block.pop("parsed_output", None)
    assert got == expected
    counted = message.usage
    assert (counted.input_tokens, counted.output_tokens) == (
        complete["usage"]["input_tokens"],
        complete["usage"]["output_tokens"],
    )


def fields_of(answer: ir.Answer) -> dict[str, Json]:
    return {name: getattr(answer, name) for name in ir.Answer.__dataclass_fields__}


@given(ANSWERS)
def test_reader_understands_the_writer(answer: ir.Answer) -> None:
    """What is written is read as the same content."""
    reader = CODEC.reader()
    read: list[ir.Event] = []
    for event in iterate_events(written(streamed(answer))):
        read += reader.read(event)
    assert read[-1] == ir.Ended()
    said = "".join(
        part.text for part in answer.parts if isinstance(part, ir.Text) and part.text.strip()
    )
    kinds = [event.part for event in read if isinstance(event, ir.PartStarted)]
    calls = [part for part in answer.parts if isinstance(part, ir.ToolCall)]
    assert [part for part in kinds if isinstance(part, ir.ToolCall)] == [
        ir.ToolCall(call.id, call.name) for call in calls
    ]
    assert len("".join(event.text for event in read if isinstance(event, ir.Delta))) >= len(said)


def test_long_streams_take_linear_time() -> None:
    """Ten thousand blank deltas, and a large one, are written in seconds."""
    start = time.perf_counter()
    blank = [ir.Delta(" ")] * 10_000
    events: list[ir.Event] = [
        STARTED,
        ir.PartStarted(ir.Text("")),
        *blank,
        ir.Delta("x" * (2 << 20)),
        *blank,
        *END,
    ]
    assert len(written(events)) > 2 << 20
    assert time.perf_counter() - start < 20
