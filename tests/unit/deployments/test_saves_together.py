"""Answers that are kept at the same time go to the Affinity deployment together."""

import asyncio
from collections.abc import Generator
from typing import Any, cast

import pytest

from deployments import handles
from deployments.affinity import Affinity
from deployments.handles import HandleConversations


class _Call:
    """One call of the deployment; answered once ``may_end`` is set, or with an error."""

    def __init__(self, affinity: Affinity, values: dict[str, bytes]) -> None:
        self._affinity = affinity
        self.values = values
        self.may_end = asyncio.Event()
        self.error: Exception | None = None
        self.cancelled = False

    def __await__(self) -> Generator[Any, None, None]:
        return self._answer().__await__()

    async def _answer(self) -> None:
        await self.may_end.wait()
        if self.error is not None:
            raise self.error
        await self._affinity.save_values(self.values)

    def cancel(self) -> None:
        self.cancelled = True


class _Handle:
    """A handle of the deployment that shows its calls."""

    def __init__(self) -> None:
        self.affinity = Affinity(None)
        self.calls: list[_Call] = []

    @property
    def save_values(self) -> "_Handle":
        return self

    def remote(self, values: dict[str, bytes]) -> _Call:
        self.calls.append(_Call(self.affinity, values))
        return self.calls[-1]

    async def end(self, number: int, error: Exception | None = None) -> None:
        """Lets a call end, and everything that waits for it go on."""
        self.calls[number].error = error
        self.calls[number].may_end.set()
        await _settle()


async def _settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def _store() -> tuple[_Handle, HandleConversations]:
    handle = _Handle()
    return handle, HandleConversations(cast("Any", handle))


async def test_what_comes_during_a_call_goes_with_the_next_one() -> None:
    """Each save returns when its own value is kept, and not before."""
    handle, store = _store()
    saves = [asyncio.create_task(store.save("first", b"1"))]
    await _settle()
    saves += [asyncio.create_task(store.save(f"later{n}", b"2")) for n in range(5)]
    await _settle()
    assert [list(call.values) for call in handle.calls] == [["first"]]
    assert not any(save.done() for save in saves)
    await handle.end(0)
    assert [save.done() for save in saves] == [True] + [False] * 5
    assert len(handle.calls) == 2
    assert sorted(handle.calls[1].values) == [f"later{n}" for n in range(5)]
    await handle.end(1)
    assert all(save.done() for save in saves)
    assert await handle.affinity.load_values(["first", "later4"]) == [b"1", b"2"]


async def test_the_newest_value_of_a_key_is_kept() -> None:
    """Also when an older one is on its way, or waits for the same call."""
    handle, store = _store()
    saves = []
    for value in (b"1", b"2", b"3"):
        saves.append(asyncio.create_task(store.save("key", value)))
        await _settle()
    await handle.end(0)
    await handle.end(1)
    await asyncio.gather(*saves)
    assert await handle.affinity.load_values(["key"]) == [b"3"]


async def test_a_failure_is_that_of_its_own_call_alone() -> None:
    """Those that wait for the next call are not told, and later saves work."""
    handle, store = _store()
    failed = asyncio.create_task(store.save("first", b"1"))
    await _settle()
    good = asyncio.create_task(store.save("second", b"2"))
    await _settle()
    await handle.end(0, RuntimeError("the replica died"))
    with pytest.raises(RuntimeError, match="the replica died"):
        await failed
    await handle.end(1)
    await good
    again = asyncio.create_task(store.save("third", b"3"))
    await _settle()
    await handle.end(2)
    await again


async def test_a_request_that_is_given_up_keeps_the_others() -> None:
    """Its value is saved all the same."""
    handle, store = _store()
    saves = [asyncio.create_task(store.save(f"key{n}", b"1")) for n in range(3)]
    await _settle()
    saves[0].cancel()
    await _settle()
    assert not handle.calls[0].cancelled
    await handle.end(0)
    await asyncio.gather(*saves[1:])
    assert await handle.affinity.load_values(["key0"]) == [b"1"]


async def test_a_call_without_an_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the next one is made."""
    monkeypatch.setattr(handles, "SAVE_S", 0.05)
    handle, store = _store()
    hung = asyncio.create_task(store.save("first", b"1"))
    await _settle()
    waiting = asyncio.create_task(store.save("second", b"2"))
    with pytest.raises(TimeoutError):
        await hung
    assert handle.calls[0].cancelled
    await _settle()
    await handle.end(1)
    await waiting


async def test_a_call_holds_no_more_than_a_hop_carries(monkeypatch: pytest.MonkeyPatch) -> None:
    """A value that is larger goes alone."""
    monkeypatch.setattr(handles, "_SAVE_BYTES", 10)
    handle, store = _store()
    first = asyncio.create_task(store.save("first", b"1"))
    await _settle()
    sizes = {"a": 6, "b": 4, "c": 1, "large": 50, "d": 2}
    saves = [asyncio.create_task(store.save(key, b"x" * size)) for key, size in sizes.items()]
    for number in range(5):
        await _settle()
        await handle.end(number)
    await asyncio.gather(first, *saves)
    assert [list(call.values) for call in handle.calls[1:]] == [["a", "b"], ["c"], ["large"], ["d"]]
