"""What the ports promise beyond their types."""

import re

import pytest

from serve_app.telemetry.metrics import METRICS, Metric


def test_every_metric_has_a_spec() -> None:
    """Nothing is recorded that nobody declared, and nothing declared is missing."""
    assert set(METRICS) == set(Metric)


@pytest.mark.parametrize("metric", Metric)
def test_metrics_are_named_for_prometheus(metric: Metric) -> None:
    """Counters end in _total, names and labels are plain, and each says what it is."""
    spec = METRICS[metric]
    assert metric.value.endswith("_total") is (spec.kind == "counter")
    assert all(re.fullmatch(r"[a-z][a-z0-9_]*", name) for name in (metric.value, *spec.labels))
    assert len(set(spec.labels)) == len(spec.labels)
    assert spec.description.endswith(".")
