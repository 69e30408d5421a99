"""Two engines for one decision: a cheap one for every question, a better one for close calls.

A call is close if the first engine gives its decision a probability below a limit: the highest of
all routes and of no route. Such a question goes to the better engine, in what is left of the
deadline. If that one answers, its decision stands, else that of the first engine.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final

from serve_app.domain import ModelRef, Question, Reason, Scores, TokenUsage, Unavailable
from serve_app.ports import Clock, Orchestrator
from serve_app.providers.prices import CatalogPrices, cost_usd
from serve_app.scoring.excerpt import recent
from serve_app.telemetry.record import DecisionRecord, NoObserver, Observer

EMBEDDED: Final = "embedding"
"""The tier that stands in for other engines."""

WHEN_UNSURE: Final = "when_unsure"
"""The tier of close calls."""

MAX_UNSURE: Final = 32
"""Questions that wait for the better engine at once, half of what a replica takes at once: the
others still get the first engine's answers."""

CANCELLED: Final = "cancelled"
"""Outcome of a question whose caller left before the answer."""

_RESERVE_SHARE: Final = 0.2
_RESERVE_S: Final = 0.2
"""Time for the way back to the caller: this share of the deadline, at most these seconds."""


def time_for_both(deadline_s: float) -> float:
    """Seconds in which both engines must have answered, so that the caller is still there."""
    return deadline_s - min(_RESERVE_SHARE * deadline_s, _RESERVE_S)


def is_close(scores: Scores | Unavailable, below: float) -> bool:
    """True if the decision is less probable than ``below``, or if there is none.

    An engine that only names the winner does not say how sure it is: its calls are not close.
    """
    if isinstance(scores, Unavailable):
        return True
    values = [*scores.routes.values(), *(() if scores.none is None else (scores.none,))]
    return bool(values) and max(values) < below


@dataclass(frozen=True, slots=True)
class Tier:
    """An engine as one of two, which may read less of a conversation than the other one."""

    ask: Callable[[Question], Awaitable[Scores | Unavailable]]
    whole: bool = True
    """False if it gets the last turns only, while the other one reads the whole conversation."""
    name: str = ""
    """The name of the engine that its scores get; empty if they have one."""
    has_probabilities: bool = True
    """False if it names the best route only, so that other questions are not for it."""

    async def score(self, question: Question) -> Scores | Unavailable:
        """The engine's scores for what it reads."""
        if question.wants_probabilities and not self.has_probabilities:
            return Unavailable(Reason.ORCHESTRATOR_ERROR, "it has no probabilities")
        if not self.whole:
            question = replace(question, turns=recent(question.turns))
        scores = await self.ask(question)
        if self.name and isinstance(scores, Scores):
            return replace(scores, tier=self.name)
        return scores


class Tiers:
    """An orchestrator around two others; it answers as the first one if the better one does not."""

    def __init__(
        self,
        first: Orchestrator,
        better: Orchestrator,
        *,
        below: float,
        deadline_s: float,
        clock: Clock,
    ) -> None:
        """``deadline_s`` is for both together; see ``time_for_both``."""
        self._first = first
        self._better = better
        self._below = below
        self._deadline_s = deadline_s
        self._clock = clock
        self._waiting = 0

    def __repr__(self) -> str:
        return f"<Tiers below {self._below:g}: {self._first!r}, then {self._better!r}>"

    async def score(self, question: Question) -> Scores | Unavailable:
        """The first engine's scores, or the better one's for a close call."""
        ends_at = self._clock() + self._deadline_s
        scores = await self._first.score(question)
        if not is_close(scores, self._below):
            return scores
        left_s = ends_at - self._clock()
        better = await self._ask_better(replace(question, within_s=left_s), left_s)
        if isinstance(better, Scores):
            return replace(better, tier=WHEN_UNSURE)
        if isinstance(scores, Scores):
            return replace(scores, fell_back=better.detail)
        return replace(scores, detail=f"{scores.detail}; {WHEN_UNSURE}: {better.detail}")

    async def _ask_better(self, question: Question, left_s: float) -> Scores | Unavailable:
        if left_s <= 0:
            return Unavailable(Reason.ORCHESTRATOR_TIMEOUT, "no time was left to ask it")
        if self._waiting >= MAX_UNSURE:
            detail = f"{self._waiting} questions are waiting for it already"
            return Unavailable(Reason.ORCHESTRATOR_BUSY, detail)
        self._waiting += 1
        try:
            # an equal question that was asked earlier may have more time
            async with asyncio.timeout(left_s + self._deadline_s / 16):
                return await self._better.score(question)
        except TimeoutError:
            return _timed_out(left_s)
        finally:
            self._waiting -= 1


class InTime:
    """An orchestrator that keeps its deadline, and that of a question if it is shorter.

    A question whose caller leaves is recorded: its answer may cost something all the same.
    """

    def __init__(
        self,
        inner: Orchestrator,
        *,
        deadline_s: float,
        clock: Clock,
        observer: Observer | None = None,
    ) -> None:
        self._inner = inner
        self._deadline_s = deadline_s
        self._clock = clock
        self._observer = observer or NoObserver()

    def __repr__(self) -> str:
        return repr(self._inner)

    async def score(self, question: Question) -> Scores | Unavailable:
        """The inner scores, or "timed out"."""
        within_s = math.inf if question.within_s is None else question.within_s
        limit_s, started = min(self._deadline_s, within_s), self._clock()
        try:
            async with asyncio.timeout(limit_s):
                return await self._inner.score(question)
        except TimeoutError:
            return _timed_out(limit_s)
        except asyncio.CancelledError:
            self._observer.decided(DecisionRecord(CANCELLED, self._clock() - started))
            raise


class TierObserver(NoObserver):
    """Passes on what a tier was asked, with its name, its model and the cost."""

    def __init__(
        self,
        inner: Observer,
        tier: str,
        model: ModelRef,
        prices: Callable[[], CatalogPrices],
    ) -> None:
        self._inner = inner
        self._tier = tier
        self._model = model
        self._prices = prices

    def decided(self, decision: DecisionRecord) -> None:
        """Passes on one question."""
        self._inner.decided(
            decision._replace(
                tier=self._tier, model=str(self._model), usd=self._usd(decision.usage)
            )
        )

    def _usd(self, usage: TokenUsage | None) -> float | None:
        if usage is None:
            return None
        price = self._prices().price(self._model, usage.input_tokens)
        return None if price is None else cost_usd(price, usage)


def _timed_out(limit_s: float) -> Unavailable:
    return Unavailable(Reason.ORCHESTRATOR_TIMEOUT, f"timed out after {limit_s * 1e3:.0f} ms")
