"""The dialect of OpenAI chat completions, for clients and for providers.

Source: OpenAI API reference, "Chat".
"""

from dataclasses import dataclass
from typing import Final

from serve_app.dialects.fields import (
    GATEWAY_KEYS,
    Fields,
    Intent,
    read_fallbacks,
    read_model,
    read_stream,
)
from serve_app.dialects.json_edits import Document, Quirk, rewrite_document
from serve_app.dialects.openai_chat import errors
from serve_app.dialects.openai_chat.conversation import ChatConversation
from serve_app.dialects.openai_chat.stream import ChatWatch
from serve_app.dialects.protocol import ErrorInfo, StreamWatch
from serve_app.domain import Conversation
from serve_app.errors import GatewayError, InvalidRequest
from serve_app.exchange import PATHS, Operation

FIELDS: Final = Fields(
    read=GATEWAY_KEYS | {"model", "stream", "messages", "n", "metadata", "tools"}
)


@dataclass(frozen=True, slots=True)
class ChatClient:
    """A client that sends chat completions."""

    name: str = "chat"
    path: str = PATHS[Operation.CHAT]
    fields: Fields = FIELDS

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

    def render_error(self, error: GatewayError, *, status: int | None = None) -> bytes:
        """An error as the body that OpenAI clients expect."""
        return errors.render_error(error, status)

    def render_error_event(self, error: GatewayError) -> bytes:
        """An error as an event inside a stream; the official SDKs raise APIError on it."""
        return b"data: " + errors.render_error(error) + b"\n\n"


@dataclass(frozen=True, slots=True)
class ChatUpstream:
    """A provider that is asked for chat completions."""

    operation: Operation = Operation.CHAT

    def address(self, model: str, *, stream: bool) -> str:
        """The same for every model, streamed or not."""
        del model, stream
        return PATHS[self.operation]

    def pass_on(self, document: Document, fields: Fields, model: str, quirk: Quirk) -> bytes:
        """The client's body with another model and without the gateway's own keys."""
        return rewrite_document(
            document, model=model, cut=fields.own, cut_metadata=fields.metadata, quirk=quirk
        )

    def read_error(self, body: bytes) -> ErrorInfo | None:
        """The error in a body; None if it is not an error of this dialect."""
        return errors.read_error(body)

    def check_answer(self, body: bytes, *, may_be_torn: bool) -> ErrorInfo | None:
        """What is wrong with a complete answer; None if it is a chat completion."""
        return errors.check_answer(body, may_be_torn=may_be_torn)

    def watch(self, intent: Intent) -> StreamWatch:
        """A watch that expects a finish reason for each of the choices."""
        return ChatWatch(intent.choices)
