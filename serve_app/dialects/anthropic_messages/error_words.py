"""The words by which Claude Code knows what to do about an error, put before the provider's own.

It shortens the conversation, or asks for a shorter answer, only if an error says so in the words
of Anthropic's API. Source: Claude Code, "LLM gateway protocol"; Anthropic API reference, "Errors".
"""

import re
from typing import Final

_TOO_LONG: Final = "prompt is too long"
_KNOWN: Final = (
    _TOO_LONG,
    "input is too long",
    "input length and `max_tokens` exceed",
    "max_tokens:",
)
"""How errors begin that it knows as they are, in lower case."""

_TOO_LONG_CODE: Final = "context_length_exceeded"
_STATUSES: Final = (400, 413)
_SAYS_TOO_LONG: Final = re.compile(
    r"maximum context l(ength|imit)|context window|too many tokens"
    r"|maximum number of tokens allowed|maximum prompt length|available context size"
    r"|maximum model length|model's context length|exceeded model token limit"
    r"|prompt exceeds max length|input length too long|range of input length should be",
    re.IGNORECASE,
)
"""What OpenAI, vLLM and others say of it, in the second line Gemini, xAI and llama.cpp, and then
what else Claude Code knows of servers.
"""

_ANSWER_TOO_LONG: Final = re.compile(
    r"tokens'? is too large: (?P<asked>\d+)\. This model supports at most (?P<most>\d+)"
)
"""OpenAI: the model does not write answers as long as ``max_tokens``."""
_TOGETHER_TOO_LONG: Final = (
    re.compile(
        r"tokens'? is too large: (?P<asked>\d+)\. This model's maximum context length is "
        r"(?P<most>\d+) tokens and your request has (?P<input>\d+) input tokens"
    ),
    re.compile(
        r"maximum context length is (?P<most>\d+) tokens\. However, you requested \d+ tokens "
        r"\((?P<input>\d+) in the messages, (?P<asked>\d+) in the completion\)"
    ),
)
"""vLLM, and OpenAI: the prompt fits, but not with an answer as long as ``max_tokens``."""


def with_known_words(words: str, status: int, code: str | None) -> str:
    """A provider's message, after the words that Claude Code knows for it, if there are any."""
    if words.lower().startswith(_KNOWN):
        return words
    if status in _STATUSES:
        known = _answer_too_long(words)
        if known or _SAYS_TOO_LONG.search(words):
            return f"{known or _TOO_LONG}: {words}"
    return f"{_TOO_LONG}: {words}" if code == _TOO_LONG_CODE else words


def _answer_too_long(words: str) -> str:
    """What Anthropic says where a smaller ``max_tokens`` helps; empty where it does not."""
    found = _ANSWER_TOO_LONG.search(words)
    if found is not None:
        over = f"{found['asked']} > {found['most']}"
        rest = "which is the maximum allowed number of output tokens for this model"
        return f"max_tokens: {over}, {rest}"
    for pattern in _TOGETHER_TOO_LONG:
        found = pattern.search(words)
        if found is not None and int(found["input"]) < int(found["most"]):
            total = f"{found['input']} + {found['asked']} > {found['most']}"
            return f"input length and `max_tokens` exceed context limit: {total}"
    return ""
