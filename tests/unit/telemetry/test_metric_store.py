"""The metrics of a process, and the text that Prometheus scrapes."""

import re

from prometheus_client.parser import text_string_to_metric_families

from serve_app.telemetry.metric_store import MAX_SERIES, MetricStore
from serve_app.telemetry.metrics import METRICS, Meters, Metric, MetricsObserver
from serve_app.telemetry.prometheus_text import prometheus_text
from serve_app.telemetry.record import RequestRecord


def test_counters_and_gauges_become_lines() -> None:
    """A counter adds up, a gauge is the last value, and each has its type and the replica."""
    store = MetricStore()
    store.count(Metric.ATTEMPTS, ("openai", "openai/a", "ok"))
    store.count(Metric.ATTEMPTS, ("openai", "openai/a", "ok"), 2)
    store.count(Metric.COST, ("openai", "openai/a", "search"), 0.25)
    store.set(Metric.RELOAD_GOOD, 0, ())
    store.set(Metric.RELOAD_GOOD, 1, ())
    lines = prometheus_text(store, "r-1").splitlines()
    name = "fingerpost_upstream_attempts_total"
    assert f"# TYPE {name} counter" in lines
    assert f'{name}{{provider="openai",model="openai/a",outcome="ok",replica="r-1"}} 3' in lines
    assert 'fingerpost_cost_usd_total{provider="openai",model="openai/a",team="search",replica="r-1"} 0.25' in lines  # fmt: skip
    assert 'fingerpost_last_reload_good{replica="r-1"} 1' in lines
    assert not any(line.startswith("# TYPE gen_ai") for line in lines), "no samples, no type"


def test_histogram_counts_at_or_below_each_bound() -> None:
    """Buckets are cumulative, the last one has all values, and a value on a bound is below it."""
    store = MetricStore()
    for value in (0.0005, 0.003, 0.005, 1000.0):
        store.observe(Metric.OVERHEAD_SECONDS, value, ("chat",))
    text = prometheus_text(store, "r")
    found = re.findall(r'_seconds_bucket\{surface="chat",replica="r",le="([^"]+)"\} (\d+)', text)
    buckets = dict(found)
    assert len(found) == len(METRICS[Metric.OVERHEAD_SECONDS].buckets) + 1
    assert buckets["0.0005"] == "1"
    assert buckets["0.0025"] == "1"
    assert buckets["0.005"] == "3"
    assert buckets["600"] == "3"
    assert buckets["+Inf"] == "4"
    assert 'fingerpost_overhead_seconds_count{surface="chat",replica="r"} 4' in text
    assert 'fingerpost_overhead_seconds_sum{surface="chat",replica="r"} 1000.0085' in text


def test_text_is_read_by_the_official_parser() -> None:
    """Prometheus' own parser reads every metric of the table as it was recorded."""
    store = MetricStore()
    for metric, spec in METRICS.items():
        labels = tuple(f'a "{name}"' for name in spec.labels)
        record = {"counter": store.count, "gauge": lambda *a: store.set(a[0], 1, a[1])}.get(spec.kind)  # fmt: skip
        if record is None:
            store.observe(metric, 0.25, labels)
        else:
            record(metric, labels)
    families = {
        family.name: family
        for family in text_string_to_metric_families(prometheus_text(store, "r"))
    }
    assert set(families) == {metric.value.removesuffix("_total") for metric in METRICS}
    for metric, spec in METRICS.items():
        family = families[metric.value.removesuffix("_total")]
        assert family.type == spec.kind
        for sample in family.samples:
            assert {*sample.labels} - {"le"} == {*spec.labels, "replica"}
            assert all(sample.labels[name] == f'a "{name}"' for name in spec.labels)


def test_label_values_are_escaped() -> None:
    """Quotes, backslashes and line ends of a label cannot end it."""
    store = MetricStore()
    store.count(Metric.SESSIONS, ('a"b\\c\nd',))
    (line,) = (x for x in prometheus_text(store, "r").splitlines() if not x.startswith("#"))
    assert line == r'fingerpost_session_events_total{event="a\"b\\c\nd",replica="r"} 1'


def test_series_are_bounded() -> None:
    """Further combinations of labels count as ``other``; no value is lost."""
    store = MetricStore()
    for number in range(MAX_SERIES + 50):
        store.count(Metric.SESSIONS, (str(number),))
        store.observe(Metric.OVERHEAD_SECONDS, 1, (str(number),))
    values = store.values(Metric.SESSIONS)
    assert len(values) == MAX_SERIES + 1
    assert sum(values.values()) == MAX_SERIES + 50
    histograms = store.histograms(Metric.OVERHEAD_SECONDS)
    assert len(histograms) == MAX_SERIES + 1
    assert sum(histograms["other",].counts) == 50


def test_reload_moves_the_gauge_of_the_version() -> None:
    """The former version becomes 0, the new one 1, and a refused file sets the other gauge to 0."""
    store = MetricStore()
    meters = Meters(store)
    meters.in_force("one")
    meters.reloaded("two", good=False)
    assert store.values(Metric.POLICY) == {("one",): 0, ("two",): 1}
    assert store.values(Metric.RELOAD_GOOD) == {(): 0}
    assert store.values(Metric.RELOADS) == {("refused",): 1}


def test_several_meters_get_every_record() -> None:
    """Whatever is recorded reaches each meter."""
    stores = MetricStore(), MetricStore()
    record = RequestRecord("chat", 200, provider="p", model="p/m", seconds=1.0)
    MetricsObserver(Meters(*stores)).ended(record)
    first, second = (prometheus_text(store, "r") for store in stores)
    assert first == second
    assert "gen_ai_server_request_duration_count" in first
