"""The dialect of OpenAI chat completions, for clients and for providers.

Source: OpenAI API reference, "Chat".
"""

from dataclasses import dataclass
from typing import Final

from serve_app.dialects import ir
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
from serve_app.dialects.openai_chat.answers import USAGE
from serve_app.dialects.openai_chat.conversation import ChatConversation
from serve_app.dialects.openai_chat.effort import effort_fields
from serve_app.dialects.openai_chat.errors import check_answer
from serve_app.dialects.openai_chat.stream import ChatWatch
from serve_app.dialects.openai_errors import OpenAIErrors, read_error
from serve_app.dialects.path_upstream import PathUpstream
from serve_app.dialects.protocol import ErrorInfo, StreamWatch
from serve_app.domain import Conversation, Json
from serve_app.errors import InvalidRequest
from serve_app.exchange import PATHS, Operation

FIELDS: Final = Fields(
    read=GATEWAY_KEYS | {"model", "stream", "messages", "n", "metadata", "tools"},
    thoughts_in="messages",
)


@dataclass(frozen=True, slots=True)
class ChatClient(OpenAIErrors):
    """A client that sends chat completions."""

    name: str = "chat"
    path: str = PATHS[Operation.CHAT]
    fields: Fields = FIELDS
    holds_conversations: bool = True
    keep_alive: bytes = b": keep-alive\n\n"
    state: StateDialect | None = None

    def read_intent(self, document: Document) -> Intent:
        """Model, fallbacks, streaming and number of answers. Raises InvalidRequest."""
        stream = read_stream(document)
        model = read_model(document)
        choices = document.get("n")
        return Intent(
            model, read_fallbacks(document), stream, choices if isinstance(choices, int) else 1
        )

    def read_conversation(self, document: Document) -> Conversation:
        """The conversation in ``messages``. Raises InvalidRequest if it is not a list."""
        if not isinstance(document.get("messages"), list):
            raise InvalidRequest("messages is required and must be a list", "messages")
        return ChatConversation(document)


@dataclass(frozen=True, slots=True)
class ChatUpstream(PathUpstream):
    """A provider that is asked for chat completions."""

    operation: Operation = Operation.CHAT

    def effort_fields(self, document: Document, model: str, effort: str) -> dict[str, Json]:
        """``reasoning_effort``, or OpenRouter's ``reasoning`` where the client sends that."""
        return effort_fields(document, model, effort)

    def read_usage(self, usage: Json) -> ir.Usage | None:
        """The tokens that a chat completion counts."""
        return USAGE.read(usage)

    def read_error(self, body: bytes) -> ErrorInfo | None:
        """The error in a body; None if it is not an error of this dialect."""
        return read_error(body)

    def check_answer(self, body: bytes, *, may_be_torn: bool) -> ErrorInfo | None:
        """What is wrong with a complete answer; None if it is a chat completion."""
        return check_answer(body, may_be_torn=may_be_torn)

    def watch(self, intent: Intent) -> StreamWatch:
        """A watch that expects a finish reason for each of the choices."""
        return ChatWatch(intent.choices)
