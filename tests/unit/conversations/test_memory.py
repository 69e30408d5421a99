"""Values in memory."""

from serve_app.conversations.memory import MemoryConversations
from tests.unit.fakes import FakeClock


def _store(max_bytes: int = 10, ttl_s: float = 60.0) -> tuple[MemoryConversations, FakeClock]:
    clock = FakeClock()
    return MemoryConversations(max_bytes=max_bytes, ttl_s=ttl_s, clock=clock), clock


def test_values_are_found_by_their_keys() -> None:
    """A value is found by its key alone, and a later one replaces it."""
    store, _ = _store()
    assert store.save("a", b"1")
    assert store.save("a", b"22")
    assert store.load(["b", "a"]) == [None, b"22"]
    assert len(store) == 1
    assert repr(store) == "<MemoryConversations 1: 2/10 bytes>"


def test_least_recently_used_values_are_evicted_by_size() -> None:
    """All values together stay within the limit; reading one keeps it."""
    store, _ = _store()
    store.save("a", b"1234")
    store.save("b", b"1234")
    store.load(["a"])
    store.save("c", b"1234")
    assert store.load(["a", "b", "c"]) == [b"1234", None, b"1234"]


def test_too_large_value_is_not_kept() -> None:
    """A value over the limit leaves the others, and takes its own predecessor."""
    store, _ = _store()
    store.save("a", b"1")
    store.save("b", b"1")
    assert not store.save("a", b"x" * 11)
    assert store.load(["a", "b"]) == [None, b"1"]


def test_values_expire_after_their_last_use() -> None:
    """Each use extends a value's life."""
    store, clock = _store(ttl_s=60.0)
    store.save("a", b"1")
    clock.now += 50
    assert store.load(["a"]) == [b"1"]
    clock.now += 50
    store.save("b", b"2")
    assert store.items() == [("a", b"1"), ("b", b"2")]
    clock.now += 20
    assert store.items() == [("b", b"2")]
    clock.now += 60
    assert store.load(["b"]) == [None]
    assert len(store) == 0


def test_deleted_values_are_counted() -> None:
    """Deleting returns how many there were."""
    store, _ = _store()
    store.save("a", b"1")
    assert store.delete(["a", "b"]) == 1
    assert store.load(["a"]) == [None]


def test_restoring_keeps_the_longer_value() -> None:
    """A conversation only grows, so that an older copy does not replace a newer one."""
    store, _ = _store()
    store.restore("a", b"12")
    store.restore("a", b"1")
    assert store.load(["a"]) == [b"12"]
    store.restore("a", b"123")
    assert store.load(["a"]) == [b"123"]
