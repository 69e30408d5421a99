"""Runs an engine on a thread of its own, with a bounded queue."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Protocol

from serve_app.domain import Question, Reason, Route, Scores, Unavailable
from serve_app.ports import Clock


class Engine(Protocol):
    """Scores questions synchronously; may raise any exception."""

    def score(self, question: Question, in_time: Callable[[], bool]) -> Scores | Unavailable:
        """The scores; ``in_time`` returns False when no request waits for them any more.

        ``question.within_s`` is what is left of the time that a request waits.
        """
        ...

    def prepare(self, routes: tuple[Route, ...], no_route: tuple[str, ...] = ()) -> None:
        """Prepares for questions about these routes; ``no_route`` are examples of no match."""
        ...


class EngineThread:
    """An orchestrator that runs an engine on one thread of its own, and sheds load.

    A question is refused at once if those before it will take longer than it may wait, and a trial
    if there are any.
    """

    def __init__(self, engine: Engine, *, deadline_s: float, clock: Clock) -> None:
        self._engine = engine
        self._deadline_s = deadline_s
        self._clock = clock
        self._pool = ThreadPoolExecutor(1, "engine")
        self._queued = 0
        self._typical_s = 0.0

    async def score(self, question: Question) -> Scores | Unavailable:
        """The engine's scores, or "busy", also if the question waited in the queue for too long."""
        limit_s = self._deadline_s
        if question.within_s is not None:
            limit_s = min(limit_s, question.within_s)
        if question.is_trial and self._queued:
            return Unavailable(Reason.ORCHESTRATOR_BUSY, "requests are being decided")
        if self._queued * self._typical_s > limit_s:
            detail = f"{self._queued} questions are queued, {self._typical_s * 1e3:.0f} ms each"
            return Unavailable(Reason.ORCHESTRATOR_BUSY, detail)
        ends_at = self._clock() + limit_s
        self._queued += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._pool, self._run, question, ends_at)
        finally:
            self._queued -= 1

    def _run(self, question: Question, ends_at: float) -> Scores | Unavailable:
        started = self._clock()
        if started >= ends_at:
            return Unavailable(
                Reason.ORCHESTRATOR_BUSY, "the question waited in the queue for too long"
            )
        question = replace(question, within_s=ends_at - started)
        result = self._engine.score(question, lambda: self._clock() < ends_at)
        if question.is_trial:  # it may have embedded new routes, which requests do not
            return result
        took_s = self._clock() - started
        self._typical_s += (took_s - self._typical_s) / 8 if self._typical_s else took_s
        return result

    def prepare(self, routes: tuple[Route, ...], no_route: tuple[str, ...] = ()) -> None:
        """Queues the preparation of these routes. Any thread may call it."""
        self._pool.submit(self._engine.prepare, routes, no_route)

    def close(self) -> None:
        """Ends the thread once it is idle; queued questions are dropped."""
        self._pool.shutdown(wait=False, cancel_futures=True)
