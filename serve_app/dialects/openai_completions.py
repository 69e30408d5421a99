"""The dialect of OpenAI's legacy completions, for clients and for providers.

Answers and streams have the form of chat completions, with ``text`` instead of a message. Source:
OpenAI API reference, "Completions".
"""

from dataclasses import dataclass
from typing import Final

from serve_app.dialects.earlier_answers import StateDialect
from serve_app.dialects.fields import (
    GATEWAY_KEYS,
    Fields,
    Intent,
    read_fallbacks,
    read_model,
    read_stream,
)
from serve_app.dialects.json_edits import Document
from serve_app.dialects.openai_chat.dialect import ChatUpstream
from serve_app.dialects.openai_errors import OpenAIErrors
from serve_app.dialects.text_conversation import TextConversation
from serve_app.domain import Conversation, Json
from serve_app.errors import InvalidRequest
from serve_app.exchange import PATHS, Operation

FIELDS: Final = Fields(read=GATEWAY_KEYS | {"model", "stream", "prompt", "n", "metadata"})


@dataclass(frozen=True, slots=True)
class CompletionsClient(OpenAIErrors):
    """A client that sends legacy completions."""

    name: str = "completions"
    path: str = PATHS[Operation.COMPLETIONS]
    holds_conversations: bool = True
    fields: Fields = FIELDS
    keep_alive: bytes = b": keep-alive\n\n"
    state: StateDialect | None = None

    def read_intent(self, document: Document) -> Intent:
        """Model, fallbacks, streaming and number of answers. Raises InvalidRequest."""
        stream = read_stream(document)
        model = read_model(document)
        n = document.get("n")
        choices = (n if isinstance(n, int) else 1) * _count(document.get("prompt"))
        return Intent(model, read_fallbacks(document), stream, choices)

    def read_conversation(self, document: Document) -> Conversation:
        """The texts in ``prompt``; empty without any, as the API then begins a new document.

        Raises InvalidRequest if ``prompt`` is neither a string nor a list.
        """
        prompt = document.get("prompt")
        if prompt is not None and not isinstance(prompt, str | list):
            raise InvalidRequest("prompt must be a string or a list", "prompt")
        texts = prompt if isinstance(prompt, list) else [prompt]
        text = "\n".join(text for text in texts if isinstance(text, str))
        return TextConversation(text, len(document.text))


@dataclass(frozen=True, slots=True)
class CompletionsUpstream(ChatUpstream):
    """A provider that is asked for legacy completions."""

    operation: Operation = Operation.COMPLETIONS


def _count(prompt: Json) -> int:
    """The number of prompts: a list of numbers is one prompt, as tokens."""
    if not isinstance(prompt, list):
        return 1
    return sum(isinstance(part, str | list) for part in prompt) or 1
