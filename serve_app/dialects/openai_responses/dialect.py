"""The dialect of OpenAI responses, for clients and for providers.

Source: OpenAI API reference, "Responses".
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
from serve_app.dialects.openai_errors import read_error
from serve_app.dialects.openai_responses.answers import USAGE
from serve_app.dialects.openai_responses.conversation import ResponsesConversation
from serve_app.dialects.openai_responses.effort import effort_fields
from serve_app.dialects.openai_responses.errors import ResponsesErrors, check_answer
from serve_app.dialects.openai_responses.state import ResponsesState
from serve_app.dialects.openai_responses.stream import ResponsesWatch
from serve_app.dialects.path_upstream import PathUpstream
from serve_app.dialects.protocol import ErrorInfo, StreamWatch
from serve_app.domain import Conversation, Json
from serve_app.errors import InvalidRequest
from serve_app.exchange import PATHS, Operation

FIELDS: Final = Fields(
    read=GATEWAY_KEYS
    | {
        "model",
        "stream",
        "input",
        "instructions",
        "tools",
        "metadata",
        "previous_response_id",
        "conversation",
        "store",
    },
    thoughts_in="input",
)


_STATE: Final = ResponsesState()


@dataclass(frozen=True, slots=True)
class ResponsesClient(ResponsesErrors):
    """A client that creates responses."""

    name: str = "responses"
    path: str = PATHS[Operation.RESPONSES]
    holds_conversations: bool = True
    fields: Fields = FIELDS
    keep_alive: bytes = b": keep-alive\n\n"
    state: StateDialect | None = _STATE

    def read_intent(self, document: Document) -> Intent:
        """Model, fallbacks and streaming. Raises InvalidRequest."""
        stream = read_stream(document)
        return Intent(read_model(document), read_fallbacks(document), stream)

    def read_conversation(self, document: Document) -> Conversation:
        """The conversation in ``input``. Raises InvalidRequest if it is not a string or a list.

        Only a request with a template in ``prompt`` may leave it out.
        """
        value = document.get("input")
        has_template = value is None and document.get("prompt") is not None
        if not isinstance(value, str | list) and not has_template:
            message = "input is required and must be a string or a list"
            raise InvalidRequest(message, "input")
        return ResponsesConversation(document)


@dataclass(frozen=True, slots=True)
class ResponsesUpstream(PathUpstream):
    """A provider that is asked for responses."""

    operation: Operation = Operation.RESPONSES

    def effort_fields(self, document: Document, model: str, effort: str) -> dict[str, Json]:
        """``reasoning`` with this effort."""
        return effort_fields(document, model, effort)

    def read_usage(self, usage: Json) -> ir.Usage | None:
        """The tokens that a response counts."""
        return USAGE.read(usage)

    def read_error(self, body: bytes) -> ErrorInfo | None:
        """The error in a body; None if it is not an error of this dialect."""
        return read_error(body)

    def check_answer(self, body: bytes, *, may_be_torn: bool) -> ErrorInfo | None:
        """What is wrong with a complete answer; None if it is a response."""
        return check_answer(body, may_be_torn=may_be_torn)

    def watch(self, intent: Intent) -> StreamWatch:
        """A watch that expects the response to be completed, incomplete or failed."""
        del intent
        return ResponsesWatch()
