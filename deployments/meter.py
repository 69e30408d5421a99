"""The Meter port over Serve's metrics, which Ray exports as Prometheus text on every node."""

import asyncio
from collections import defaultdict
from typing import Final

from ray.serve import metrics

from serve_app.telemetry.metrics import METRICS, Metric

FLUSH_S: Final = 1.0
"""Seconds between hand-overs of counts to Ray: one call of Ray costs as much as thirty here."""


class ServeMeter:
    """Records into Ray's metrics; Serve adds application, deployment and replica."""

    def __init__(self) -> None:
        self._counters: dict[Metric, metrics.Counter] = {}
        self._histograms: dict[Metric, metrics.Histogram] = {}
        self._gauges: dict[Metric, metrics.Gauge] = {}
        self._counts: defaultdict[tuple[Metric, tuple[str, ...]], float] = defaultdict(float)
        for metric, spec in METRICS.items():
            if spec.kind == "counter":
                self._counters[metric] = metrics.Counter(
                    metric.value, description=spec.description, tag_keys=spec.labels
                )
            elif spec.kind == "gauge":
                self._gauges[metric] = metrics.Gauge(
                    metric.value, description=spec.description, tag_keys=spec.labels
                )
            else:
                self._histograms[metric] = metrics.Histogram(
                    metric.value,
                    description=spec.description,
                    boundaries=list(spec.buckets),
                    tag_keys=spec.labels,
                )

    def count(self, metric: Metric, labels: tuple[str, ...], amount: float = 1) -> None:
        """Adds to a counter; Ray receives it within FLUSH_S, from other threads at once."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._counters[metric].inc(amount, tags=_tags(metric, labels))
            return
        if not self._counts:
            loop.call_later(FLUSH_S, self._flush)
        self._counts[metric, labels] += amount

    def observe(self, metric: Metric, value: float, labels: tuple[str, ...]) -> None:
        """One more value of a histogram."""
        self._histograms[metric].observe(value, tags=_tags(metric, labels))

    def set(self, metric: Metric, value: float, labels: tuple[str, ...]) -> None:
        """Sets a gauge. Any thread may call this."""
        self._gauges[metric].set(value, tags=_tags(metric, labels))

    def _flush(self) -> None:
        counts, self._counts = self._counts, defaultdict(float)
        for (metric, labels), count in counts.items():
            if count:  # Ray refuses to add nothing
                self._counters[metric].inc(count, tags=_tags(metric, labels))


def _tags(metric: Metric, labels: tuple[str, ...]) -> dict[str, str]:
    return dict(zip(METRICS[metric].labels, labels, strict=True))
