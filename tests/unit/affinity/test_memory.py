"""Bindings in memory."""

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


def test_a_binding_is_kept(store: MemoryStore) -> None:
    """What was bound is found, under its key only."""
    assert store.bind("k", A, instead_of=None)
    assert (store.get("k"), store.get("l")) == (A, None)


def test_the_first_one_stays(store: MemoryStore) -> None:
    """Put if absent: the loser of a race changes nothing."""
    store.bind("k", A, instead_of=None)
    assert not store.bind("k", B, instead_of=None)
    assert store.get("k") == A


def test_a_failed_model_is_swapped(store: MemoryStore) -> None:
    """Compare and set: only whoever names the bound model replaces it."""
    store.bind("k", A, instead_of=None)
    assert not store.bind("k", A, instead_of=B.model)
    assert store.bind("k", B, instead_of=A.model)
    assert store.get("k") == B
    assert not store.bind("k", A, instead_of=A.model)


def test_nothing_is_swapped_for_nobody(store: MemoryStore) -> None:
    """A swap needs a binding that is there."""
    assert not store.bind("k", B, instead_of=A.model)
    assert store.get("k") is None


@pytest.mark.parametrize(("later", "kept"), [(9.9, A), (10.0, None), (11.0, None)])
def test_a_binding_has_its_time(
    store: MemoryStore, clock: FakeClock, later: float, kept: Binding | None
) -> None:
    """Unused for its time, a binding is gone."""
    store.bind("k", A, instead_of=None)
    clock.now += later
    assert store.get("k") == kept


def test_use_keeps_a_binding_alive(store: MemoryStore, clock: FakeClock) -> None:
    """Each hit gives it its whole time again."""
    store.bind("k", A, instead_of=None)
    for _ in range(5):
        clock.now += 9.0
        assert store.get("k") == A
    clock.now += 10.0
    assert store.get("k") is None


def test_a_gone_binding_is_absent(store: MemoryStore, clock: FakeClock) -> None:
    """After its time its place is free to bind, and can't be swapped."""
    store.bind("k", A, instead_of=None)
    clock.now += 10.0
    assert not store.bind("k", B, instead_of=A.model)
    assert store.bind("k", B, instead_of=None)
    assert store.get("k") == B


def test_the_least_recently_used_goes(store: MemoryStore) -> None:
    """Beyond the limit the one whose last use is longest ago makes room."""
    for key in "abc":
        store.bind(key, A, instead_of=None)
    store.get("a")
    store.bind("d", B, instead_of=None)
    assert [key for key in "abcd" if store.get(key) is not None] == ["a", "c", "d"]


def test_a_swap_takes_no_room(store: MemoryStore) -> None:
    """Replacing a binding pushes no other out."""
    for key in "abc":
        store.bind(key, A, instead_of=None)
    store.bind("a", B, instead_of=A.model)
    assert [store.get(key) for key in "abc"] == [B, A, A]


def test_the_operator_sees_how_full_it_is(store: MemoryStore) -> None:
    """Its repr counts, and shows no key and no model."""
    assert repr(store) == "<MemoryStore 0/3 bindings>"
    for key in "abcdef":
        store.bind(key, A, instead_of=None)
    assert repr(store) == "<MemoryStore 3/3 bindings>"
