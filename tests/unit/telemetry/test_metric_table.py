"""The table of metrics."""

import re

import pytest

from serve_app.telemetry.metrics import METRICS, Metric


def test_metric_table_covers_every_metric() -> None:
    """Every metric has a specification, and every specification has a metric."""
    assert set(METRICS) == set(Metric)


@pytest.mark.parametrize("metric", Metric)
def test_metric_names_follow_prometheus(metric: Metric) -> None:
    """Counters end in _total, names and labels are snake case, and every metric has a description."""
    spec = METRICS[metric]
    assert metric.value.endswith("_total") is (spec.kind == "counter")
    assert all(re.fullmatch(r"[a-z][a-z0-9_]*", name) for name in (metric.value, *spec.labels))
    assert len(set(spec.labels)) == len(spec.labels)
    assert spec.description.endswith(".")
