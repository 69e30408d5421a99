"""An event loop on a thread of its own, for engines that work without waiting for a question."""

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Final, TypeVar

CLOSE_S: Final = 5.0
"""Time in which the thread must end."""

_Result = TypeVar("_Result")


class LoopThread:
    """Runs coroutines on an event loop of its own. Every thread and every loop may call it."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    async def result_of(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        """Waits for a coroutine's result; cancelling the wait cancels the coroutine."""
        return await asyncio.wrap_future(self.start(work))

    def start(self, work: Coroutine[Any, Any, _Result]) -> Future[_Result]:
        """Starts a coroutine; after the end of the thread the result is cancelled."""
        if self._loop.is_closed():
            work.close()
            ended = Future[_Result]()
            ended.cancel()
            return ended
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def close(self, last: Coroutine[Any, Any, None]) -> None:
        """Cancels what is running, runs a last coroutine, and ends the thread."""
        if not self._thread.is_alive():
            last.close()
            return
        ended = self.start(self._end(last))
        with suppress(TimeoutError):
            ended.result(CLOSE_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CLOSE_S)

    async def _end(self, last: Coroutine[Any, Any, None]) -> None:
        await self._cancel_others()
        await last

    async def _cancel_others(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
            self._loop.run_until_complete(self._cancel_others())
        finally:
            self._loop.close()
