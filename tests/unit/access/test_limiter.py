"""The limiter: what it remembers, settles once, and gives out while the store is away."""

import pytest

from serve_app.access.counters import NoCounters
from serve_app.access.limiter import Estimate, Limiter
from serve_app.access.terms import LimitRule, window_of
from serve_app.access_errors import (
    LimitKind,
    LimitReached,
    LimitsUnavailable,
    SpendingCapReached,
)
from tests.unit.fakes import FakeClock

REQUESTS = LimitRule("key:a:requests", LimitKind.REQUESTS, 2, "client key 'a'")
TOKENS = LimitRule("key:a:tokens", LimitKind.TOKENS, 1000, "client key 'a'")
BUDGET = LimitRule("key:a:usd", LimitKind.USD, 10**9, "client key 'a'", 0.0, "day")
MIDNIGHT = 1_796_083_200.0
"""2026-12-01, 0:00 UTC, a Tuesday."""


async def test_refusal_is_remembered_as_long_as_it_holds() -> None:
    """A refusal by a limit of requests is repeated without the store, and forgotten in time."""
    clock = FakeClock(0.0)
    limiter = Limiter(clock=clock)
    for _ in range(2):
        await limiter.reserve((REQUESTS,), Estimate(), is_open=False)
    limiter.refuse_known((REQUESTS,))
    with pytest.raises(LimitReached) as first:
        await limiter.reserve((REQUESTS,), Estimate(), is_open=False)
    clock.now = 10.0
    with pytest.raises(LimitReached) as again:
        limiter.refuse_known((TOKENS, REQUESTS))
    assert again.value.retry_after_s == first.value.retry_after_s - 10
    limiter.refuse_known((TOKENS,))
    clock.now = 66.0
    limiter.refuse_known((REQUESTS,))
    await limiter.reserve((REQUESTS,), Estimate(), is_open=False)


async def test_request_is_settled_once() -> None:
    """What is settled a second time changes nothing."""
    limiter = Limiter(clock=FakeClock())
    hold = await limiter.reserve((TOKENS,), Estimate(500), is_open=False)
    limiter.settle(hold, 900, None)
    limiter.settle(hold, 0, None)
    with pytest.raises(LimitReached):
        await limiter.reserve((TOKENS,), Estimate(101), is_open=False)
    await limiter.reserve((TOKENS,), Estimate(100), is_open=False)


async def test_larger_request_than_the_limit_passes_alone() -> None:
    """A request above the whole limit takes all of it; one without tokens takes none."""
    limiter = Limiter(clock=FakeClock())
    await limiter.reserve((TOKENS,), Estimate(0), is_open=False)
    hold = await limiter.reserve((TOKENS,), Estimate(5000), is_open=False)
    assert hold.standings[0].used == 1000
    with pytest.raises(LimitReached):
        await limiter.reserve((TOKENS,), Estimate(1), is_open=False)


async def test_shares_are_given_out_while_the_store_is_away() -> None:
    """With three replicas each gives out a third, at least one; a limit of zero stays zero."""
    limiter = Limiter(NoCounters("its address is not set"), clock=FakeClock(), replicas=3)
    assert limiter.trouble == "its address is not set"
    with pytest.raises(LimitsUnavailable):
        await limiter.reserve((TOKENS,), Estimate(10), is_open=False)
    hold = await limiter.reserve((TOKENS,), Estimate(5000), is_open=True)
    assert hold.standings[0].used == 333
    limiter.settle(hold, 3, None)
    await limiter.reserve((TOKENS,), Estimate(330), is_open=True)
    await limiter.reserve((REQUESTS,), Estimate(), is_open=True)
    with pytest.raises(LimitReached):
        await limiter.reserve((REQUESTS,), Estimate(), is_open=True)
    limiter.refuse_known((REQUESTS,))  # the store may be back, so nothing is remembered
    with pytest.raises(LimitReached):
        await limiter.reserve((TOKENS._replace(limit=0),), Estimate(1), is_open=True)
    limiter.store.settle([], "x")
    await limiter.aclose()


async def test_hold_knows_the_share_of_its_budgets() -> None:
    """What is spent of a budget includes what the request reserves; other limits are not named."""
    limiter = Limiter(clock=FakeClock(), wall_clock=FakeClock(MIDNIGHT - 60))
    await limiter.reserve((BUDGET,), Estimate(usd=0.25), is_open=False)
    hold = await limiter.reserve((REQUESTS, BUDGET), Estimate(usd=0.5), is_open=False)
    assert hold.budgets == (("client key 'a'", "day", 0.75),)


async def test_budget_error_names_its_window() -> None:
    """The error says what is spent, until when, and what to do."""
    wall = FakeClock(MIDNIGHT - 60)
    limiter = Limiter(clock=FakeClock(), wall_clock=wall)
    await limiter.reserve((BUDGET,), Estimate(usd=1.0), is_open=False)
    with pytest.raises(SpendingCapReached) as caught:
        await limiter.reserve((BUDGET,), Estimate(), is_open=False)
    assert str(caught.value) == (
        "the client key 'a' has spent its budget of 1.00 USD for this day; wait until 2026-12-01 "
        "00:00 UTC, or ask the gateway's operator to raise it"
    )
    assert (caught.value.cap.period, caught.value.cap.left_s) == ("daily", 60.0)


@pytest.mark.parametrize(
    ("window", "now", "begin", "end"),
    [
        ("day", MIDNIGHT - 1, "2026-11-30", MIDNIGHT),
        ("day", MIDNIGHT, "2026-12-01", MIDNIGHT + 86400),
        ("week", MIDNIGHT, "2026-11-30", MIDNIGHT + 6 * 86400),
        ("week", MIDNIGHT - 86400 - 1, "2026-11-23", MIDNIGHT - 86400),
        ("month", MIDNIGHT - 1, "2026-11-01", MIDNIGHT),
        ("month", MIDNIGHT, "2026-12-01", MIDNIGHT + 31 * 86400),
        ("month", 1_708_000_000.0, "2024-02-01", 1_709_251_200.0),
    ],
)
def test_windows_are_those_of_the_calendar(window: str, now: float, begin: str, end: float) -> None:
    """Days, weeks from Monday on, and months of any length, in UTC."""
    assert window_of(window, now) == (begin, end)  # type: ignore[arg-type]  # one of the three
