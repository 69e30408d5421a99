"""Translates OpenAI responses to and from ``ir``.

Source: OpenAI API reference, "Responses".
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from serve_app.dialects import ir
from serve_app.dialects.json_edits import Document
from serve_app.dialects.openai_responses import answers
from serve_app.dialects.openai_responses.read_events import ResponsesReader
from serve_app.dialects.openai_responses.read_request import read_request
from serve_app.dialects.openai_responses.write_events import ResponsesWriter
from serve_app.dialects.openai_responses.write_request import write_request
from serve_app.dialects.protocol import EventReader, EventWriter, ToolLimits, Written
from serve_app.domain import Json

_LIMITS: Final = ToolLimits(max_name=64, has_custom=True, has_namespaces=True)


@dataclass(frozen=True, slots=True)
class ResponsesCodec:
    """The codec of OpenAI responses."""

    tool_limits: ToolLimits = _LIMITS

    def read_request(self, document: Document) -> ir.Request:
        """The request of a client. Raises InvalidRequest that names the field."""
        return read_request(document)

    def write_request(self, request: ir.Request, model: str) -> Written:
        """The body for a provider. Raises InvalidRequest that names the client's field."""
        return write_request(request, model)

    def read_answer(self, answer: Mapping[str, Json]) -> ir.Answer:
        """The complete answer of a provider. Raises ValueError if it is not one."""
        return answers.read_answer(answer)

    def write_answer(self, answer: ir.Answer, request: ir.Request) -> Written:
        """The complete answer for a client."""
        return answers.write_answer(answer, request)

    def reader(self) -> EventReader:
        """A reader for one stream of a provider."""
        return ResponsesReader()

    def writer(self, request: ir.Request) -> EventWriter:
        """A writer for one stream of a client."""
        return ResponsesWriter(request)
