"""What stands around any engine, so that none of its moods is a request's: deadline, breaker,
bounded cache, single flight, and a thread with a queue that sheds load.

The ingress has a Guard before the hop to the Orchestrator. Each replica of the Orchestrator has
one around its engine, so that equal questions of several ingresses are one decision, too.
"""

import asyncio
import logging
from collections import OrderedDict
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Final

from serve_app.breaker import FIRST_PAUSE_S, LONGEST_PAUSE_S, Breaker
from serve_app.domain import Question, Reason, Scores, Unavailable
from serve_app.ports import Clock, Orchestrator
from serve_app.telemetry.record import DecisionRecord, NoObserver, Observer

CACHE_ENTRIES: Final = 4096
MAX_FLIGHTS: Final = 512
"""Different questions under way at once; more are answered "busy"."""

DEADLINES_APART: Final = 10
"""Who asks an orchestrator that is away waits for the deadline, in vain: once in so many."""

_log = logging.getLogger("fingerpost")


def breaker(deadline_s: float, clock: Clock) -> Breaker:
    """One for an orchestrator with this deadline: what a probe costs says how rare they get."""
    pause_s = min(LONGEST_PAUSE_S, max(FIRST_PAUSE_S, DEADLINES_APART * deadline_s))
    return Breaker(clock, longest_pause_s=pause_s)


@dataclass(slots=True)
class _Flight:
    """A question under way and how many wait for it."""

    task: asyncio.Task[Scores | Unavailable]
    waiting: int = 0


class Guard:
    """An orchestrator around another one. It never raises and never takes longer than it may."""

    def __init__(
        self,
        inner: Orchestrator,
        *,
        deadline_s: float,
        clock: Clock,
        observer: Observer | None = None,
        breaker: Breaker | None = None,
    ) -> None:
        self._inner = inner
        self._deadline_s = deadline_s
        self._clock = clock
        self._observer = observer or NoObserver()
        self._breaker = breaker
        self._cache: OrderedDict[bytes, Scores] = OrderedDict()
        self._flights: dict[bytes, _Flight] = {}
        self.asked = 0
        """How often the inner orchestrator was asked."""
        self.last_fault: Unavailable | None = None
        """Why the last question that was asked had no answer; None after one that had."""
        self.stand_in = ""
        """Why the embedded engine gave the last answer in place of another; empty if it did not."""

    @property
    def breaker_state(self) -> str:
        """``closed``, ``open`` or ``half_open``."""
        return "closed" if self._breaker is None else self._breaker.state

    async def score(self, question: Question) -> Scores | Unavailable:
        """Remembered scores, those of an equal question under way, or new ones."""
        key = _key(question)
        known = self._cache.get(key)
        if known is not None:
            self._cache.move_to_end(key)
            self._count("cached")
            return known
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
        """The flight's outcome. It goes on as long as somebody waits for it, and no longer."""
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
            detail = f"{MAX_FLIGHTS} questions are under way already"
            return Unavailable(Reason.ORCHESTRATOR_BUSY, detail)
        if self._breaker is not None and not self._breaker.lets_through():
            why = "" if self.last_fault is None else f"; last: {self.last_fault.detail}"
            return Unavailable(Reason.BREAKER_OPEN, f"it failed several times in a row{why}")
        return None

    async def _ask(self, key: bytes, question: Question) -> Scores | Unavailable:
        started = self._clock()
        self.asked += 1
        try:
            said = await self._in_time(question)
        except asyncio.CancelledError:
            if self._breaker is not None:
                self._breaker.forgotten()
            raise
        finally:
            flight = self._flights.get(key)
            if flight is not None and flight.task is asyncio.current_task():
                del self._flights[key]
        self._hear(key, said)
        outcome = "scored" if isinstance(said, Scores) else said.reason
        self._observer.decided(DecisionRecord(outcome, self._clock() - started))
        return said

    async def _in_time(self, question: Question) -> Scores | Unavailable:
        try:
            async with asyncio.timeout(self._deadline_s):
                return await self._inner.score(question)
        except TimeoutError:
            detail = f"no answer within {self._deadline_s * 1e3:g} ms"
            return Unavailable(Reason.ORCHESTRATOR_TIMEOUT, detail)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            return Unavailable(Reason.ORCHESTRATOR_ERROR, "it gave the question up")
        except Exception as error:  # noqa: BLE001 - whatever it is, the request goes on
            _log.exception("the orchestrator raised")
            return Unavailable(Reason.ORCHESTRATOR_ERROR, f"it raised {type(error).__name__}")

    def _hear(self, key: bytes, said: Scores | Unavailable) -> None:
        if isinstance(said, Scores):
            self.stand_in = said.stand_in
            if not said.stand_in:  # else the engine itself is asked as soon as it is back
                self._remember(key, said)
            self._recovered()
            return
        if self._breaker is not None and said.reason is not Reason.ORCHESTRATOR_BUSY:
            self._breaker.failed()
        elif self._breaker is not None:
            self._breaker.forgotten()
        if self.last_fault is None:
            _log.warning("the orchestrator gives no decisions: %s: %s", said.reason, said.detail)
        self.last_fault = said

    def _remember(self, key: bytes, scores: Scores) -> None:
        self._cache[key] = replace(scores, cached=True)
        if len(self._cache) > CACHE_ENTRIES:
            self._cache.popitem(last=False)

    def _recovered(self) -> None:
        if self._breaker is not None:
            self._breaker.succeeded()
        if self.last_fault is not None:
            _log.warning("the orchestrator gives decisions again")
        self.last_fault = None

    def _count(self, outcome: str) -> None:
        self._observer.decided(DecisionRecord(outcome))


def _key(question: Question) -> bytes:
    digest = blake2b(question.key.encode(), digest_size=16)
    for turn in question.turns:
        text = turn.text.encode("utf-8", "replace")
        digest.update(b"\0%c%d:" % (turn.role[0].encode(), len(text)))
        digest.update(text)
    return digest.digest()
