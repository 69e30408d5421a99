"""The metrics of this process, kept here for ``/metrics`` and for export."""

from bisect import bisect_left
from math import inf
from typing import Final

from serve_app.telemetry.metrics import METRICS, Metric

MAX_SERIES: Final = 2000
"""Combinations of labels of one metric; what is over that counts as ``other``."""

_OTHER: Final = "other"


class Histogram:
    """How many values are at or below each bound, and their sum."""

    __slots__ = ("bounds", "counts", "least", "most", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        """Values by the bound that they do not exceed; the last ones exceed all bounds."""
        self.total = 0.0
        self.least, self.most = inf, -inf

    def observe(self, value: float) -> None:
        """Takes one more value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value
        self.least, self.most = min(self.least, value), max(self.most, value)


class MetricStore:
    """A Meter that keeps what it is told. Other threads may read it."""

    def __init__(self) -> None:
        self._values: dict[Metric, dict[tuple[str, ...], float]] = {m: {} for m in METRICS}
        self._histograms: dict[Metric, dict[tuple[str, ...], Histogram]] = {m: {} for m in METRICS}

    def count(self, metric: Metric, labels: tuple[str, ...], amount: float = 1) -> None:
        """Adds to a counter."""
        values = self._values[metric]
        if labels not in values:
            labels = _bounded(labels, len(values))
        values[labels] = values.get(labels, 0.0) + amount

    def observe(self, metric: Metric, value: float, labels: tuple[str, ...]) -> None:
        """One more value of a histogram."""
        series = self._histograms[metric]
        histogram = series.get(labels)
        if histogram is None:
            labels = _bounded(labels, len(series))
            histogram = series.setdefault(labels, Histogram(METRICS[metric].buckets))
        histogram.observe(value)

    def set(self, metric: Metric, value: float, labels: tuple[str, ...]) -> None:
        """Sets a gauge."""
        values = self._values[metric]
        values[_bounded(labels, 0 if labels in values else len(values))] = value

    def values(self, metric: Metric) -> dict[tuple[str, ...], float]:
        """A copy of a counter's totals, or a gauge's values, by labels."""
        return self._values[metric].copy()

    def histograms(self, metric: Metric) -> dict[tuple[str, ...], Histogram]:
        """The histograms of a metric by labels; a copy of the mapping alone."""
        return self._histograms[metric].copy()


def _bounded(labels: tuple[str, ...], size: int) -> tuple[str, ...]:
    return labels if size < MAX_SERIES else (_OTHER,) * len(labels)
