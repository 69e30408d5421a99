"""What the tests of the codec of chat completions send and compare."""

import json
from collections.abc import Iterable
from dataclasses import replace

from serve_app.dialects import ir
from serve_app.dialects.json_edits import Document, read_document
from serve_app.dialects.openai_chat.codec import ChatCodec
from serve_app.dialects.sse import Framer, parse_events
from serve_app.domain import Json

CODEC = ChatCodec()
USAGE = ir.Usage(uncached_input=5, cache_read=3, cache_write=2, output=7, reasoning=4)
USAGE_BODY = {
    "prompt_tokens": 10,
    "completion_tokens": 7,
    "total_tokens": 17,
    "prompt_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 2},
    "completion_tokens_details": {"reasoning_tokens": 4},
}
CITATION = ir.Citation("https://a.example", "A", 0, 2)
LOGPROB = {"token": "é", "logprob": -0.5, "bytes": [195, 169], "top_logprobs": []}
CACHE = {"type": "ephemeral"}
PNG = ir.Media(data="AAAA", media_type="image/png")
PNG_PART = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
PDF = ir.Media(data="AAAA", media_type="application/pdf")
ANNOTATION = {
    "type": "url_citation",
    "url_citation": {"url": "https://a.example", "title": "A", "start_index": 0, "end_index": 2},
}
SEARCH = {"type": "function", "function": {"name": "search"}}
USER = {"role": "user", "content": "Hi"}


def document(**fields: Json) -> Document:
    body = {"model": "m", "messages": [USER], **fields}
    return read_document(json.dumps(body).encode(), unique=frozenset())


def read(**fields: Json) -> ir.Request:
    """The request of a client; ``messages`` may be left out."""
    return CODEC.read_request(document(**fields))


def read_parts(message: Json) -> tuple[ir.Part, ...]:
    """The parts of the only message that a client sends."""
    (only,) = read(messages=[message]).messages
    return only.parts


def said(*parts: ir.Part, role: ir.Role = ir.Role.USER, at: str = "messages[0]") -> ir.Message:
    return ir.Message(role, parts, at)


def request(*messages: ir.Message, **fields: Json) -> ir.Request:
    """A request that a client of another dialect sent."""
    named = {"dialect": "messages", "messages": messages or (said(ir.Text("Hi")),), **fields}
    return ir.Request(**named)


def written(asked: ir.Request) -> dict[str, Json]:
    """The body that a provider gets."""
    return CODEC.write_request(asked, "gpt").body


def written_messages(*messages: ir.Message, **fields: Json) -> Json:
    return written(request(*messages, **fields))["messages"]


def thinking(text: str, **signed: Json) -> ir.Thinking:
    """Thoughts of a chat provider: ``in`` is the field that held them."""
    signature = json.dumps(signed, separators=(",", ":"))
    return ir.Thinking(text, signature, "chat", is_redacted="data" in signed)


def answer(*parts: ir.AnswerPart, **fields: Json) -> ir.Answer:
    finish = fields.pop("finish", ir.Finish.STOP)
    return ir.Answer("chatcmpl-1", "gpt", parts, finish, created=1, **fields)


def completion(message: Json, finish: Json = "stop", **fields: Json) -> dict[str, Json]:
    """An answer of a provider."""
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return {"id": "chatcmpl-1", "created": 1, "model": "gpt", "choices": [choice], **fields}


def chunk(delta: Json, finish: Json = None, *, choice: Json = None, **fields: Json) -> Json:
    """An event of a stream."""
    only = {"index": 0, "delta": delta, "finish_reason": finish, **(choice or {})}
    return {"id": "chatcmpl-1", "created": 1, "model": "gpt", "choices": [only], **fields}


def stream(*chunks: Json, done: bool = True) -> bytes:
    """A stream of a provider."""
    datas = [item if isinstance(item, str) else json.dumps(item) for item in chunks]
    whole = "".join(f"data: {data}\n\n" for data in [*datas, *["[DONE]"] * done])
    return whole.encode(errors="surrogatepass")


def events_of(pieces: Iterable[bytes]) -> list[ir.Event]:
    """What a reader makes of a stream that comes in pieces and is closed in order."""
    framer, reader = Framer(), CODEC.reader()
    events: list[ir.Event] = []
    for piece in pieces:
        for event in parse_events(framer.feed(piece)):
            events += reader.read(event)
    for event in parse_events(framer.rest()):
        events += reader.read(event)
    return [*events, *reader.end()]


def read_stream(*chunks: Json, done: bool = True) -> list[ir.Event]:
    return events_of([stream(*chunks, done=done)])


def check_order(events: Iterable[ir.Event]) -> None:
    """Holds events against the order that ``ir`` promises."""
    is_open = has_started = has_finished = is_over = False
    for event in events:
        assert not is_over
        if isinstance(event, ir.Failed | ir.Ended):
            is_over = True
            assert isinstance(event, ir.Failed) or (has_finished and not is_open)
            continue
        assert has_started != isinstance(event, ir.Started)
        has_started = True
        if isinstance(event, ir.PartStarted):
            assert (is_open, has_finished) == (False, False)
            is_open = True
        elif isinstance(event, ir.Finished):
            assert (is_open, has_finished) == (False, False)
            has_finished = True
        elif not isinstance(event, ir.Started | ir.Counted):
            assert is_open
            is_open = not isinstance(event, ir.PartEnded)


def parts_of(events: Iterable[ir.Event]) -> list[ir.AnswerPart]:
    """The parts that the events of a stream add up to."""
    parts: list[ir.AnswerPart] = []
    for event in events:
        if isinstance(event, ir.PartStarted):
            parts.append(event.part)
        elif isinstance(event, ir.Delta | ir.Signed | ir.Cited):
            parts[-1] = _grown(parts[-1], event)
    return parts


def _grown(part: ir.AnswerPart, event: ir.Delta | ir.Signed | ir.Cited) -> ir.AnswerPart:
    match part, event:
        case ir.Text(), ir.Delta():
            text, logprobs = part.text + event.text, (*part.logprobs, *event.logprobs)
            return replace(part, text=text, logprobs=logprobs)
        case ir.Text(), ir.Cited():
            return replace(part, citations=(*part.citations, event.citation))
        case ir.ToolCall(), ir.Delta():
            return replace(part, arguments=part.arguments + event.text)
        case ir.Thinking(), ir.Signed():
            return replace(part, signature=event.signature)
        case ((ir.Thinking() | ir.Refusal()), ir.Delta()):
            return replace(part, text=part.text + event.text)
    raise AssertionError((part, event))


def to_events(whole: ir.Answer) -> list[ir.Event]:
    """A stream that says the same as an answer."""
    events: list[ir.Event] = [ir.Started(whole.id, whole.model, whole.created)]
    for part in whole.parts:
        events += _part_events(part)
    if whole.usage is not None:
        events.append(ir.Counted(whole.usage))
    return [*events, ir.Finished(whole.finish, whole.stop_sequence), ir.Ended()]


def _part_events(part: ir.AnswerPart) -> list[ir.Event]:
    middle: list[ir.Event] = []
    match part:
        case ir.Text():
            middle = [ir.Delta(part.text, part.logprobs), *map(ir.Cited, part.citations)]
            part = ir.Text("")
        case ir.ToolCall():
            middle = [ir.Delta(letter) for letter in part.arguments]
            part = replace(part, arguments="")
        case ir.Thinking() if not part.is_redacted:
            middle = [ir.Delta(part.text)]
            middle += [] if part.signature is None else [ir.Signed(part.signature)]
            part = replace(part, text="", signature=None)
        case ir.Refusal():
            middle, part = [ir.Delta(part.text)], ir.Refusal("")
    return [ir.PartStarted(part), *middle, ir.PartEnded()]


def write_stream(events: Iterable[ir.Event], asked: ir.Request) -> bytes:
    """What a client gets."""
    writer = CODEC.writer(asked)
    return b"".join(map(writer.write, events))


def chunks_of(data: bytes) -> list[Json]:
    """The chunks of a stream, without ``[DONE]`` at its end."""
    *chunks, done = [event.data for event in parse_events(data)]
    assert done == b"[DONE]"
    return [json.loads(item or b"") for item in chunks]


CHAT = read()
COUNTING = read(stream_options={"include_usage": True})
LEGACY = read(functions=[{"name": "f"}])
HIDDEN = read(reasoning={"exclude": True})
"""Requests of clients that want different answers."""
