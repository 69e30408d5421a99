"""Exports the metrics of a MetricStore by OpenTelemetry's protocol.

The store has everything already, so that a request pays nothing for the export: a thread makes
the SDK's points of it each time. Import this module only where metrics are exported.
"""

import logging
import threading
import time
from collections.abc import Mapping
from typing import Final

from opentelemetry.sdk.metrics import export as otel
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from serve_app.telemetry.metric_store import MetricStore
from serve_app.telemetry.metrics import METRICS, Metric, MetricSpec

_CUMULATIVE: Final = otel.AggregationTemporality.CUMULATIVE
_SCOPE: Final = InstrumentationScope("fingerpost")
_GEN_AI_NAMES: Final[Mapping[Metric, str]] = {
    Metric.REQUEST_SECONDS: "gen_ai.server.request.duration",
    Metric.FIRST_TOKEN_SECONDS: "gen_ai.server.time_to_first_token",
    Metric.TOKEN_SECONDS: "gen_ai.server.time_per_output_token",
    Metric.TOKENS: "gen_ai.client.token.usage",
}
_GEN_AI_LABELS: Final[Mapping[str, str]] = {
    "gen_ai_operation_name": "gen_ai.operation.name",
    "gen_ai_provider_name": "gen_ai.provider.name",
    "gen_ai_request_model": "gen_ai.request.model",
    "gen_ai_token_type": "gen_ai.token.type",
    "error_type": "error.type",
}
_log = logging.getLogger("fingerpost")


def otel_name(metric: Metric) -> str:
    """The name of a metric in OpenTelemetry; Prometheus' exporters make ours of it again."""
    own = metric.value.removesuffix("_total").removesuffix("_seconds")
    return _GEN_AI_NAMES.get(metric) or own.replace("fingerpost_", "fingerpost.", 1)


class MetricExport:
    """Exports the totals of a store every ``interval_s``, in a thread of its own."""

    def __init__(
        self,
        exporter: otel.MetricExporter,
        resource: Resource,
        store: MetricStore,
        interval_s: float,
    ) -> None:
        self._exporter = exporter
        self._resource = resource
        self._store = store
        self._interval_s = interval_s
        self._began_ns = time.time_ns()
        self._closing = threading.Event()
        self._lock = threading.Lock()
        threading.Thread(target=self._run, name="metric-export", daemon=True).start()

    def flush(self) -> None:
        """Exports now; may take as long as the exporter's timeout."""
        with self._lock:
            try:
                self._exporter.export(self._data())
            except Exception:  # noqa: BLE001 - a fault of the exporter must not end the thread
                _log.exception("telemetry: metrics cannot be exported")

    def close(self) -> None:
        """Exports for the last time; may take as long as the exporter's timeout."""
        self._closing.set()
        self.flush()
        self._exporter.shutdown()

    def _run(self) -> None:
        while not self._closing.wait(self._interval_s):
            self.flush()

    def _data(self) -> otel.MetricsData:
        metrics = [metric for name in METRICS for metric in self._metric(name)]
        scope = otel.ScopeMetrics(_SCOPE, metrics, "")
        return otel.MetricsData([otel.ResourceMetrics(self._resource, [scope], "")])

    def _metric(self, metric: Metric) -> list[otel.Metric]:
        """The metric with its points; empty without any."""
        spec, now = METRICS[metric], time.time_ns()
        data: otel.DataT
        if spec.kind == "histogram":
            data = otel.Histogram(self._histogram_points(metric, now), _CUMULATIVE)
        else:
            points = [
                otel.NumberDataPoint(_attributes(spec, labels), self._began_ns, now, value)
                for labels, value in self._store.values(metric).items()
            ]
            is_gauge = spec.kind == "gauge"
            data = otel.Gauge(points) if is_gauge else otel.Sum(points, _CUMULATIVE, True)  # noqa: FBT003 - the SDK's
        if not data.data_points:
            return []
        return [otel.Metric(otel_name(metric), spec.description, spec.unit, data)]

    def _histogram_points(self, metric: Metric, now: int) -> list[otel.HistogramDataPoint]:
        points = []
        for labels, histogram in self._store.histograms(metric).items():
            counts = list(histogram.counts)
            points.append(
                otel.HistogramDataPoint(
                    _attributes(METRICS[metric], labels),
                    self._began_ns,
                    now,
                    sum(counts),
                    histogram.total,
                    counts,
                    histogram.bounds,
                    histogram.least,
                    histogram.most,
                )
            )
        return points


def _attributes(spec: MetricSpec, labels: tuple[str, ...]) -> dict[str, str]:
    """The labels by their names in OpenTelemetry, without empty ones."""
    return {
        _GEN_AI_LABELS.get(name, name): value
        for name, value in zip(spec.labels, labels, strict=True)
        if value
    }
