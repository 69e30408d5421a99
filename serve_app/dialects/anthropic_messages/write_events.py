"""Writes a stream for an Anthropic client.

Source: Anthropic API documentation, "Streaming messages".
"""

from typing import Final

from serve_app.dialects import ir
from serve_app.dialects.anthropic_messages.answers import (
    call_id,
    message_head,
    write_finish,
    write_signature,
)
from serve_app.dialects.anthropic_messages.errors import MessagesErrors
from serve_app.dialects.anthropic_messages.usage import write_delta_usage, write_usage
from serve_app.dialects.json_values import JsonTemplate, json_bytes
from serve_app.domain import Json
from serve_app.errors import GatewayError

_DELTA: Final = "content_block_delta"


class MessagesWriter:
    """Writes one stream as the API does: blocks with indexes 0 to n, one after the other.

    A block begins with its first content: an answer with an empty text block would be refused by
    the API when the client sends it back.
    """

    def __init__(self, request: ir.Request) -> None:
        self._request = request
        self._id = ""
        self._index = 0
        self._part: ir.AnswerPart | None = None
        self._is_open = False
        self._deltas: dict[str, JsonTemplate] = {}
        """Of the open block, by their types."""
        self._blank: list[str] = []
        """White space that begins a text: left out if nothing follows it."""
        self._has_arguments = False
        self._has_started = False
        self._usage: ir.Usage | None = None
        self._finished = ir.Finished(ir.Finish.STOP)
        self._refusals: list[str] = []

    def write(self, event: ir.Event) -> bytes:
        """The events for the client; empty for what it has no event for."""
        if not self._has_started:
            head = event if isinstance(event, ir.Started) else ir.Started("", "")
            return self._start(head) + self.write(event)
        match event:
            case ir.Delta(text=text):
                return self._add(text) if text else b""
            case ir.PartStarted(part=part):
                return self._start_part(part)
            case ir.Signed(signature=signature):
                return self._sign(signature)
            case ir.PartEnded():
                return self._end_part()
            case ir.Counted(usage=usage):
                self._usage = usage
            case ir.Finished():
                self._finished = event
            case ir.Ended():
                return self._end()
        return b""

    def fail(self, error: GatewayError) -> bytes:
        """The error as the last event; the official SDKs raise it."""
        return MessagesErrors().render_error_event(error)

    def _start(self, event: ir.Started) -> bytes:
        self._id, self._usage, self._has_started = event.id, event.usage, True
        message = {
            **message_head(event.id, event.model),
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "stop_details": None,
            "usage": write_usage(event.usage),
        }
        return _event("message_start", {"message": message})

    def _start_part(self, part: ir.AnswerPart) -> bytes:
        before = self._end_part()
        self._part, self._has_arguments = part, False
        match part:
            case ir.ToolCall():
                return before + self._add(part.arguments)
            case ir.Thinking(signature=signature):
                thoughts = self._add(part.text) if part.text else b""
                return before + thoughts + self._sign(signature or "")
            case ir.Text(text=text) | ir.Refusal(text=text) if text:
                return before + self._add(text)
        return before

    def _add(self, text: str) -> bytes:
        """More text of the open part."""
        match self._part:
            case ir.Text() | ir.Refusal():
                return self._speak(text)
            case ir.Thinking(is_redacted=False):
                return self._open() + self._delta("thinking_delta", "thinking", text)
            case ir.ToolCall():
                self._has_arguments = self._has_arguments or bool(text.strip())
                return self._open() + self._delta("input_json_delta", "partial_json", text)
        return b""

    def _speak(self, text: str) -> bytes:
        """More of a text, once it is more than white space."""
        if isinstance(self._part, ir.Refusal):
            self._refusals.append(text)
        if self._is_open:
            return self._delta("text_delta", "text", text)
        self._blank.append(text)
        if text.isspace():
            return b""
        return self._open() + self._delta("text_delta", "text", "".join(self._blank))

    def _sign(self, signature: str) -> bytes:
        """The signature of the open thoughts."""
        part = self._part
        if not isinstance(part, ir.Thinking) or not signature:
            return b""
        proof = write_signature(ir.Thinking("", signature, part.origin))
        if part.is_redacted:
            return self._open(proof)
        return self._open() + self._delta("signature_delta", "signature", proof)

    def _open(self, data: str = "") -> bytes:
        """Begins the block of the open part, unless it has begun. ``data``: of hidden thoughts."""
        if self._is_open:
            return b""
        block: Json
        match self._part:
            case ir.ToolCall(id=identity, name=name):
                identity = identity or call_id(self._id, self._index)
                block = {"type": "tool_use", "id": identity, "name": name, "input": {}}
            case ir.Thinking(is_redacted=True):
                block = {"type": "redacted_thinking", "data": data}
            case ir.Thinking():
                block = {"type": "thinking", "thinking": "", "signature": ""}
            case _:
                block = {"type": "text", "text": "", "citations": None}
        self._is_open = True
        return _event("content_block_start", {"index": self._index, "content_block": block})

    def _delta(self, kind: str, key: str, text: str) -> bytes:
        """A piece of the open block."""
        template = self._deltas.get(kind)
        if template is None:
            delta = {"type": kind, key: JsonTemplate.PLACE}
            fields = {"type": _DELTA, "index": self._index, "delta": delta}
            template = self._deltas[kind] = JsonTemplate(fields, head=_head(_DELTA), tail=b"\n\n")
        return template.fill(text)

    def _end_part(self) -> bytes:
        self._blank.clear()
        if not self._is_open:
            return b""
        rest = b""
        if isinstance(self._part, ir.ToolCall) and not self._has_arguments:
            rest = self._delta("input_json_delta", "partial_json", "{}")
        stop = _event("content_block_stop", {"index": self._index})
        self._index += 1
        self._deltas.clear()
        self._part, self._is_open = None, False
        return rest + stop

    def _end(self) -> bytes:
        """The end of the message; here, because the usage may come after the reason."""
        finished = self._finished
        delta = write_finish(
            finished.reason, finished.stop_sequence, self._request, refusals=self._refusals
        )
        usage = write_delta_usage(self._usage)
        end = _event("message_delta", {"delta": delta, "usage": usage})
        return self._end_part() + end + _event("message_stop", {})


def _event(kind: str, fields: dict[str, Json]) -> bytes:
    return _head(kind) + json_bytes({"type": kind, **fields}) + b"\n\n"


def _head(kind: str) -> bytes:
    """What an event has before its data: its name; the official SDKs ignore one without."""
    return b"event: %b\ndata: " % kind.encode()
