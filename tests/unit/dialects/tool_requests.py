"""Requests with tools, and what a client gets of their calls."""

from collections.abc import Iterable

from serve_app.dialects import ir
from serve_app.dialects.client_tools import ClientTools
from serve_app.dialects.protocol import ToolLimits
from serve_app.domain import Json

LIMITS = ToolLimits(64)
"""Functions only."""


def request_of(*tools: ir.Tool, calls: Iterable[ir.Part] = (), **fields: Json) -> ir.Request:
    """A request with tools, and calls of the conversation before it."""
    message = ir.Message(ir.Role.ASSISTANT, tuple(calls))
    return ir.Request("responses", (message,), tools, **fields)


def names_of(tools: ClientTools) -> list[str]:
    return [tool.name for tool in tools.request.tools]


def answer_of(*parts: ir.AnswerPart) -> ir.Answer:
    return ir.Answer("id", "m", parts, ir.Finish.TOOL_CALLS)


def restored(tools: ClientTools, call: ir.ToolCall) -> ir.ToolCall:
    """The call in a complete answer, as the client gets it."""
    (part,) = tools.restore(answer_of(call)).parts
    assert isinstance(part, ir.ToolCall)
    return part


def streamed(tools: ClientTools, *events: ir.Event) -> list[list[ir.Event]]:
    """What the client gets of each event."""
    restorer = tools.restorer()
    return [list(restorer.feed(event)) for event in events]
