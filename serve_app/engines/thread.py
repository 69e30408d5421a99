"""Runs an engine on a thread of its own, with a bounded queue."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from serve_app.domain import Question, Reason, Route, Scores, Unavailable
from serve_app.ports import Clock


class Engine(Protocol):
    """Scores questions synchronously; may raise whatever it likes."""

    def score(self, question: Question, in_time: Callable[[], bool]) -> Scores | Unavailable:
        """The scores; ``in_time`` says whether anybody still waits for them."""
        ...

    def prepare(self, routes: tuple[Route, ...]) -> None:
        """Gets ready for questions about these routes."""
        ...


class EngineThread:
    """An orchestrator that runs an engine on one thread of its own, and sheds load.

    A question is turned away at once when those before it will take longer than it may wait.
    """

    def __init__(self, engine: Engine, *, deadline_s: float, clock: Clock) -> None:
        self._engine = engine
        self._deadline_s = deadline_s
        self._clock = clock
        self._pool = ThreadPoolExecutor(1, "engine")
        self._queued = 0
        self._typical_s = 0.0

    async def score(self, question: Question) -> Scores | Unavailable:
        """The engine's scores, or "busy", also for a question that has waited for too long."""
        waits_s = self._deadline_s
        if question.within_s is not None:
            waits_s = min(waits_s, question.within_s)
        if self._queued * self._typical_s > waits_s:
            detail = f"{self._queued} questions wait, {self._typical_s * 1e3:.0f} ms each"
            return Unavailable(Reason.ORCHESTRATOR_BUSY, detail)
        ends_at = self._clock() + waits_s
        self._queued += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._pool, self._run, question, ends_at)
        finally:
            self._queued -= 1

    def _run(self, question: Question, ends_at: float) -> Scores | Unavailable:
        started = self._clock()
        if started >= ends_at:
            return Unavailable(Reason.ORCHESTRATOR_BUSY, "it waited for too long")
        said = self._engine.score(question, lambda: self._clock() < ends_at)
        took = self._clock() - started
        self._typical_s += (took - self._typical_s) / 8 if self._typical_s else took
        return said

    def prepare(self, routes: tuple[Route, ...]) -> None:
        """Has the engine get ready for these routes, once it comes to it. Any thread may call it."""
        self._pool.submit(self._engine.prepare, routes)

    def close(self) -> None:
        """Ends the thread once it is idle; questions that wait are dropped."""
        self._pool.shutdown(wait=False, cancel_futures=True)
