"""Makes spans of the records of requests, with OpenTelemetry's SDK.

Names are those of OpenTelemetry's semantic conventions for generative AI and HTTP where they
exist. Import this module only where traces are exported: the SDK takes time and memory.
"""

import json
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final, NamedTuple

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
)

from serve_app.dialects.ir import Usage
from serve_app.domain import Scores, Turn, Unavailable
from serve_app.telemetry.record import (
    BROKEN,
    CLIENT_GONE,
    AttemptRecord,
    DecisionRecord,
    RequestRecord,
    TriedRecord,
)
from serve_app.telemetry.trace_context import TraceContext

MAX_CONTENT: Final = 32768
"""Characters of a conversation in a span; its oldest text is left out first."""

_BATCH: Final = 512
_DECISION: Final = -1
"""The ordinal of the decision's span; attempts begin at 1."""
_FAULTS_FROM: Final = 500
_SCOPE: Final = InstrumentationScope("fingerpost")
_UNSET: Final = Status()
_OPERATIONS: Final[Mapping[str, str]] = {
    "chat": "chat",
    "messages": "chat",
    "responses": "chat",
    "completions": "text_completion",
    "embeddings": "embeddings",
}
"""The operation of a surface in the words of the conventions; others keep their own name."""

_Attribute = str | bool | int | float | Sequence[str] | Sequence[float]


class SpanObserver:
    """Exports the spans of sampled requests; keeps at most ``max_queue`` of them.

    A request's spans are made when it is over, with ids that its providers were told before. So
    they are made as finished ones, which is also much cheaper than to start and end each.
    """

    def __init__(self, exporter: SpanExporter, resource: Resource, max_queue: int) -> None:
        self._resource = resource
        self._processor = BatchSpanProcessor(
            exporter, max_queue_size=max_queue, max_export_batch_size=_BATCH
        )

    def decided(self, decision: DecisionRecord) -> None:
        """Does nothing: the request's record has its decision."""

    def attempted(self, attempt: AttemptRecord) -> None:
        """Does nothing: the request's record has its attempts."""

    def session_changed(self, event: str) -> None:
        """Does nothing."""

    def ended(self, request: RequestRecord) -> None:
        """Makes the spans of a request, if it is sampled."""
        context = request.context
        if context is None:
            return
        began = context.read_at or request.at
        ended = time.time() if request.seconds is None else began + request.seconds
        state = TraceState.from_header([context.state]) if context.state else None
        trace = _Trace(context, TraceFlags(context.flags), state)
        above = trace.span(context.parent_id, is_remote=True) if context.parent_id else None
        server = trace.span(context.span_id)
        if request.reason:
            self._export(_decision(request, trace, server, began))
        for index in range(len(request.tried)):
            self._export(_attempt(request, trace, server, index, ended))
        self._export(
            _Draft(
                f"POST {context.route}",
                SpanKind.SERVER,
                server,
                above,
                _Times(request.at, ended),
                _server_attributes(request),
                request.error_type if _is_fault(request) else "",
            )
        )

    def flush(self) -> None:
        """Exports what waits; may take as long as the exporter's timeout."""
        self._processor.force_flush()

    def close(self) -> None:
        """Exports what is left, and ends the exporter; may take as long as its timeout."""
        self._processor.shutdown()  # type: ignore[no-untyped-call]  # the SDK's, without types

    def _export(self, draft: "_Draft") -> None:
        span = ReadableSpan(
            draft.name,
            draft.own,
            draft.above,
            self._resource,
            draft.attributes,
            kind=draft.kind,
            status=Status(StatusCode.ERROR, draft.fault) if draft.fault else _UNSET,
            start_time=int(draft.times.began * 1e9),
            end_time=int(max(draft.times) * 1e9),
            instrumentation_scope=_SCOPE,
        )
        self._processor.on_end(span)


class _Times(NamedTuple):
    """Seconds since the epoch."""

    began: float
    ended: float


class _Trace(NamedTuple):
    """What the spans of a request have in common."""

    context: TraceContext
    flags: TraceFlags
    state: TraceState | None

    def span(self, span_id: int, *, is_remote: bool = False) -> SpanContext:
        """A span of this trace."""
        return SpanContext(self.context.trace_id, span_id, is_remote, self.flags, self.state)


class _Draft(NamedTuple):
    """What becomes a span."""

    name: str
    kind: SpanKind
    own: SpanContext
    above: SpanContext | None
    times: _Times
    attributes: Mapping[str, _Attribute]
    fault: str
    """What makes it an error; empty for none."""


def _decision(request: RequestRecord, trace: _Trace, server: SpanContext, began: float) -> _Draft:
    own = trace.span(trace.context.attempt_id(_DECISION))
    times = _Times(began, began + request.decided_s)
    attributes = _decision_attributes(request)
    return _Draft("decide", SpanKind.INTERNAL, own, server, times, attributes, "")


def _attempt(
    request: RequestRecord, trace: _Trace, server: SpanContext, index: int, request_ended: float
) -> _Draft:
    """The span of an attempt; the one that answers ends with the answer."""
    tried = request.tried[index]
    began = trace.context.read_at + tried.began_s
    is_answer = tried is _answering(request)
    ended = request_ended if is_answer else began + tried.seconds
    error = tried.outcome if tried.outcome != "ok" else request.error_type if is_answer else ""
    attributes = _attempt_attributes(request, index, tried, error, is_answer=is_answer)
    fault = "" if error == CLIENT_GONE else error
    own = trace.span(trace.context.attempt_id(index + 1))
    name = f"{_operation(request)} {_bare(tried.model)}"
    times = _Times(began, ended)
    return _Draft(name, SpanKind.CLIENT, own, server, times, attributes, fault)


def _operation(request: RequestRecord) -> str:
    return _OPERATIONS.get(request.surface, request.surface)


def _is_fault(request: RequestRecord) -> bool:
    """True for a failure that is not the client's."""
    return request.error_type == BROKEN or (request.status or 0) >= _FAULTS_FROM


def _answering(request: RequestRecord) -> TriedRecord | None:
    """The attempt whose answer the client got; None if none was good."""
    last = request.tried[-1] if request.tried else None
    return last if last is not None and last.outcome == "ok" else None


def _is_fallback(request: RequestRecord, tried: TriedRecord) -> bool:
    return tried.model != request.tried[0].model


def _bare(model: str) -> str:
    """A model's name without its provider."""
    return model.partition("/")[2]


def _kept(attributes: Mapping[str, _Attribute | None]) -> dict[str, _Attribute]:
    """Without those that are unknown."""
    return {name: value for name, value in attributes.items() if value not in (None, "")}


def _server_attributes(request: RequestRecord) -> dict[str, _Attribute]:
    context = request.context
    answering = _answering(request)
    return _kept(
        {
            "http.request.method": "POST",
            "http.route": None if context is None else context.route,
            "http.response.status_code": request.status,
            "error.type": request.error_type,
            "gen_ai.operation.name": _operation(request),
            "gen_ai.request.model": request.asked,
            "gen_ai.request.stream": request.stream,
            "gen_ai.response.model": None if answering is None else _bare(answering.model),
            "gen_ai.conversation.id": request.session_hash,
            "gen_ai.input.messages": _messages(request.turns),
            "fingerpost.request.id": request.id,
            "fingerpost.client": request.client,
            "fingerpost.team": request.team,
            "fingerpost.policy": request.policy,
            "fingerpost.reason": request.reason,
            "fingerpost.route": request.route,
            "fingerpost.attempts": request.attempts,
            "fingerpost.fallback": any(map(partial(_is_fallback, request), request.tried)),
            "fingerpost.cost_usd": request.usd,
            "fingerpost.usage.estimated": request.is_estimated or None,
            "fingerpost.overhead_s": request.overhead_s,
            "fingerpost.queued_s": request.queued_s,
        }
    )


def _decision_attributes(request: RequestRecord) -> dict[str, _Attribute]:
    scores = request.scores
    known = scores if isinstance(scores, Scores) else None
    return _kept(
        {
            "error.type": scores.reason.value if isinstance(scores, Unavailable) else None,
            "fingerpost.reason": request.decision_reason,
            "fingerpost.route": request.route,
            "fingerpost.rule": request.rule,
            "fingerpost.tier": request.tier,
            "fingerpost.session": request.session,
            "fingerpost.confidence": request.confidence,
            "fingerpost.threshold": None if known is None else known.threshold,
            "fingerpost.cached": None if known is None else known.cached,
            "fingerpost.candidates": request.candidates,
            "fingerpost.score.routes": () if known is None else tuple(known.routes),
            "fingerpost.score.values": () if known is None else tuple(known.routes.values()),
        }
    )


def _attempt_attributes(
    request: RequestRecord, index: int, tried: TriedRecord, error: str, *, is_answer: bool
) -> dict[str, _Attribute]:
    usage = request.usage if is_answer else None
    return _kept(
        {
            "gen_ai.operation.name": _operation(request),
            "gen_ai.provider.name": tried.provider,
            "gen_ai.request.model": _bare(tried.model),
            "gen_ai.request.stream": request.stream,
            "gen_ai.response.model": _bare(tried.model) if is_answer else None,
            "gen_ai.response.time_to_first_chunk": (
                tried.seconds if is_answer and request.stream else None
            ),
            "error.type": error,
            "fingerpost.attempt": index + 1,
            "fingerpost.fallback": _is_fallback(request, tried),
            **({} if usage is None else _usage_attributes(usage)),
        }
    )


def _usage_attributes(usage: Usage) -> dict[str, _Attribute | None]:
    """The tokens as the conventions count them: those of the cache are part of the input."""
    return {
        "gen_ai.usage.input_tokens": usage.all_input,
        "gen_ai.usage.output_tokens": usage.output,
        "gen_ai.usage.cache_read.input_tokens": usage.cache_read or None,
        "gen_ai.usage.cache_creation.input_tokens": usage.cache_write or None,
        "gen_ai.usage.reasoning.output_tokens": usage.reasoning,
    }


def _messages(turns: Sequence[Turn]) -> str | None:
    """The conversation as the conventions write it, at most MAX_CONTENT characters of its text."""
    kept: list[dict[str, object]] = []
    left = MAX_CONTENT
    for turn in reversed(turns):
        if left <= 0:
            break
        text = turn.text[-left:]
        left -= len(text)
        kept.append({"role": turn.role, "parts": [{"type": "text", "content": text}]})
    return json.dumps(kept[::-1], ensure_ascii=False) if kept else None
