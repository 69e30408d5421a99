"""The store of earlier answers as an ingress uses it: failures, restarts, copies."""

import asyncio
from collections.abc import Sequence

import pytest

from serve_app.affinity.guarded import StoreError
from serve_app.conversations import shared
from serve_app.conversations.memory import MemoryConversations
from serve_app.conversations.shared import SharedConversations
from tests.unit.fakes import FakeClock


class RestartedStore:
    """A store in memory that a test restarts, or takes away."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.is_away = False
        self.is_slow = False
        self.age_s = 100.0
        self.life_number = 0
        self.restart()

    def restart(self) -> None:
        self.values = MemoryConversations(max_bytes=1 << 20, ttl_s=1e6, clock=self.clock)
        self.life_number += 1

    async def _pass(self) -> None:
        if self.is_slow:
            await asyncio.sleep(60)
        if self.is_away:
            message = "gone"
            raise StoreError(message)

    async def load(self, keys: Sequence[str]) -> list[bytes | None]:
        await self._pass()
        return self.values.load(keys)

    async def save(self, key: str, value: bytes) -> None:
        await self._pass()
        self.values.save(key, value)

    async def restore(self, key: str, value: bytes) -> None:
        await self._pass()
        self.values.restore(key, value)

    async def delete(self, keys: Sequence[str]) -> int:
        await self._pass()
        return self.values.delete(keys)

    async def life(self) -> tuple[str, float]:
        await self._pass()
        return str(self.life_number), self.age_s


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits of a few hundredths of a second in place of seconds."""
    for name, value in {"LOAD_S": 0.4, "SAVE_S": 0.1, "LOOK_S": 0.05, "_AGAIN_S": 0.05}.items():
        monkeypatch.setattr(shared, name, value)


def _with_copies(inner: RestartedStore) -> SharedConversations:
    copies = MemoryConversations(max_bytes=1 << 20, ttl_s=1e6, clock=inner.clock)
    return SharedConversations(inner, clock=inner.clock, copies=copies)


async def test_values_go_through_to_the_store() -> None:
    """Without copies, the store alone has the values."""
    inner = RestartedStore()
    store = SharedConversations(inner, clock=inner.clock)
    assert await store.save("a", b"1")
    assert await store.load(["a", "b"]) == [b"1", None]
    assert await store.load([]) == []
    assert await store.delete(["a", "b"]) == 1
    assert "SharedConversations" in repr(store)
    await store.aclose()


async def test_failing_store_is_reported_and_not_raised(caplog: pytest.LogCaptureFixture) -> None:
    """A store that is away has no values, which is not the same as values that do not exist."""
    inner = RestartedStore()
    store = SharedConversations(inner, clock=inner.clock)
    inner.is_away = True
    assert await store.load(["a"]) is None
    assert not await store.save("a", b"1")
    assert await store.delete(["a"]) is None
    assert "store of earlier answers unavailable" in caplog.text
    for _ in range(5):
        await store.save("a", b"1")
    inner.is_away = False
    assert await store.load(["a"]) is None  # the breaker is open
    inner.clock.now += 5
    assert await store.load(["a"]) == [None]


async def test_slow_store_does_not_hold_an_answer(caplog: pytest.LogCaptureFixture) -> None:
    """Saving ends at its deadline."""
    inner = RestartedStore()
    store = SharedConversations(inner, clock=inner.clock)
    inner.is_slow = True
    assert not await store.save("a", b"1")
    assert "TimeoutError" in caplog.text


async def test_cancelled_wait_is_not_a_failure() -> None:
    """A client that leaves while the store is slow does not open the breaker."""
    inner = RestartedStore()
    store = SharedConversations(inner, clock=inner.clock)
    inner.is_slow = True
    for _ in range(6):
        task = asyncio.create_task(store.load(["a"]))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    inner.is_slow = False
    assert await store.load(["a"]) == [None]


async def test_copies_serve_while_the_store_is_away() -> None:
    """What an ingress has seen is there for it; what it has not is unavailable."""
    inner = RestartedStore()
    store = _with_copies(inner)
    await store.save("a", b"1")
    inner.values.save("b", b"2")
    inner.is_away = True
    assert await store.load(["a"]) == [b"1"]
    assert await store.load(["a", "b"]) is None
    assert await store.save("c", b"3")
    await store.aclose()


async def test_restarted_store_gets_copies_back_when_they_are_asked_for() -> None:
    """A value that a restart has lost is put back by the ingress that has it."""
    inner = RestartedStore()
    store = _with_copies(inner)
    await store.save("a", b"1")
    inner.restart()
    assert await store.load(["a"]) == [b"1"]
    assert inner.values.load(["a"]) == [b"1"]
    await store.aclose()


async def test_every_ingress_gives_its_copies_back() -> None:
    """A value of another ingress is waited for, as long as the restart is recent."""
    inner = RestartedStore()
    one, two = _with_copies(inner), _with_copies(inner)
    await one.save("a", b"1")
    await asyncio.sleep(0.02)  # it has looked at the store once
    inner.restart()
    inner.age_s = 0.0
    assert await two.load(["a"]) == [b"1"]
    inner.age_s = 100.0
    assert await two.load(["missing"]) == [None]
    await one.aclose()
    await two.aclose()


async def test_store_that_comes_back_in_time_is_waited_for() -> None:
    """A request waits for a store that is being restarted."""
    inner = RestartedStore()
    store = _with_copies(inner)
    inner.values.save("a", b"1")
    inner.is_away = True
    loading = asyncio.create_task(store.load(["a"]))
    await asyncio.sleep(0.12)
    inner.is_away = False
    assert await loading == [b"1"]
    await store.aclose()


async def test_looking_ends_with_the_last_copy() -> None:
    """Without copies nothing looks for restarts."""
    inner = RestartedStore()
    store = _with_copies(inner)
    await store.save("a", b"1")
    inner.clock.now += 1e7  # it expires
    await asyncio.sleep(0.12)
    assert store._looking is not None
    assert store._looking.done()


async def test_deleted_value_does_not_come_back_from_copies() -> None:
    """Another ingress that has a copy neither gives it back by itself nor after a restart."""
    inner = RestartedStore()
    one, two = _with_copies(inner), _with_copies(inner)
    await one.save("a", b"1")
    assert await two.load(["a"]) == [b"1"]
    assert await one.delete(["a"]) == 1
    assert await two.load(["a"]) == [None]
    assert await one.delete(["a"]) == 0
    inner.restart()
    inner.values.restore("a", b"a longer copy")
    assert await one.load(["a"]) == [None]
    await one.aclose()
    await two.aclose()


async def test_restarted_store_does_not_take_deleted_value_back() -> None:
    """The mark of a deleted value wins, whichever ingress is the first to restore its copy."""
    inner = RestartedStore()
    one, two = _with_copies(inner), _with_copies(inner)
    await one.save("a", b"a long value")
    await two.load(["a"])
    await one.delete(["a"])
    for first, second in ((one, two), (two, one)):
        inner.restart()
        await first._give_back(["a"])
        await second._give_back(["a"])
        assert await two.load(["a"]) == [None]
    await one.aclose()
    await two.aclose()


async def test_deletion_waits_for_the_store() -> None:
    """A copy alone is not enough: the store would bring the value back."""
    inner = RestartedStore()
    store = _with_copies(inner)
    await store.save("a", b"1")
    inner.is_away = True
    assert await store.delete(["b"]) is None
    assert await store.delete(["a"]) is None
    inner.is_away = False
    inner.clock.now += 5
    assert await store.load(["a"]) == [b"1"]
    await store.aclose()
