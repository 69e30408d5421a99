"""The Meter port over Serve's metrics, which Ray exports as Prometheus text on every node."""

import asyncio
from collections import defaultdict
from threading import get_ident
from typing import Final

from ray.serve import metrics

from serve_app.telemetry.metrics import METRICS, Metric

FLUSH_S: Final = 1.0
"""Seconds between hand-overs to Ray: one call of Ray costs as much as thirty here."""

BURST: Final = 64
"""Values of histograms that are handed over together: the first call of Ray after other work costs
three times as much as the next ones, and this many take less than half a millisecond."""


class ServeMeter:
    """Records into Ray's metrics; Serve adds application, deployment and replica."""

    def __init__(self) -> None:
        self._counters: dict[Metric, metrics.Counter] = {}
        self._histograms: dict[Metric, metrics.Histogram] = {}
        self._gauges: dict[Metric, metrics.Gauge] = {}
        self._counts: defaultdict[tuple[Metric, tuple[str, ...]], float] = defaultdict(float)
        self._values: list[tuple[Metric, float, tuple[str, ...]]] = []
        self._is_due = False
        """A flush is planned, in ``_thread``."""
        self._thread = 0
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
        if self._flushes_later():
            self._counts[metric, labels] += amount
        else:
            self._counters[metric].inc(amount, tags=_tags(metric, labels))

    def observe(self, metric: Metric, value: float, labels: tuple[str, ...]) -> None:
        """One more value of a histogram; Ray receives it within FLUSH_S, from other threads at once."""
        if not self._flushes_later():
            self._histograms[metric].observe(value, tags=_tags(metric, labels))
            return
        self._values.append((metric, value, labels))
        if len(self._values) >= BURST:
            self._hand_over_values()

    def _flushes_later(self) -> bool:
        """Plans a flush. Returns False in a thread without an event loop."""
        if not self._is_due:
            try:
                loop = asyncio.get_running_loop()
            except RuntimeError:
                return False
            loop.call_later(FLUSH_S, self._flush)
            self._is_due = True
            self._thread = get_ident()
        return self._thread == get_ident()

    def set(self, metric: Metric, value: float, labels: tuple[str, ...]) -> None:
        """Sets a gauge. Any thread may call this."""
        self._gauges[metric].set(value, tags=_tags(metric, labels))

    def _hand_over_values(self) -> None:
        values, self._values = self._values, []
        for metric, value, labels in values:
            self._histograms[metric].observe(value, tags=_tags(metric, labels))

    def _flush(self) -> None:
        self._is_due = False
        self._hand_over_values()
        counts, self._counts = self._counts, defaultdict(float)
        for (metric, labels), count in counts.items():
            if count:  # Ray refuses to add nothing
                self._counters[metric].inc(count, tags=_tags(metric, labels))


def _tags(metric: Metric, labels: tuple[str, ...]) -> dict[str, str]:
    return dict(zip(METRICS[metric].labels, labels, strict=True))
