"""Reads the stream of an Anthropic provider.

Source: Anthropic API documentation, "Streaming messages".
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from serve_app.dialects import ir
from serve_app.dialects.anthropic_messages.answers import read_finish, read_part, read_refusal
from serve_app.dialects.anthropic_messages.arguments import read_arguments
from serve_app.dialects.anthropic_messages.errors import event_error, failure_in
from serve_app.dialects.anthropic_messages.read_blocks import read_citation
from serve_app.dialects.anthropic_messages.usage import merge_usage, usage_of
from serve_app.dialects.json_edits import read_object
from serve_app.dialects.json_values import object_of, text_of
from serve_app.dialects.part_sequence import PartSequence
from serve_app.dialects.protocol import ErrorInfo
from serve_app.dialects.sse import Event
from serve_app.domain import Json

_FIRST_OF_DELTA: Final[Mapping[str, str]] = MappingProxyType(
    {"text_delta": "text", "thinking_delta": "thinking"}
)
"""Blocks that a server may begin with a delta."""


@dataclass(slots=True)
class _Block:
    """A block of the stream."""

    key: int
    part: ir.AnswerPart
    arguments: str = ""
    """What its start has of them; they count if no delta brings any."""
    has_deltas: bool = False


class MessagesReader:
    """Reads one stream; what a sloppy server leaves out is filled in where it can be told."""

    def __init__(self) -> None:
        self._parts = PartSequence()
        self._blocks: dict[Json, _Block] = {}
        """The blocks that are open, by their index."""
        self._count = 0
        self._usage: dict[str, Json] = {}
        self._id = ""
        self._calls = self._started = self._finished = self._over = False
        self._speaks = False
        """A block has content, or is neither text nor thoughts."""
        self._handlers: Mapping[str, Callable[[dict[str, Json]], Iterable[ir.Event]]] = {
            "message_start": self._message_start,
            "content_block_start": self._block_start,
            "content_block_delta": self._block_delta,
            "content_block_stop": self._block_stop,
            "message_delta": self._message_delta,
            "message_stop": self._message_stop,
        }

    def read(self, event: Event) -> Iterable[ir.Event]:
        """What an event says; nothing for one that is not known."""
        if self._over or event.data is None:
            return []
        data = read_object(event.data)
        if data is None:
            return []
        kind = text_of(data.get("type")) or event.name
        handler = self._handlers.get(kind)
        try:
            if handler is not None:
                return list(handler(data))
            is_error = kind == "error" or data.get("error")
            return self._fail(event_error(event.data)) if is_error else []
        except RecursionError:
            self._over = True
            return [ir.Failed("the provider sent an event that is nested too deeply", 502)]

    def _fail(self, error: ErrorInfo) -> list[ir.Event]:
        self._over = True
        return [ir.Failed(error.message, error.status, error.code)]

    def end(self) -> Iterable[ir.Event]:
        """Nothing: an answer is complete with ``message_stop`` only."""
        return []

    def _message_start(self, data: dict[str, Json]) -> Iterator[ir.Event]:
        if self._started:
            return
        message = object_of(data.get("message"))
        self._id = text_of(message.get("id"))
        has_usage = merge_usage(self._usage, message.get("usage"))
        self._started = True
        usage = usage_of(self._usage) if has_usage else None
        yield ir.Started(self._id, text_of(message.get("model")), usage=usage)

    def _start(self) -> Iterator[ir.Event]:
        """The beginning of a stream whose server leaves it out."""
        if not self._started:
            self._started = True
            yield ir.Started("", "")

    def _block_start(self, data: dict[str, Json]) -> Iterator[ir.Event]:
        if self._finished:
            return
        yield from self._start()
        index = _index(data, default=self._count)
        if index in self._blocks:
            yield from self._close(index)
        yield from self._open(index, data.get("content_block"))

    def _open(self, index: int, content: Json) -> Iterator[ir.Event]:
        """Begins a part; what its block has already follows as deltas."""
        key, self._count = self._count, self._count + 1
        whole = read_part(content, self._id, key)
        part, text = _emptied(whole)
        block = self._blocks[index] = _Block(key, part)
        self._calls = self._calls or isinstance(part, ir.ToolCall)
        is_speech = isinstance(part, ir.Text | ir.Thinking)
        self._speaks = self._speaks or part != whole or not is_speech
        yield from self._parts.start(key, part)
        if isinstance(whole, ir.ToolCall):
            block.arguments = text
        elif text:
            yield from self._parts.add(key, ir.Delta(text))
        if isinstance(whole, ir.Thinking) and whole.signature:
            yield from self._parts.add(key, ir.Signed(whole.signature))
        if isinstance(whole, ir.Text):
            for citation in whole.citations:
                yield from self._parts.add(key, ir.Cited(citation))

    def _block_delta(self, data: dict[str, Json]) -> Iterable[ir.Event]:
        if self._finished:
            return ()
        delta = object_of(data.get("delta"))
        index = _index(data, default=next(reversed(self._blocks), self._count))
        begun: list[ir.Event] = []
        if index not in self._blocks:
            kind = _FIRST_OF_DELTA.get(text_of(delta.get("type")))
            if kind is None:
                return ()
            begun = [*self._start(), *self._open(index, {"type": kind})]
        block = self._blocks[index]
        piece = _piece(block.part, delta)
        if piece is None:
            return begun
        block.has_deltas = self._speaks = True
        more = self._parts.add(block.key, piece)
        return [*begun, *more] if begun else more

    def _block_stop(self, data: dict[str, Json]) -> Iterator[ir.Event]:
        yield from self._close(_index(data, default=next(reversed(self._blocks), 0)))

    def _close(self, index: int) -> Iterator[ir.Event]:
        block = self._blocks.pop(index, None)
        if block is None:
            return
        if block.arguments and not block.has_deltas:
            yield from self._parts.add(block.key, ir.Delta(block.arguments))
        yield from self._parts.end(block.key)

    def _message_delta(self, data: dict[str, Json]) -> Iterator[ir.Event]:
        delta = object_of(data.get("delta"))
        failure = failure_in(delta)
        if failure is not None:
            yield from self._fail(failure)
            return
        if delta.get("stop_reason"):
            yield from self._finish(delta)
        if merge_usage(self._usage, data.get("usage")):
            yield from self._start()
            yield ir.Counted(usage_of(self._usage))

    def _finish(self, delta: dict[str, Json]) -> Iterator[ir.Event]:
        """Ends all parts, and says why the answer ended."""
        if self._finished:
            return
        yield from self._start()
        for index in list(self._blocks):
            yield from self._close(index)
        yield from self._parts.end_all()
        self._finished = True
        reason = read_finish(delta.get("stop_reason"), calls=self._calls)
        refusal = read_refusal(delta, reason)
        if refusal is not None:
            yield from (ir.PartStarted(ir.Refusal("")), ir.Delta(refusal.text), ir.PartEnded())
        yield ir.Finished(reason, text_of(delta.get("stop_sequence")) or None)

    def _message_stop(self, data: dict[str, Json]) -> Iterator[ir.Event]:
        del data
        if not (self._speaks or self._finished):
            return  # an answer that never began, or has no reason to be empty, is not one
        yield from self._finish({})
        self._over = True
        yield ir.Ended()


def _index(data: dict[str, Json], *, default: int) -> int:
    index = data.get("index")
    return index if isinstance(index, int) and not isinstance(index, bool) else default


def _emptied(part: ir.AnswerPart) -> tuple[ir.AnswerPart, str]:
    """A part as it is when it begins, and the text that it has already."""
    match part:
        case ir.Text(text=text):
            return ir.Text(""), text
        case ir.Thinking(text=text):
            return ir.Thinking("", None, part.origin, part.is_redacted), text
        case ir.ToolCall(arguments=arguments):
            return ir.ToolCall(part.id, part.name), arguments
        case _:
            return part, ""


def _piece(part: ir.AnswerPart, delta: dict[str, Json]) -> ir.Delta | ir.Signed | ir.Cited | None:
    """What a delta adds to its part; None for one that does not fit it, or is empty."""
    text = ""
    match delta.get("type"), part:
        case "text_delta", ir.Text():
            text = text_of(delta.get("text"))
        case "thinking_delta", ir.Thinking():
            text = text_of(delta.get("thinking"))
        case "input_json_delta", ir.ToolCall():
            text = read_arguments(delta.get("partial_json"))
        case "signature_delta", ir.Thinking():
            signature = text_of(delta.get("signature"))
            return ir.Signed(signature) if signature else None
        case "citations_delta", ir.Text():
            citation = read_citation(delta.get("citation"))
            return None if citation is None else ir.Cited(citation)
    return ir.Delta(text) if text else None
