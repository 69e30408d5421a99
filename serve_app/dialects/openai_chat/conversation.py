"""Whose turn it is in OpenAI chat ``messages``, and what stays the same from turn to turn.

Everything here takes any JSON and never raises: what is out of shape says nothing.
"""

import re
from collections.abc import Iterator
from typing import Final

from serve_app.domain import Json

_ENVELOPES: Final = tuple(
    re.compile(rf"<{tag}>.*?(?:</{tag}>|\Z)", re.DOTALL)
    for tag in ("system-reminder", "user-prompt-submit-hook")
)
"""What Claude Code puts into a user's message; one that is not closed goes to the end.

These two in this order, as Plano has them: routing/view.py looks for more, and for the words.
"""


def is_user_turn(messages: Json) -> bool:
    """True when the user has spoken last: in words of their own, or with an image or a file.

    Results of tools are no words, and neither is what an agent puts into the user's message.
    """
    return isinstance(messages, list) and bool(messages) and _user_speaks(messages[-1])


def holds_tool_loop(messages: Json) -> bool:
    """True while a model's tool calls, or their results, are the last that was said.

    Another model would then find calls that it has not made. Once the user goes on the loop is
    over, unless a call of the last answer has no result.
    """
    answered: set[str | None] = set()
    results = spoken = False
    for message in reversed(list(_objects(messages))):
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
    roles = ("system", "developer")
    texts = [_text(said.get("content")) for said in _objects(messages) if said.get("role") in roles]
    return "\n".join(text for text in texts if text is not None)


def first_user_text(messages: Json) -> str | None:
    """What the user said first, empty if not in words; None when there is no such message."""
    for message in _objects(messages):
        if message.get("role") == "user":
            return _text(message.get("content"))
    return None


def tool_names(tools: Json) -> tuple[str, ...]:
    """The names of functions and custom tools, in order."""
    names = []
    for tool in _objects(tools):
        places = (tool.get("function"), tool.get("custom"), tool)
        place = next(place for place in places if isinstance(place, dict))
        names.append(place.get("name"))
    return tuple(name for name in names if isinstance(name, str))


def _objects(values: Json) -> Iterator[dict[str, Json]]:
    """The objects of a list; nothing where it is none."""
    for value in values if isinstance(values, list) else ():
        if isinstance(value, dict):
            yield value


def _text(content: Json) -> str | None:
    """A content's text, a line break between two parts; None where there is no content."""
    if isinstance(content, list):
        texts = [part.get("text") for part in _objects(content) if _kind(part) == "text"]
        return "\n".join(text for text in texts if isinstance(text, str))
    return content if isinstance(content, str) else None


def _kind(part: dict[str, Json]) -> Json:
    return part.get("type", "text")


def _user_speaks(message: Json) -> bool:
    if not isinstance(message, dict) or message.get("role") != "user":
        return False
    content = message.get("content")
    if any(_kind(part) not in ("text", "tool_result") for part in _objects(content)):
        return True
    text = _text(content) or ""
    for envelope in _ENVELOPES:
        text = envelope.sub("", text)
    return bool(text.strip())


def _calls(message: dict[str, Json]) -> Iterator[str | None]:
    """The ids of an answer's tool calls; None for one without."""
    for call in _objects(message.get("tool_calls")):
        yield _id(call.get("id"))
    for part in _objects(message.get("content")):
        if _kind(part) == "tool_use":
            yield _id(part.get("id"))
    if isinstance(message.get("function_call"), dict):
        yield None


def _results(message: dict[str, Json]) -> Iterator[str | None]:
    """The ids of the calls that a message brings the results of; None for one without."""
    if message.get("role") in ("tool", "function"):
        yield _id(message.get("tool_call_id"))
    elif message.get("role") == "user":
        for part in _objects(message.get("content")):
            if _kind(part) == "tool_result":
                yield _id(part.get("tool_use_id"))


def _id(value: Json) -> str | None:
    return value if isinstance(value, str) else None
