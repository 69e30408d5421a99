"""Makes spans of the records of requests, with OpenTelemetry's SDK.

Names are those of OpenTelemetry's semantic conventions for generative AI and HTTP where they
exist. Import this module only where traces are exported: the SDK takes time and memory.
"""

import json
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import (
    NonRecordingSpan,
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
_OPERATIONS: Final[Mapping[str, str]] = {
    "chat": "chat",
    "messages": "chat",
    "responses": "chat",
    "completions": "text_completion",
    "embeddings": "embeddings",
}
"""The operation of a surface in the words of the conventions; others keep their own name."""

_Attribute = str | bool | int | float | Sequence[str] | Sequence[float]


class PresetIds(IdGenerator):
    """Gives the next span the ids that were told to providers before it was made."""

    trace_id = 1
    span_id = 1

    def generate_trace_id(self) -> int:
        """Returns the preset id."""
        return self.trace_id

    def generate_span_id(self) -> int:
        """Returns the preset id."""
        return self.span_id

    def is_trace_id_random(self) -> bool:
        """True: those that we make are."""
        return True


class SpanObserver:
    """Exports the spans of sampled requests; keeps at most ``max_queue`` of them."""

    def __init__(self, exporter: SpanExporter, resource: Resource, max_queue: int) -> None:
        self._ids = PresetIds()
        self._processor = BatchSpanProcessor(
            exporter, max_queue_size=max_queue, max_export_batch_size=_BATCH
        )
        self._provider = TracerProvider(
            sampler=ALWAYS_ON,  # what is not sampled does not come here
            resource=resource,
            id_generator=self._ids,
            shutdown_on_exit=False,
            span_limits=SpanLimits(),
        )
        self._provider.add_span_processor(self._processor)
        self._tracer = self._provider.get_tracer("fingerpost")

    def decided(self, decision: DecisionRecord) -> None:
        """Does nothing: the request's record has its decision."""

    def attempted(self, attempt: AttemptRecord) -> None:
        """Does nothing: the request's record has its attempts."""

    def session_changed(self, event: str) -> None:
        """Does nothing."""

    def ended(self, request: RequestRecord) -> None:
        """Makes the spans of a request, if it is sampled."""
        context = request.context
        if context is None or not context.is_sampled:
            return
        began = context.read_at or request.at
        ended = time.time() if request.seconds is None else began + request.seconds
        server = self._start(
            f"POST {context.route}",
            context,
            (context.parent_id, True),
            (context.span_id, SpanKind.SERVER, request.at),
            _server_attributes(request),
        )
        if request.error_type and _is_fault(request):
            server.set_status(Status(StatusCode.ERROR, request.error_type))
        self._decision(request, context, began)
        for index, tried in enumerate(request.tried):
            self._attempt(request, context, index, tried, ended)
        server.end(_ns(ended))

    def close(self) -> None:
        """Exports what is left, and ends the exporter; may take as long as its timeout."""
        self._provider.shutdown()

    def _decision(self, request: RequestRecord, context: TraceContext, began: float) -> None:
        if not request.reason:
            return
        span = self._start(
            "decide",
            context,
            (context.span_id, False),
            (context.attempt_id(_DECISION), SpanKind.INTERNAL, began),
            _decision_attributes(request),
        )
        span.end(_ns(began + request.decided_s))

    def _attempt(
        self,
        request: RequestRecord,
        context: TraceContext,
        index: int,
        tried: TriedRecord,
        request_ended: float,
    ) -> None:
        """The span of an attempt; the one that answers ends with the answer."""
        began = context.read_at + tried.began_s
        is_answer = tried is _answering(request)
        ended = request_ended if is_answer else began + tried.seconds
        error = tried.outcome if tried.outcome != "ok" else request.error_type if is_answer else ""
        span = self._start(
            f"{_operation(request)} {_bare(tried.model)}",
            context,
            (context.span_id, False),
            (context.attempt_id(index + 1), SpanKind.CLIENT, began),
            _attempt_attributes(request, index, tried, error, is_answer=is_answer),
        )
        if error and error != CLIENT_GONE:
            span.set_status(Status(StatusCode.ERROR, error))
        span.end(_ns(max(began, ended)))

    def _start(
        self,
        name: str,
        context: TraceContext,
        parent: tuple[int, bool],
        own: tuple[int, SpanKind, float],
        attributes: Mapping[str, _Attribute],
    ) -> trace.Span:
        """A span below ``parent`` (its id, and whether it is the client's), begun at a time."""
        parent_id, is_remote = parent
        span_id, kind, began = own
        self._ids.trace_id, self._ids.span_id = context.trace_id, span_id
        inside = Context()
        if parent_id:
            above = SpanContext(
                context.trace_id,
                parent_id,
                is_remote=is_remote,
                trace_flags=TraceFlags(context.flags),
                trace_state=TraceState.from_header([context.state]) if context.state else None,
            )
            inside = trace.set_span_in_context(NonRecordingSpan(above), inside)
        return self._tracer.start_span(
            name, inside, kind, attributes=attributes, start_time=_ns(began)
        )


def _ns(seconds: float) -> int:
    return int(seconds * 1e9)


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
