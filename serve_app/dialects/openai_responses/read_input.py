"""Reads ``input`` of a client: one text, or items.

Source: OpenAI API reference, "Responses", "Create a model response".
"""

import mimetypes
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from serve_app.dialects import ir
from serve_app.dialects.data_urls import PDF, is_data_url, read_url
from serve_app.dialects.json_values import object_of, text_of
from serve_app.dialects.openai_responses.output_items import (
    CALLS,
    CUSTOM_CALL,
    read_call,
    read_client_thinking,
    read_contents,
)
from serve_app.domain import Json
from serve_app.errors import InvalidRequest

_OUTPUT: Final = "_output"
_USERS: Final = frozenset({"mcp_approval_response", "configuration_update", "additional_tools"})
"""Items of the client, beside those whose names end with ``_output``."""

_KEPT_BY_PROVIDER: Final = frozenset({"item_reference", "compaction", "compaction_trigger"})
"""Items that stand for others, which only their provider has or can read."""
_STATE: Final = "needs a provider that keeps state; send the whole conversation in `input`"
_TEXTS: Final = frozenset({"input_text", "output_text", "text"})
_BREAKPOINT: Final = "prompt_cache_breakpoint"


@dataclass(slots=True)
class _Group:
    """Items that are one message."""

    role: ir.Role
    parts: list[ir.Part]
    at: str
    merges: bool = True
    """True if it may be one message with its neighbours of the same role."""


class InputReader:
    """Reads the messages of one request, and notes the paths of what it leaves out."""

    def __init__(self) -> None:
        self.unsaid: list[str] = []

    def read(self, value: Json) -> list[ir.Message]:
        """The messages. Raises InvalidRequest that names the place."""
        if isinstance(value, str):
            return [ir.Message(ir.Role.USER, (ir.Text(value),), "input")]
        if not isinstance(value, list):
            raise InvalidRequest("input is required and must be a string or a list", "input")
        groups: list[_Group] = []
        for position, item in enumerate(value):
            at = f"input[{position}]"
            if not isinstance(item, dict):
                raise InvalidRequest(f"{at} must be an object", at)
            group = self._item(item, position, at)
            last = groups[-1] if groups else group
            if groups and group.merges and last.merges and last.role is group.role:
                last.parts += group.parts
            elif group.parts:
                groups.append(group)
        return [ir.Message(group.role, tuple(group.parts), group.at) for group in groups]

    def _item(self, item: dict[str, Json], position: int, at: str) -> _Group:
        kind = text_of(item.get("type")) or ("message" if "role" in item else "item_reference")
        if kind == "message":
            return self._message(item, at)
        if kind in _KEPT_BY_PROVIDER:
            raise InvalidRequest(f"{at}: {kind} {_STATE}", at)
        if kind.endswith(_OUTPUT) and kind.removesuffix(_OUTPUT) in CALLS:
            return _Group(ir.Role.USER, [self._result(item, kind, at)], at)
        if kind in CALLS:
            for key in ("call_id", "name"):
                _required(item, key, at)
            part: ir.Part = read_call(item, CALLS[kind], position)
        elif kind == "reasoning":
            part = read_client_thinking(item)
            if not part.text and not part.signature:
                return _Group(ir.Role.ASSISTANT, [], at)
        else:
            part = ir.Foreign(kind)
            if kind in _USERS or kind.endswith(_OUTPUT):
                return _Group(ir.Role.USER, [part] if kind != "additional_tools" else [], at)
        return _Group(ir.Role.ASSISTANT, [part], at)

    def _message(self, item: dict[str, Json], at: str) -> _Group:
        role, content = item.get("role"), item.get("content")
        if not isinstance(role, str) or role not in set(ir.Role):
            message = f"{at}.role must be user, assistant, system or developer"
            raise InvalidRequest(message, f"{at}.role")
        if role == ir.Role.ASSISTANT:
            return _Group(ir.Role.ASSISTANT, list(read_contents(content)), at)
        parts: list[ir.Part] = list(self._contents(content, f"{at}.content"))
        return _Group(ir.Role(role), parts, at, merges=False)

    def _result(self, item: dict[str, Json], kind: str, at: str) -> ir.ToolResult:
        parts: list[ir.Text | ir.Image | ir.File] = []
        output, place = item.get("output"), f"{at}.output"
        for part in self._contents("" if output is None else output, place):
            if isinstance(part, ir.Audio):
                raise InvalidRequest(f"{place} must be text, images and files", place)
            parts.append(part)
        call_id = _required(item, "call_id", at)
        is_custom = kind.removesuffix(_OUTPUT) == CUSTOM_CALL.item
        return ir.ToolResult(call_id, tuple(parts), is_custom=is_custom)

    def _contents(
        self, content: Json, at: str
    ) -> Iterator[ir.Text | ir.Image | ir.File | ir.Audio]:
        """Parts of a message that is not the model's, or of a tool's result."""
        if isinstance(content, str):
            content = [{"type": "input_text", "text": content}] if content else []
        if not isinstance(content, list):
            raise InvalidRequest(f"{at} must be a string or a list", at)
        for position, part in enumerate(content):
            place = f"{at}[{position}]"
            if not isinstance(part, dict):
                raise InvalidRequest(f"{place} must be an object", place)
            if part.get(_BREAKPOINT) and _BREAKPOINT not in self.unsaid:
                self.unsaid.append(_BREAKPOINT)
            yield _content(part, place)


def _content(part: dict[str, Json], at: str) -> ir.Text | ir.Image | ir.File | ir.Audio:
    kind = part.get("type")
    if isinstance(kind, str) and kind in _TEXTS:
        return ir.Text(_required(part, "text", at, may_be_empty=True))
    if kind == "refusal":
        return ir.Text(_required(part, "refusal", at, may_be_empty=True))
    if kind == "input_image":
        return _image(part, at)
    if kind == "input_file":
        return _file(part, at)
    if kind == "input_audio":
        audio = object_of(part.get("input_audio"))
        return ir.Audio(_required(audio, "data", at), _required(audio, "format", at))
    message = f"{at}: a content of type {kind!r} needs a provider of the same dialect"
    raise InvalidRequest(message, at)


def _image(part: dict[str, Json], at: str) -> ir.Image:
    url = part.get("image_url")
    if isinstance(url, dict):  # as in chat
        url = url.get("url")
    detail = text_of(part.get("detail")) or None
    if text_of(url):
        return ir.Image(read_url(text_of(url)), detail)
    file_id = text_of(part.get("file_id"))
    if not file_id:
        raise InvalidRequest(f"{at} must have image_url or file_id", at)
    return ir.Image(ir.Media(file_id=file_id), detail)


def _file(part: dict[str, Json], at: str) -> ir.File:
    name = text_of(part.get("filename")) or None
    data, url = text_of(part.get("file_data")), text_of(part.get("file_url"))
    file_id = text_of(part.get("file_id"))
    if is_data_url(data) or (url and not data):
        return ir.File(read_url(data or url), name)
    if data:
        media_type = mimetypes.guess_type(name or "")[0] or PDF
        return ir.File(ir.Media(data=data, media_type=media_type), name)
    if not file_id:
        raise InvalidRequest(f"{at} must have file_data, file_url or file_id", at)
    return ir.File(ir.Media(file_id=file_id), name)


def _required(item: dict[str, Json], key: str, at: str, *, may_be_empty: bool = False) -> str:
    value = item.get(key)
    if isinstance(value, str) and (value or may_be_empty):
        return value
    raise InvalidRequest(f"{at}.{key} is required and must be a string", f"{at}.{key}")
