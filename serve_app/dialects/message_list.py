"""Conversations that are a list of messages with ``role`` and ``content``, read when needed.

Those of OpenAI chat and of Anthropic messages are, and other dialects can be read as one. But for
``read_turns`` nothing here raises: entries of another shape count as absent.
"""

import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import takewhile
from typing import Final

from serve_app.dialects.attachments import Attachments, read_attachments
from serve_app.dialects.cache_marks import lifetime_of
from serve_app.dialects.json_edits import Document
from serve_app.dialects.json_values import count_of, objects_of, text_or_none
from serve_app.dialects.setbacks import tool_fails
from serve_app.dialects.still_wrong import says_still_wrong
from serve_app.domain import Json, Need, Setback, Turn
from serve_app.errors import InvalidRequest

_ENVELOPES: Final = tuple(
    re.compile(rf"<{tag}>.*?(?:</{tag}>|\Z)", re.DOTALL)
    for tag in ("system-reminder", "user-prompt-submit-hook")
)
"""Text that Claude Code adds to user messages; an unclosed tag extends to the end.

These two in this order, as in Plano; scoring/envelopes.py has more of them, for scoring.
"""

_SYSTEM_ROLES: Final = ("system", "developer")
_OUTPUT_LIMITS: Final = ("max_tokens", "max_completion_tokens", "max_output_tokens")


class MessageListConversation:
    """A conversation as a list of messages; each property is read once, at its first use."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self.characters = len(document.text)

    @cached_property
    def _messages(self) -> Json:
        return self._document.get("messages")

    @cached_property
    def turns(self) -> tuple[Turn, ...]:
        """The text of user and assistant, in order. Raises InvalidRequest."""
        return read_turns(self._messages)

    @cached_property
    def system_text(self) -> str:
        """The text of all system and developer messages, joined by line breaks."""
        return system_texts(self._messages)

    @cached_property
    def tool_names(self) -> tuple[str, ...]:
        """The names of the tools that the client offers, in order."""
        return tool_names(self._document.get("tools"))

    @cached_property
    def first_user_text(self) -> str | None:
        """The text of the first user message; None if there is no such message."""
        return first_user_text(self._messages)

    @cached_property
    def user_spoke_last(self) -> bool:
        """True if the last message is the user's own, not a tool result."""
        return is_user_turn(self._messages)

    @cached_property
    def has_provider_state(self) -> bool:
        """False unless a dialect knows better."""
        return False

    @cached_property
    def cache_lifetime_s(self) -> float:
        """How long the client asks the provider to cache the prompt, in seconds; 0 if it does not."""
        return lifetime_of(self._document)

    @cached_property
    def has_open_tool_loop(self) -> bool:
        """True while tool calls or their results are the last thing in the conversation."""
        return holds_tool_loop(self._messages)

    @cached_property
    def setback(self) -> Setback | None:
        """What has just gone wrong for the third time, or what the user says of it."""
        messages = objects_of(without_last_system(self._messages))
        if messages and _user_speaks(messages[-1]):
            return Setback.STILL_WRONG if says_still_wrong(_own_text(messages[-1])) else None
        return Setback.TOOL_FAILS if tool_fails(_since_user(messages)) else None

    @property
    def max_output_tokens(self) -> int:
        """The limit of output that the client sets, tokens; 0 if it sets none."""
        members = self._document.members
        limits = [count_of(members[key].value) for key in _OUTPUT_LIMITS if key in members]
        return max((limit or 0 for limit in limits), default=0)

    @cached_property
    def needs(self) -> frozenset[Need]:
        """What the request contains that some models do not take."""
        found = {
            Need.IMAGES: self._attachments.has_images,
            Need.TOOLS: any(objects_of(self._document.get(key)) for key in ("tools", "functions")),
            Need.STRUCTURED_OUTPUT: self._wants_schema,
        }
        return frozenset(need for need, is_there in found.items() if is_there)

    @property
    def attached_characters(self) -> int:
        """The characters that are data of images and files, not text."""
        return self._attachments.characters

    @property
    def _wants_schema(self) -> bool:
        """True if the answer must be valid against a schema; each dialect has a field for that."""
        return False

    @cached_property
    def _attachments(self) -> Attachments:
        return read_attachments(self._messages, self._document.text)


def read_turns(messages: Json) -> tuple[Turn, ...]:
    """The text of user and assistant messages, in order; other roles and parts are left out.

    Raises InvalidRequest that names the place if ``messages`` is not a list of objects.
    """
    if not isinstance(messages, list):
        raise InvalidRequest("messages must be a list", "messages")
    turns: list[Turn] = []
    for position, message in enumerate(messages):
        if not isinstance(message, dict):
            path = f"messages[{position}]"
            raise InvalidRequest(f"{path} must be an object", path)
        role, text = message.get("role"), _spoken_text(message.get("content"))
        if text and (role == "user" or role == "assistant"):  # noqa: PLR1714 - may be unhashable
            turns.append(Turn(role, text))
    return tuple(turns)


def _spoken_text(content: Json) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    parts = [part.get("text") for part in content if isinstance(part, dict)]
    return "\n".join(part for part in parts if isinstance(part, str))


def is_user_turn(messages: Json) -> bool:
    """True if the last message is the user's, with text of their own, an image or a file.

    Tool results do not count, and neither does the text that an agent adds to the message.
    """
    return isinstance(messages, list) and bool(messages) and _user_speaks(messages[-1])


def without_last_system(messages: Json) -> list[Json]:
    """The messages without the system and developer messages at their end."""
    kept = list(messages) if isinstance(messages, list) else []
    while kept and isinstance(kept[-1], dict) and kept[-1].get("role") in _SYSTEM_ROLES:
        kept.pop()
    return kept


def holds_tool_loop(messages: Json) -> bool:
    """True while a model's tool calls, or their results, end the conversation.

    Another model would then see calls that it did not make. A message of the user closes the
    loop, unless a call of the last answer has no result.
    """
    answered: set[str | None] = set()
    results = spoken = False
    for message in reversed(objects_of(messages)):
        if message.get("role") == "assistant":
            calls = list(_calls(message))
            if any(call is not None and call not in answered for call in calls):
                return True
            return (results or bool(calls)) and not spoken
        spoken = spoken or (not results and _user_speaks(message))
        found = set(_results(message))
        answered |= found
        results = results or bool(found)
    return results and not spoken


def system_texts(messages: Json) -> str:
    """The texts of all system and developer messages, a line break between two."""
    texts = [
        text_of(message.get("content"))
        for message in objects_of(messages)
        if message.get("role") in _SYSTEM_ROLES
    ]
    return "\n".join(text for text in texts if text is not None)


def first_user_text(messages: Json) -> str | None:
    """The text of the first user message, empty if it has none; None without such a message."""
    for message in objects_of(messages):
        if message.get("role") == "user":
            return text_of(message.get("content"))
    return None


def tool_names(tools: Json) -> tuple[str, ...]:
    """The names of functions and custom tools, in order."""
    names = []
    for tool in objects_of(tools):
        places = (tool.get("function"), tool.get("custom"), tool)
        place = next(place for place in places if isinstance(place, dict))
        names.append(place.get("name"))
    return tuple(name for name in names if isinstance(name, str))


def text_of(content: Json) -> str | None:
    """The text of a content, its parts joined by line breaks; None without a content."""
    if isinstance(content, list):
        texts = [part.get("text") for part in objects_of(content) if _kind(part) == "text"]
        return "\n".join(text for text in texts if isinstance(text, str))
    return content if isinstance(content, str) else None


def _kind(part: dict[str, Json]) -> Json:
    return part.get("type", "text")


def _user_speaks(message: Json) -> bool:
    if not isinstance(message, dict) or message.get("role") != "user":
        return False
    content = message.get("content")
    if any(_kind(part) not in ("text", "tool_result") for part in objects_of(content)):
        return True
    return bool(_own_text(message).strip())


def _own_text(message: dict[str, Json]) -> str:
    """The text of a user's message, without what an agent adds to it."""
    text = text_of(message.get("content")) or ""
    for envelope in _ENVELOPES:
        text = envelope.sub("", text)
    return text


def _since_user(messages: Sequence[dict[str, Json]]) -> list[Json]:
    """The messages after the last one with words of the user's own."""
    since = list(takewhile(lambda message: not _user_speaks(message), reversed(messages)))
    return since[::-1]


def _calls(message: dict[str, Json]) -> Iterator[str | None]:
    """The ids of an answer's tool calls; None for one without."""
    for call in objects_of(message.get("tool_calls")):
        yield text_or_none(call.get("id"))
    for part in objects_of(message.get("content")):
        if _kind(part) == "tool_use":
            yield text_or_none(part.get("id"))
    if isinstance(message.get("function_call"), dict):
        yield None


def _results(message: dict[str, Json]) -> Iterator[str | None]:
    """The ids of the calls that a message brings the results of; None for one without."""
    if message.get("role") in ("tool", "function"):
        yield text_or_none(message.get("tool_call_id"))
    elif message.get("role") == "user":
        for part in objects_of(message.get("content")):
            if _kind(part) == "tool_result":
                yield text_or_none(part.get("tool_use_id"))
