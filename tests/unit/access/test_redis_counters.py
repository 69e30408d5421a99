"""Counters in a real Redis: shared by replicas, exact under load, and in bad times."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import pytest
from redis.asyncio import Redis

from serve_app.access import redis_counters
from serve_app.access.counters import (
    Charge,
    CounterStore,
    LimitRefusal,
    MemoryCounters,
    Settlement,
    Standing,
    StoreAwayError,
)
from serve_app.access.redis_counters import KEY_PREFIX, RedisCounters
from serve_app.access_errors import LimitKind
from tests.unit.affinity.redis_server import Server, relay, running

Open = Callable[[str], RedisCounters]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Server]:
    """One that a test may do anything to."""
    with running(tmp_path) as server:
        yield server


@pytest.fixture
async def opened() -> AsyncIterator[Open]:
    async with AsyncExitStack() as stack:

        def make(url: str) -> RedisCounters:
            store = RedisCounters(url)
            stack.push_async_callback(store.aclose)
            return store

        yield make


def charge(
    counter: str,
    kind: LimitKind = LimitKind.REQUESTS,
    limit: int = 50,
    amount: int = 1,
    span_s: float = 60.0,
) -> Charge:
    return Charge(counter, kind, limit, amount, span_s)


async def reserve(store: CounterStore, holder: str, *charges: Charge) -> list[Standing]:
    result = await store.reserve(charges, holder)
    assert not isinstance(result, LimitRefusal)
    return result


async def test_exactly_the_limit_passes_two_replicas(server: Server, opened: Open) -> None:
    """Of 200 requests at once at two replicas, exactly 50 are admitted."""
    stores = [opened(server.url), opened(server.url)]
    results = await asyncio.gather(
        *(stores[at % 2].reserve([charge("both")], str(at)) for at in range(200))
    )
    refused = [one for one in results if isinstance(one, LimitRefusal)]
    assert len(refused) == 150
    assert {one.used for one in refused} == {50}
    assert all(0 < one.retry_s <= 65.0 for one in refused)
    granted = [one[0].used for one in results if not isinstance(one, LimitRefusal)]
    assert sorted(granted) == list(range(1, 51))


async def test_redis_counts_as_memory_does(server: Server, opened: Open) -> None:
    """The same charges and settlements leave the same counts in Redis and in memory."""
    now = 1_000_000.0
    stores: list[CounterStore] = [opened(server.url), MemoryCounters(lambda: now)]
    seen: list[list[object]] = []
    for store in stores:
        charges = (
            charge("same:r", limit=3),
            charge("same:t", LimitKind.TOKENS, 100, 60),
            charge("same:c", LimitKind.CONCURRENT, 2, 1, 600.0),
            charge("same:b", LimitKind.USD, 1000, 400, 3600.0),
        )
        first = await reserve(store, "one", *charges)
        refused = await store.reserve(charges, "two")
        assert isinstance(refused, LimitRefusal)
        deltas = zip(charges, (0, -50, -1, -390), first, strict=True)
        store.settle([Settlement(one, delta, at.mark) for one, delta, at in deltas], "one")
        if isinstance(store, RedisCounters):
            await store.settled()
        second = await reserve(store, "three", *charges)
        seen.append([refused[:2], [one.used for one in first], [one.used for one in second]])
    assert seen[0] == seen[1]
    assert seen[0][2] == [2, 70, 1, 410]


async def test_slot_of_a_dead_replica_becomes_free(server: Server, opened: Open) -> None:
    """A slot that is not given back is free after its longest life."""
    store = opened(server.url)
    brief = charge("dead", LimitKind.CONCURRENT, 1, 1, 0.1)
    await reserve(store, "dies", brief)
    assert isinstance(await store.reserve([brief], "waits"), LimitRefusal)
    await asyncio.sleep(0.15)
    await reserve(store, "waits", brief)


async def test_keys_expire(server: Server, opened: Open) -> None:
    """Nothing that is counted stays in Redis for ever."""
    store = opened(server.url)
    await reserve(
        store,
        "x",
        charge("gone:r"),
        charge("gone:c", LimitKind.CONCURRENT, 5, 1, 600.0),
        charge("gone:b", LimitKind.USD, 1000, 5, 3600.0),
    )
    store.settle([Settlement(charge("gone:late"), 5, 0)], "x")
    await store.settled()
    async with Redis.from_url(server.url) as redis:
        names = [name async for name in redis.scan_iter(f"{KEY_PREFIX}gone:*")]
        assert len(names) == 4
        for name in names:
            assert 0 < await redis.pttl(name) < 2 * 86_400_000


async def test_charge_of_a_client_that_left_is_given_back(own: Server, opened: Open) -> None:
    """A reservation that was cancelled on its way is taken back, although Redis made it."""
    async with relay(own.port, delay_s=0.05) as port:
        store = opened(f"redis://127.0.0.1:{port}")
        await reserve(store, "first", charge("left", LimitKind.CONCURRENT, 9, 1, 600.0))
        task = asyncio.create_task(
            store.reserve([charge("left", LimitKind.CONCURRENT, 9, 1, 600.0)], "second")
        )
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0.2)
        await store.settled()
        (third,) = await reserve(store, "third", charge("left", LimitKind.CONCURRENT, 9, 1, 600.0))
        assert third.used == 2


async def test_slow_redis_is_away_in_time(
    own: Server, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stopped Redis costs five requests the deadline each, and the next ones nothing."""
    monkeypatch.setattr(redis_counters, "DEADLINE_S", 0.2)
    store = opened(own.url)
    await reserve(store, "x", charge("slow"))
    own.send(signal.SIGSTOP)
    loop = asyncio.get_running_loop()
    began = loop.time()
    for _ in range(20):
        with pytest.raises(StoreAwayError):
            await store.reserve([charge("slow")], "x")
    assert loop.time() - began < 6 * redis_counters.DEADLINE_S
    await asyncio.sleep(0.3)
    assert not store._late, "a reservation still waits for a Redis that hangs"
    own.send(signal.SIGCONT)
    assert store.trouble is not None


async def test_store_recovers_and_settles_what_waited(
    own: Server, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was to be settled while Redis was away is sent when it is back, script and all."""
    monkeypatch.setattr(redis_counters, "_RETRY_S", 0.05)
    store = opened(own.url)
    used = charge("back", LimitKind.USD, 1000, 10, 3600.0)
    await reserve(store, "x", used)
    own.kill()
    with pytest.raises(StoreAwayError) as caught:
        await store.reserve([used], "y")
    assert "127.0.0.1" in str(caught.value)
    store.settle([Settlement(used, 32, 0)], "x")
    own.start()
    await store.settled()
    for _ in range(100):
        with suppress(StoreAwayError):
            (standing,) = await reserve(store, "z", used)
            break
        await asyncio.sleep(0.05)
    assert standing.used == 42
    assert store.trouble is None


async def test_waiting_settlements_are_bounded(
    own: Server, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While Redis is away a bounded number of settlements wait, and closing ends the wait."""
    monkeypatch.setattr(redis_counters, "MAX_WAITING", 100)
    monkeypatch.setattr(redis_counters, "_CLOSE_S", 0.1)
    store = opened(own.url)
    own.kill()
    for _ in range(500):
        store.settle([Settlement(charge("many"), 1, 0)], "x")
    await asyncio.sleep(0.05)
    assert len(store._waiting) <= 100
    await store.aclose()
    assert store._sender is not None
    assert store._sender.done()


def test_repr_has_no_password() -> None:
    """Neither repr nor address shows the user or the password."""
    store = RedisCounters("redis://user:s3cret@127.0.0.1:1")
    assert "s3cret" not in repr(store) + store.address
    with pytest.raises(ValueError, match="invalid") as caught:
        RedisCounters("http://user:s3cret@host")
    assert "s3cret" not in str(caught.value)
