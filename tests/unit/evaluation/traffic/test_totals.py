"""Totals of both logs, checked against logs that were written by hand."""

import json
from typing import Any

import pytest

from serve_app.dialects import ir
from serve_app.domain import Json, Reason, Scores, Unavailable
from serve_app.evaluation.traffic.entries import (
    AccessEntry,
    EntryFilter,
    WrongLineError,
    read_entry,
)
from serve_app.evaluation.traffic.json_report import traffic_json
from serve_app.evaluation.traffic.totals import MAX_NAMES, MORE, Traffic
from serve_app.telemetry.access_log import access_line
from serve_app.telemetry.decision_log import decision_fields
from serve_app.telemetry.record import CLIENT_GONE, TriedRecord
from tests.unit.telemetry.log_records import question, record

HOUR_S = 3600.0


def access(**changes: Any) -> dict[str, Json]:
    """The fields of a line of the access log; ``baseline_usd`` goes into the line itself."""
    baseline = changes.pop("baseline_usd", None)
    fields: dict[str, Json] = json.loads(access_line(record(**changes), "r1"))
    return {**fields, "baseline_usd": baseline}


def decision(**changes: Any) -> dict[str, Json]:
    """The fields of a line of the decision log."""
    made = record(**changes)
    assert made.question is not None
    fields = decision_fields(made, made.question, "set", texts=True)
    decoded: dict[str, Json] = json.loads(json.dumps(fields))
    return decoded


def totals(*lines: dict[str, Json]) -> dict[str, Json]:
    """The report on these lines."""
    traffic = Traffic()
    for line in lines:
        entry = read_entry(line)
        assert entry is not None
        traffic.add(entry)
    return traffic_json(traffic, ())


PLAIN = (TriedRecord("openai", "openai/gpt-4o", "ok", 0.0, 0.1),)


def test_costs_are_added_and_unpriced_is_not_zero() -> None:
    """Savings are of the requests whose baseline is known, and of no other."""
    found = totals(
        access(usd=1.0, baseline_usd=4.0),
        access(usd=2.0, baseline_usd=3.0, client="bob"),
        access(usd=8.0),
        access(usd=None),
        access(usd=None, usage=None),
    )["requests"]
    assert (found["usd"], found["priced"], found["unpriced"]) == (11.0, 3, 1)
    assert (found["baseline_usd"], found["saved_usd"], found["compared"]) == (7.0, 4.0, 2)
    by_client = {one["client"]: one for one in found["by_client"]}
    assert (by_client["ada"]["usd"], by_client["bob"]["usd"]) == (9.0, 2.0)
    unpriced = totals(access(usd=None))["requests"]
    assert (unpriced["usd"], unpriced["saved_usd"]) == (None, None)


def test_requests_are_added_by_every_dimension() -> None:
    """A request without a route, a key or a team is among those without."""
    found = totals(
        access(),
        access(route=None, client="", team="", reason="no_match", tried=PLAIN),
        access(at=1_790_000_000.0 + 24 * HOUR_S, surface="messages"),
    )["requests"]
    names = {
        name: {one[name]: one["requests"] for one in found[f"by_{name}"]}
        for name in ("day", "route", "client", "team", "reason", "surface", "model")
    }
    assert names == {
        "day": {"2026-09-21": 2, "2026-09-22": 1},
        "route": {"code": 2, "(no route)": 1},
        "client": {"ada": 2, "(no key)": 1},
        "team": {"blue": 2, "(no team)": 1},
        "reason": {"failover": 2, "no_match": 1},
        "surface": {"chat": 2, "messages": 1},
        "model": {"openai/gpt-4o": 3},
    }
    assert found["by_hour"] == [
        {"hour": "2026-09-21T14", "requests": 2, "failed": 0},
        {"hour": "2026-09-22T14", "requests": 1, "failed": 0},
    ]


def test_failures_are_told_from_clients_that_left() -> None:
    """By provider and kind for attempts, by code for what the gateway refused itself."""
    both_failed = (
        TriedRecord("vllm", "vllm/llama", "connect", 0.0, 0.1),
        TriedRecord("openai", "openai/gpt-4o", "429", 0.1, 0.1),
    )
    found = totals(
        access(),
        access(tried=PLAIN, reason="route"),
        access(status=429, error_type="429", tried=both_failed),
        access(status=200, error_type="broken", tried=PLAIN),
        access(status=200, error_type=CLIENT_GONE, tried=PLAIN),
        access(status=None, error_type=CLIENT_GONE, tried=()),
        access(status=401, error_type="invalid_api_key", tried=(), model=""),
    )["requests"]
    assert (found["requests"], found["failed"], found["left"]) == (7, 3, 2)
    assert (found["several_attempts"], found["answered_by_fallback"]) == (2, 1)
    assert found["failed_after_fallback"] == 1
    assert found["failures"] == [
        {"provider": "vllm", "failure": "connect", "times": 2},
        {"provider": "openai", "failure": "429", "times": 1},
        {"provider": "openai", "failure": "broken", "times": 1},
    ]
    assert found["attempts"] == [
        {"provider": "openai", "times": 5},
        {"provider": "vllm", "times": 2},
    ]
    assert found["refused"] == [{"error": "invalid_api_key", "times": 1}]


def test_tokens_and_sessions_are_added() -> None:
    """The share of cached tokens is that of the prompts."""
    found = totals(
        access(usage=ir.Usage(50, 30, 20, 7)),
        access(usage=ir.Usage(100, 0, 0, 1), session="miss", session_hash="def"),
        access(usage=None, session=None, session_hash=""),
    )["requests"]
    assert found["tokens"] == {"input": 150, "cache_read": 30, "cache_write": 20, "output": 8}
    assert found["cache_read_share"] == 30 / 200
    assert found["sessions"] == {"count": 2, "hit": 1, "miss": 1, "void": 0}


def test_latencies_are_those_of_the_records() -> None:
    """Each kind of its own requests; a complete answer has no first token."""
    found = totals(access(first_token_s=None, seconds=1.0), access(first_token_s=0.2, seconds=3.0))[
        "requests"
    ]["latency_ms"]
    assert [found[name]["count"] for name in ("decide", "first_token", "total", "queued")] == [
        2,
        1,
        2,
        0,
    ]
    assert found["first_token"]["p50"] == pytest.approx(200, rel=0.01)
    assert found["total"]["p99"] == pytest.approx(3000, rel=0.01)


def test_decisions_are_added_by_route() -> None:
    """A close call is one whose two best answers are near, no route included."""
    close = Scores({"code": 0.5, "travel": 0.1}, 0.2, "code", none=0.4)
    away = Unavailable(Reason.BREAKER_OPEN, "off")
    report = totals(
        decision(),
        decision(scores=close),
        decision(scores=Scores({"code": 0.1}, 0.2, None, none=0.9, cached=True), route=None),
        decision(scores=away, route=None, tier=""),
        decision(scores=Scores({}, 0.0, "code", stand_in="orchestrator_error")),
        access(confidence=0.3),
    )
    found = report["decisions"]
    assert (found["decisions"], found["matched"], found["cached"], found["close"]) == (5, 3, 1, 1)
    assert found["by_route"] == [
        {"route": "(no route)", "decisions": 2, "close": 0},
        {"route": "code", "decisions": 3, "close": 1},
    ]
    assert [one["decisions"] for one in report["probability"]] == [0, 1, 0, 0, 0, 1, 0, 0, 0, 1]
    assert found["unavailable"] == [{"reason": "breaker_open", "times": 1}]
    assert found["stand_ins"] == [{"reason": "orchestrator_error", "times": 1}]


def test_probabilities_are_those_of_requests_without_a_decision_log() -> None:
    """One of 1 is in the last bin, and a request that named its model in none."""
    found = totals(access(confidence=1.0), access(confidence=0.3), access(confidence=None))
    assert [one["decisions"] for one in found["probability"]] == [0, 0, 0, 1, 0, 0, 0, 0, 0, 1]


def test_explanations_are_counted_apart() -> None:
    """They ask what would be decided, and are not traffic."""
    found = totals(access(), access(surface="route", tried=()))
    assert (found["requests"]["requests"], found["explained"]) == (1, 1)


def test_names_beyond_the_bound_are_one() -> None:
    """Clients that invent models or routes do not fill the memory."""
    traffic = Traffic()
    for number in range(MAX_NAMES + 500):
        entry = read_entry(access(route=f"route {number}"))
        assert entry is not None
        traffic.add(entry)
    routes = traffic.requests.by["route"]
    assert len(routes) == MAX_NAMES + 1
    assert routes[MORE].requests == 500


@pytest.mark.parametrize(
    "changes",
    [
        {"at": None},
        {"at": "yesterday"},
        {"at": 1.5},
        {"client": 5},
        {"status": "200"},
        {"tried": None},
        {"tried": ["ok"]},
        {"tried": [{"provider": 1}]},
        {"ms": []},
        {"ms": {"total": "fast"}},
        {"ms": {"total": -1.0}},
        {"usd": float("nan")},
        {"usd": float("inf")},
        {"usd": 10**400},
        {"tokens": [1]},
        {"tokens": {"input": 1}},
        {"tokens": {"input": -1, "cache_read": 0, "cache_write": 0, "output": 0}},
        {"log": "other"},
        {"log": None},
    ],
)
def test_lines_of_another_form_are_damaged(changes: dict[str, Json]) -> None:
    """They change no total, whatever they have."""
    with pytest.raises(WrongLineError):
        read_entry({**access(), **changes})


def test_routes_in_a_decision_log_are_not_an_entry() -> None:
    """They are for sets alone."""
    assert read_entry({"log": "decision", "routes": []}) is None


@pytest.mark.parametrize(
    ("chosen", "takes"),
    [
        (EntryFilter(), True),
        (EntryFilter(since="2026-09-21T14:13:20.123Z"), True),
        (EntryFilter(since="2026-09-21T14:13:20.124Z"), False),
        (EntryFilter(until="2026-09-21T14:13:20.123Z"), False),
        (EntryFilter(until="2026-09-22T00:00:00.000Z"), True),
        (EntryFilter(clients=["ada", "bob"], teams=["blue"], routes=["code"]), True),
        (EntryFilter(clients=["bob"]), False),
        (EntryFilter(teams=["red"]), False),
        (EntryFilter(routes=["travel"]), False),
    ],
)
def test_filter_takes_entries_that_fit_all_options(chosen: EntryFilter, takes: bool) -> None:
    """The end of the time does not count; lines of both logs are chosen alike."""
    for fields in (access(), decision(question=question())):
        entry = read_entry(fields)
        assert entry is not None
        assert chosen.takes(entry) is takes
    assert isinstance(read_entry(access()), AccessEntry)
