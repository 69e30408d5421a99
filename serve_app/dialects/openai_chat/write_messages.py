"""The messages of a conversation for a provider of chat completions.

Source: OpenAI API reference, "Chat", field ``messages``. Only what nearly every server takes is
written: one string as content where there is nothing but text, and the role ``system`` where OpenAI
has ``developer`` too.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NoReturn

from serve_app.dialects import ir
from serve_app.dialects.data_urls import DOCUMENT_NAME, PDF, PNG, data_url, text_of_document
from serve_app.dialects.openai_chat.reasoning import (
    CHAT,
    EXTRA,
    extras_of_calls,
    thoughts_for_provider,
)
from serve_app.dialects.openai_requests import OPENAI, needs_error_mark
from serve_app.domain import Json
from serve_app.errors import InvalidRequest

_GAP: Final = "\n\n"
_NO_PDF: Final = "the provider does not support PDF input or other documents by {}"


class MessageWriter:
    """Writes the messages of one request, and notes what it leaves out.

    ``is_strict``: the model refuses fields that OpenAI does not have, except for its own thoughts.
    """

    def __init__(self, dialect: str, *, is_strict: bool) -> None:
        self._dialect = dialect
        self._is_strict = is_strict
        self._dropped: dict[str, None] = {}

    @property
    def dropped(self) -> tuple[str, ...]:
        """What was left out, each once."""
        return tuple(self._dropped)

    def write(self, messages: Iterable[ir.Message]) -> list[dict[str, Json]]:
        """The messages, in their order."""
        written: list[dict[str, Json]] = []
        for message in messages:
            if message.role is ir.Role.ASSISTANT:
                written += self._answer(message)
            elif message.role is ir.Role.USER:
                written += self._user(message)
            else:
                content = self._content(message, message.parts)
                written.append({"role": "system", "content": content})
        return written

    def note_cache(self, cache: Json) -> None:
        """Reports the client's marks for a cache, which chat completions do not have."""
        if cache is not None:
            self._dropped["cache_control"] = None

    def _user(self, message: ir.Message) -> Iterator[dict[str, Json]]:
        """Results first, as the call before them demands, then what the user says."""
        seen: list[ir.Part] = []
        for part in message.parts:
            if isinstance(part, ir.ToolResult):
                yield self._result(part)
                shown = [inner for inner in part.parts if not isinstance(inner, ir.Text)]
                if shown:
                    seen += [ir.Text(f"From the result of tool call {part.call_id}:"), *shown]
        own = [part for part in message.parts if not isinstance(part, ir.ToolResult)]
        content = self._content(message, [*seen, *own])
        if content or len(own) == len(message.parts):
            yield {"role": "user", "content": content}

    def _result(self, result: ir.ToolResult) -> dict[str, Json]:
        self.note_cache(result.cache)
        texts = [part for part in result.parts if isinstance(part, ir.Text)]
        for part in texts:
            self.note_cache(part.cache)
        text = _GAP.join(part.text for part in texts if part.text)
        if not text and len(texts) < len(result.parts):
            text = "The result follows in the next message."
        if needs_error_mark(result, [text]):
            text = f"Error: {text}" if text else "Error"
        return {"role": "tool", "tool_call_id": result.call_id, "content": text}

    def _content(self, message: ir.Message, parts: Iterable[ir.Part]) -> Json:
        """A string if there is only text, else a list of parts."""
        written = [item for part in parts for item in self._part(message, part)]
        if all(item["type"] == "text" for item in written):
            return _GAP.join(item["text"] for item in written)
        return written

    def _part(self, message: ir.Message, part: ir.Part) -> Iterator[dict[str, Json]]:
        if isinstance(part, ir.Text):
            self.note_cache(part.cache)
            if part.text:
                yield _text(part.text)
        elif isinstance(part, ir.Image):
            self.note_cache(part.cache)
            yield _image(part, message.at)
        elif isinstance(part, ir.File):
            self.note_cache(part.cache)
            yield _file(part, message.at, has_ids=self._dialect in OPENAI)
        elif isinstance(part, ir.Audio):
            sound = {"data": part.data, "format": part.format}
            yield {"type": "input_audio", "input_audio": sound}
        elif isinstance(part, ir.Foreign):
            self._dropped[part.kind] = None

    def _answer(self, message: ir.Message) -> Iterator[dict[str, Json]]:
        own = [*self._own_thoughts(message.parts)]
        thoughts, parts = thoughts_for_provider(own)
        extras = self._extras(own)
        text, refusal = _joined(message.parts), _refusal(message.parts)
        calls = [
            self._call(part, extras) for part in message.parts if isinstance(part, ir.ToolCall)
        ]
        for part in message.parts:
            if isinstance(part, ir.Text):
                self.note_cache(part.cache)
            elif isinstance(part, ir.Foreign):
                self._dropped[part.kind] = None
        if not (text or refusal or calls or thoughts or parts):
            return  # servers refuse an empty answer
        content: Json = text or (None if calls or refusal else "")
        if parts:
            content = [*parts, *([_text(text)] if text else [])]
        written: dict[str, Json] = {"role": "assistant", "content": content, **thoughts}
        if refusal:
            written["refusal"] = refusal
        if calls:
            written["tool_calls"] = calls
        yield written

    def _own_thoughts(self, parts: Iterable[ir.Part]) -> Iterator[ir.Thinking]:
        for part in parts:
            if isinstance(part, ir.Thinking):
                if part.origin == CHAT:
                    yield part
                else:
                    self._dropped["thinking"] = None

    def _extras(self, thoughts: Iterable[ir.Thinking]) -> Mapping[str, Json]:
        """What goes with calls, by their ids."""
        extras = extras_of_calls(thoughts)
        if extras and self._is_strict:
            self._dropped["thinking"] = None
            return {}
        return extras

    def _call(self, call: ir.ToolCall, extras: Mapping[str, Json]) -> dict[str, Json]:
        self.note_cache(call.cache)
        function = {"name": call.name, "arguments": call.arguments or "{}"}
        written: dict[str, Json] = {"id": call.id, "type": "function", "function": function}
        if call.id in extras:
            written[EXTRA] = extras[call.id]
        return written


def _joined(parts: Iterable[ir.Part]) -> str:
    """The texts of an answer: one that was split for its sources is whole again."""
    pieces: list[str] = []
    is_split = False
    for part in parts:
        if not isinstance(part, ir.Text):
            is_split = True
        elif part.text:
            pieces += [_GAP, part.text] if is_split and pieces else [part.text]
            is_split = False
    return "".join(pieces)


def _refusal(parts: Iterable[ir.Part]) -> str:
    return _GAP.join(part.text for part in parts if isinstance(part, ir.Refusal))


def _text(text: str) -> dict[str, Json]:
    return {"type": "text", "text": text}


def _image(image: ir.Image, at: str) -> dict[str, Json]:
    media = image.media
    if media.url is None and media.data is None:
        why = "could not process image: the provider does not take it by file_id or as text"
        _refuse(at, why, "send its URL, or the image in base64")
    url = media.url or data_url(media, PNG)
    fields: dict[str, Json] = {"url": url}
    if image.detail is not None:
        fields["detail"] = image.detail
    return {"type": "image_url", "image_url": fields}


def _file(file: ir.File, at: str, *, has_ids: bool) -> dict[str, Json]:
    media = file.media
    if media.url is not None:
        _refuse(at, _NO_PDF.format("URL"), "send the document itself, in base64 or as text")
    if media.file_id is not None:
        if not has_ids:
            _refuse(at, _NO_PDF.format("file_id"), "send the document itself, in base64 or as text")
        return {"type": "file", "file": {"file_id": media.file_id}}
    text = text_of_document(file)  # servers take only PDFs as files
    if text is not None:
        return _text(text)
    name = file.name or DOCUMENT_NAME  # required with file_data
    fields = {"filename": name, "file_data": data_url(media, PDF)}
    return {"type": "file", "file": fields}


def _refuse(at: str, why: str, fix: str) -> NoReturn:
    """Raises InvalidRequest; by the words of ``why`` agents know what to leave out."""
    raise InvalidRequest(f"{at}: {why}; {fix}", at)
