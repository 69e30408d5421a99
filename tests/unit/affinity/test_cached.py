"""What an ingress remembers of sessions."""

import pytest

from serve_app.affinity.cached import FRESH_S, CachedStore
from serve_app.domain import Binding, ModelRef
from tests.unit.fakes import FakeClock, FakeStore

A, B = (Binding(ModelRef("p", name)) for name in "ab")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def inner() -> FakeStore:
    return FakeStore()


@pytest.fixture
def local(inner: FakeStore, clock: FakeClock) -> CachedStore:
    return CachedStore(inner, max_entries=3, ttl_s=600, clock=clock)


async def test_hits_are_cached_for_a_while(
    local: CachedStore, inner: FakeStore, clock: FakeClock
) -> None:
    """After that the store is read again, which extends the life of the binding there."""
    inner.bindings["s"] = A
    assert [await local.get("s") for _ in range(3)] == [A, A, A]
    assert inner.keys == ["s"]
    clock.now += FRESH_S
    inner.bindings["s"] = B
    assert await local.get("s") == B


async def test_misses_are_not_cached(local: CachedStore, inner: FakeStore) -> None:
    """A binding of another ingress is found at once."""
    assert await local.get("s") is None
    inner.bindings["s"] = A
    assert await local.get("s") == A


async def test_bound_session_is_cached(local: CachedStore, inner: FakeStore) -> None:
    """A request that lost the race reads the store the next time."""
    assert await local.bind("s", A, instead_of=None)
    assert await local.get("s") == A
    assert inner.keys == []
    inner.bindings["s"] = B
    assert not await local.bind("s", A, instead_of=A.model)
    assert await local.get("s") == B


async def test_lost_binding_is_written_back(
    local: CachedStore, inner: FakeStore, clock: FakeClock
) -> None:
    """It is written after a restart of the store, but not if it has expired."""
    await local.bind("s", A, instead_of=None)
    inner.bindings.clear()
    clock.now += 60
    assert await local.get("s") == A
    assert inner.bindings == {"s": A}
    inner.bindings.clear()
    clock.now += 600
    assert await local.get("s") is None
    assert inner.bindings == {}


async def test_short_time_to_live_shortens_caching(inner: FakeStore, clock: FakeClock) -> None:
    """A cached binding never outlives its time to live."""
    local = CachedStore(inner, max_entries=3, ttl_s=2, clock=clock)
    await local.bind("s", A, instead_of=None)
    clock.now += 0.5
    await local.get("s")
    assert inner.keys == ["s"]


async def test_cache_is_bounded(local: CachedStore, inner: FakeStore) -> None:
    """The least recently used bindings are evicted first."""
    for number in range(100_000):
        await local.bind(str(number), A, instead_of=None)
    assert repr(local) == "<CachedStore 3/3 bindings>"
    inner.bindings.clear()
    assert await local.get("99999") == A
    assert await local.get("5") is None


async def test_cache_replaces_unavailable_store(
    local: CachedStore, inner: FakeStore, clock: FakeClock
) -> None:
    """Bindings are made in the cache, each use extends their life, and later they are written."""
    await local.bind("s", A, instead_of=None)
    inner.trouble = "away"
    inner.bindings.clear()
    for _ in range(5):
        clock.now += 400
        assert await local.get("s") == A
    assert await local.bind("t", A, instead_of=None)
    assert not await local.bind("t", A, instead_of=B.model)
    assert await local.bind("t", B, instead_of=A.model)
    assert await local.get("t") == B
    inner.trouble = None
    assert [await local.get("s"), await local.get("t")] == [A, B]
    assert inner.bindings == {"s": A, "t": B}


async def test_unused_binding_expires_while_store_is_unavailable(
    local: CachedStore, inner: FakeStore, clock: FakeClock
) -> None:
    """Its time to live is the same as in the store."""
    await local.bind("s", A, instead_of=None)
    inner.trouble = "away"
    clock.now += 600
    assert await local.get("s") is None


async def test_binding_of_another_ingress_wins_over_write_back(
    local: CachedStore, inner: FakeStore, clock: FakeClock
) -> None:
    """The binding in the store is used and cached."""
    await local.bind("s", A, instead_of=None)
    clock.now += FRESH_S
    answers = iter([None])

    async def late(key: str) -> Binding | None:
        inner.bindings[key] = B
        return next(answers, B)

    inner.get = late  # type: ignore[method-assign]
    assert await local.get("s") == B
