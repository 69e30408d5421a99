"""The dialect of Anthropic messages, for clients and for providers.

Source: Anthropic API reference, "Messages" and "Count tokens in a message".
"""

from dataclasses import dataclass
from typing import Final

from serve_app.dialects import ir
from serve_app.dialects.anthropic_messages import errors
from serve_app.dialects.anthropic_messages.conversation import MessagesConversation
from serve_app.dialects.anthropic_messages.errors import MessagesErrors
from serve_app.dialects.anthropic_messages.state import MessagesState
from serve_app.dialects.anthropic_messages.stream import MessagesWatch
from serve_app.dialects.anthropic_messages.thinking import effort_fields
from serve_app.dialects.anthropic_messages.usage import read_usage
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
from serve_app.dialects.path_upstream import PathUpstream
from serve_app.dialects.protocol import ErrorInfo, StreamWatch
from serve_app.domain import Conversation, Json
from serve_app.errors import InvalidRequest
from serve_app.exchange import PATHS, Operation

FIELDS: Final = Fields(
    read=GATEWAY_KEYS | {"model", "stream", "messages", "system", "tools", "metadata", "thread"},
    thoughts_in="messages",
)


_STATE: Final = MessagesState()


@dataclass(frozen=True, slots=True)
class MessagesClient(MessagesErrors):
    """A client that sends Anthropic messages."""

    name: str = "messages"
    path: str = PATHS[Operation.MESSAGES]
    holds_conversations: bool = True
    fields: Fields = FIELDS
    keep_alive: bytes = b'event: ping\ndata: {"type": "ping"}\n\n'
    state: StateDialect | None = _STATE

    def read_intent(self, document: Document) -> Intent:
        """Model, fallbacks and streaming. Raises InvalidRequest."""
        stream = read_stream(document)
        return Intent(read_model(document), read_fallbacks(document), stream)

    def read_conversation(self, document: Document) -> Conversation:
        """The conversation in ``messages``. Raises InvalidRequest if it is not a list."""
        if not isinstance(document.get("messages"), list):
            raise InvalidRequest("messages is required and must be a list", "messages")
        return MessagesConversation(document)


@dataclass(frozen=True, slots=True)
class CountTokensClient(MessagesClient):
    """A client that asks how many tokens the same body is; the answer is never a stream."""

    name: str = "count_tokens"
    path: str = PATHS[Operation.COUNT_TOKENS]
    holds_conversations: bool = False
    keep_alive: bytes = b""
    state: StateDialect | None = None

    def read_intent(self, document: Document) -> Intent:
        """Model and fallbacks. Raises InvalidRequest."""
        return Intent(read_model(document), read_fallbacks(document))


@dataclass(frozen=True, slots=True)
class MessagesUpstream(PathUpstream):
    """A provider that is asked for Anthropic messages."""

    operation: Operation = Operation.MESSAGES

    def effort_fields(self, document: Document, model: str, effort: str) -> dict[str, Json]:
        """``output_config`` and ``thinking``, as the model takes them."""
        return effort_fields(document, model, effort)

    def read_usage(self, usage: Json) -> ir.Usage | None:
        """The tokens that a message counts."""
        return read_usage(usage)

    def read_error(self, body: bytes) -> ErrorInfo | None:
        """The error in a body; without a ``body`` of its own if it has the form of OpenAI's."""
        return errors.read_error(body)

    def check_answer(self, body: bytes, *, may_be_torn: bool) -> ErrorInfo | None:
        """What is wrong with a complete answer; None if it is a message."""
        return errors.check_answer(body, may_be_torn=may_be_torn)

    def watch(self, intent: Intent) -> StreamWatch:
        """A watch that expects ``message_stop``."""
        del intent
        return MessagesWatch()


@dataclass(frozen=True, slots=True)
class CountTokensUpstream(MessagesUpstream):
    """A provider that is asked how many tokens a message is."""

    operation: Operation = Operation.COUNT_TOKENS

    def effort_fields(self, document: Document, model: str, effort: str) -> dict[str, Json]:
        """Nothing: what the model thinks is not counted."""
        del document, model, effort
        return {}

    def check_answer(self, body: bytes, *, may_be_torn: bool) -> ErrorInfo | None:
        """What is wrong with a complete answer; None if it is a count of tokens."""
        del may_be_torn  # it is always parsed
        return errors.check_count(body)
