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


async def test_hits_are_remembered_for_a_while(
    local: CachedStore, inner: FakeStore, clock: FakeClock
) -> None:
    """Then the store is asked again, which keeps the binding alive there."""
    inner.bindings["s"] = A
    assert [await local.get("s") for _ in range(3)] == [A, A, A]
    assert inner.keys == ["s"]
    clock.now += FRESH_S
    inner.bindings["s"] = B
    assert await local.get("s") == B


async def test_misses_are_never_remembered(local: CachedStore, inner: FakeStore) -> None:
    """What another ingress binds is seen at once."""
    assert await local.get("s") is None
    inner.bindings["s"] = A
    assert await local.get("s") == A


async def test_what_is_bound_is_known(local: CachedStore, inner: FakeStore) -> None:
    """And who came too late asks the store the next time."""
    assert await local.bind("s", A, instead_of=None)
    assert await local.get("s") == A
    assert inner.keys == []
    inner.bindings["s"] = B
    assert not await local.bind("s", A, instead_of=A.model)
    assert await local.get("s") == B


async def test_what_the_store_forgot_is_put_back(
    local: CachedStore, inner: FakeStore, clock: FakeClock
) -> None:
    """After its restart; not what has had its time."""
    await local.bind("s", A, instead_of=None)
    inner.bindings.clear()
    clock.now += 60
    assert await local.get("s") == A
    assert inner.bindings == {"s": A}
    inner.bindings.clear()
    clock.now += 600
    assert await local.get("s") is None
    assert inner.bindings == {}


async def test_a_short_life_is_a_short_memory(inner: FakeStore, clock: FakeClock) -> None:
    """A binding never outlives its time by being remembered."""
    local = CachedStore(inner, max_entries=3, ttl_s=2, clock=clock)
    await local.bind("s", A, instead_of=None)
    clock.now += 0.5
    await local.get("s")
    assert inner.keys == ["s"]


async def test_memory_is_bounded(local: CachedStore, inner: FakeStore) -> None:
    """The least recently used go first."""
    for number in range(100_000):
        await local.bind(str(number), A, instead_of=None)
    assert repr(local) == "<CachedStore 3/3 bindings>"
    inner.bindings.clear()
    assert await local.get("99999") == A
    assert await local.get("5") is None


async def test_while_the_store_is_away_what_is_remembered_holds(
    local: CachedStore, inner: FakeStore, clock: FakeClock
) -> None:
    """Bindings are made here, each use keeps them alive, and later they are put there."""
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


async def test_what_nobody_used_ends_while_the_store_is_away(
    local: CachedStore, inner: FakeStore, clock: FakeClock
) -> None:
    """Its time is the same as there."""
    await local.bind("s", A, instead_of=None)
    inner.trouble = "away"
    clock.now += 600
    assert await local.get("s") is None


async def test_another_may_have_put_back_first(
    local: CachedStore, inner: FakeStore, clock: FakeClock
) -> None:
    """Then that is the binding."""
    await local.bind("s", A, instead_of=None)
    clock.now += FRESH_S
    answers = iter([None])

    async def late(key: str) -> Binding | None:
        inner.bindings[key] = B
        return next(answers, B)

    inner.get = late  # type: ignore[method-assign]
    assert await local.get("s") == B
