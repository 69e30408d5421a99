"""An event loop on a thread of its own."""

import asyncio
import threading
from concurrent.futures import CancelledError

import pytest

from serve_app.engines.loop_thread import LoopThread


async def nothing() -> None:
    """A last coroutine without an effect."""


async def test_work_runs_on_another_thread() -> None:
    """Its result, or its exception, is that of the wait."""
    thread = LoopThread("test-loop")

    async def where() -> str:
        return threading.current_thread().name

    async def fails() -> None:
        raise ValueError("no")

    assert await thread.result_of(where()) == "test-loop"
    with pytest.raises(ValueError, match="no"):
        await thread.result_of(fails())
    await asyncio.to_thread(thread.close, nothing())


async def test_end_cancels_work_and_runs_last_coroutine() -> None:
    """Afterwards nothing runs any more, and new work is cancelled at once."""
    thread, order = LoopThread("test-loop"), list[str]()

    async def hangs() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            order.append("cancelled")

    async def last() -> None:
        order.append("last")

    started = thread.start(hangs())
    await asyncio.to_thread(thread.close, last())
    assert order == ["cancelled", "last"]
    assert started.cancelled()
    with pytest.raises(CancelledError):
        thread.start(hangs()).result(1)
    await asyncio.to_thread(thread.close, last())
    assert order == ["cancelled", "last"]


async def test_last_coroutine_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of a process does not wait for it."""
    monkeypatch.setattr("serve_app.engines.loop_thread.CLOSE_S", 0.05)
    thread = LoopThread("test-loop")

    async def hangs() -> None:
        await asyncio.sleep(3600)

    await asyncio.to_thread(thread.close, hangs())
    assert not thread._thread.is_alive()
