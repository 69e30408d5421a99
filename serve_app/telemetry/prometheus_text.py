"""Writes metrics as Prometheus text, version 0.0.4."""

from collections.abc import Iterator
from typing import Final

from serve_app.telemetry.metric_store import Histogram, MetricStore
from serve_app.telemetry.metrics import METRICS, Metric

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_ESCAPES: Final = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


def prometheus_text(store: MetricStore, replica: str) -> str:
    """All metrics of a store; ``replica`` becomes a label of each."""
    own = f'replica="{replica.translate(_ESCAPES)}"'
    return "".join(f"{line}\n" for metric in METRICS for line in _lines(store, metric, own))


def _lines(store: MetricStore, metric: Metric, own: str) -> Iterator[str]:
    spec = METRICS[metric]
    name = metric.value
    samples = (
        [
            line
            for labels, histogram in store.histograms(metric).items()
            for line in _histogram(name, _labels(spec.labels, labels, own), histogram)
        ]
        if spec.kind == "histogram"
        else [
            f"{name}{{{_labels(spec.labels, labels, own)}}} {_number(value)}"
            for labels, value in store.values(metric).items()
        ]
    )
    if samples:
        yield f"# HELP {name} {spec.description}"
        yield f"# TYPE {name} {spec.kind}"
        yield from samples


def _histogram(name: str, labels: str, histogram: Histogram) -> Iterator[str]:
    seen = 0
    for bound, count in zip((*histogram.bounds, None), histogram.counts, strict=True):
        seen += count
        limit = "+Inf" if bound is None else _number(bound)
        yield f'{name}_bucket{{{labels},le="{limit}"}} {seen}'
    yield f"{name}_sum{{{labels}}} {_number(histogram.total)}"
    yield f"{name}_count{{{labels}}} {seen}"


def _labels(names: tuple[str, ...], values: tuple[str, ...], own: str) -> str:
    pairs = [
        f'{name}="{value.translate(_ESCAPES)}"' for name, value in zip(names, values, strict=True)
    ]
    return ",".join((*pairs, own))


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(float(value))
