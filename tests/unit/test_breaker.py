"""The log of outages; the breaker itself is tested with the guards that use it."""

import pytest

from serve_app.breaker import OutageLog
from tests.unit.fakes import FakeClock


def test_outage_log_warns_at_beginning_and_end(caplog: pytest.LogCaptureFixture) -> None:
    """Each outage is logged once at its beginning and once at its end."""
    log = OutageLog("store", FakeClock(), effect="routing without sessions")
    log.succeeded()
    for fault in ("first", "second"):
        log.failed(fault)
        log.failed("another")
        log.succeeded()
        log.succeeded()
    assert caplog.messages == [
        "store unavailable, routing without sessions: first",
        "store available again",
        "store unavailable, routing without sessions: second",
        "store available again",
    ]


def test_outage_log_respects_its_interval(caplog: pytest.LogCaptureFixture) -> None:
    """An outage soon after another one is logged only if it lasts."""
    clock = FakeClock()
    log = OutageLog("store", clock, interval_s=10.0)
    log.failed("first")
    log.succeeded()
    clock.now += 9.0
    log.failed("second")
    assert caplog.messages == ["store unavailable: first", "store available again"]
    clock.now += 1.0
    log.failed("third")
    assert caplog.messages[2:] == ["store unavailable: third"]
