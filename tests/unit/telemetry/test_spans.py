"""The spans of a record, without a collector."""

import json
import logging
import threading
from collections.abc import Sequence
from typing import Any, Final

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from serve_app.dialects.ir import Usage
from serve_app.domain import Reason, Turn, Unavailable
from serve_app.telemetry.exporters import _Collector, _last
from serve_app.telemetry.record import CLIENT_GONE, RequestRecord, TriedRecord
from serve_app.telemetry.spans import MAX_CONTENT, SpanObserver
from serve_app.telemetry.trace_context import TraceContext

CONTEXT: Final = TraceContext(1, 2, 0, 1, route="/v1/responses", read_at=1000.0)
ANSWERED: Final = TriedRecord("openai", "openai/gpt-4o", "ok", 0.25, 0.5)


def spans_of(record: RequestRecord) -> dict[str, ReadableSpan]:
    """The exported spans of a record, by name."""
    exporter = InMemorySpanExporter()
    observer = SpanObserver(exporter, Resource({}), 512)
    observer.ended(record)
    observer.close()
    return {span.name: span for span in exporter.get_finished_spans()}


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def record(**fields: Any) -> RequestRecord:
    known: dict[str, Any] = {
        "status": 200,
        "at": 999.5,
        "seconds": 3.0,
        "context": CONTEXT,
        "tried": (ANSWERED,),
    }
    return RequestRecord("responses", **{**known, **fields})


def test_unsampled_request_has_no_span() -> None:
    """Without tracing, or if the decision is not to sample, nothing is exported."""
    assert spans_of(record(context=None)) == {}


def test_times_are_those_of_the_record() -> None:
    """The server span begins with the request's arrival, the attempts after its body was read."""
    spans = spans_of(record(reason="explicit", decided_s=0.125))
    server, decision = spans["POST /v1/responses"], spans["decide"]
    attempt = spans["chat gpt-4o"]
    assert (server.start_time, server.end_time) == (999_500_000_000, 1003_000_000_000)
    assert (decision.start_time, decision.end_time) == (1000_000_000_000, 1000_125_000_000)
    assert (attempt.start_time, attempt.end_time) == (1000_250_000_000, 1003_000_000_000)
    assert attempt.context is not None
    assert attempt.context.span_id == CONTEXT.attempt_id(1)


def test_input_tokens_include_those_of_the_cache() -> None:
    """The conventions count cached tokens as input, and name them again."""
    usage = Usage(uncached_input=1, cache_read=2, cache_write=4, output=8, reasoning=3)
    found = attributes(spans_of(record(usage=usage))["chat gpt-4o"])
    assert {name: value for name, value in found.items() if "usage" in name} == {
        "gen_ai.usage.input_tokens": 7,
        "gen_ai.usage.output_tokens": 8,
        "gen_ai.usage.cache_read.input_tokens": 2,
        "gen_ai.usage.cache_creation.input_tokens": 4,
        "gen_ai.usage.reasoning.output_tokens": 3,
    }


def test_client_that_leaves_is_no_error_of_ours() -> None:
    """The spans of a client that left name that, and are not marked as errors."""
    for span in spans_of(record(error_type=CLIENT_GONE)).values():
        assert attributes(span)["error.type"] == CLIENT_GONE
        assert span.status.is_unset


def test_unavailable_orchestrator_is_on_the_decision() -> None:
    """A decision without scores has the reason as its error, and not the detail."""
    scores = Unavailable(Reason.ORCHESTRATOR_TIMEOUT, "secret detail")
    spans = spans_of(record(reason="orchestrator_timeout", scores=scores))
    assert attributes(spans["decide"])["error.type"] == "orchestrator_timeout"
    assert "secret" not in str([attributes(span) for span in spans.values()])


def test_long_conversation_keeps_its_end() -> None:
    """The text of a conversation in a span is bounded; the oldest text is left out."""
    turns = (Turn("user", "a" * 40_000), Turn("assistant", "b" * 30_000), Turn("user", "c" * 1000))
    span = spans_of(record(turns=turns))["POST /v1/responses"]
    messages = json.loads(attributes(span)["gen_ai.input.messages"])
    texts = [message["parts"][0]["content"] for message in messages]
    assert [message["role"] for message in messages] == ["user", "assistant", "user"]
    assert [text[0] for text in texts] == ["a", "b", "c"]
    assert sum(map(len, texts)) == MAX_CONTENT


class Blocked(SpanExporter):
    """An exporter that waits."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.count = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.go.wait(10)
        self.count += len(spans)
        return SpanExportResult.SUCCESS


def test_queue_is_bounded_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """While a collector is slow at most the configured number of spans waits; the loss is logged
    once.
    """
    _Collector("spans", "http://h:1", ())  # takes over what the SDK logs
    _last._is_full = False
    exporter = Blocked()
    observer = SpanObserver(exporter, Resource({}), 512)
    with caplog.at_level(logging.WARNING):
        for _ in range(2000):
            observer.ended(record(tried=()))
    exporter.go.set()
    observer.close()
    assert 512 <= exporter.count <= 512 * 3
    ours = [entry for entry in caplog.records if entry.name == "fingerpost"]
    assert [entry.getMessage()[:28] for entry in ours] == ["telemetry: the queue is full"]
    assert not logging.getLogger("opentelemetry").propagate
