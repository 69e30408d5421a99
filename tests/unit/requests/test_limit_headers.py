"""Headers that say what is left of limits and budgets."""

import pytest

from serve_app.access.counters import Charge, MemoryCounters, Standing
from serve_app.access.limiter import Hold
from serve_app.access.terms import LimitRule
from serve_app.access_errors import LimitKind
from serve_app.requests.limit_headers import standing_headers
from tests.unit.fakes import FakeClock

NOW = 1_796_083_200.0
"""2026-12-01, 0:00 UTC."""
NEXT_MONTH = "1798761600"


def hold_of(*limits: tuple[LimitKind, int, int, float]) -> Hold:
    """A hold by kind, limit, what is used, and seconds until nothing is."""
    rules = tuple(
        LimitRule("c", kind, limit, "w", window="month" if kind is LimitKind.USD else None)
        for kind, limit, _, _ in limits
    )
    charges = tuple(Charge("c", kind, limit, 1, 60.0) for kind, limit, _, _ in limits)
    standings = [Standing(used, reset_s, 0) for _, _, used, reset_s in limits]
    return Hold("x", rules, charges, standings, MemoryCounters(FakeClock()))


def shown(hold: Hold, *, anthropic: bool, good: bool = True) -> dict[str, str]:
    return dict(standing_headers(hold, anthropic=anthropic, good=good, now=lambda: NOW))


def test_openai_headers_show_the_tightest_limit() -> None:
    """Of two limits of a kind the one with less left is shown, never below zero."""
    hold = hold_of(
        (LimitKind.REQUESTS, 100, 10, 65.0),
        (LimitKind.REQUESTS, 20, 18, 30.0),
        (LimitKind.TOKENS, 1000, 1500, 3725.0),
        (LimitKind.CONCURRENT, 2, 1, 600.0),
    )
    assert shown(hold, anthropic=False) == {
        "x-ratelimit-limit-requests": "20",
        "x-ratelimit-remaining-requests": "2",
        "x-ratelimit-reset-requests": "30s",
        "x-ratelimit-limit-tokens": "1000",
        "x-ratelimit-remaining-tokens": "0",
        "x-ratelimit-reset-tokens": "1h2m5s",
    }


@pytest.mark.parametrize(("seconds", "text"), [(0.25, "250ms"), (59.6, "1m0s"), (61.0, "1m1s")])
def test_reset_is_written_as_openai_does(seconds: float, text: str) -> None:
    """Below a second in milliseconds, else with hours and minutes where there are any."""
    hold = hold_of((LimitKind.REQUESTS, 5, 1, seconds))
    assert shown(hold, anthropic=False)["x-ratelimit-reset-requests"] == text


def test_anthropic_headers_have_a_time() -> None:
    """The reset is a moment in RFC 3339."""
    hold = hold_of((LimitKind.TOKENS, 1000, 100, 65.0))
    assert shown(hold, anthropic=True) == {
        "anthropic-ratelimit-tokens-limit": "1000",
        "anthropic-ratelimit-tokens-remaining": "900",
        "anthropic-ratelimit-tokens-reset": "2026-12-01T00:01:05Z",
    }


@pytest.mark.parametrize(
    ("spent", "status", "utilization", "threshold"),
    [
        (0, "allowed", "0.00", None),
        (74, "allowed", "0.74", None),
        (75, "allowed_warning", "0.75", "0.75"),
        (94, "allowed_warning", "0.94", "0.75"),
        (95, "allowed_warning", "0.95", "0.95"),
        (120, "allowed_warning", "0.99", "0.95"),
    ],
)
def test_budget_shows_its_standing_on_good_messages(
    spent: int, status: str, utilization: str, threshold: str | None
) -> None:
    """Of two budgets the one that is used up more; a threshold once it is passed, and below 1."""
    hold = hold_of((LimitKind.USD, 100, spent, 9.0), (LimitKind.USD, 10_000, 0, 9.0))
    start = "anthropic-ratelimit-unified-"
    expected = {
        f"{start}status": status,
        f"{start}representative-claim": "overage",
        f"{start}overage-status": status,
        f"{start}overage-utilization": utilization,
        f"{start}reset": NEXT_MONTH,
        f"{start}overage-reset": NEXT_MONTH,
    }
    if threshold is not None:
        expected[f"{start}overage-surpassed-threshold"] = threshold
    assert shown(hold, anthropic=True) == expected
    assert shown(hold, anthropic=True, good=False) == {}
    assert shown(hold, anthropic=False) == {}
