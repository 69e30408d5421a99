"""The messages of a chat client as ``ir.Message``.

Source: OpenAI API reference, "Chat", field ``messages``; ``cache_control`` as OpenRouter and
LiteLLM document it for their clients.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Final, NoReturn, TypeAlias

from serve_app.dialects import ir
from serve_app.dialects.cache_marks import cache_of
from serve_app.dialects.data_urls import PDF, is_data_url, read_url
from serve_app.dialects.json_values import object_of, text_of, text_or_none
from serve_app.dialects.openai_chat.reasoning import read_returned, thought_of_part, thoughts_in
from serve_app.dialects.tool_arguments import arguments_of
from serve_app.domain import Json
from serve_app.errors import InvalidRequest

_Part: TypeAlias = Mapping[str, Json]
_Reader: TypeAlias = Callable[[_Part, str], ir.Part]
_SPEAKERS: Final = MappingProxyType(
    {
        "system": ir.Role.SYSTEM,
        "developer": ir.Role.DEVELOPER,
        "user": ir.Role.USER,
        "assistant": ir.Role.ASSISTANT,
    }
)
_SHOWN: Final = 60
"""How many characters of a value an error shows."""
_RESULTS: Final = frozenset({"tool", "function"})


class MessageList:
    """Reads messages in their order; a result of a function belongs to the call before it."""

    def __init__(self) -> None:
        self._messages: list[ir.Message] = []
        self._function_call = ""
        """The id given to the last ``function_call``, which has none of its own."""
        self.unsaid: list[str] = []

    def read(self, messages: Json) -> tuple[ir.Message, ...]:
        """All messages. Raises InvalidRequest that names the place of what it cannot read."""
        if not isinstance(messages, list):
            raise InvalidRequest("messages is required and must be a list", "messages")
        results: list[ir.Part] = []
        for position, message in enumerate(messages):
            at = f"messages[{position}]"
            if not isinstance(message, dict):
                _refuse(at, "must be an object")
            role = text_of(message.get("role"))
            if role in _RESULTS:
                if not results:
                    start = at
                results.append(self._result(message, role, at))
                continue
            if results:
                self._messages.append(ir.Message(ir.Role.USER, tuple(results), start))
                results = []
            self._messages.append(self._spoken(message, role, at))
        if results:
            self._messages.append(ir.Message(ir.Role.USER, tuple(results), start))
        return tuple(self._messages)

    def _spoken(self, message: _Part, role: str, at: str) -> ir.Message:
        if role not in _SPEAKERS:
            _refuse(f"{at}.role", "must be system, developer, user, assistant or tool", role)
        if message.get("name") is not None:
            self.unsaid.append(f"{at}.name")
        if role == "assistant":
            return ir.Message(ir.Role.ASSISTANT, tuple(self._answer(message, at)), at)
        parts = _content(message.get("content"), f"{at}.content", _OF_USER, cache_of(message))
        return ir.Message(_SPEAKERS[role], tuple(parts), at)

    def _result(self, message: _Part, role: str, at: str) -> ir.ToolResult:
        if role == "function":
            call_id = self._function_call or f"call_{at}"
        else:
            call_id = text_of(message.get("tool_call_id"))
        if not call_id:
            _refuse(f"{at}.tool_call_id", "is required and must be the id of a tool call")
        content = message.get("content")
        if content is None:
            content = ""
        parts = tuple(
            part
            for part in _content(content, f"{at}.content", _OF_RESULT)
            if isinstance(part, ir.Text | ir.Image | ir.File)
        )
        return ir.ToolResult(call_id, parts, cache=cache_of(message))

    def _answer(self, message: _Part, at: str) -> Iterator[ir.Part]:
        if message.get("audio") is not None and not message.get("content"):
            why = "refers to an answer that only its provider has; send its text as content"
            _refuse(f"{at}.audio", why)
        for thought in thoughts_in(message):
            yield read_returned(thought)
        content = message.get("content")
        if content:
            yield from _content(content, f"{at}.content", _OF_ANSWER, cache_of(message))
        refusal = text_of(message.get("refusal"))
        if refusal:
            yield ir.Refusal(refusal)
        calls = message.get("tool_calls")
        if calls is not None and not isinstance(calls, list):
            _refuse(f"{at}.tool_calls", "must be a list")
        for position, call in enumerate(calls or ()):
            yield _call(call, f"{at}.tool_calls[{position}]")
        function = object_of(message.get("function_call"))
        if function:
            self._function_call = f"call_{at.removeprefix('messages[').removesuffix(']')}"
            yield _function(function, self._function_call, f"{at}.function_call")


def _call(call: Json, at: str) -> ir.ToolCall:
    call_id = text_of(object_of(call).get("id"))
    if not call_id:
        _refuse(f"{at}.id", "is required and must be a string")
    custom = object_of(call.get("custom"))
    if call.get("type") == "custom" and custom:
        name = text_of(custom.get("name")) or _refuse(f"{at}.custom.name", "is required")
        return ir.ToolCall(call_id, name, text_of(custom.get("input")), is_custom=True)
    return _function(object_of(call.get("function")), call_id, f"{at}.function")


def _function(function: _Part, call_id: str, at: str) -> ir.ToolCall:
    name = text_of(function.get("name")) or _refuse(f"{at}.name", "is required")
    return ir.ToolCall(call_id, name, arguments_of(function.get("arguments")))


def _content(
    content: Json, at: str, readers: Mapping[str, _Reader], cache: Json = None
) -> Iterator[ir.Part]:
    """The parts of a content: a string, or a list of parts. Raises InvalidRequest."""
    if isinstance(content, str):
        yield ir.Text(content, cache=cache)
        return
    if not isinstance(content, list):
        _refuse(at, "must be a string or a list of parts")
    for position, part in enumerate(content):
        place = f"{at}[{position}]"
        if not isinstance(part, dict):
            _refuse(place, "must be an object")
        kind = text_of(part.get("type")) or "text"
        if kind in readers:
            yield readers[kind](part, place)
        elif readers is _OF_ANSWER:
            yield ir.Foreign(kind)
        else:
            _refuse(f"{place}.type", f"cannot be translated; send {_listed(readers)}", kind)


def _listed(names: Iterable[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} or {last}"


def _text(part: _Part, at: str) -> ir.Part:
    text = text_or_none(part.get("text"))
    if text is None:
        _refuse(f"{at}.text", "is required and must be a string")
    return ir.Text(text, cache=cache_of(part))


def _refusal(part: _Part, _at: str) -> ir.Part:
    return ir.Refusal(text_of(part.get("refusal")))


def _thinking(part: _Part, _at: str) -> ir.Part:
    return read_returned(thought_of_part(part))


def _image(part: _Part, at: str) -> ir.Part:
    image = part.get("image_url")
    fields = {"url": image} if isinstance(image, str) else object_of(image)
    url = text_of(fields.get("url"))
    if not url:
        _refuse(f"{at}.image_url.url", "is required and must be a string")
    media = _media(url, f"{at}.image_url.url")
    return ir.Image(media, text_of(fields.get("detail")) or None, cache=cache_of(part))


def _audio(part: _Part, at: str) -> ir.Part:
    audio = object_of(part.get("input_audio"))
    data, kind = text_of(audio.get("data")), text_of(audio.get("format"))
    if not data or not kind:
        _refuse(f"{at}.input_audio", "must have data, in base64, and format")
    return ir.Audio(data, kind)


def _file(part: _Part, at: str) -> ir.Part:
    file = object_of(part.get("file"))
    data, file_id = text_of(file.get("file_data")), text_of(file.get("file_id"))
    name = text_of(file.get("filename")) or None
    if is_data_url(data) or _is_url(data):
        media = _media(data, f"{at}.file.file_data")
    elif data:  # base64 alone; only PDFs are sent so
        media = ir.Media(data=data, media_type=PDF)
    elif file_id:
        media = ir.Media(file_id=file_id)
    else:
        _refuse(f"{at}.file", "must have file_data or file_id")
    return ir.File(media, name, cache=cache_of(part))


def _media(url: str, at: str) -> ir.Media:
    media = read_url(url)
    if media.text is not None:
        _refuse(at, "must be a URL, or a data URL in base64")
    return media


def _is_url(text: str) -> bool:
    return text.startswith(("https://", "http://"))


_OF_RESULT: Final[Mapping[str, _Reader]] = MappingProxyType(
    {"text": _text, "image_url": _image, "file": _file}
)
_OF_USER: Final[Mapping[str, _Reader]] = MappingProxyType({**_OF_RESULT, "input_audio": _audio})
_OF_ANSWER: Final[Mapping[str, _Reader]] = MappingProxyType(
    {"text": _text, "refusal": _refusal, "thinking": _thinking}
)


def _refuse(at: str, why: str, value: str | None = None) -> NoReturn:
    """Raises InvalidRequest that names a place, and the value there unless it is None."""
    found = "" if value is None else f" {value[:_SHOWN]!r}"
    raise InvalidRequest(f"{at}{found} {why}", at)
