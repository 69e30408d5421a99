"""Which endpoints rest after failures."""

import pytest

from serve_app.exchange import FaultKind, RestReport, UpstreamFault
from serve_app.requests import health
from serve_app.requests.health import Health
from serve_app.requests.verdict import Verdict, judge_fault, judge_status
from tests.unit.fakes import FakeClock

BAD_KEY, SERVER_ERROR = judge_status(401), judge_status(500)
UNREACHABLE = judge_fault(UpstreamFault(FaultKind.CONNECT, "x"))
TOO_LONG = judge_status(413)


def limited(seconds: str) -> Verdict:
    """A rate limit that names a time."""
    return judge_status(429, (("retry-after", seconds),))


@pytest.fixture
def clock() -> FakeClock:
    """The clock of the test's health."""
    return FakeClock()


@pytest.fixture
def state(clock: FakeClock) -> Health:
    """Nothing has failed yet."""
    return Health(clock)


def test_bad_key_rests_longer_each_time(state: Health, clock: FakeClock) -> None:
    """A refused key rests for a minute, then twice as long, up to ten minutes."""
    for pause_s in (60, 120, 240, 480, 600, 600):
        state.failed("e", "m", BAD_KEY)
        assert state.rests_now("e", "m")
        assert state.rests_now("e", "other")
        assert not state.rests_now("f", "m")
        clock.now += pause_s - 1
        assert state.rests_now("e", "m")
        clock.now += 1
        assert not state.rests_now("e", "m")


def test_model_rests_alone(state: Health) -> None:
    """A model that the key may not use leaves the key's other models alone."""
    state.failed("e", "m", judge_status(403))
    assert state.rests_now("e", "m")
    assert not state.rests_now("e", "other")


def test_key_works_for_another_model(state: Health) -> None:
    """A success clears the key, and not the model that it was refused for."""
    state.failed("e", "m", BAD_KEY)
    state.succeeded("e", "other")
    assert not state.rests_now("e", "other")
    assert state.rests_now("e", "m")
    state.succeeded("e", "m")
    assert len(state) == 0


@pytest.mark.parametrize("verdict", [SERVER_ERROR, UNREACHABLE])
def test_passing_fault_rests_after_three_in_a_row(
    state: Health, clock: FakeClock, verdict: Verdict
) -> None:
    """One failure may pass by itself; several in a row rest for growing seconds."""
    for _ in range(2):
        state.failed("e", "m", verdict)
        assert not state.rests_now("e", "m")
    for pause_s in (2, 4, 8, 16, 30, 30):
        state.failed("e", "m", verdict)
        clock.now += pause_s - 0.1
        assert state.rests_now("e", "m")
        clock.now += 0.1
        assert not state.rests_now("e", "m")


def test_success_ends_a_row(state: Health) -> None:
    """Only failures in a row count."""
    for _ in range(5):
        state.failed("e", "m", SERVER_ERROR)
        state.failed("e", "m", SERVER_ERROR)
        state.succeeded("e", "m")
        assert not state.rests_now("e", "m")


@pytest.mark.parametrize(("seconds", "rests_s"), [("7", 7), ("3600", 600), ("0", 0)])
def test_rate_limit_rests_as_long_as_the_provider_says(
    state: Health, clock: FakeClock, seconds: str, rests_s: int
) -> None:
    """At once, and at most ten minutes."""
    state.failed("e", "m", limited(seconds))
    assert state.rests_now("e", "m") is (rests_s > 0)
    clock.now += rests_s
    assert not state.rests_now("e", "m")


def test_spent_quota_rests_until_it_is_back(state: Health, clock: FakeClock) -> None:
    """A known time counts where it is longer than a key's usual rest, up to an hour."""
    state.failed("e", "m", judge_status(402, (("retry-after", "1800"),)))
    clock.now += 1799
    assert state.rests_now("e", "m")
    clock.now += 1
    assert not state.rests_now("e", "m")


def test_one_request_probes_after_a_rest(state: Health, clock: FakeClock) -> None:
    """While a probe is under way the others avoid the endpoint; its outcome decides."""
    state.failed("e", "m", limited("5"))
    state.begin("e", "m")  # all others rest, too: it is sent all the same, and is no probe
    clock.now += 5
    assert not state.rests_now("e", "m")
    state.begin("e", "m")
    assert state.rests_now("e", "m")
    state.forget("e", "m")  # its client left
    assert not state.rests_now("e", "m")
    state.begin("e", "m")
    clock.now += 31
    assert not state.rests_now("e", "m")  # a probe that never ended
    state.succeeded("e", "m")
    state.begin("e", "m")
    assert not state.rests_now("e", "m")


def test_clients_mistake_says_nothing(state: Health) -> None:
    """A prompt that is too long, or an endpoint without failures, leaves no trace."""
    state.failed("e", "m", TOO_LONG)
    state.forget("e", "m")
    state.succeeded("e", "m")
    assert len(state) == 0
    assert repr(state) == "<Health 0 failing, 0 resting>"


def test_reports_are_taken_over(clock: FakeClock, state: Health) -> None:
    """What one process has found out, another one knows, and does not report as its own."""
    state.failed("e", "m", limited("9"))
    clock.now += 2
    reports = state.news()
    assert reports == [RestReport("e", "m", 7.0, "rate_limited")]
    other = Health(clock)
    other.adopt([*reports, RestReport("gone", "", 0.0, "x")])
    assert other.rests_now("e", "m")
    assert other.news() == []
    assert other.rests() == reports
    other.adopt([RestReport("e", "m", 3.0, "shorter")])
    assert other.rests() == reports
    other.failed("e", "m", limited("8"))
    assert [report.left_s for report in other.news()] == [8.0]


def test_recovery_is_reported_once(clock: FakeClock, state: Health) -> None:
    """What answers again is taken down by the others, too."""
    other = Health(clock)
    state.failed("e", "m", limited("9"))
    reports = state.news()
    other.adopt(reports)
    other.succeeded("e", "m")
    assert other.news() == [RestReport("e", "m", 0.0, "")]
    assert other.news() == []
    other.adopt(reports)
    assert other.rests_now("e", "m")
    other.adopt([])
    assert not other.rests_now("e", "m")
    state.failed("e", "m", limited("9"))
    state.adopt([])  # what the others do not know yet stays
    assert state.rests_now("e", "m")
    assert state.news() != []
    state.adopt([])
    assert not state.rests_now("e", "m")


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch, state: Health) -> None:
    """The endpoints that failed longest ago are forgotten."""
    monkeypatch.setattr(health, "MAX_ENTRIES", 3)
    for number in range(5):
        state.failed(f"e{number}", "m", limited("9"))
    assert [report.endpoint for report in state.rests()] == ["e2", "e3", "e4"]
    state.adopt(RestReport(f"f{number}", "m", 9.0, "x") for number in range(4))
    assert len(state) == 3


def test_spent_model_rests_without_a_failure(state: Health, clock: FakeClock) -> None:
    """Neither a success nor a probe ends it before its time, and no failure is counted."""
    state.spent("e", "m", 60)
    state.succeeded("e", "m")
    assert state.rests_now("e", "m")
    assert not state.rests_now("e", "other")
    assert state.rests() == state.news() == [RestReport("e", "m", 60.0, "rate_limited")]
    clock.now += 60
    state.begin("e", "m")
    assert not state.rests_now("e", "m")
    assert state.rests() == []
    state.failed("e", "m", SERVER_ERROR)
    assert not state.rests_now("e", "m")


def test_longer_rest_is_reported(state: Health, clock: FakeClock) -> None:
    """Of a failure and a spent quota, the one that ends later."""
    state.failed("e", "m", limited("30"))
    state.spent("e", "m", 9)
    assert state.rests() == [RestReport("e", "m", 30.0, "rate_limited")]
    state.spent("e", "m", 90_000)
    assert state.rests() == [RestReport("e", "m", 3600.0, "rate_limited")]
    other = Health(clock)
    other.adopt([RestReport("e", "m", 8.0, "bad_key")])
    other.spent("e", "m", 9)
    assert other.news() == [RestReport("e", "m", 9.0, "rate_limited")]


def test_spent_quotas_are_bounded(
    state: Health, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that are over are forgotten, then the oldest."""
    monkeypatch.setattr(health, "MAX_ENTRIES", 3)
    state.spent("over", "m", 1)
    clock.now += 1
    for number in range(4):
        state.spent(f"e{number}", "m", 60)
    assert [report.endpoint for report in state.rests()] == ["e1", "e2", "e3"]
    assert len(state) == 3


def test_rest_that_is_over_leaves_its_history(state: Health, clock: FakeClock) -> None:
    """The shared list drops it then; one request still probes the endpoint."""
    state.failed("e", "m", limited("30"))
    state.news()
    clock.now += 30
    state.adopt([])
    assert not state.rests_now("e", "m")
    state.begin("e", "m")
    assert state.rests_now("e", "m")


def test_recovered_endpoints_are_bounded(state: Health, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody asks for the news of a process that runs alone."""
    monkeypatch.setattr(health, "MAX_ENTRIES", 3)
    for number in range(5):
        state.failed(f"e{number}", "m", limited("30"))
        state.succeeded(f"e{number}", "m")
    assert len(state.news()) == 3
