"""Protects requests from the engine: deadline, circuit breaker, bounded cache, single flight.

The ingress has a Guard before the hop to the Orchestrator. Each replica of the Orchestrator has
another one around its engine, so that equal questions of several ingresses share a decision.
"""

import asyncio
import logging
from collections import OrderedDict
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Final

from serve_app.breaker import FIRST_PAUSE_S, LONGEST_PAUSE_S, Breaker, OutageLog
from serve_app.domain import Question, Reason, Scores, Unavailable
from serve_app.ports import Clock, Orchestrator
from serve_app.telemetry.record import DecisionRecord, NoObserver, Observer

CACHE_ENTRIES: Final = 4096
MAX_FLIGHTS: Final = 512
"""Different questions in progress at once; others are answered "busy"."""

DEADLINES_APART: Final = 10
"""Pause between probes, in deadlines: a probe of an unreachable orchestrator waits for one."""

_log = logging.getLogger("fingerpost")


def breaker(deadline_s: float, clock: Clock) -> Breaker:
    """The breaker for an orchestrator with this deadline, which determines the longest pause."""
    pause_s = min(LONGEST_PAUSE_S, max(FIRST_PAUSE_S, DEADLINES_APART * deadline_s))
    return Breaker(clock, longest_pause_s=pause_s)


@dataclass(slots=True)
class _Flight:
    """A question in progress, and the number of requests that wait for it."""

    task: asyncio.Task[Scores | Unavailable]
    waiting: int = 0


class Guard:
    """An orchestrator around another one. It never raises and never exceeds its deadline."""

    def __init__(
        self,
        inner: Orchestrator,
        *,
        deadline_s: float,
        clock: Clock,
        observer: Observer | None = None,
        breaker: Breaker | None = None,
        name: str = "orchestrator",
    ) -> None:
        """``name`` is the orchestrator's in logs and messages."""
        self._inner = inner
        self._deadline_s = deadline_s
        self._clock = clock
        self._observer = observer or NoObserver()
        self._breaker = breaker
        self._cache: OrderedDict[bytes, Scores] = OrderedDict()
        self._flights: dict[bytes, _Flight] = {}
        self._outages = OutageLog(name, clock)
        self.asked = 0
        """Number of questions that reached the inner orchestrator."""
        self.last_fault: Unavailable | None = None
        """The fault of the last question; None if it was answered."""
        self.stand_in = ""
        """Why the embedded engine replaced another one in the last answer; empty if it did not."""
        self.fell_back = ""
        """Why the engine of ``when_unsure`` did not decide when last asked; empty if it did."""

    def __repr__(self) -> str:
        cached = f"{len(self._cache)}/{CACHE_ENTRIES} cached"
        flights = f"{len(self._flights)}/{MAX_FLIGHTS} in progress"
        fault = None if self.last_fault is None else self.last_fault.detail
        state = f"{self.breaker_state}, {cached}, {flights}, last fault: {fault}"
        return f"<Guard {self._inner!r}: {state}>"

    @property
    def breaker_state(self) -> str:
        """``closed``, ``open`` or ``half_open``."""
        return "closed" if self._breaker is None else self._breaker.state

    async def score(self, question: Question) -> Scores | Unavailable:
        """Cached scores, those of an equal question in progress, or new ones."""
        key = _key(question)
        scores = self._cache.get(key)
        if scores is not None:
            self._cache.move_to_end(key)
            self._count("cached")
            return scores
        flight = self._flights.get(key)
        if flight is None:
            refusal = self._refusal()
            if refusal is not None:
                self._count(refusal.reason)
                return refusal
            flight = _Flight(asyncio.create_task(self._ask(key, question)))
            self._flights[key] = flight
        else:
            self._count("joined")
        return await self._wait(key, flight)

    async def _wait(self, key: bytes, flight: _Flight) -> Scores | Unavailable:
        """The flight's result. The flight is cancelled when no request waits for it any more."""
        flight.waiting += 1
        try:
            return await asyncio.shield(flight.task)
        finally:
            flight.waiting -= 1
            if flight.waiting == 0 and not flight.task.done():
                if self._flights.get(key) is flight:
                    del self._flights[key]
                flight.task.cancel()

    def _refusal(self) -> Unavailable | None:
        if len(self._flights) >= MAX_FLIGHTS:
            detail = f"{MAX_FLIGHTS} questions are already in progress"
            return Unavailable(Reason.ORCHESTRATOR_BUSY, detail)
        if self._breaker is not None and not self._breaker.lets_through():
            last = "" if self.last_fault is None else f"; last fault: {self.last_fault.detail}"
            detail = f"the {self._outages.subject} failed several times in a row{last}"
            return Unavailable(Reason.BREAKER_OPEN, detail)
        return None

    async def _ask(self, key: bytes, question: Question) -> Scores | Unavailable:
        started = self._clock()
        self.asked += 1
        try:
            result = await self._score_in_time(question)
        except asyncio.CancelledError:
            if self._breaker is not None:
                self._breaker.forgotten()
            raise
        finally:
            flight = self._flights.get(key)
            if flight is not None and flight.task is asyncio.current_task():
                del self._flights[key]
        if question.wants_probabilities and _is_busy(result):
            if self._breaker is not None:
                self._breaker.forgotten()
            return result  # one of several turns that typed questions may take
        if not question.is_trial:
            self._record(key, result)
        elif self._breaker is not None:
            self._breaker.forgotten()
        outcome = "scored" if isinstance(result, Scores) else result.reason
        self._observer.decided(DecisionRecord(outcome, self._clock() - started, result.usage))
        return result

    async def _score_in_time(self, question: Question) -> Scores | Unavailable:
        try:
            async with asyncio.timeout(self._deadline_s):
                return await self._inner.score(question)
        except TimeoutError:
            detail = f"timed out after {self._deadline_s * 1e3:g} ms"
            return Unavailable(Reason.ORCHESTRATOR_TIMEOUT, detail)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            return Unavailable(Reason.ORCHESTRATOR_ERROR, "the question was cancelled")
        except Exception as error:  # noqa: BLE001 - the request continues in any case
            _log.exception("the orchestrator raised an exception")
            return Unavailable(Reason.ORCHESTRATOR_ERROR, f"failed with {type(error).__name__}")

    def _record(self, key: bytes, result: Scores | Unavailable) -> None:
        if isinstance(result, Scores):
            self.stand_in, self.fell_back = result.stand_in, result.fell_back
            if not self.stand_in and not self.fell_back:  # else another engine decides next time
                self._remember(key, result)
            self._recovered()
            return
        if self._breaker is not None and not _is_busy(result):
            self._breaker.failed()
        elif self._breaker is not None:
            self._breaker.forgotten()
        self._outages.failed(f"{result.reason}: {result.detail}")
        self.last_fault = result

    def _remember(self, key: bytes, scores: Scores) -> None:
        self._cache[key] = replace(scores, cached=True, usage=None)
        if len(self._cache) > CACHE_ENTRIES:
            self._cache.popitem(last=False)

    def _recovered(self) -> None:
        if self._breaker is not None:
            self._breaker.succeeded()
        self._outages.succeeded()
        self.last_fault = None

    def _count(self, outcome: str) -> None:
        self._observer.decided(DecisionRecord(outcome))


def _is_busy(result: Scores | Unavailable) -> bool:
    return isinstance(result, Unavailable) and result.reason is Reason.ORCHESTRATOR_BUSY


def _key(question: Question) -> bytes:
    digest = blake2b(question.key.encode(), digest_size=16)
    for turn in question.turns:
        text = turn.text.encode("utf-8", "replace")
        digest.update(b"\0%c%d:" % (turn.role[0].encode(), len(text)))
        digest.update(text)
    return digest.digest()
