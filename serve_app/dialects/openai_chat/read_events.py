"""A stream of chat completions, read into ``ir`` events.

Source: OpenAI API reference, "Chat", "Streaming". ``Finished`` and ``Ended`` come with ``[DONE]``,
or when the provider closes a stream that had a finish reason: some send usage, and some even
content, after that.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, TypeAlias

from serve_app.dialects import ir
from serve_app.dialects.json_values import object_of, objects_of, read_json, seconds_of, text_of
from serve_app.dialects.openai_chat.answers import (
    USAGE,
    call_id,
    citations_in,
    first_choice,
    logprobs_in,
)
from serve_app.dialects.openai_chat.finish_reasons import failure_in, read_finish
from serve_app.dialects.openai_chat.reasoning import (
    CHAT,
    Thought,
    sign,
    thought_of_part,
    thoughts_in,
)
from serve_app.dialects.openai_chat.tool_deltas import ToolDeltas
from serve_app.dialects.openai_errors import error_info
from serve_app.dialects.part_sequence import PartSequence
from serve_app.dialects.protocol import ErrorInfo
from serve_app.dialects.sse import Event
from serve_app.dialects.tool_arguments import arguments_of
from serve_app.domain import Json

_Object: TypeAlias = Mapping[str, Json]
_DONE: Final = b"[DONE]"
_OF_USAGE: Final = frozenset({"usage", "x_groq"})
"""Keys of a chunk that may hold its usage."""
_PLAIN: Final = frozenset({"role", "content"})
"""Keys of a delta that says nothing but text."""
_BAD_GATEWAY: Final = 502
_UNREADABLE: Final = "the provider sent an event that is not JSON"


class ChatReader:
    """Reads one stream of a provider."""

    def __init__(self) -> None:
        self._parts = _StreamedParts()
        self._has_started = False
        self._is_over = False
        self._finish: str | None = None
        self._stop_reason: Json = None
        self._usage: ir.Usage | None = None

    def read(self, event: Event) -> Iterable[ir.Event]:
        """What an event says; a failure ends the stream."""
        data = (event.data or b"").strip()
        if self._is_over or not data:
            return ()
        if data == _DONE:
            return list(self._close()) if self._finish or self._parts.has_content else ()
        try:
            chunk = read_json(data)
        except (ValueError, RecursionError):
            # what is torn after the end does no harm
            return () if self._finish else self._fail(ir.Failed(_UNREADABLE, _BAD_GATEWAY))
        if not isinstance(chunk, dict):
            return ()
        if chunk.get("error") or event.name == "error":
            return self._fail(_reported(chunk.get("error") or chunk))
        return self._chunk(chunk)

    def end(self) -> Iterable[ir.Event]:
        """The end of a stream that had a finish reason; nothing for one that breaks off."""
        return () if self._is_over or not self._finish else list(self._close())

    def _fail(self, failure: ir.Failed) -> tuple[ir.Failed]:
        self._is_over = True
        return (failure,)

    def _chunk(self, chunk: _Object) -> Iterable[ir.Event]:
        choice = first_choice(chunk) or {}
        reason = choice.get("finish_reason")
        if reason or "error" in choice:
            failure = failure_in(choice)
            if failure is not None:
                return self._fail(_failed(failure))
        usage = _usage(chunk, choice)
        started = () if self._has_started else self._start(chunk, choice, usage)
        said = self._parts.read(choice)
        if reason:
            self._finish = text_of(reason) or self._finish
        self._stop_reason = choice.get("stop_reason") or self._stop_reason
        if usage is not None and usage != self._usage:
            self._usage = usage
            return [*started, *said, ir.Counted(usage)]
        return [*started, *said] if started else said

    def _start(
        self, chunk: _Object, choice: _Object, usage: ir.Usage | None
    ) -> tuple[ir.Started, ...]:
        if not choice and not usage:  # Azure's first chunk has no id
            return ()
        self._has_started = True
        created = seconds_of(chunk.get("created"))
        answer_id = text_of(chunk.get("id")) or str(created or "")
        self._parts.answer_id = answer_id
        return (ir.Started(answer_id, text_of(chunk.get("model")), created),)

    def _close(self) -> Iterator[ir.Event]:
        self._is_over = True
        yield from self._parts.end()
        yield read_finish(self._finish, self._stop_reason, self._parts.kinds)
        yield ir.Ended()


def _usage(chunk: _Object, choice: _Object) -> ir.Usage | None:
    """The usage of a chunk; Moonshot has it in the choice, Groq in a field of its own."""
    if chunk.keys().isdisjoint(_OF_USAGE) and "usage" not in choice:  # nearly always
        return None
    for place in (chunk, choice, object_of(chunk.get("x_groq"))):
        read = USAGE.read(place.get("usage"))
        if read is not None:
            return read
    return None


def _reported(error: Json) -> ir.Failed:
    try:
        reported = error_info(error)
    except RecursionError:
        return ir.Failed("the provider reports an error that is nested too deeply", _BAD_GATEWAY)
    return _failed(reported)


def _failed(error: ErrorInfo) -> ir.Failed:
    code = None if error.code is None else _whole(error.code)
    return ir.Failed(_whole(error.message), error.status, code)


def _whole(text: str) -> str:
    """A text without halves of surrogate pairs, which UTF-8 cannot hold."""
    return text.encode(errors="replace").decode()


class _StreamedParts:
    """The parts of one stream."""

    def __init__(self) -> None:
        self.answer_id = ""
        self.kinds: set[type[ir.AnswerPart]] = set()
        """Of the parts that have begun."""
        self._sequence = PartSequence()
        self._tools = ToolDeltas(lambda position: call_id(self.answer_id, position))
        self._speech: tuple[type[ir.AnswerPart], int] | None = None
        """The key of the text, refusal or thoughts that go on with the next piece."""
        self._count = 0
        self._blank: list[ir.Delta] = []
        """White space that begins a text: left out if nothing follows but other parts."""
        self._thought: Thought | None = None
        """The thoughts that go on, with all that is known of them but their text."""

    @property
    def has_content(self) -> bool:
        """True once the provider has said something."""
        return bool(self.kinds or self._blank)

    def read(self, choice: _Object) -> Iterable[ir.Event]:
        """What a choice says."""
        delta = choice.get("delta", choice.get("message"))
        if not isinstance(delta, dict):
            return ()
        content, logprobs = delta.get("content"), logprobs_in(choice)
        if delta.keys() <= _PLAIN:
            return self._content(content, logprobs)
        return self._everything(delta, content, logprobs)

    def _everything(
        self, delta: _Object, content: Json, logprobs: tuple[Json, ...]
    ) -> Iterator[ir.Event]:
        for thought in thoughts_in(delta):
            yield from self._think(thought)
        yield from self._content(content, logprobs)
        yield from self._beside_content(delta)

    def _beside_content(self, delta: _Object) -> Iterator[ir.Event]:
        refusal = text_of(delta.get("refusal"))
        if refusal:
            yield from self._say(ir.Refusal(""), ir.Delta(refusal))
        for entry in objects_of(delta.get("tool_calls")):
            yield from self._call(entry)
        function = object_of(delta.get("function_call"))
        if function and not delta.get("tool_calls"):
            arguments = arguments_of(function.get("arguments"))
            entry = {"name": function.get("name"), "arguments": arguments}
            yield from self._call({"index": 0, "function": entry})
        for citation in citations_in(delta):
            yield from self._cite(citation)

    def end(self) -> Iterator[ir.Event]:
        """Ends all parts."""
        if self._blank and not self.kinds:
            yield from self._flush()
        yield from self._leave()
        yield from self._sequence.end_all()

    def _content(self, content: Json, logprobs: tuple[Json, ...]) -> Iterable[ir.Event]:
        if isinstance(content, str):
            return self._text(ir.Delta(content, logprobs)) if content else ()
        return self._pieces(objects_of(content), logprobs)

    def _pieces(self, pieces: Iterable[_Object], logprobs: tuple[Json, ...]) -> Iterator[ir.Event]:
        for piece in pieces:
            if piece.get("type") == "thinking":
                thought = thought_of_part(piece)
                if thought.text:
                    yield from self._think(thought)
            elif text := text_of(piece.get("text")):
                yield from self._text(ir.Delta(text, logprobs))
                logprobs = ()

    def _text(self, delta: ir.Delta) -> Iterable[ir.Event]:
        if self._speech is not None and self._speech[0] is ir.Text:
            return self._sequence.add(self._speech, delta)
        self._blank.append(delta)
        return self._flush() if delta.text.strip() else ()

    def _flush(self) -> Iterator[ir.Event]:
        """Begins the text whose first white space was held back."""
        blank, self._blank = self._blank, []
        for delta in blank:
            yield from self._say(ir.Text(""), delta)

    def _say(self, part: ir.AnswerPart, piece: ir.Delta | None) -> Iterator[ir.Event]:
        """A piece of the part of this kind, which begins if another one came before."""
        if self._speech is None or self._speech[0] is not type(part):
            yield from self._begin(part)
        if piece is not None:
            yield from self._sequence.add(self._speech, piece)

    def _begin(self, part: ir.AnswerPart) -> Iterator[ir.Event]:
        yield from self._leave()
        self._count += 1
        self._speech = (type(part), self._count)
        self.kinds.add(type(part))
        yield from self._sequence.start(self._speech, part)

    def _leave(self) -> Iterator[ir.Event]:
        """Another part begins: what was open gets its signature."""
        self._blank.clear()
        if self._thought is not None and not self._thought.is_redacted:
            signature = sign(self._thought.form, self._thought.kept)
            yield from self._sequence.add(self._speech, ir.Signed(signature))
        self._thought = self._speech = None

    def _think(self, thought: Thought) -> Iterator[ir.Event]:
        if thought.is_redacted:
            yield from self._begin(
                ir.Thinking("", sign(thought.form, thought.kept), CHAT, is_redacted=True)
            )
            self._thought = thought
            return
        before = self._thought
        if before is None or before.place != thought.place or (before.is_signed and thought.text):
            yield from self._begin(ir.Thinking("", origin=CHAT))
            self._thought = thought
        else:
            kept = {**before.kept, **thought.kept}
            self._thought = Thought("", before.form, kept, before.index)
        if thought.text:
            yield from self._sequence.add(self._speech, ir.Delta(thought.text))

    def _call(self, entry: _Object) -> Iterator[ir.Event]:
        for number, piece in self._tools.read(entry):
            if isinstance(piece, ir.Delta):
                yield from self._sequence.add((ir.ToolCall, -number), piece)
            else:
                yield from self._leave()
                self.kinds.add(type(piece))
                yield from self._sequence.start((type(piece), -number), piece)

    def _cite(self, citation: ir.Citation) -> Iterator[ir.Event]:
        if self._speech is not None and self._speech[0] is ir.Text:
            yield from self._sequence.add(self._speech, ir.Cited(citation))
