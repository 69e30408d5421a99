"""Counters in memory: windows at their boundaries, slots, budgets, and what bounds them."""

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.access import counters
from serve_app.access.counters import (
    BUCKETS,
    Charge,
    LimitRefusal,
    MemoryCounters,
    Settlement,
    Standing,
)
from serve_app.access_errors import LimitKind
from tests.unit.fakes import FakeClock

WIDTH_S = 60.0 / BUCKETS


def requests(limit: int, amount: int = 1, counter: str = "r") -> Charge:
    return Charge(counter, LimitKind.REQUESTS, limit, amount, 60.0)


def tokens(limit: int, amount: int) -> Charge:
    return Charge("t", LimitKind.TOKENS, limit, amount, 60.0)


def slot(limit: int) -> Charge:
    return Charge("c", LimitKind.CONCURRENT, limit, 1, 600.0)


def money(limit: int, amount: int) -> Charge:
    return Charge("b", LimitKind.USD, limit, amount, 3600.0)


async def reserve(store: MemoryCounters, *charges: Charge) -> list[Standing]:
    result = await store.reserve(charges, "x")
    assert not isinstance(result, LimitRefusal)
    return result


async def test_window_is_used_until_all_of_it_is_older() -> None:
    """A request counts for 60 s at least, and for one part of the window more at most."""
    clock = FakeClock(600.0)
    store = MemoryCounters(clock)
    assert (await reserve(store, requests(1)))[0].used == 1
    for seconds in (0.0, 30.0, 59.9, 60.0, 60.0 + WIDTH_S - 0.01):
        clock.now = 600.0 + seconds
        refused = await store.reserve([requests(1)], "x")
        assert isinstance(refused, LimitRefusal)
        assert refused.retry_s == pytest.approx(max(WIDTH_S, 60.0 + WIDTH_S - seconds))
    clock.now = 600.0 + 60.0 + WIDTH_S
    assert (await reserve(store, requests(1)))[0].used == 1


async def test_retry_is_when_the_amount_fits() -> None:
    """The wait ends when enough of the oldest tokens are over, not when all of them are."""
    clock = FakeClock(0.0)
    store = MemoryCounters(clock)
    for seconds, amount in ((0.0, 40), (20.0, 30), (40.0, 30)):
        clock.now = seconds
        await reserve(store, tokens(100, amount))
    waits = []
    for amount in (40, 41, 71):
        refused = await store.reserve([tokens(100, amount)], "x")
        assert isinstance(refused, LimitRefusal)
        waits.append(refused.retry_s)
    assert waits == [60.0 + WIDTH_S - 40.0, 60.0 + WIDTH_S - 20.0, 60.0 + WIDTH_S]


async def test_refused_request_is_charged_nothing() -> None:
    """If one limit refuses, no other one is charged."""
    store = MemoryCounters(FakeClock())
    await reserve(store, requests(5), slot(1))
    refused = await store.reserve([requests(5), slot(1)], "x")
    assert refused == LimitRefusal(1, 1, 1.0)
    store.settle([Settlement(slot(1), -1, 0)], "x")
    assert (await reserve(store, requests(5), slot(1)))[0].used == 2


async def test_settlement_corrects_the_part_of_the_charge() -> None:
    """Tokens that were reserved too many are given back where they were charged, once."""
    clock = FakeClock(0.0)
    store = MemoryCounters(clock)
    (first,) = await reserve(store, tokens(100, 90))
    store.settle([Settlement(tokens(100, 90), -80, first.mark)], "x")
    assert (await reserve(store, tokens(100, 90)))[0].used == 100
    clock.now = 60.0 + WIDTH_S
    store.settle([Settlement(tokens(100, 90), -80, first.mark)], "x")  # long over: nothing
    assert (await reserve(store, tokens(100, 5)))[0].used == 5


async def test_tokens_beyond_the_estimate_count_from_now_on() -> None:
    """A long answer that took more than reserved counts when it ends, even in a later window."""
    clock = FakeClock(0.0)
    store = MemoryCounters(clock)
    (first,) = await reserve(store, tokens(100, 10))
    clock.now = 300.0
    store.settle([Settlement(tokens(100, 10), 90, first.mark)], "x")
    assert isinstance(await store.reserve([tokens(100, 11)], "x"), LimitRefusal)
    assert (await reserve(store, tokens(100, 10)))[0].used == 100


async def test_budget_is_usable_to_its_end() -> None:
    """A budget refuses when it is spent, not when a request might cost more than is left."""
    store = MemoryCounters(FakeClock())
    assert (await reserve(store, money(100, 99)))[0].used == 99
    assert (await reserve(store, money(100, 500)))[0].used == 599
    assert await store.reserve([money(100, 1)], "x") == LimitRefusal(0, 599, 3600.0)
    store.settle([Settlement(money(100, 500), -500, 0)], "x")
    assert (await reserve(store, money(100, 1)))[0].used == 100


async def test_changed_limit_keeps_counts() -> None:
    """What is used stays used when the limit is raised or lowered."""
    store = MemoryCounters(FakeClock())
    for _ in range(5):
        await reserve(store, requests(5))
    assert isinstance(await store.reserve([requests(5)], "x"), LimitRefusal)
    assert (await reserve(store, requests(6)))[0].used == 6
    assert isinstance(await store.reserve([requests(3)], "x"), LimitRefusal)


async def test_number_of_counters_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counters of values that clients choose are dropped, oldest first; budgets stay."""
    monkeypatch.setattr(counters, "MAX_COUNTERS", 100)
    store = MemoryCounters(FakeClock())
    await reserve(store, money(100, 7))
    for number in range(1000):
        await reserve(store, requests(5, counter=f"value-{number}"))
        assert len(store._counters) <= 100
    assert (await reserve(store, money(100, 1)))[0].used == 8


@given(
    limit=st.integers(1, 20),
    steps=st.lists(st.tuples(st.floats(0, 30), st.integers(1, 5)), max_size=60),
)
async def test_limit_holds_for_every_minute(limit: int, steps: list[tuple[float, int]]) -> None:
    """Whatever comes when, no 60 s hold more than the limit, and a refusal says when to retry."""
    clock = FakeClock(0.0)
    store = MemoryCounters(clock)
    log: deque[tuple[float, int]] = deque()
    for pause_s, asked in steps:
        clock.now += pause_s
        amount = min(asked, limit)
        result = await store.reserve([requests(limit, amount)], "x")
        if isinstance(result, LimitRefusal):
            clock.now += result.retry_s + 0.001
            result = await store.reserve([requests(limit, amount)], "x")
            assert not isinstance(result, LimitRefusal)
        log.append((clock.now, amount))
        recent = [one for at, one in log if at > clock.now - 60.0]
        assert sum(recent) <= limit
        assert result[0].used >= sum(recent)
