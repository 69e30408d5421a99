"""Writes a conversation for an Anthropic provider.

Source: Anthropic API reference, "Messages", and what the API answers with 400: a first message
that is not the user's, text without content, results of tools that do not come first, ids of
calls that are not unique.
"""

from collections import deque
from collections.abc import Iterable
from typing import Final, NamedTuple

from serve_app.dialects import ir
from serve_app.dialects.anthropic_messages.arguments import write_arguments
from serve_app.dialects.anthropic_messages.read_blocks import DIALECT
from serve_app.dialects.anthropic_messages.thinking import can_think
from serve_app.dialects.anthropic_messages.write_media import (
    document_block,
    image_block,
    with_cache,
)
from serve_app.dialects.stable_ids import digest_of, is_safe, safe
from serve_app.domain import Json
from serve_app.errors import InvalidRequest

_SYSTEM: Final = (ir.Role.SYSTEM, ir.Role.DEVELOPER)
_NO_USER_TEXT: Final = "."
"""Stands for a first message of the user, where the conversation begins without one."""


class WrittenPrompt(NamedTuple):
    """A conversation as the API takes it."""

    system: list[Json]
    messages: list[dict[str, Json]]
    called: tuple[str, ...]
    """The names of the tools that it has calls of."""
    dropped: tuple[str, ...]

    @property
    def can_think(self) -> bool:
        """True if a model that thinks by a budget takes it."""
        return can_think(self.messages)


def write_prompt(messages: Iterable[ir.Message]) -> WrittenPrompt:
    """The conversation. Raises InvalidRequest that names the client's message."""
    writer = _PromptWriter()
    for message in messages:
        writer.write(message)
    return writer.finish()


class _PromptWriter:
    """Writes message by message; neighbours of one role become one message."""

    def __init__(self) -> None:
        self._system: list[Json] = []
        self._messages: list[dict[str, Json]] = []
        self._ids = _CallIds()
        self._called: dict[str, None] = {}
        self._dropped: dict[str, None] = {}

    def write(self, message: ir.Message) -> None:
        if message.role is ir.Role.ASSISTANT:
            if not self._messages or self._messages[-1]["role"] != "assistant":
                self._ids.begin_turn()
            self._append("assistant", [self._said(part, message.at) for part in message.parts])
        elif message.role is ir.Role.USER:
            self._append("user", [self._sent(part, message.at) for part in message.parts])
        elif self._messages:
            # `system` speaks for the whole conversation, and older models take no other place.
            # A user's text keeps the place, and the tag tells the model who speaks.
            self._append("user", [self._ordered(part, message.at) for part in message.parts])
        else:
            blocks = (self._text(part, message.at) for part in message.parts)
            self._system += [block for block in blocks if block is not None]

    def finish(self) -> WrittenPrompt:
        messages = self._messages
        if not messages or messages[0]["role"] != "user":
            placeholder = {"type": "text", "text": _NO_USER_TEXT}
            messages.insert(0, {"role": "user", "content": [placeholder]})
        for message in messages:
            message["content"].sort(key=lambda block: block["type"] != "tool_result")
        self._trim_prefill()
        return WrittenPrompt(self._system, messages, tuple(self._called), tuple(self._dropped))

    def _append(self, role: str, blocks: Iterable[Json]) -> None:
        content = [block for block in blocks if block is not None]
        if not content:
            return
        if self._messages and self._messages[-1]["role"] == role:
            self._messages[-1]["content"] += content
        else:
            self._messages.append({"role": role, "content": content})

    def _trim_prefill(self) -> None:
        """An answer that the client has begun must not end in white space."""
        last = self._messages[-1]
        block = last["content"][-1]
        if last["role"] == "assistant" and block["type"] == "text":
            block["text"] = block["text"].rstrip()

    def _text(self, part: ir.Part, at: str) -> Json:
        """The block of a text; None for one without content, and for other parts."""
        if isinstance(part, ir.Text):
            text, cache = part.text, part.cache
        elif isinstance(part, ir.Refusal):
            text, cache = part.text, None
        else:
            self._dropped[at] = None
            return None
        return with_cache({"type": "text", "text": text}, cache) if text.strip() else None

    def _ordered(self, part: ir.Part, at: str) -> Json:
        """A text of the system in the middle of the conversation."""
        block = self._text(part, at)
        return block and {**block, "text": f"<system>\n{block['text']}\n</system>"}

    def _said(self, part: ir.Part, at: str) -> Json:
        """The block of a part of the model."""
        match part:
            case ir.ToolCall():
                self._called[part.name] = None
                block = {
                    "type": "tool_use",
                    "id": self._ids.call(part.id),
                    "name": part.name,
                    "input": write_arguments(part.arguments),
                }
                return with_cache(block, part.cache)
            case ir.Thinking(signature=str(signature), origin=origin) if origin == DIALECT:
                if part.is_redacted:
                    return {"type": "redacted_thinking", "data": signature}
                return {"type": "thinking", "thinking": part.text, "signature": signature}
            case _:
                return self._text(part, at)

    def _sent(self, part: ir.Part, at: str) -> Json:
        """The block of a part of the user."""
        match part:
            case ir.Image():
                return image_block(part, at)
            case ir.File():
                return document_block(part, at)
            case ir.ToolResult():
                return self._result(part, at)
            case ir.Audio():
                message = f"{at}: models of this provider do not take audio; send text"
                raise InvalidRequest(message, at)
            case _:
                return self._text(part, at)

    def _result(self, result: ir.ToolResult, at: str) -> Json:
        content = [self._sent(part, at) for part in result.parts]
        block: dict[str, Json] = {
            "type": "tool_result",
            "tool_use_id": self._ids.result(result.call_id),
        }
        blocks = [each for each in content if each is not None]
        if blocks:
            block["content"] = blocks
        if result.is_error:
            block["is_error"] = True
        return with_cache(block, result.cache)


class _CallIds:
    """Ids of calls as the API takes them: of few characters, and each only once.

    Some providers count anew in every answer, so that ids of a conversation repeat. The same
    conversation always gets the same ids.
    """

    def __init__(self) -> None:
        self._seen: dict[str, int] = {}
        self._taken: set[str] = set()
        self._waiting: dict[str, deque[str]] = {}

    def begin_turn(self) -> None:
        """Calls of earlier answers get no more results."""
        self._waiting.clear()

    def call(self, call_id: str) -> str:
        """The id of a call."""
        safe = _safe(call_id)
        count = self._seen.get(safe, 0) + 1
        new = safe if count == 1 else f"{safe}_{count}"
        while new in self._taken:
            count += 1
            new = f"{safe}_{count}"
        self._seen[safe] = count
        self._taken.add(new)
        self._waiting.setdefault(call_id, deque()).append(new)
        return new

    def result(self, call_id: str) -> str:
        """The id of the call that a result belongs to."""
        waiting = self._waiting.get(call_id)
        return waiting.popleft() if waiting else _safe(call_id)


def _safe(call_id: str) -> str:
    if is_safe(call_id):
        return call_id
    return f"{safe(call_id) or 'toolu'}_{digest_of(call_id, 12)}"
