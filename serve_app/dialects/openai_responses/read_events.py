"""Reads the stream of a provider.

Source: OpenAI API reference, "Responses", "Streaming events". Servers that send a text only when
it is done, without its pieces, are understood as well.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from serve_app.dialects import ir
from serve_app.dialects.json_edits import read_object
from serve_app.dialects.json_values import count_of, object_of, objects_of, seconds_of, text_of
from serve_app.dialects.openai_responses.answers import USAGE, read_finish
from serve_app.dialects.openai_responses.errors import BROKEN_STATUSES
from serve_app.dialects.openai_responses.failures import read_failure
from serve_app.dialects.openai_responses.output_items import (
    CALLS,
    CUSTOM_CALL,
    FUNCTION_CALL,
    ORIGIN,
    CallKind,
    read_call,
    read_citation,
    read_citations,
    read_logprobs,
    read_signature,
)
from serve_app.dialects.part_sequence import PartSequence, Piece
from serve_app.dialects.sse import Event
from serve_app.dialects.tool_arguments import arguments_of
from serve_app.domain import Json

_Object = Mapping[str, Json]
_TEXT: Final = ir.Text("")


@dataclass(slots=True)
class _Item:
    """An item of the output that has begun."""

    index: int
    number: int
    """Its own, where a server uses an index twice."""
    announced: _Object = field(default_factory=dict)
    """As it was when it began."""
    keys: dict[Hashable, None] = field(default_factory=dict)
    """Of its parts, in order."""
    written: set[Hashable] = field(default_factory=set)
    """Of its texts those that have come, piece by piece or whole."""
    cited: set[int] = field(default_factory=set)
    shows: str = ""
    """Whether its thoughts are ``content`` or a ``summary``; what comes first counts."""
    is_done: bool = False


class ResponsesReader:
    """Reads one stream of a provider."""

    def __init__(self) -> None:
        self._parts = PartSequence()
        self._items: dict[int, _Item] = {}
        self._places: dict[str, int] = {}
        """The index of an item by its id, and by the id of its call."""
        self._last = self._count = 0
        self._started = self._over = False
        self._begun: list[ir.AnswerPart] = []
        """Parts of the answer so far, without their content."""

    def read(self, event: Event) -> Iterable[ir.Event]:
        """What an event says; nothing after the stream's end."""
        data = None if event.data is None or self._over else read_object(event.data)
        return [] if data is None else self._read(data, event.name)

    def end(self) -> Iterable[ir.Event]:
        """Nothing: only an event of its own ends a stream of this dialect."""
        return ()

    def _read(self, data: dict[str, Json], name: str) -> list[ir.Event]:
        kind = data["type"] = text_of(data.get("type")) or name
        handler = _HANDLERS.get(kind)
        if kind in _FAILURES or (handler is None and data.get("error")):
            self._over = True
            return [read_failure(data)]
        if handler is None:
            return []
        response = data.get("response")
        if kind in _ENDS and not self._started and not isinstance(response, dict):
            return []  # an answer that never began is not an empty one
        return [*self._start(object_of(response)), *handler(self, data)]

    def _start(self, response: _Object) -> tuple[ir.Started, ...]:
        if self._started:
            return ()
        self._started = True
        created = seconds_of(response.get("created_at"))
        return (ir.Started(text_of(response.get("id")), text_of(response.get("model")), created),)

    def on_head(self, data: _Object) -> Iterator[ir.Event]:
        """The stream begins, or still has no content."""
        del data
        return iter(())

    def on_item_added(self, data: _Object) -> Iterator[ir.Event]:
        """An item begins. A server may have filled it, so it is kept until it is done."""
        item, announced = self._item(data), object_of(data.get("item"))
        if item.is_done and not self._knows(announced):  # the server uses its index again
            item = self._new(item.index)
        if not item.is_done:
            item.announced = announced
            self._note_ids(announced, item.index)
            kind = text_of(announced.get("type"))
            if kind in CALLS:
                yield from self._start_call(item, announced, CALLS[kind])
            elif kind not in ("message", "reasoning"):
                yield from self._foreign(item, kind)

    def on_text(self, data: _Object) -> Iterable[ir.Event]:
        """A piece of a text."""
        item, logprobs = self._item(data), read_logprobs(data.get("logprobs"))
        return self._say(item, data, _TEXT, text_of(data.get("delta")), logprobs)

    def on_text_done(self, data: _Object) -> Iterator[ir.Event]:
        """A whole text, which counts if its pieces have not come."""
        item = self._item(data)
        if _position(data) not in item.written:
            logprobs = read_logprobs(data.get("logprobs"))
            yield from self._say(item, data, ir.Text(""), text_of(data.get("text")), logprobs)

    def on_refusal(self, data: _Object) -> Iterator[ir.Event]:
        """A piece of a refusal."""
        yield from self._say(self._item(data), data, ir.Refusal(""), text_of(data.get("delta")))

    def on_refusal_done(self, data: _Object) -> Iterator[ir.Event]:
        """A whole refusal."""
        item = self._item(data)
        if _position(data) not in item.written:
            yield from self._say(item, data, ir.Refusal(""), text_of(data.get("refusal")))

    def on_annotation(self, data: _Object) -> Iterator[ir.Event]:
        """A source of a text."""
        citation = read_citation(object_of(data.get("annotation")))
        if citation is not None:
            item, position = self._item(data), _position(data)
            item.cited.add(position)
            yield from self._add(item, position, ir.Text(""), ir.Cited(citation))

    def on_part_done(self, data: _Object) -> Iterator[ir.Event]:
        """A part of a message or of thoughts is complete."""
        item, part = self._item(data), object_of(data.get("part"))
        yield from self._close_content(item, _position(data), part)

    def on_thought(self, data: _Object) -> Iterator[ir.Event]:
        """A piece of what the model thinks, or all of it."""
        key = "summary" if "summary" in data["type"] else "content"
        item, position = self._item(data), _position(data, f"{key}_index")
        whole = text_of(data.get("text")) or text_of(object_of(data.get("part")).get("text"))
        if "delta" in data:
            yield from self._think(item, key, position, text_of(data["delta"]))
        elif (key, position) not in item.written:
            yield from self._think(item, key, position, whole)

    def on_arguments(self, data: _Object) -> Iterator[ir.Event]:
        """A piece of what a tool gets, or all of it."""
        kind = CUSTOM_CALL if CUSTOM_CALL.events in data["type"] else FUNCTION_CALL
        item = self._item(data)
        yield from self._start_call(item, item.announced, kind)
        if "delta" in data:
            yield from self._argue(item, text_of(data["delta"]))
        elif "arguments" not in item.written:
            yield from self._argue(item, arguments_of(data.get(kind.content)))

    def on_item_done(self, data: _Object) -> Iterator[ir.Event]:
        """An item is complete."""
        yield from self._finish(self._item(data), object_of(data.get("item")))

    def on_end(self, data: _Object) -> Iterator[ir.Event]:
        """The answer is complete, or is as long as it may be."""
        response = dict(object_of(data.get("response")))
        self._over = True
        if response.get("status") in BROKEN_STATUSES:
            yield read_failure(data)
            return
        if data["type"] == "response.incomplete":
            response["status"] = "incomplete"
        yield from self._recover(objects_of(response.get("output")))
        yield from self._parts.end_all()
        usage = USAGE.read(response.get("usage"))
        if usage is not None:
            yield ir.Counted(usage)
        yield ir.Finished(read_finish(response, self._begun))
        yield ir.Ended()

    def _recover(self, output: list[dict[str, Json]]) -> Iterator[ir.Event]:
        """Completes items that the events have left open, and adds those that none spoke of.

        Indexes of events may have gaps, and ids may differ from event to event, so an item is new
        only where its index and its ids are, and there are more items than the events spoke of.
        """
        has_more = len(output) > len(self._items)
        for index, whole in enumerate(output):
            known = self._items.get(index)
            if known is None and has_more and not self._knows(whole):
                yield from self._finish(self._new(index), whole)
            elif known is not None and _same_type(known.announced, whole):
                yield from self._finish(known, whole)
        for item in self._items.values():
            yield from self._finish(item, item.announced)

    def _finish(self, item: _Item, whole: _Object) -> Iterator[ir.Event]:
        if item.is_done:
            return
        item.is_done = True
        kind = text_of(whole.get("type"))
        if kind == "message":
            content = whole.get("content")
            if isinstance(content, str):
                content = [{"type": "output_text", "text": content}]
            for position, part in enumerate(objects_of(content)):
                yield from self._close_content(item, position, part)
        elif kind in CALLS:
            yield from self._start_call(item, whole, CALLS[kind])
            if "arguments" not in item.written:
                yield from self._argue(item, arguments_of(whole.get(CALLS[kind].content)))
        elif kind == "reasoning":
            yield from self._finish_thinking(item, whole)
        else:
            yield from self._foreign(item, kind)
        for key in item.keys:
            yield from self._parts.end(key)

    def _finish_thinking(self, item: _Item, whole: _Object) -> Iterator[ir.Event]:
        for key in ("content", "summary"):
            for position, part in enumerate(objects_of(whole.get(key))):
                if (key, position) not in item.written:
                    yield from self._think(item, key, position, text_of(part.get("text")))
        signature = read_signature(whole)
        if signature is not None:
            thinking = ir.Thinking("", origin=ORIGIN)
            yield from self._add(item, "thinking", thinking, ir.Signed(signature))

    def _close_content(self, item: _Item, position: int, part: _Object) -> Iterator[ir.Event]:
        at = {"content_index": position}
        kind = text_of(part.get("type"))
        if kind == "reasoning_text":
            if ("content", position) not in item.written:
                yield from self._think(item, "content", position, text_of(part.get("text")))
            return
        if kind == "refusal":
            if position not in item.written:
                yield from self._say(item, at, ir.Refusal(""), text_of(part.get("refusal")))
        elif "text" in part:
            if position not in item.written:
                logprobs = read_logprobs(part.get("logprobs"))
                yield from self._say(item, at, ir.Text(""), text_of(part["text"]), logprobs)
            if position in item.written and position not in item.cited:
                for citation in read_citations(part):
                    yield from self._add(item, position, ir.Text(""), ir.Cited(citation))
                item.cited.add(position)
        else:
            yield from self._foreign(item, kind)
        yield from self._parts.end((item.number, position))

    def _say(
        self,
        item: _Item,
        at: _Object,
        part: ir.Text | ir.Refusal,
        text: str,
        logprobs: tuple[Json, ...] = (),
    ) -> Iterable[ir.Event]:
        if not text and not logprobs:
            return ()
        position = _position(at)
        item.written.add(position)
        return self._add(item, position, part, ir.Delta(text, logprobs))

    def _think(self, item: _Item, key: str, position: int, text: str) -> Iterator[ir.Event]:
        """Adds to the thoughts of an item; a blank line divides their parts."""
        if text and item.shows in ("", key):
            item.shows = key
            is_new = (key, position) not in item.written
            gap = "\n\n" if is_new and item.written else ""
            item.written.add((key, position))
            thinking = ir.Thinking("", origin=ORIGIN)
            yield from self._add(item, "thinking", thinking, ir.Delta(gap + text))

    def _start_call(self, item: _Item, call: _Object, kind: CallKind) -> Iterator[ir.Event]:
        """Begins a tool call once its name is known."""
        if text_of(call.get("name")):
            part = read_call({**call, kind.content: ""}, kind, item.index)
            yield from self._begin(item, (item.number, "arguments"), part)

    def _argue(self, item: _Item, text: str) -> Iterator[ir.Event]:
        key = (item.number, "arguments")
        if text and key in item.keys:
            item.written.add("arguments")
            yield from self._parts.add(key, ir.Delta(text))

    def _foreign(self, item: _Item, kind: str) -> Iterator[ir.Event]:
        key = (item.number, kind)
        if kind:
            yield from self._begin(item, key, ir.Foreign(kind))
            yield from self._parts.end(key)

    def _add(
        self, item: _Item, name: Hashable, part: ir.AnswerPart, piece: Piece
    ) -> Iterable[ir.Event]:
        key = (item.number, name)
        if key in item.keys:
            return self._parts.add(key, piece)
        return [*self._begin(item, key, part), *self._parts.add(key, piece)]

    def _begin(self, item: _Item, key: Hashable, part: ir.AnswerPart) -> Iterator[ir.Event]:
        if key not in item.keys:
            item.keys[key] = None
            self._begun.append(part)
            yield from self._parts.start(key, part)

    def _item(self, data: _Object) -> _Item:
        """The item of an event: by index, or by id, or the one before."""
        index = count_of(data.get("output_index"))
        if index is None:
            index = self._places.get(text_of(data.get("item_id")), self._last)
        self._last = index
        return self._items.get(index) or self._new(index)

    def _new(self, index: int) -> _Item:
        self._count += 1
        self._items[index] = _Item(index, self._count)
        return self._items[index]

    def _note_ids(self, item: _Object, index: int) -> None:
        for key in ("id", "call_id"):
            if name := text_of(item.get(key)):
                self._places[name] = index

    def _knows(self, item: _Object) -> bool:
        return any(text_of(item.get(key)) in self._places for key in ("id", "call_id"))


def _position(data: _Object, key: str = "content_index") -> int:
    return count_of(data.get(key)) or 0


def _same_type(announced: _Object, whole: _Object) -> bool:
    return not announced or announced.get("type") == whole.get("type")


_FAILURES: Final = ("error", "response.failed")
_ENDS: Final = ("response.completed", "response.incomplete")

_HANDLERS: Final[Mapping[str, Callable[[ResponsesReader, _Object], Iterable[ir.Event]]]] = {
    "response.created": ResponsesReader.on_head,
    "response.in_progress": ResponsesReader.on_head,
    "response.queued": ResponsesReader.on_head,
    "response.output_item.added": ResponsesReader.on_item_added,
    "response.output_item.done": ResponsesReader.on_item_done,
    "response.content_part.done": ResponsesReader.on_part_done,
    "response.output_text.delta": ResponsesReader.on_text,
    "response.output_text.done": ResponsesReader.on_text_done,
    "response.output_text.annotation.added": ResponsesReader.on_annotation,
    "response.refusal.delta": ResponsesReader.on_refusal,
    "response.refusal.done": ResponsesReader.on_refusal_done,
    "response.reasoning_summary_part.done": ResponsesReader.on_thought,
    "response.reasoning_summary_text.delta": ResponsesReader.on_thought,
    "response.reasoning_summary_text.done": ResponsesReader.on_thought,
    "response.reasoning_text.delta": ResponsesReader.on_thought,
    "response.reasoning_text.done": ResponsesReader.on_thought,
    f"{FUNCTION_CALL.events}.delta": ResponsesReader.on_arguments,
    f"{FUNCTION_CALL.events}.done": ResponsesReader.on_arguments,
    f"{CUSTOM_CALL.events}.delta": ResponsesReader.on_arguments,
    f"{CUSTOM_CALL.events}.done": ResponsesReader.on_arguments,
    "response.completed": ResponsesReader.on_end,
    "response.incomplete": ResponsesReader.on_end,
}
