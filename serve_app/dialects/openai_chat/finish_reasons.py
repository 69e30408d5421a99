"""Why an answer ended, in the words of chat completions.

Source: OpenAI API reference, "Chat", field ``finish_reason``; Mistral and DeepSeek have more.
"""

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Final

from serve_app.dialects import ir
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
_FAILURES: Final = frozenset({"error", "insufficient_system_resource"})
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


def failure_in(reason: Json) -> str | None:
    """What a finish reason says if it reports a failure of the provider; None for any other."""
    if isinstance(reason, str) and reason in _FAILURES:
        return f"the provider ended its answer with finish_reason {reason!r}"
    return None


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
