"""OpenTelemetry's exporters over HTTP, made to log a collector that is away once, not each time.

Import this module only where something is exported: the SDK takes time and memory.
"""

import logging
from collections.abc import Iterable, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics.export import MetricExportResult, MetricsData
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from serve_app.telemetry.export import Destination

_MAX_REASON: Final = 200
_QUEUE_FULL: Final = "Queue full"
_SDK: Final = "opentelemetry"
_log = logging.getLogger("fingerpost")


class _LastMessage(logging.Handler):
    """Takes what the SDK logs, so that only the latest reason of a failure is kept."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""
        self._is_full = False

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps a message; a full queue is logged the first time."""
        text = record.getMessage()
        if not text.startswith(_QUEUE_FULL):
            self.text = text
        elif not self._is_full:
            self._is_full = True
            _log.warning(
                "telemetry: the queue is full, and spans are dropped; lower telemetry.traces.sample "
                "or raise max_queue"
            )


_last = _LastMessage()


class _Collector:
    """Whether a collector answers, logged when that changes."""

    def __init__(self, signal: str, endpoint: str, secrets: Iterable[str]) -> None:
        parts = urlsplit(endpoint)
        self._where = f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)
        self._signal = signal
        self._secrets = [secret for secret in (*secrets, parts.password or "") if secret]
        self._is_away = False
        sdk = logging.getLogger(_SDK)
        sdk.propagate = False  # its messages repeat for each batch, and are of no use one by one
        if _last not in sdk.handlers:
            sdk.addHandler(_last)

    def note(self, *, answered: bool) -> None:
        """Takes the outcome of one export."""
        if answered is not self._is_away:
            return
        self._is_away = not answered
        if answered:
            _log.warning("telemetry: the collector %s takes %s again", self._where, self._signal)
            return
        reason = _last.text
        if "header value" in reason:  # the message repeats the value, which may be a key
            reason = "a header value is not valid"
        for secret in self._secrets:
            reason = reason.replace(secret, "***")
        _log.warning(
            "telemetry: the collector %s does not take %s, which are dropped until it does: %s",
            self._where,
            self._signal,
            reason[:_MAX_REASON] or "unknown reason",
        )


class _ReportedSpans(SpanExporter):
    """An exporter of spans whose failures are logged once."""

    def __init__(self, inner: OTLPSpanExporter, collector: _Collector) -> None:
        self._inner = inner
        self._collector = collector

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Exports a batch."""
        result = self._inner.export(spans)
        self._collector.note(answered=result is SpanExportResult.SUCCESS)
        return result

    def shutdown(self) -> None:
        """Ends the exporter."""
        self._inner.shutdown()  # type: ignore[no-untyped-call]  # the SDK's, without types


class _ReportedMetrics(OTLPMetricExporter):
    """An exporter of metrics whose failures are logged once."""

    collector: _Collector | None = None

    def export(
        self,
        metrics_data: MetricsData,
        timeout_millis: float | None = 10000,
        **kwargs: Any,  # noqa: ANN401 - as the base class has it
    ) -> MetricExportResult:
        """Exports all metrics."""
        result = super().export(metrics_data, timeout_millis, **kwargs)
        if self.collector is not None:
            self.collector.note(answered=result is MetricExportResult.SUCCESS)
        return result


def span_exporter(to: Destination) -> SpanExporter:
    """An exporter of spans."""
    inner = OTLPSpanExporter(to.endpoint, headers=dict(to.headers), timeout=to.timeout_s)
    return _ReportedSpans(inner, _Collector("spans", inner._endpoint, to.headers.values()))  # noqa: SLF001 - it may come from the environment


def metric_exporter(to: Destination) -> OTLPMetricExporter:
    """An exporter of metrics."""
    exporter = _ReportedMetrics(to.endpoint, headers=dict(to.headers), timeout=to.timeout_s)
    exporter.collector = _Collector("metrics", exporter._endpoint, to.headers.values())  # noqa: SLF001 - as above
    return exporter
