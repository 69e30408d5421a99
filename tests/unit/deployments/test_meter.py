"""The Meter port over Ray's metrics: what is handed over, and when."""

import asyncio
import threading
from typing import Any

import pytest
from ray.serve import metrics

import deployments.meter as module
from deployments.meter import BURST, ServeMeter
from serve_app.telemetry.metrics import Metric

LABELS = ("chat",)


class Recorder:
    """Stands for a metric of Ray."""

    def __init__(self, *_: object, **__: object) -> None:
        self.taken: list[tuple[float, dict[str, str]]] = []

    def inc(self, amount: float, tags: dict[str, str]) -> None:
        self.taken.append((amount, tags))

    def observe(self, value: float, tags: dict[str, str]) -> None:
        self.taken.append((value, tags))


@pytest.fixture
def meter(monkeypatch: pytest.MonkeyPatch) -> ServeMeter:
    """A meter whose metrics record what they get, with a short wait."""
    for kind in ("Counter", "Histogram", "Gauge"):
        monkeypatch.setattr(metrics, kind, Recorder)
    monkeypatch.setattr(module, "FLUSH_S", 0.02)
    return ServeMeter()


def taken(meter: ServeMeter, metric: Metric) -> list[tuple[float, dict[str, str]]]:
    own: dict[Metric, Any] = {**meter._counters, **meter._histograms}
    found: list[tuple[float, dict[str, str]]] = own[metric].taken
    return found


async def test_values_are_handed_over_after_the_wait(meter: ServeMeter) -> None:
    """Counts are added up, and each value of a histogram is handed over."""
    for value in (0.1, 0.2):
        meter.count(Metric.CLIENT_GONE, LABELS)
        meter.observe(Metric.OVERHEAD_SECONDS, value, LABELS)
    assert taken(meter, Metric.OVERHEAD_SECONDS) == []
    await asyncio.sleep(0.1)
    tags = {"surface": "chat"}
    assert taken(meter, Metric.OVERHEAD_SECONDS) == [(0.1, tags), (0.2, tags)]
    assert taken(meter, Metric.CLIENT_GONE) == [(2.0, tags)]
    meter.observe(Metric.OVERHEAD_SECONDS, 0.3, LABELS)
    await asyncio.sleep(0.1)
    assert taken(meter, Metric.OVERHEAD_SECONDS)[2:] == [(0.3, tags)]


async def test_full_burst_is_handed_over_at_once(meter: ServeMeter) -> None:
    """Values do not pile up under load."""
    for value in range(BURST):
        assert taken(meter, Metric.OVERHEAD_SECONDS) == []
        meter.observe(Metric.OVERHEAD_SECONDS, value, LABELS)
    assert [value for value, _ in taken(meter, Metric.OVERHEAD_SECONDS)] == list(range(BURST))


async def test_other_threads_hand_over_at_once(meter: ServeMeter) -> None:
    """A thread without an event loop does not touch what the loop collects."""

    def record() -> None:
        meter.count(Metric.CLIENT_GONE, LABELS)
        meter.observe(Metric.OVERHEAD_SECONDS, 0.5, LABELS)

    meter.count(Metric.CLIENT_GONE, LABELS)
    thread = threading.Thread(target=record)
    thread.start()
    thread.join()
    tags = {"surface": "chat"}
    assert taken(meter, Metric.OVERHEAD_SECONDS) == [(0.5, tags)]
    assert taken(meter, Metric.CLIENT_GONE) == [(1, tags)]
