"""Records become metrics."""

import pytest

from serve_app.telemetry.metrics import Metric, MetricsObserver
from serve_app.telemetry.record import (
    BROKEN,
    CLIENT_GONE,
    AttemptRecord,
    DecisionRecord,
    NoObserver,
    Observer,
    RequestRecord,
)
from tests.unit.fakes import FakeMeter

LABELS = ("chat", "openai", "openai/a")


@pytest.fixture
def meter() -> FakeMeter:
    return FakeMeter()


@pytest.mark.parametrize(("seconds", "values"), [(None, []), (0.5, [(0.5, ("scored",))])])
def test_a_decision_is_counted_and_timed_if_asked(
    seconds: float | None, values: list[object], meter: FakeMeter
) -> None:
    """A remembered decision has no duration."""
    MetricsObserver(meter).decided(DecisionRecord("scored", seconds))
    assert meter.counted(Metric.DECISIONS) == [("scored",)]
    assert meter.observed(Metric.DECISION_SECONDS) == values


@pytest.mark.parametrize(("first_token_s", "values"), [(None, []), (2.0, [(2.0, LABELS)])])
def test_an_attempt_is_counted_and_its_first_token_timed(
    first_token_s: float | None, values: list[object], meter: FakeMeter
) -> None:
    """Only a stream has a first token."""
    attempt = AttemptRecord(
        "openai", "openai/a", "ok", 3.0, surface="chat", first_token_s=first_token_s
    )
    MetricsObserver(meter).attempted(attempt)
    assert meter.counted(Metric.ATTEMPTS) == [("openai", "openai/a", "ok")]
    assert meter.observed(Metric.FIRST_TOKEN_SECONDS) == values


@pytest.mark.parametrize(("error_type", "broken"), [("", 0), (BROKEN, 1), ("502", 0)])
def test_an_answered_request_has_every_metric(
    error_type: str, broken: int, meter: FakeMeter
) -> None:
    """Status, duration, overhead, and whether its stream broke."""
    record = RequestRecord(
        "chat",
        200,
        reason="route",
        provider="openai",
        model="openai/a",
        error_type=error_type,
        seconds=5.0,
        overhead_s=0.25,
    )
    MetricsObserver(meter).ended(record)
    assert meter.counted(Metric.REQUESTS) == [("chat", "200", "route")]
    assert meter.observed(Metric.REQUEST_SECONDS) == [(5.0, (*LABELS, error_type))]
    assert meter.observed(Metric.OVERHEAD_SECONDS) == [(0.25, ("chat",))]
    assert meter.counted(Metric.BROKEN_STREAMS) == [("openai",)] * broken
    assert meter.counted(Metric.CLIENT_GONE) == []


def test_a_client_that_left_early_has_no_status(meter: FakeMeter) -> None:
    """It is counted by its surface alone."""
    MetricsObserver(meter).ended(RequestRecord("chat", None, error_type=CLIENT_GONE))
    assert meter.counts == [(Metric.CLIENT_GONE, ("chat",))]
    assert meter.values == []


def test_a_client_that_left_a_stream_is_counted_too(meter: FakeMeter) -> None:
    """With the status that its answer began with."""
    record = RequestRecord("chat", 200, provider="p", error_type=CLIENT_GONE, seconds=1.0)
    MetricsObserver(meter).ended(record)
    assert meter.counted(Metric.CLIENT_GONE) == [("chat",)]
    assert meter.counted(Metric.REQUESTS) == [("chat", "200", "")]


def test_a_refused_request_is_counted_alone(meter: FakeMeter) -> None:
    """No provider was asked, so that nothing is timed."""
    MetricsObserver(meter).ended(RequestRecord("other", 404))
    assert meter.counts == [(Metric.REQUESTS, ("other", "404", ""))]
    assert meter.values == []


def test_an_observer_may_record_nothing() -> None:
    """For engines without a metrics endpoint of their own."""
    observer: Observer = NoObserver()
    observer.decided(DecisionRecord("scored"))
    observer.attempted(AttemptRecord("p", "m", "ok", 0.0))
    observer.session_changed("hit")
    observer.ended(RequestRecord("chat", 200))
