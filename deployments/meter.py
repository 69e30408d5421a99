"""The Meter port over Serve's metrics, which Ray exports as Prometheus text on every node."""

import asyncio
from collections import defaultdict
from typing import Final

from ray.serve import metrics

from serve_app.telemetry.metrics import METRICS, Metric

FLUSH_S: Final = 1.0
"""Seconds between hand-overs of counts to Ray: one call of Ray costs as much as thirty here."""

_SECONDS: Final = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600,
]  # fmt: skip


class ServeMeter:
    """Records into Ray's metrics; Serve adds application, deployment and replica."""

    def __init__(self) -> None:
        self._counters: dict[Metric, metrics.Counter] = {}
        self._histograms: dict[Metric, metrics.Histogram] = {}
        self._gauges: dict[Metric, metrics.Gauge] = {}
        self._version: str | None = None
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
                    boundaries=_SECONDS,
                    tag_keys=spec.labels,
                )

    def count(self, metric: Metric, labels: tuple[str, ...], amount: float = 1) -> None:
        """Adds to a counter; Ray receives it within FLUSH_S."""
        if not self._counts:
            asyncio.get_running_loop().call_later(FLUSH_S, self._flush)
        self._counts[metric, labels] += amount

    def observe(self, metric: Metric, value: float, labels: tuple[str, ...]) -> None:
        """One more value of a histogram."""
        self._histograms[metric].observe(value, tags=_tags(metric, labels))

    def reloaded(self, version: str, *, good: bool) -> None:
        """A changed configuration, and the version in use after it. Any thread may call this."""
        self._counters[Metric.RELOADS].inc(1.0, tags={"outcome": "good" if good else "refused"})
        self.in_force(version, good=good)

    def in_force(self, version: str, *, good: bool = True) -> None:
        """The version in use, and whether the file now holds it. Any thread may call this."""
        if self._version not in {None, version}:
            self._gauges[Metric.POLICY].set(0, tags={"version": self._version})
        self._version = version
        self._gauges[Metric.POLICY].set(1, tags={"version": version})
        self._gauges[Metric.RELOAD_GOOD].set(int(good))

    def _flush(self) -> None:
        counts, self._counts = self._counts, defaultdict(float)
        for (metric, labels), count in counts.items():
            if count:  # Ray refuses to add nothing
                self._counters[metric].inc(count, tags=_tags(metric, labels))


def _tags(metric: Metric, labels: tuple[str, ...]) -> dict[str, str]:
    return dict(zip(METRICS[metric].labels, labels, strict=True))
