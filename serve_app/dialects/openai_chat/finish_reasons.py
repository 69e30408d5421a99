"""Why an answer ended, in the words of chat completions.

Source: OpenAI API reference, "Chat", field ``finish_reason``; Mistral, DeepSeek and OpenRouter have
more, and OpenRouter puts the error beside it.
"""

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Final

from serve_app.dialects import ir
from serve_app.dialects.openai_errors import error_info
from serve_app.dialects.protocol import ErrorInfo
from serve_app.domain import Json

_MEANS: Final[Mapping[str, ir.Finish]] = MappingProxyType(
    {
        "length": ir.Finish.LENGTH,
        "max_tokens": ir.Finish.LENGTH,
        "model_length": ir.Finish.CONTEXT_FULL,
        "tool_calls": ir.Finish.TOOL_CALLS,
        "function_call": ir.Finish.TOOL_CALLS,
        "tool_use": ir.Finish.TOOL_CALLS,
        "content_filter": ir.Finish.FILTERED,
    }
)
_FAILURES: Final[Mapping[str, int]] = MappingProxyType(
    {"error": 502, "insufficient_system_resource": 503}
)
"""Reasons that report a failure of the provider, and the status that they stand for."""
_MAY_CALL: Final = frozenset({ir.Finish.STOP, ir.Finish.TOOL_CALLS})
_WORDS: Final[Mapping[ir.Finish, str]] = MappingProxyType(
    {
        ir.Finish.STOP: "stop",
        ir.Finish.STOP_SEQUENCE: "stop",
        ir.Finish.LENGTH: "length",
        ir.Finish.CONTEXT_FULL: "length",  # incomplete for want of room, as OpenAI reports it too
        ir.Finish.PAUSED: "length",  # incomplete: "stop" would pass it off as a whole answer
        ir.Finish.TOOL_CALLS: "tool_calls",
        ir.Finish.FILTERED: "content_filter",
    }
)


def failure_in(choice: Mapping[str, Json], error: Json = None) -> ErrorInfo | None:
    """The failure of the provider that a choice reports as the end of an answer; else None.

    ``error``: what the provider says beside the choices.
    """
    reason, own = choice.get("finish_reason"), choice.get("error")
    if isinstance(reason, str) and reason in _FAILURES:
        if own or error:
            return error_info(own or error)
        text = f"the provider ended its answer with finish_reason {reason!r}"
        return ErrorInfo(text, _FAILURES[reason])
    return error_info(own) if own and not reason else None


def read_finish(
    reason: Json, stop_reason: Json, kinds: Collection[type[ir.AnswerPart]]
) -> ir.Finished:
    """Why an answer with parts of these kinds ended.

    Providers say ``stop`` after tool calls, and ``tool_calls`` without any; the parts decide.
    ``stop_reason`` is vLLM's name of the stop sequence.
    """
    finish = _MEANS.get(reason, ir.Finish.STOP) if isinstance(reason, str) else ir.Finish.STOP
    if finish in _MAY_CALL:
        if ir.ToolCall in kinds:
            return ir.Finished(ir.Finish.TOOL_CALLS)
        if ir.Refusal in kinds:
            return ir.Finished(ir.Finish.REFUSED)
        if reason == "stop" and isinstance(stop_reason, str) and stop_reason not in ("", "stop"):
            return ir.Finished(ir.Finish.STOP_SEQUENCE, stop_reason)
        return ir.Finished(ir.Finish.STOP)
    return ir.Finished(finish)


def write_finish(finish: ir.Finish, *, has_refusal: bool) -> str:
    """The finish reason.

    A refusal in words ends with ``stop``, its text is in ``refusal``. One without words would look
    like a complete answer, so it is reported as ``content_filter``.
    """
    if finish is ir.Finish.REFUSED:
        return "stop" if has_refusal else "content_filter"
    return _WORDS[finish]
