"""What the tests of the codec of responses send and compare."""

import json
from collections.abc import Iterable
from dataclasses import replace

from hypothesis import strategies as st
from openai._types import omit
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from serve_app.dialects import ir
from serve_app.dialects.json_edits import read_document
from serve_app.dialects.openai_responses.codec import ResponsesCodec
from serve_app.dialects.sse import Framer, parse_events
from serve_app.domain import Json

CODEC = ResponsesCodec()
EVENT: TypeAdapter[Json] = TypeAdapter(ResponseStreamEvent)
USAGE = ir.Usage(uncached_input=5, cache_read=3, cache_write=2, output=7, reasoning=4)
CITATION = ir.Citation("https://a.example", "A", 0, 2)
LOGPROB = {"token": "é", "logprob": -0.5, "bytes": [195, 169], "top_logprobs": []}


def read(**fields: Json) -> ir.Request:
    """The request of a client; ``input`` may be left out."""
    body = {"model": "m", "input": "Hi", **fields}
    return CODEC.read_request(read_document(json.dumps(body).encode(), unique=frozenset()))


def user(*content: Json) -> dict[str, Json]:
    """An item of the user."""
    return {"role": "user", "content": list(content)}


def message(*parts: ir.Part, role: ir.Role = ir.Role.USER, at: str = "messages[0]") -> ir.Message:
    return ir.Message(role, parts, at)


def request(*messages: ir.Message, **fields: Json) -> ir.Request:
    """A request that a client of another dialect sent."""
    return ir.Request("messages", messages or (message(ir.Text("Hi")),), **fields)


def written(asked: ir.Request, model: str = "gpt-5") -> dict[str, Json]:
    """The body for a provider; it holds JSON only."""
    body = CODEC.write_request(asked, model).body
    assert json.loads(json.dumps(body)) == body
    return body


def dropped(asked: ir.Request, model: str = "gpt-5") -> tuple[str, ...]:
    """What a request for a provider leaves out."""
    return CODEC.write_request(asked, model).dropped


def stream(*events: Json) -> bytes:
    """A stream of a provider."""
    return b"".join(
        f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events
    )


def streamed(chunks: Iterable[bytes], *, ends: bool = True) -> list[ir.Event]:
    """The events in a stream of a provider."""
    framer, reader = Framer(), CODEC.reader()
    events: list[ir.Event] = []
    for chunk in chunks:
        for event in parse_events(framer.feed(chunk)):
            events += reader.read(event)
    return events + (list(reader.end()) if ends else [])


def events_of(answer: ir.Answer) -> list[ir.Event]:
    """The stream of an answer, each text in pieces."""
    events: list[ir.Event] = [ir.Started(answer.id, answer.model, answer.created)]
    for part in answer.parts:
        events += _part_events(part)
    if answer.usage is not None:
        events.append(ir.Counted(answer.usage))
    return [*events, ir.Finished(answer.finish), ir.Ended()]


def _part_events(part: ir.AnswerPart) -> list[ir.Event]:
    if isinstance(part, ir.Foreign):
        return [ir.PartStarted(part), ir.PartEnded()]
    if isinstance(part, ir.ToolCall):
        empty: ir.AnswerPart = ir.ToolCall(
            part.id, part.name, is_custom=part.is_custom, namespace=part.namespace
        )
        return [ir.PartStarted(empty), *deltas(part.arguments), ir.PartEnded()]
    if isinstance(part, ir.Thinking):
        empty = ir.Thinking("", origin=part.origin, is_redacted=part.is_redacted)
        signed = [ir.Signed(part.signature)] if part.signature else []
        return [ir.PartStarted(empty), *deltas(part.text), *signed, ir.PartEnded()]
    if isinstance(part, ir.Refusal):
        return [ir.PartStarted(ir.Refusal("")), *deltas(part.text), ir.PartEnded()]
    cited = [ir.Cited(citation) for citation in part.citations]
    probable = [ir.Delta("", part.logprobs)] if part.logprobs else []
    return [
        ir.PartStarted(ir.Text("")),
        *deltas(part.text),
        *probable,
        *cited,
        ir.PartEnded(),
    ]


def deltas(text: str, size: int = 3) -> list[ir.Event]:
    return [ir.Delta(text[start : start + size]) for start in range(0, len(text), size)]


def sent(out: bytes) -> list[dict[str, Json]]:
    """The events that a client gets, after the checks that every stream must pass."""
    events = parse_events(out)
    read_events = [json.loads(event.data or b"") for event in events]
    assert [event.name for event in events] == [data["type"] for data in read_events]
    assert [data["sequence_number"] for data in read_events] == list(range(len(read_events)))
    return read_events


def accumulated(out: bytes) -> Response:
    """What the official SDK makes of a stream, each event valid by its types."""
    state: ResponseStreamState[Json] = ResponseStreamState(input_tools=[], text_format=omit)
    events: list[Json] = []
    for data in sent(out):
        events += state.handle_event(EVENT.validate_python(data))
    response = events[-1].response
    assert isinstance(response, Response)
    return response


WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
CALLS = st.builds(
    ir.ToolCall,
    st.uuids().map(lambda value: f"call_{value.hex}"),
    st.sampled_from(["find", "run"]),
    st.sampled_from(["", "{}", '{"a": "b"}', '{"path": "/é"}']),
    is_custom=st.booleans(),
    namespace=st.none() | st.just("tools"),
)
PARTS = st.lists(
    st.one_of(
        st.builds(ir.Text, WORDS),
        st.builds(ir.Text, WORDS, st.just((CITATION,)), st.just((LOGPROB,))),
        st.builds(ir.Refusal, WORDS),
        st.builds(ir.Foreign, st.sampled_from(["server_tool_use", "web_search_call"])),
        st.builds(
            ir.Thinking,
            st.just("") | WORDS,
            st.none() | WORDS,
            st.sampled_from(["messages", "chat"]),
        ),
        CALLS,
    ),
    max_size=6,
    unique_by=lambda part: part.id if isinstance(part, ir.ToolCall) else object(),
)
ANSWERS = st.builds(
    ir.Answer,
    st.sampled_from(["resp_1", "msg_1", "chatcmpl-1"]),
    st.just("m"),
    PARTS.map(tuple),
    st.sampled_from(list(ir.Finish)),
    usage=st.none() | st.just(USAGE),
    created=st.just(1_800_000_000),
)


def folded(events: Iterable[ir.Event]) -> ir.Answer:
    """The answer that a stream says, after the checks of the order that ``ir`` promises."""
    head: ir.Started | None = None
    parts: list[ir.AnswerPart] = []
    opened: ir.AnswerPart | None = None
    finish: ir.Finished | None = None
    usage, has_ended = None, False
    for event in events:
        assert not has_ended
        if isinstance(event, ir.Started):
            assert head is None
            head = event
        elif isinstance(event, ir.PartStarted):
            assert head is not None
            assert opened is None
            assert finish is None
            opened = event.part
        elif isinstance(event, ir.PartEnded):
            assert opened is not None
            parts.append(opened)
            opened = None
        elif isinstance(event, ir.Counted):
            usage = event.usage
        elif isinstance(event, ir.Finished):
            assert opened is None
            finish = event
        elif isinstance(event, ir.Ended | ir.Failed):
            assert isinstance(event, ir.Failed) or finish is not None
            has_ended = True
        else:
            opened = extended(opened, event)
    reason = finish.reason if finish is not None else ir.Finish.PAUSED
    head = head or ir.Started("", "")
    return ir.Answer(head.id, head.model, tuple(parts), reason, None, usage, head.created)


def extended(part: ir.AnswerPart | None, piece: ir.Delta | ir.Signed | ir.Cited) -> ir.AnswerPart:
    """The part with one more piece."""
    if isinstance(piece, ir.Signed):
        assert isinstance(part, ir.Thinking)
        return replace(part, signature=piece.signature)
    if isinstance(piece, ir.Cited):
        assert isinstance(part, ir.Text)
        return replace(part, citations=(*part.citations, piece.citation))
    if isinstance(part, ir.ToolCall):
        return replace(part, arguments=part.arguments + piece.text)
    if isinstance(part, ir.Text):
        return replace(part, text=part.text + piece.text, logprobs=part.logprobs + piece.logprobs)
    assert isinstance(part, ir.Thinking | ir.Refusal)
    return replace(part, text=part.text + piece.text)
