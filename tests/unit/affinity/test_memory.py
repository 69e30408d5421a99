"""Bindings in memory."""

from dataclasses import replace

import pytest

from serve_app.affinity.memory import MemoryStore
from serve_app.domain import Binding, ModelRef
from tests.unit.fakes import FakeClock

A, B = Binding(ModelRef("p", "a"), "code"), Binding(ModelRef("p", "b"))


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def store(clock: FakeClock) -> MemoryStore:
    return MemoryStore(max_entries=3, ttl_s=10.0, clock=clock)


def test_binding_is_found_by_its_key(store: MemoryStore) -> None:
    """It is not found by another key."""
    assert store.bind("k", A, instead_of=None)
    assert (store.get("k"), store.get("l")) == (A, None)


def test_first_binding_stays(store: MemoryStore) -> None:
    """Binding is put-if-absent: the loser of a race changes nothing."""
    store.bind("k", A, instead_of=None)
    assert not store.bind("k", B, instead_of=None)
    assert store.get("k") == A


def test_named_model_is_swapped(store: MemoryStore) -> None:
    """Swapping is compare-and-set: only a caller that names the bound model replaces it."""
    store.bind("k", A, instead_of=None)
    assert not store.bind("k", A, instead_of=B.model)
    assert store.bind("k", B, instead_of=A.model)
    assert store.get("k") == B
    assert not store.bind("k", A, instead_of=A.model)


def test_swap_needs_a_binding(store: MemoryStore) -> None:
    """Without one nothing is stored."""
    assert not store.bind("k", B, instead_of=A.model)
    assert store.get("k") is None


@pytest.mark.parametrize(("later", "kept"), [(9.9, A), (10.0, None), (11.0, None)])
def test_unused_binding_expires(
    store: MemoryStore, clock: FakeClock, later: float, kept: Binding | None
) -> None:
    """It is absent after its time to live."""
    store.bind("k", A, instead_of=None)
    clock.now += later
    assert store.get("k") == kept


def test_use_extends_the_life_of_a_binding(store: MemoryStore, clock: FakeClock) -> None:
    """Each hit starts its time to live again."""
    store.bind("k", A, instead_of=None)
    for _ in range(5):
        clock.now += 9.0
        assert store.get("k") == A
    clock.now += 10.0
    assert store.get("k") is None


def test_expired_binding_can_be_replaced(store: MemoryStore, clock: FakeClock) -> None:
    """Its key is free to bind, and cannot be swapped."""
    store.bind("k", A, instead_of=None)
    clock.now += 10.0
    assert not store.bind("k", B, instead_of=A.model)
    assert store.bind("k", B, instead_of=None)
    assert store.get("k") == B


def test_least_recently_used_binding_is_evicted(store: MemoryStore) -> None:
    """Beyond the limit, the binding whose last use is longest ago is removed."""
    for key in "abc":
        store.bind(key, A, instead_of=None)
    store.get("a")
    store.bind("d", B, instead_of=None)
    assert [key for key in "abcd" if store.get(key) is not None] == ["a", "c", "d"]


def test_swap_evicts_nothing(store: MemoryStore) -> None:
    """Replacing a binding removes no other one."""
    for key in "abc":
        store.bind(key, A, instead_of=None)
    store.bind("a", B, instead_of=A.model)
    assert [store.get(key) for key in "abc"] == [B, A, A]


def test_store_repr_counts_bindings(store: MemoryStore) -> None:
    """It shows neither a key nor a model."""
    assert repr(store) == "<MemoryStore 0/3 bindings>"
    for key in "abcdef":
        store.bind(key, A, instead_of=None)
    assert repr(store) == "<MemoryStore 3/3 bindings>"


def test_binding_may_be_kept_for_longer(store: MemoryStore, clock: FakeClock) -> None:
    """Its own time slides as that of the others; a shorter one of its own changes nothing."""
    long, short = replace(A, ttl_s=60.0), replace(B, ttl_s=1.0)
    store.bind("long", long, instead_of=None)
    store.bind("short", short, instead_of=None)
    for _ in range(2):
        clock.now += 9.9
        assert store.get("short") == short
    assert store.get("long") == long
    for _ in range(3):
        clock.now += 59.9
        assert store.get("long") == long
    assert store.get("short") is None
    clock.now += 60.0
    assert store.get("long") is None
