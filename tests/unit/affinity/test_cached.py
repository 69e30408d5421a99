"""What an ingress remembers of sessions."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.affinity.cached import FRESH_S, CachedStore
from serve_app.affinity.memory import MemoryStore
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


class Memory:
    """The store of the deployment Affinity, which counts and evicts its bindings."""

    trouble: str | None = None

    def __init__(self, clock: FakeClock) -> None:
        self.store = MemoryStore(max_entries=3, ttl_s=600, clock=clock)

    async def get(self, key: str) -> Binding | None:
        return self.store.get(key)

    async def bind(self, key: str, binding: Binding, *, instead_of: ModelRef | None) -> bool:
        return self.store.bind(key, binding, instead_of=instead_of)


async def bound(local: CachedStore, inner: Memory, keys: str) -> str:
    """The sessions that are still bound in either of the two stores."""
    live = {key for key in keys if local._live(key) is not None}
    return "".join(sorted(live | {key for key in keys if key in inner.store._bindings}))


async def test_evicted_session_does_not_live_on_in_the_cache(clock: FakeClock) -> None:
    """A hit in the cache does not count as a use, because the store does not hear of it."""
    inner = Memory(clock)
    local = CachedStore(inner, max_entries=3, ttl_s=600, clock=clock)
    for key in "abc":
        assert await local.bind(key, A, instead_of=None)
    assert await local.get("a") == A
    assert await local.bind("d", A, instead_of=None)
    assert await local.get("a") is None
    assert await bound(local, inner, "abcd") == "bcd"


async def test_session_in_use_is_not_evicted(clock: FakeClock) -> None:
    """It counts as used each time that the store is read, which is after some seconds."""
    inner = Memory(clock)
    local = CachedStore(inner, max_entries=3, ttl_s=600, clock=clock)
    await local.bind("a", A, instead_of=None)
    for key in "bcdefgh":
        clock.now += FRESH_S
        assert await local.get("a") == A
        await local.bind(key, A, instead_of=None)
    assert await bound(local, inner, "abcdefgh") == "agh"


@given(
    st.lists(
        st.tuples(
            st.sampled_from("abcdef"), st.sampled_from(["get", "put", "swap", "lose"]), st.sampled_from([0.0, 1.0, FRESH_S, 400.0])
        ),
        max_size=60,
    )
)  # fmt: skip
async def test_bound_holds_for_both_stores_together(uses: list[tuple[str, str, float]]) -> None:
    """Whatever one ingress does, at most the configured number of sessions is bound."""
    clock = FakeClock()
    inner = Memory(clock)
    local = CachedStore(inner, max_entries=3, ttl_s=600, clock=clock)
    for key, use, pause_s in uses:
        clock.now += pause_s
        if use == "get":
            await local.get(key)
        else:
            instead = {"put": None, "swap": A.model, "lose": ModelRef("p", "x")}[use]
            await local.bind(key, B if use == "swap" else A, instead_of=instead)
        assert len(await bound(local, inner, "abcdef")) <= 3


async def test_cache_alone_counts_its_hits(
    local: CachedStore, inner: FakeStore, clock: FakeClock
) -> None:
    """While the store is unavailable, a session in use is not evicted before idle ones."""
    for key in "abc":
        await local.bind(key, A, instead_of=None)
    inner.trouble = "away"
    clock.now += FRESH_S
    assert await local.get("a") == A
    assert await local.bind("d", A, instead_of=None)
    assert [await local.get(key) for key in "abcd"] == [A, None, A, A]


async def test_lost_race_caches_the_binding_that_won(local: CachedStore, inner: FakeStore) -> None:
    """The next turn needs no read; a session without a binding is not cached."""
    inner.bindings["s"] = B
    assert not await local.bind("s", A, instead_of=None)
    assert inner.keys == ["s"]
    assert await local.get("s") == B
    assert inner.keys == ["s"]
    assert not await local.bind("t", A, instead_of=B.model)
    assert await local.get("t") is None


async def test_binding_with_a_longer_life_is_written_back(
    local: CachedStore, inner: FakeStore, clock: FakeClock
) -> None:
    """The cache remembers a binding for as long as the store keeps it."""
    long = replace(A, ttl_s=3600.0)
    await local.bind("s", long, instead_of=None)
    inner.bindings.clear()
    clock.now += 3599
    assert await local.get("s") == long
    assert inner.bindings == {"s": long}
    inner.bindings.clear()
    clock.now += 3600
    assert await local.get("s") is None
