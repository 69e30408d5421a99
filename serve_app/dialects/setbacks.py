"""Finds in a list of messages whether the same tool fails again and again.

Anthropic messages mark a result that is an error; in OpenAI's dialects its text has to say so.
"""

import re
from collections.abc import Iterator
from typing import Final

from serve_app.dialects.json_values import objects_of, text_or_none
from serve_app.domain import Json

FAILURES: Final = 3
"""Failures in a row of one tool that are a setback, and as many again that are the next one."""

_HEAD: Final = 300
"""How many characters of a result are searched for the error."""
_ERROR: Final = re.compile(
    r"[\W_]*(?:(?:tool|command|execution|internal|server|bash|shell)\s+(?:\w+\s+)?)?"
    r"(?:[\w.]*(?:error|exception)|fatal|failure|failed|panic|traceback)\b"
    r"\s*(?:[:\]>\"'(.!]|\Z|\n|(?:while|when|to|in|with|at|on|calling|executing|running|reading)\b)",
    re.IGNORECASE,
)
_EXIT: Final = re.compile(
    r"^\W*(?:(?:process|command) )?exit(?:ed)?(?: with)?(?: code| status)?:? -?[1-9]\d*\b",
    re.IGNORECASE | re.MULTILINE,
)


def tool_fails(messages: list[Json]) -> bool:
    """True if the tool of the newest results has just failed three times in a row, or six, or more.

    Each answer counts once for a tool, however often it calls it at once; it is a failure if all
    of these calls fail. ``messages`` begin after the last words of the user.
    """
    names: dict[str | None, str] = {}
    runs: dict[str, int] = {}
    newest: dict[str, bool] = {}
    for message in objects_of(messages):
        if message.get("role") == "assistant":
            newest = {}
            names.update(_named_calls(message))
        for call, is_error in _outcomes(message):
            name = names.get(call, "")
            before = runs.get(name, 0) - (1 if newest.get(name) else 0)
            newest[name] = newest.get(name, True) and is_error
            runs[name] = before + 1 if newest[name] else 0
    return any(runs[name] and runs[name] % FAILURES == 0 for name in newest)


def begins_like_error(text: str) -> bool:
    """True for a tool's result that begins with an error, or with the status of a failed command."""
    head = text[:_HEAD]
    return _ERROR.match(head) is not None or _EXIT.search(head) is not None


def _named_calls(message: dict[str, Json]) -> Iterator[tuple[str | None, str]]:
    """The ids of an answer's calls, each with its tool."""
    for call in objects_of(message.get("tool_calls")):
        tool = call.get("function") or call.get("custom")
        name = tool.get("name") if isinstance(tool, dict) else None
        yield text_or_none(call.get("id")), name if isinstance(name, str) else ""
    for part in objects_of(message.get("content")):
        if part.get("type") == "tool_use":
            name = part.get("name")
            yield text_or_none(part.get("id")), name if isinstance(name, str) else ""


def _outcomes(message: dict[str, Json]) -> Iterator[tuple[str | None, bool]]:
    """The ids of the calls whose results a message brings, and whether these are errors."""
    content = message.get("content")
    if message.get("role") == "tool":
        parts = [part.get("text") for part in objects_of(content)]
        texts = [content] if isinstance(content, str) else parts
        text = next((text for text in texts if isinstance(text, str)), "")
        yield text_or_none(message.get("tool_call_id")), begins_like_error(text)
    elif message.get("role") == "user":
        for part in objects_of(content):
            if part.get("type") == "tool_result":
                yield text_or_none(part.get("tool_use_id")), part.get("is_error") is True
