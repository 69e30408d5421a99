"""The dialect of OpenAI embeddings, for clients and for providers.

Source: OpenAI API reference, "Embeddings".
"""

import re
from dataclasses import dataclass
from typing import Final

from serve_app.dialects import ir
from serve_app.dialects.earlier_answers import StateDialect
from serve_app.dialects.fields import GATEWAY_KEYS, Fields, Intent, read_fallbacks, read_model
from serve_app.dialects.json_edits import Document, read_object
from serve_app.dialects.openai_errors import OpenAIErrors, error_info, error_message, read_error
from serve_app.dialects.openai_usage import UsageNames
from serve_app.dialects.path_upstream import PathUpstream
from serve_app.dialects.protocol import ErrorInfo, StreamWatch
from serve_app.dialects.text_conversation import TextConversation
from serve_app.dialects.typed_events import NO_EVENTS, TypedEventWatch
from serve_app.domain import Conversation, Json
from serve_app.errors import InvalidRequest
from serve_app.exchange import PATHS, Operation

FIELDS: Final = Fields(read=GATEWAY_KEYS | {"model", "input", "metadata"})
_EMBEDDING: Final = re.compile(rb'"data"\s*:\s*\[\s*\{')
_SHOWN_CHARACTERS: Final = 2000
"""Length of the text that decides the route; a batch may have many megabytes."""

_USAGE: Final = UsageNames("prompt_tokens", "completion_tokens")


@dataclass(frozen=True, slots=True)
class EmbeddingsClient(OpenAIErrors):
    """A client that asks for embeddings; the answer is never a stream."""

    name: str = "embeddings"
    path: str = PATHS[Operation.EMBEDDINGS]
    holds_conversations: bool = False
    fields: Fields = FIELDS
    keep_alive: bytes = b""
    state: StateDialect | None = None

    def read_intent(self, document: Document) -> Intent:
        """Model and fallbacks. Raises InvalidRequest."""
        return Intent(read_model(document), read_fallbacks(document))

    def read_conversation(self, document: Document) -> Conversation:
        """The begin of the texts in ``input``, which is empty where they are given as tokens.

        Raises InvalidRequest if ``input`` is not a string or a list.
        """
        value = document.get("input")
        if not isinstance(value, str | list):
            raise InvalidRequest("input is required and must be a string or a list", "input")
        # a text that is not empty has a character at least, so that the first ones are enough
        texts = [value] if isinstance(value, str) else filter(None, value[:_SHOWN_CHARACTERS])
        text = "\n".join(text[:_SHOWN_CHARACTERS] for text in texts if isinstance(text, str))
        return TextConversation(text[:_SHOWN_CHARACTERS], len(document.text))


@dataclass(frozen=True, slots=True)
class EmbeddingsUpstream(PathUpstream):
    """A provider that is asked for embeddings."""

    operation: Operation = Operation.EMBEDDINGS

    def read_usage(self, usage: Json) -> ir.Usage | None:
        """The tokens that an answer counts."""
        return _USAGE.read(usage)

    def read_error(self, body: bytes) -> ErrorInfo | None:
        """The error in a body; None if it is not an error of this dialect."""
        return read_error(body)

    def check_answer(self, body: bytes, *, may_be_torn: bool) -> ErrorInfo | None:
        """What is wrong with a complete answer of status 2xx; None if it holds embeddings.

        A body that may be torn is parsed in full.
        """
        whole = body.strip()
        looks_good = whole.startswith(b"{") and whole.endswith(b"}") and _EMBEDDING.search(whole)
        if looks_good and not may_be_torn and b'"error"' not in whole:
            return None
        answer = read_object(body)
        if answer is None:
            return ErrorInfo("the answer is not a JSON object")
        data, error = answer.get("data"), answer.get("error")
        if isinstance(data, list) and data:
            return None
        if isinstance(error, dict):
            return error_info(error, body)
        what = "no embeddings" if isinstance(data, list) else "no list `data`"
        return ErrorInfo(error_message(error) if error else f"the answer holds {what}")

    def watch(self, intent: Intent) -> StreamWatch:
        """A watch that finds no content in any stream."""
        del intent
        return TypedEventWatch(NO_EVENTS)
