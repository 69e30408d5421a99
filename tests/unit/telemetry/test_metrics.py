"""The metrics that records become."""

from typing import Any

import pytest

from serve_app.dialects.ir import Usage
from serve_app.telemetry.metrics import Metric, MetricsObserver
from serve_app.telemetry.record import (
    BROKEN,
    CLIENT_GONE,
    AttemptRecord,
    BudgetRecord,
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
def test_decision_is_counted_and_timed(
    seconds: float | None, values: list[object], meter: FakeMeter
) -> None:
    """A decision is counted; a cached one has no duration."""
    MetricsObserver(meter).decided(DecisionRecord("scored", seconds))
    assert meter.counted(Metric.DECISIONS) == [("scored",)]
    assert meter.observed(Metric.DECISION_SECONDS) == values


@pytest.mark.parametrize(("first_token_s", "values"), [(None, []), (2.0, [(2.0, LABELS)])])
def test_attempt_is_counted_with_first_token_time(
    first_token_s: float | None, values: list[object], meter: FakeMeter
) -> None:
    """An attempt is counted; only a stream has a time to the first token."""
    attempt = AttemptRecord(
        "openai", "openai/a", "ok", 3.0, surface="chat", first_token_s=first_token_s
    )
    MetricsObserver(meter).attempted(attempt)
    assert meter.counted(Metric.ATTEMPTS) == [("openai", "openai/a", "ok")]
    assert meter.observed(Metric.FIRST_TOKEN_SECONDS) == values


@pytest.mark.parametrize(("error_type", "broken"), [("", 0), (BROKEN, 1), ("502", 0)])
def test_answered_request_records_every_metric(
    error_type: str, broken: int, meter: FakeMeter
) -> None:
    """An answered request records its status, its duration, its overhead, and whether its stream
    broke.
    """
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


def used(**fields: Any) -> RequestRecord:
    """A complete stream with tokens of each class."""
    known: dict[str, Any] = {
        "provider": "openai",
        "model": "openai/a",
        "seconds": 5.0,
        "first_token_s": 1.0,
        "usage": Usage(uncached_input=10, cache_read=20, cache_write=30, output=41),
        "usd": 0.5,
        "team": "search",
    }
    return RequestRecord("chat", 200, **{**known, **fields})


def test_answer_records_tokens_by_type(meter: FakeMeter) -> None:
    """The four classes of tokens are recorded by their types, its cost and its seconds per token."""
    MetricsObserver(meter).ended(used())
    assert meter.observed(Metric.TOKENS) == [
        (10, (*LABELS, "input")),
        (41, (*LABELS, "output")),
        (20, (*LABELS, "cache_read")),
        (30, (*LABELS, "cache_write")),
    ]
    assert meter.amounts[Metric.COST, ("openai", "openai/a", "search")] == 0.5
    assert meter.counted(Metric.UNPRICED) == []
    assert meter.observed(Metric.TOKEN_SECONDS) == [(0.1, LABELS)]


def test_unpriced_answer_costs_unknown_not_nothing(meter: FakeMeter) -> None:
    """An answer without a price is counted as such, and adds nothing to the cost."""
    MetricsObserver(meter).ended(used(usd=None))
    assert meter.counted(Metric.COST) == []
    assert meter.counted(Metric.UNPRICED) == [("openai", "openai/a")]


@pytest.mark.parametrize(
    "fields",
    [
        {"first_token_s": None},
        {"is_estimated": True},
        {"error_type": BROKEN},
        {"usage": Usage(output=1)},
        {"seconds": 1.0},
    ],
)
def test_incomplete_answer_has_no_time_per_token(fields: Any, meter: FakeMeter) -> None:
    """Without a stream, a count or an end, seconds per token are unknown."""
    MetricsObserver(meter).ended(used(**fields))
    assert meter.observed(Metric.TOKEN_SECONDS) == []


def test_budgets_of_a_request_are_set(meter: FakeMeter) -> None:
    """Each budget that a request counts for is a gauge, as the request saw it."""
    budgets = (BudgetRecord("client key 'ide'", "day", 0.5), BudgetRecord("team 'a'", "month", 0.9))
    MetricsObserver(meter).ended(RequestRecord("chat", 200, budgets=budgets))
    assert meter.observed(Metric.BUDGET) == [
        (0.5, ("client key 'ide'", "day")),
        (0.9, ("team 'a'", "month")),
    ]


def test_routed_request_is_counted_by_route(meter: FakeMeter) -> None:
    """A request that a route has answered is counted by the route and the model."""
    MetricsObserver(meter).ended(used(route="code", route_label="code"))
    assert meter.counted(Metric.ROUTED) == [("code", "openai/a")]


def test_cost_is_counted_beside_the_baseline(meter: FakeMeter) -> None:
    """The cost of an answer counts for its model, and, with a baseline, both for its route."""
    observer = MetricsObserver(meter)
    observer.ended(used(usd=0.5))
    observer.ended(used(usd=0.25, baseline_usd=1.0, route="code", route_label="code"))
    assert meter.amounts[Metric.COST, ("openai", "openai/a", "search")] == 0.75
    assert meter.amounts[Metric.COMPARED_COST, ("code",)] == 0.25
    assert meter.amounts[Metric.BASELINE_COST, ("code",)] == 1.0
    assert not meter.counted(Metric.UNPRICED)


def test_unknown_cost_is_left_out_of_the_comparison(meter: FakeMeter) -> None:
    """Tokens without a price are counted as such alone, and an answer without tokens not at all."""
    observer = MetricsObserver(meter)
    observer.ended(used(usd=None, baseline_usd=1.0))
    observer.ended(used(usage=None, usd=None))
    assert meter.counted(Metric.UNPRICED) == [("openai", "openai/a")]
    assert not meter.counted(Metric.COST) + meter.counted(Metric.BASELINE_COST)


def test_early_disconnect_records_surface_only(meter: FakeMeter) -> None:
    """A client that disconnects before the answer is counted by its surface alone."""
    MetricsObserver(meter).ended(RequestRecord("chat", None, error_type=CLIENT_GONE))
    assert meter.counts == [(Metric.CLIENT_GONE, ("chat",))]
    assert meter.values == []


def test_disconnect_in_stream_records_status(meter: FakeMeter) -> None:
    """A client that disconnects in a stream is counted, with the status that the answer began with."""
    record = RequestRecord("chat", 200, provider="p", error_type=CLIENT_GONE, seconds=1.0)
    MetricsObserver(meter).ended(record)
    assert meter.counted(Metric.CLIENT_GONE) == [("chat",)]
    assert meter.counted(Metric.REQUESTS) == [("chat", "200", "")]


def test_rejected_request_is_counted_without_duration(meter: FakeMeter) -> None:
    """A rejected request is counted but not timed, because no provider was called."""
    MetricsObserver(meter).ended(RequestRecord("other", 404))
    assert meter.counts == [(Metric.REQUESTS, ("other", "404", ""))]
    assert meter.values == []


def test_no_observer_accepts_every_record() -> None:
    """NoObserver accepts every record and does nothing."""
    observer: Observer = NoObserver()
    observer.decided(DecisionRecord("scored"))
    observer.attempted(AttemptRecord("p", "m", "ok", 0.0))
    observer.session_changed("hit")
    observer.ended(RequestRecord("chat", 200))
