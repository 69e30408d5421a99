"""The conversation in ``input``, ``instructions`` and ``tools`` of OpenAI responses.

The items of ``input`` are read as a list of messages, as OpenAI chat has them. But for ``turns``
nothing here raises: items of another shape count as absent. Source: OpenAI API reference,
"Responses".
"""

from collections.abc import Iterator
from functools import cached_property
from typing import Final

from serve_app.dialects.attachments import Attachments, read_attachments
from serve_app.dialects.json_values import object_of, objects_of
from serve_app.dialects.message_list import (
    MessageListConversation,
    is_user_turn,
    read_turns,
    system_texts,
    tool_names,
    without_last_system,
)
from serve_app.domain import Json, Turn
from serve_app.errors import InvalidRequest

_TEXT_KINDS: Final = ("input_text", "output_text", "text")
_CALLS: Final = ("function_call", "custom_tool_call")


class ResponsesConversation(MessageListConversation):
    """A conversation of OpenAI responses; each property is read once, at its first use."""

    @cached_property
    def _messages(self) -> list[Json]:
        return as_messages(self._document.get("input"))

    @cached_property
    def turns(self) -> tuple[Turn, ...]:
        """The text of user and assistant, in order. Raises InvalidRequest."""
        items = self._document.get("input")
        for position, item in enumerate(items if isinstance(items, list) else ()):
            if not isinstance(item, dict):
                path = f"input[{position}]"
                raise InvalidRequest(f"{path} must be an object", path)
        return read_turns(self._messages)

    @cached_property
    def system_text(self) -> str:
        """``instructions`` and all system and developer messages, joined by line breaks."""
        texts = (self._document.get("instructions"), system_texts(self._messages))
        return "\n".join(text for text in texts if isinstance(text, str) and text)

    @cached_property
    def tool_names(self) -> tuple[str, ...]:
        """The names of the tools that the client offers, in order; of a namespace, its tools."""
        return tool_names(list(_plain_tools(self._document.get("tools"))))

    @cached_property
    def user_spoke_last(self) -> bool:
        """True if the last item is the user's own message, not a tool result.

        System and developer messages after it do not count: agents add them to the user's.
        """
        return is_user_turn(without_last_system(self._messages))

    @cached_property
    def has_provider_state(self) -> bool:
        """True if the request refers to an answer, a conversation or an item of its provider."""
        earlier = map(self._document.get, ("previous_response_id", "conversation"))
        if any(isinstance(value, str | dict) and value for value in earlier):
            return True
        return any(map(_is_reference, objects_of(self._document.get("input"))))

    @property
    def _wants_schema(self) -> bool:
        form = object_of(object_of(self._document.get("text")).get("format"))
        return form.get("type") == "json_schema"

    @cached_property
    def _attachments(self) -> Attachments:
        return read_attachments(self._document.get("input"), self._document.text)


def as_messages(value: Json) -> list[Json]:
    """The ``input`` of a request as messages of OpenAI chat.

    Calls are part of the assistant's message before them; items of other kinds are left out.
    """
    if isinstance(value, str):
        return [{"role": "user", "content": value}]
    messages: list[Json] = []
    for item in objects_of(value):
        kind = item.get("type")
        if kind is None or kind == "message":
            messages.append({"role": item.get("role"), "content": _content(item.get("content"))})
        elif not isinstance(kind, str):
            continue
        elif kind.endswith("_output"):
            call = item.get("call_id") or item.get("id")
            output = _content(item.get("output"))
            messages.append({"role": "tool", "tool_call_id": call, "content": output})
        elif kind in _CALLS or (kind.endswith("_call") and isinstance(item.get("call_id"), str)):
            if not messages or messages[-1]["role"] != "assistant":
                messages.append({"role": "assistant"})
            tool = {"id": item.get("call_id"), "function": {"name": item.get("name", kind)}}
            messages[-1].setdefault("tool_calls", []).append(tool)
    return messages


def _content(content: Json) -> Json:
    """The content of a message with the kinds of parts that OpenAI chat has."""
    if not isinstance(content, list):
        return content
    return [
        {"type": "text", "text": part.get("text")} if part.get("type") in _TEXT_KINDS else part
        for part in objects_of(content)
    ]


def _plain_tools(tools: Json) -> Iterator[Json]:
    """The tools, with those of a namespace in its place."""
    for tool in objects_of(tools):
        if tool.get("type") == "namespace":
            yield from objects_of(tool.get("tools"))
        else:
            yield tool


def _is_reference(item: dict[str, Json]) -> bool:
    if item.get("type") is None:
        return "role" not in item and isinstance(item.get("id"), str)
    return bool(item["type"] == "item_reference")
