"""OpenAI chat completions read into ``ir`` and written from it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from serve_app.dialects import ir
from serve_app.dialects.json_edits import Document
from serve_app.dialects.openai_chat import read_request, write_request
from serve_app.dialects.openai_chat.answers import read_answer, write_answer
from serve_app.dialects.openai_chat.read_events import ChatReader
from serve_app.dialects.openai_chat.write_events import ChatWriter
from serve_app.dialects.protocol import EventReader, EventWriter, ToolLimits, Written
from serve_app.domain import Json

_LIMITS: Final = ToolLimits(max_name=64)
"""Source: OpenAI API reference, "Chat", ``tools``. Custom tools exist, but only OpenAI has them."""


@dataclass(frozen=True, slots=True)
class ChatCodec:
    """Reads and writes OpenAI chat completions."""

    tool_limits: ToolLimits = _LIMITS

    def read_request(self, document: Document) -> ir.Request:
        """The request of a client. Raises InvalidRequest that names the field."""
        return read_request.read_request(document)

    def write_request(self, request: ir.Request, model: str) -> Written:
        """The body for a provider. Raises InvalidRequest that names the client's field."""
        return write_request.write_request(request, model)

    def read_answer(self, answer: Mapping[str, Json]) -> ir.Answer:
        """The complete answer of a provider. Raises ValueError if it is not one."""
        return read_answer(answer)

    def write_answer(self, answer: ir.Answer, request: ir.Request) -> Written:
        """The complete answer for a client."""
        return write_answer(answer, request)

    def reader(self) -> EventReader:
        """A reader for one stream of a provider."""
        return ChatReader()

    def writer(self, request: ir.Request) -> EventWriter:
        """A writer for one stream of a client."""
        return ChatWriter(request)
