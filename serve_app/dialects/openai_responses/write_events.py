"""Writes the stream of a client.

Source: OpenAI API reference, "Responses", "Streaming events". The last event holds the same
Response as a complete answer.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias

from serve_app.dialects import ir
from serve_app.dialects.json_values import JsonTemplate, json_bytes
from serve_app.dialects.openai_responses.answers import DECLINED, close_response, response_frame
from serve_app.dialects.openai_responses.failures import write_failure
from serve_app.dialects.openai_responses.output_items import (
    annotation,
    call_item,
    item_id,
    kind_of,
    message_item,
    reasoning_item,
    refusal_content,
    text_content,
    whole_arguments,
    write_logprobs,
)
from serve_app.domain import Json
from serve_app.errors import GatewayError

_Event: TypeAlias = tuple[str, dict[str, Json]]
"""The type of an event, and its fields apart from type and sequence number."""

_IN_PROGRESS: Final = "in_progress"
_COMPLETED: Final = "completed"


class _Pieces:
    """The events for the pieces of one part, which differ in their number and their text."""

    def __init__(self, event: _Event) -> None:
        """``event``: one of them, with the place of a template as its text."""
        kind, fields = event
        self._head = b'event: %b\ndata: {"type":%b,"sequence_number":' % (
            kind.encode(),
            json_bytes(kind),
        )
        self._fields = JsonTemplate(fields, tail=b"\n\n")

    def write(self, number: int, text: str) -> bytes:
        """The event with this number and this text."""
        return b"%b%d,%b" % (self._head, number, self._fields.fill(text)[1:])


@dataclass(slots=True)
class _Open:
    """The part that the provider sends now."""

    part: ir.AnswerPart
    texts: list[str] = field(default_factory=list)
    logprobs: list[Json] = field(default_factory=list)
    citations: list[ir.Citation] = field(default_factory=list)
    signature: str | None = None
    pieces: _Pieces | None = None
    """Writes further pieces; None before the first one."""

    @property
    def text(self) -> str:
        """All of its text, or of its arguments."""
        return "".join(self.texts)


class ResponsesWriter:
    """Writes one stream of a client."""

    def __init__(self, request: ir.Request) -> None:
        self._request = request
        self._frame: dict[str, Json] = {}
        """The Response as it began; empty before."""
        self._number = 0
        self._output: list[Json] = []
        """The items that are complete."""
        self._message: list[Json] | None = None
        """The complete contents of the open message; None without one."""
        self._open: _Open | None = None
        self._has_refusal = False
        self._usage: ir.Usage | None = None
        self._finish = ir.Finish.STOP
        self._over = False

    def write(self, event: ir.Event) -> bytes:
        """The events for the client; empty for parts that only another dialect has."""
        if isinstance(event, ir.Delta) and event.text and not event.logprobs:
            opened = self._open
            if opened is not None and opened.pieces is not None and not self._over:
                opened.texts.append(event.text)
                self._number += 1
                return opened.pieces.write(self._number - 1, event.text)
        handler = _HANDLERS.get(type(event))
        if handler is None or self._over:
            return b""
        begun = () if isinstance(event, ir.Started) else self._begin(ir.Started("", ""))
        return self._encode(begun) + self._encode(handler(self, event))

    def fail(self, error: GatewayError) -> bytes:
        """``response.failed``, which the official SDKs and Codex take as an error."""
        if self._over:
            return b""
        begun = self._encode(self._begin(ir.Started("", "")))
        self._over = True
        failed = {
            **self._frame,
            "status": "failed",
            "error": write_failure(error),
            "output": self._output,
        }
        return begun + self._encode([("response.failed", {"response": failed})])

    def _encode(self, events: Iterable[_Event]) -> bytes:
        return b"".join(map(self._encoded, events))

    def _encoded(self, event: _Event) -> bytes:
        kind, fields = event
        data = {"type": kind, "sequence_number": self._number, **fields}
        self._number += 1
        return b"event: %b\ndata: %b\n\n" % (kind.encode(), json_bytes(data))

    def _begin(self, head: ir.Started) -> Iterator[_Event]:
        if not self._frame:
            self._frame = response_frame(self._request, head)
            yield "response.created", {"response": self._frame}
            yield "response.in_progress", {"response": self._frame}

    def on_started(self, event: ir.Started) -> Iterator[_Event]:
        """The answer begins."""
        self._usage = self._usage or event.usage
        yield from self._begin(event)

    def on_part_started(self, event: ir.PartStarted) -> Iterator[_Event]:
        """A part begins, and with it an item, unless it is more of the open message."""
        part = event.part
        yield from self._end_part()
        self._open = _Open(part)
        if isinstance(part, ir.Text | ir.Refusal):
            yield from self._begin_content(part)
        elif not isinstance(part, ir.Foreign):
            yield from self._end_message()
            item = self._item(_IN_PROGRESS, "")
            yield "response.output_item.added", {"output_index": self._index, "item": item}

    def on_delta(self, event: ir.Delta) -> Iterator[_Event]:
        """More text of the open part."""
        opened = self._open
        if opened is None or isinstance(opened.part, ir.Foreign):
            return
        if isinstance(opened.part, ir.Thinking):
            if not event.text:
                return
            if not opened.texts:
                yield self._summary("part.added", part={"type": "summary_text", "text": ""})
        elif isinstance(opened.part, ir.Text):
            opened.logprobs += event.logprobs
        yield self._piece(opened.part, event.text, event.logprobs)
        opened.texts.append(event.text)
        opened.pieces = opened.pieces or _Pieces(self._piece(opened.part, JsonTemplate.PLACE))

    def _piece(self, part: ir.AnswerPart, text: str, logprobs: tuple[Json, ...] = ()) -> _Event:
        """A piece of the open part."""
        if isinstance(part, ir.Thinking):
            return self._summary("text.delta", delta=text)
        if isinstance(part, ir.ToolCall):
            return self._at(f"{kind_of(part).events}.delta", delta=text)
        if isinstance(part, ir.Refusal):
            return self._content("response.refusal.delta", delta=text)
        return self._content(
            "response.output_text.delta", delta=text, logprobs=write_logprobs(logprobs)
        )

    def on_signed(self, event: ir.Signed) -> Iterator[_Event]:
        """The proof of the open thoughts, which goes out with their end."""
        if self._open is not None:
            self._open.signature = event.signature
        return iter(())

    def on_cited(self, event: ir.Cited) -> Iterator[_Event]:
        """A source of the open text."""
        if self._open is not None and isinstance(self._open.part, ir.Text):
            place = len(self._open.citations)
            self._open.citations.append(event.citation)
            yield self._content(
                "response.output_text.annotation.added",
                annotation_index=place,
                annotation=annotation(event.citation),
            )

    def on_part_ended(self, event: ir.PartEnded) -> Iterator[_Event]:
        """The open part is complete."""
        del event
        yield from self._end_part()

    def on_counted(self, event: ir.Counted) -> Iterator[_Event]:
        """The usage so far, which goes out with the last event."""
        self._usage = event.usage
        return iter(())

    def on_finished(self, event: ir.Finished) -> Iterator[_Event]:
        """All parts are complete."""
        self._finish = event.reason
        yield from self._end_part()
        if event.reason is ir.Finish.REFUSED and not self._has_refusal:
            yield from self.on_part_started(ir.PartStarted(ir.Refusal("")))
            yield from self.on_delta(ir.Delta(DECLINED))
            yield from self._end_part()
        yield from self._end_message()

    def on_ended(self, event: ir.Ended) -> Iterator[_Event]:
        """The last event, with the complete Response."""
        del event
        yield from self._end_part()
        yield from self._end_message()
        self._over = True
        response = close_response(self._frame, self._finish, self._output, self._usage)
        yield f"response.{response['status']}", {"response": response}

    def _begin_content(self, part: ir.Text | ir.Refusal) -> Iterator[_Event]:
        if self._message is None:
            self._message = []
            item = message_item(self._id("msg"), [], _IN_PROGRESS)
            yield "response.output_item.added", {"output_index": self._index, "item": item}
        self._has_refusal = self._has_refusal or isinstance(part, ir.Refusal)
        empty = text_content("") if isinstance(part, ir.Text) else refusal_content("")
        yield self._content("response.content_part.added", part=empty)

    def _end_part(self) -> Iterator[_Event]:
        opened = self._open
        if opened is None:
            return
        if isinstance(opened.part, ir.Text | ir.Refusal):
            yield from self._end_content(opened, opened.part)
        elif isinstance(opened.part, ir.Thinking):
            yield from self._end_thinking(opened)
        elif isinstance(opened.part, ir.ToolCall):
            yield from self._end_call(opened, opened.part)
        self._open = None

    def _end_content(self, opened: _Open, part: ir.Text | ir.Refusal) -> Iterator[_Event]:
        text = opened.text
        if isinstance(part, ir.Text):
            content = text_content(text, opened.citations, opened.logprobs)
            logprobs = content["logprobs"]
            yield self._content("response.output_text.done", text=text, logprobs=logprobs)
        else:
            content = refusal_content(text)
            yield self._content("response.refusal.done", refusal=text)
        yield self._content("response.content_part.done", part=content)
        if self._message is not None:
            self._message.append(content)

    def _end_message(self) -> Iterator[_Event]:
        if self._message is not None:
            item = message_item(self._id("msg"), self._message, _COMPLETED)
            self._message = None
            yield self._done(item)

    def _end_thinking(self, opened: _Open) -> Iterator[_Event]:
        text = opened.text
        if text:
            yield self._summary("text.done", text=text)
            yield self._summary("part.done", part={"type": "summary_text", "text": text})
        yield self._done(self._item(_COMPLETED, text))

    def _end_call(self, opened: _Open, part: ir.ToolCall) -> Iterator[_Event]:
        kind, sent = kind_of(part), opened.text
        content = whole_arguments(part, sent)
        if content != sent:
            yield self._at(f"{kind.events}.delta", delta=content)
        yield self._at(f"{kind.events}.done", **{kind.content: content})
        yield self._done(self._item(_COMPLETED, content))

    def _done(self, item: dict[str, Json]) -> _Event:
        event = ("response.output_item.done", {"output_index": self._index, "item": item})
        self._output.append(item)
        return event

    def _item(self, status: str, text: str) -> dict[str, Json]:
        """The item of the open part, which is thoughts or a tool call."""
        part = self._open.part if self._open is not None else None
        if isinstance(part, ir.ToolCall):
            return call_item(self._id(kind_of(part).prefix), part, text, status)
        thinking = part if isinstance(part, ir.Thinking) else ir.Thinking("")
        if self._open is not None and self._open.signature is not None:
            thinking = replace(thinking, signature=self._open.signature)
        signed = thinking if status == _COMPLETED else None
        return reasoning_item(self._id("rs"), text, signed)

    @property
    def _index(self) -> int:
        return len(self._output)

    def _id(self, prefix: str) -> str:
        return item_id(prefix, self._frame["id"], self._index)

    def _at(self, kind: str, **fields: Json) -> _Event:
        """An event of the open item."""
        if self._message is not None:
            prefix = "msg"
        elif self._open is not None and isinstance(self._open.part, ir.ToolCall):
            prefix = kind_of(self._open.part).prefix
        else:
            prefix = "rs"
        return kind, {"item_id": self._id(prefix), "output_index": self._index, **fields}

    def _content(self, kind: str, **fields: Json) -> _Event:
        """An event of the open content of the open message."""
        return self._at(kind, content_index=len(self._message or ()), **fields)

    def _summary(self, kind: str, **fields: Json) -> _Event:
        """An event of the open thoughts."""
        return self._at(f"response.reasoning_summary_{kind}", summary_index=0, **fields)


_HANDLERS: Final[Mapping[type[ir.Event], Callable[[ResponsesWriter, Json], Iterator[_Event]]]] = {
    ir.Started: ResponsesWriter.on_started,
    ir.PartStarted: ResponsesWriter.on_part_started,
    ir.Delta: ResponsesWriter.on_delta,
    ir.Signed: ResponsesWriter.on_signed,
    ir.Cited: ResponsesWriter.on_cited,
    ir.PartEnded: ResponsesWriter.on_part_ended,
    ir.Counted: ResponsesWriter.on_counted,
    ir.Finished: ResponsesWriter.on_finished,
    ir.Ended: ResponsesWriter.on_ended,
}
