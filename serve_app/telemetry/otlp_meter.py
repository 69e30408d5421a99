"""Exports the metrics of a MetricStore by OpenTelemetry's protocol.

Counters and gauges are read from the store when an export is due, so that a request pays for
them once; histograms are recorded directly. Import this module only where metrics are exported.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Final

from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.metrics import Histogram as OtelHistogram
from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter, MeterProvider
from opentelemetry.sdk.metrics.export import MetricExporter, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource

from serve_app.telemetry.metric_store import MetricStore
from serve_app.telemetry.metrics import METRICS, Metric, MetricSpec

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


def otel_name(metric: Metric) -> str:
    """The name of a metric in OpenTelemetry; Prometheus' exporters make ours of it again."""
    own = metric.value.removesuffix("_total").removesuffix("_seconds")
    return _GEN_AI_NAMES.get(metric) or own.replace("fingerpost_", "fingerpost.", 1)


class OtlpMeter:
    """A GaugeMeter that exports what it and a store are told, every ``interval_s``."""

    def __init__(
        self, exporter: MetricExporter, resource: Resource, store: MetricStore, interval_s: float
    ) -> None:
        self._provider = MeterProvider(
            [PeriodicExportingMetricReader(exporter, export_interval_millis=interval_s * 1e3)],
            resource,
            exemplar_filter=AlwaysOffExemplarFilter(),
            shutdown_on_exit=False,
        )
        meter = self._provider.get_meter("fingerpost")
        self._histograms: dict[Metric, OtelHistogram] = {}
        for metric, spec in METRICS.items():
            name, words = otel_name(metric), spec.description
            if spec.kind == "histogram":
                self._histograms[metric] = meter.create_histogram(
                    name, spec.unit, words, explicit_bucket_boundaries_advisory=spec.buckets
                )
                continue
            make = (
                meter.create_observable_counter
                if spec.kind == "counter"
                else meter.create_observable_gauge
            )
            make(name, [_reader(store, metric)], description=words)

    def count(self, metric: Metric, labels: tuple[str, ...], amount: float = 1) -> None:
        """Does nothing: the store has it."""

    def set(self, metric: Metric, value: float, labels: tuple[str, ...]) -> None:
        """Does nothing: the store has it."""

    def observe(self, metric: Metric, value: float, labels: tuple[str, ...]) -> None:
        """One more value of a histogram."""
        self._histograms[metric].record(value, _attributes(METRICS[metric], labels))

    def close(self) -> None:
        """Exports for the last time; may take as long as the exporter's timeout."""
        self._provider.shutdown()


def _reader(
    store: MetricStore, metric: Metric
) -> Callable[[CallbackOptions], Iterable[Observation]]:
    return partial(_read, store, metric)


def _read(store: MetricStore, metric: Metric, _: CallbackOptions) -> list[Observation]:
    spec = METRICS[metric]
    return [
        Observation(value, _attributes(spec, labels))
        for labels, value in store.values(metric).items()
    ]


def _attributes(spec: MetricSpec, labels: tuple[str, ...]) -> dict[str, str]:
    """The labels by their names in OpenTelemetry, without empty ones."""
    return {
        _GEN_AI_LABELS.get(name, name): value
        for name, value in zip(spec.labels, labels, strict=True)
        if value
    }
