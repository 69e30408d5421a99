"""Limits of endpoints: what is counted, who waits, and in which order."""

import asyncio

import pytest

from serve_app.config.schema.entry_limits import EntryLimits, Queue
from serve_app.domain import DataPath
from serve_app.errors import GatewayBusy
from serve_app.providers.endpoints import Endpoint
from serve_app.requests import slots as slots_module
from serve_app.requests.slots import UNLIMITED, Granted, Slots
from tests.unit.fakes import FakeClock

QUEUE = Queue(wait_s=5.0)


def endpoint(
    entry: str = "p/a", concurrent: int | None = None, per_minute: int | None = None
) -> Endpoint:
    """An endpoint with these limits."""
    limits = EntryLimits(concurrent=concurrent, requests_per_minute=per_minute)
    return Endpoint(
        "p", "openai", "https://h", DataPath.SHARED, "$K", key_needed=True, entry=entry, limits=limits
    )  # fmt: skip


@pytest.fixture
def clock() -> FakeClock:
    """The clock of the test's slots."""
    return FakeClock()


@pytest.fixture
def slots(clock: FakeClock) -> Slots:
    """No endpoint is in use."""
    return Slots(clock)


async def settle() -> None:
    """Lets other tasks run."""
    for _ in range(3):
        await asyncio.sleep(0)


def waiting(slots: Slots, *endpoints: Endpoint, queue: Queue = QUEUE) -> asyncio.Task[Granted]:
    """A request that waits for one of these endpoints."""
    return asyncio.create_task(slots.wait(endpoints, queue, 9.0))


def test_endpoint_without_limits_is_never_full(slots: Slots) -> None:
    """It takes any number of requests, and nothing is counted."""
    free = Endpoint("p", "openai", "https://h", DataPath.SHARED, None, key_needed=False)
    assert not slots.is_full(free)
    assert slots.take(free) is UNLIMITED
    UNLIMITED.release()
    assert slots.take(endpoint()) is not None
    assert repr(slots) == "<Slots of 1 endpoints, 0 waiting>"


def test_concurrent_requests_are_counted_to_their_end(slots: Slots) -> None:
    """A slot that is released twice counts once; other entries of the address have their own."""
    two = endpoint(concurrent=2)
    first, second = slots.take(two), slots.take(two)
    assert first is not None
    assert second is not None
    assert slots.is_full(two)
    assert slots.take(two) is None
    assert not slots.is_full(endpoint("p/b", concurrent=1))
    first.release()
    first.release()
    assert slots.take(two) is not None
    assert slots.take(two) is None


def test_rate_counts_requests_of_the_last_minute(slots: Slots, clock: FakeClock) -> None:
    """Each request counts for 60 s from its begin, whether it has ended or not."""
    limited = endpoint(per_minute=2)
    for _ in range(2):
        slot = slots.take(limited)
        assert slot is not None
        slot.release()
        clock.now += 20
    assert slots.is_full(limited)
    clock.now += 20
    assert slots.take(limited) is not None
    assert slots.is_full(limited)


async def test_requests_wait_in_order_of_arrival(slots: Slots) -> None:
    """A slot goes to the request that has waited longest for it, and newcomers wait behind."""
    one, other = endpoint(concurrent=1), endpoint("p/b", concurrent=1)
    held, held_other = slots.take(one), slots.take(other)
    assert held is not None
    assert held_other is not None
    waits = [waiting(slots, one), waiting(slots, one, other), waiting(slots, one)]
    await settle()
    assert slots.waiting == 3
    held_other.release()
    granted = await waits[1]
    assert granted.place == 1
    assert not waits[0].done()
    held.release()
    assert slots.take(one) is None
    (await waits[0]).slot.release()
    (await waits[2]).slot.release()
    assert slots.waiting == 0
    assert slots.take(one) is not None


async def test_lower_rate_limit_after_a_reload_waits_for_enough_requests(
    slots: Slots, clock: FakeClock
) -> None:
    """As many of the last minute's requests must be over as the new limit is exceeded by."""
    for _ in range(3):
        assert slots.take(endpoint(per_minute=3)) is not None
        clock.now += 10
    with pytest.raises(GatewayBusy) as caught:
        await slots.wait([endpoint(per_minute=1)], QUEUE, 0.0)
    assert caught.value.retry_after_s == 50


async def test_rate_serves_the_queue_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that waits for a rate goes on when the window allows it."""
    monkeypatch.setattr(slots_module, "WINDOW_S", 0.05)
    loop = asyncio.get_running_loop()
    slots, limited = Slots(loop.time), endpoint(per_minute=1)
    assert slots.take(limited) is not None
    began = loop.time()
    both = await asyncio.gather(waiting(slots, limited), waiting(slots, limited))
    assert [granted.place for granted in both] == [0, 0]
    assert 0.09 <= loop.time() - began < 2.0


async def test_queue_is_bounded(slots: Slots) -> None:
    """A request that finds it full is refused at once, with a time to come back."""
    one = endpoint(concurrent=1)
    assert slots.take(one) is not None
    queue = Queue(max_waiting=1, wait_s=5.0)
    first = waiting(slots, one, queue=queue)
    await settle()
    with pytest.raises(GatewayBusy, match="1 requests wait already; retry in 5 s"):
        await slots.wait([one], queue, 9.0)
    first.cancel()
    await settle()
    assert slots.waiting == 0


async def test_wait_ends(slots: Slots) -> None:
    """After `wait_s` a request is refused, and its place is free."""
    one = endpoint(concurrent=1)
    assert slots.take(one) is not None
    with pytest.raises(GatewayBusy, match=r"none was free within 0\.01 s; retry in 1 s"):
        await slots.wait([one], Queue(wait_s=0.01), 9.0)
    assert slots.waiting == 0


async def test_cancelled_request_leaves_its_place(slots: Slots) -> None:
    """A slot that was granted at that moment goes to the next one."""
    one = endpoint(concurrent=1)
    held = slots.take(one)
    assert held is not None
    first, second = waiting(slots, one), waiting(slots, one)
    await settle()
    held.release()
    first.cancel()
    await settle()
    assert first.cancelled()
    assert (await second).place == 0


def test_idle_endpoints_are_forgotten(slots: Slots, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those without a request make room, and those with one are kept."""
    monkeypatch.setattr(slots_module, "_MAX_IDLE", 2)
    busy = endpoint("p/0", concurrent=1)
    assert slots.take(busy) is not None
    for number in range(1, 5):
        assert not slots.is_full(endpoint(f"p/{number}", concurrent=1))
    assert slots.is_full(busy)
    assert repr(slots) == "<Slots of 2 endpoints, 0 waiting>"
