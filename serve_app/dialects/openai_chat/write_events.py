"""A stream of chat completions for a client.

Source: OpenAI API reference, "Chat", "Streaming"; ``reasoning_details`` as OpenRouter streams them.
"""

import time
from typing import Final

from serve_app.dialects import ir
from serve_app.dialects.json_values import JsonTemplate, json_bytes
from serve_app.dialects.openai_chat.answers import (
    GAP,
    USAGE,
    annotation,
    has_functions,
    is_for,
    prefixed,
)
from serve_app.dialects.openai_chat.finish_reasons import write_finish
from serve_app.dialects.openai_chat.reasoning import CHAT, details_for_client, format_of
from serve_app.dialects.openai_errors import OpenAIErrors
from serve_app.domain import Json
from serve_app.errors import GatewayError

_HEAD: Final = b"data: "
_TAIL: Final = b"\n\n"
_DONE: Final = b"data: [DONE]\n\n"


class ChatWriter:
    """Writes one stream for a client: chunks of one choice, and ``[DONE]``."""

    def __init__(self, request: ir.Request) -> None:
        self._request = request
        self._include_usage = request.include_usage
        self._has_functions = has_functions(request)
        self._head: dict[str, Json] = {}
        """What every chunk begins with; empty until the stream has started."""
        self._templates: dict[str | int, JsonTemplate] = {}
        """Of chunks with one text, by what ``_text`` gets."""
        self._usage: ir.Usage | None = None
        self._part: ir.AnswerPart | None = None
        self._calls = 0
        self._thoughts = 0
        self._has_refusal = False
        self._has_arguments = False
        self._signature: str | None = None
        self._length = 0
        """Characters of text so far."""
        self._start = 0
        """Where the open text begins in it."""
        self._shown: set[type] = set()
        """Text, thoughts or both, as far as there were any so far."""
        self._gaps: dict[type, str] = {}
        """What goes before the next text or thoughts."""

    def write(self, event: ir.Event) -> bytes:
        """The chunks for an event; empty where a chat client needs none."""
        match event:
            case ir.Delta():
                return self._piece(event)
            case ir.Started():
                return self._open(event)
            case ir.PartStarted():
                return self._begin(event.part)
            case ir.Signed():
                self._signature = event.signature
            case ir.Cited():
                cited = annotation(event.citation, self._start, self._length - self._start)
                return self._delta({"annotations": [cited]})
            case ir.PartEnded():
                return self._end_part()
            case ir.Counted():
                self._usage = event.usage
            case ir.Finished():
                return self._finish(event.reason)
            case ir.Ended():
                return self._end()
        return b""

    def fail(self, error: GatewayError) -> bytes:
        """The error; nothing follows it, so that no client takes the answer for complete."""
        return OpenAIErrors().render_error_event(error)

    def _open(self, event: ir.Started) -> bytes:
        created = int(time.time()) if event.created is None else event.created
        self._head = {
            "id": prefixed(event.id, created),
            "object": "chat.completion.chunk",
            "created": created,
            "model": event.model,
        }
        self._usage = event.usage
        return self._delta({"role": "assistant", "content": ""})

    def _begin(self, part: ir.AnswerPart) -> bytes:
        self._part = part if is_for(part, self._request) else None
        self._signature = None
        if self._part is not None and not isinstance(part, ir.Text):
            self._split(ir.Text)
        match self._part:
            case ir.ToolCall() as call:
                return self._begin_call(call)
            case ir.Text() as text:
                self._start = self._length + len(self._gaps.get(ir.Text, ""))
                return self._piece(ir.Delta(text.text, text.logprobs))
            case ir.Thinking() as thinking:
                self._split(ir.Thinking)
                self._signature = thinking.signature
                return self._piece(ir.Delta(thinking.text))
            case ir.Refusal() as refusal:
                self._has_refusal = True
                return self._piece(ir.Delta(refusal.text))
        return b""

    def _split(self, kind: type) -> None:
        """Sets what comes next of this kind apart from what has been shown of it."""
        if kind in self._shown:
            self._gaps[kind] = GAP

    def _begin_call(self, call: ir.ToolCall) -> bytes:
        self._calls += 1
        self._has_arguments = bool(call.arguments)
        if self._has_functions:
            function = {"name": call.name, "arguments": call.arguments}
            return self._delta({"function_call": function}) if self._calls == 1 else b""
        kind, key = ("custom", "input") if call.is_custom else ("function", "arguments")
        opened = {"name": call.name, key: call.arguments}
        return self._call({"id": call.id, "type": kind, kind: opened})

    def _piece(self, piece: ir.Delta) -> bytes:
        part = self._part
        if not piece.text and not piece.logprobs:
            return b""
        match part:
            case ir.Text():
                text = self._with_gap(ir.Text, piece.text)
                self._length += len(text)
                if piece.logprobs:
                    return self._delta({"content": text}, piece.logprobs)
                return self._text("content", text)
            case ir.Thinking():
                return self._think(self._with_gap(ir.Thinking, piece.text), piece.text, part)
            case ir.Refusal():
                return self._text("refusal", piece.text)
            case ir.ToolCall():
                self._has_arguments = True
                return self._arguments(piece.text, part)
        return b""

    def _with_gap(self, kind: type, text: str) -> str:
        """The text, after a gap if it begins a part that is not the first of its kind."""
        if not text:
            return ""
        self._shown.add(kind)
        return self._gaps.pop(kind, "") + text

    def _think(self, shown: str, text: str, thinking: ir.Thinking) -> bytes:
        if not thinking.origin or thinking.origin == CHAT:
            return self._text("reasoning_content", shown)
        entry = {"type": "reasoning.text", "text": text, **format_of(thinking)}
        details = [{**entry, "index": self._thoughts}]  # it may be signed at its end
        return self._delta({"reasoning_content": shown, "reasoning_details": details})

    def _arguments(self, text: str, call: ir.ToolCall) -> bytes:
        if self._has_functions:
            return self._delta({"function_call": {"arguments": text}}) if self._calls == 1 else b""
        if call.is_custom:
            return self._call({"custom": {"input": text}})
        return self._text(self._calls - 1, text)

    def _call(self, fields: dict[str, Json]) -> bytes:
        return self._delta({"tool_calls": [{"index": self._calls - 1, **fields}]})

    def _text(self, key: str | int, text: str) -> bytes:
        """A chunk with one text: of this key of the delta, or the arguments of this call."""
        template = self._templates.get(key)
        if template is None:
            place: Json = JsonTemplate.PLACE
            if isinstance(key, int):
                call: Json = {"index": key, "function": {"arguments": place}}
                delta: dict[str, Json] = {"tool_calls": [call]}
            else:
                delta = {key: place}
            chunk = self._chunk([_choice(delta, None, None)])
            template = self._templates[key] = JsonTemplate(chunk, head=_HEAD, tail=_TAIL)
        return template.fill(text)

    def _end_part(self) -> bytes:
        part, self._part = self._part, None
        match part:
            case ir.ToolCall() if not self._has_arguments and not part.is_custom:
                return self._arguments("{}", part)
            case ir.Thinking():
                return self._end_thinking(part)
        return b""

    def _end_thinking(self, thinking: ir.Thinking) -> bytes:
        """The proof, in an entry of its own without text."""
        signed = ir.Thinking("", self._signature, thinking.origin, is_redacted=thinking.is_redacted)
        entry = details_for_client("", signed, self._thoughts)
        self._thoughts += 1
        return b"" if entry is None else self._delta({"reasoning_details": [entry]})

    def _finish(self, finish: ir.Finish) -> bytes:
        reason = write_finish(finish, has_refusal=self._has_refusal)
        if reason == "tool_calls" and self._has_functions:
            reason = "function_call"
        return _event(self._chunk([_choice({}, None, reason)]))

    def _end(self) -> bytes:
        if not self._include_usage or self._usage is None:
            return _DONE
        return _event(self._chunk([], USAGE.write(self._usage))) + _DONE

    def _delta(self, delta: dict[str, Json], logprobs: tuple[Json, ...] = ()) -> bytes:
        return _event(self._chunk([_choice(delta, logprobs or None, None)]))

    def _chunk(self, choices: list[Json], usage: Json = None) -> dict[str, Json]:
        chunk = {**self._head, "choices": choices}
        if self._include_usage:
            chunk["usage"] = usage
        return chunk


def _event(chunk: dict[str, Json]) -> bytes:
    return _HEAD + json_bytes(chunk) + _TAIL


def _choice(
    delta: dict[str, Json], logprobs: tuple[Json, ...] | None, reason: str | None
) -> dict[str, Json]:
    held = None if logprobs is None else {"content": list(logprobs), "refusal": None}
    return {"index": 0, "delta": delta, "logprobs": held, "finish_reason": reason}
