"""What an ingress remembers of sessions."""

import pytest

from serve_app.affinity.local import FRESH_S, LocalStore
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
def local(inner: FakeStore, clock: FakeClock) -> LocalStore:
    return LocalStore(inner, max_entries=3, ttl_s=600, clock=clock)


async def test_hits_are_remembered_for_a_while(
    local: LocalStore, inner: FakeStore, clock: FakeClock
) -> None:
    """Then the store is asked again, which keeps the binding alive there."""
    inner.bindings["s"] = A
    assert [await local.get("s") for _ in range(3)] == [A, A, A]
    assert inner.asked == ["s"]
    clock.now += FRESH_S
    inner.bindings["s"] = B
    assert await local.get("s") == B


async def test_misses_are_never_remembered(local: LocalStore, inner: FakeStore) -> None:
    """What another ingress binds is seen at once."""
    assert await local.get("s") is None
    inner.bindings["s"] = A
    assert await local.get("s") == A


async def test_what_is_bound_is_known(local: LocalStore, inner: FakeStore) -> None:
    """And who came too late asks the store the next time."""
    assert await local.bind("s", A, instead_of=None)
    assert await local.get("s") == A
    assert inner.asked == []
    inner.bindings["s"] = B
    assert not await local.bind("s", A, instead_of=A.model)
    assert await local.get("s") == B


async def test_what_the_store_forgot_is_put_back(
    local: LocalStore, inner: FakeStore, clock: FakeClock
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
    local = LocalStore(inner, max_entries=3, ttl_s=2, clock=clock)
    await local.bind("s", A, instead_of=None)
    clock.now += 0.5
    await local.get("s")
    assert inner.asked == ["s"]


async def test_memory_is_bounded(local: LocalStore, inner: FakeStore) -> None:
    """The least recently used go first."""
    for number in range(100_000):
        await local.bind(str(number), A, instead_of=None)
    assert repr(local) == "<LocalStore 3/3 bindings>"
    inner.bindings.clear()
    assert await local.get("99999") == A
    assert await local.get("5") is None
