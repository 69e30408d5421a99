"""The last decisions, in memory: what the page at ``/ui`` shows and decides again.

Everything that is kept is bounded: how many decisions, and how much of each.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

from serve_app.config.schema.gateway import GatewayConfig
from serve_app.domain import Scores, Turn
from serve_app.telemetry.record import AttemptRecord, DecisionRecord, RequestRecord

MAX_TEXT: Final = 16_384
"""Characters of a conversation's excerpt that are kept; a longer one is left out as a whole."""

MAX_CANDIDATES: Final = 8
"""Models of a decision that are kept."""

MAX_SCORES: Final = 128
"""Routes whose scores are kept; those of more are left out."""

_MAX_NAMES: Final = 8_192
"""Characters of the names of these routes, which a request may bring."""

_UNKNOWN_SURFACE: Final = "other"
_NO_SCORES: Final[Mapping[str, float]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class RecentDecision:
    """One finished request, as far as it is kept."""

    number: int
    """Counts up from 1, so that a reader knows what it has seen."""
    record: RequestRecord
    """Without its question and its scores."""
    scores: Mapping[str, float] = field(default_factory=lambda: _NO_SCORES)
    none: float | None = None
    """The probability that no route matches; None if unknown."""
    threshold: float | None = None
    """What the best route had to reach; None if nothing was scored."""
    is_inline: bool = False
    """True if the request brought routes of its own."""
    turns: tuple[Turn, ...] = field(default=(), repr=False)
    """What the orchestrator read; empty if it was not asked, or if texts are not kept."""


class RecentDecisions:
    """An observer that keeps the last requests; those of no known surface are left out.

    It keeps nothing while the page is off, and no text where the configuration forbids that.
    """

    def __init__(self, current: Callable[[], GatewayConfig]) -> None:
        """``current`` returns the configuration of the moment."""
        self._current = current
        self._kept: deque[RecentDecision] = deque()
        self._last = 0
        self._has_texts = False
        self._waiting: set[asyncio.Future[None]] = set()

    def __repr__(self) -> str:
        return f"<RecentDecisions {len(self._kept)} kept, {len(self._waiting)} waiting>"

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def last(self) -> int:
        """The number of the newest decision; 0 before the first."""
        return self._last

    def decided(self, decision: DecisionRecord) -> None:
        """Does nothing: the record of the request has the decision."""

    def attempted(self, attempt: AttemptRecord) -> None:
        """Does nothing: the record of the request has its attempts."""

    def session_changed(self, event: str) -> None:
        """Does nothing."""

    def ended(self, request: RequestRecord) -> None:
        """Keeps a finished request, and wakes those that wait for it."""
        config = self._current()
        if not config.ui.enabled or request.surface == _UNKNOWN_SURFACE:
            return
        self._last += 1
        keeps_texts = config.page_keeps_texts
        self._kept.append(_kept_of(self._last, request, keeps_texts=keeps_texts))
        self._has_texts |= keeps_texts
        while len(self._kept) > config.ui.decisions:
            self._kept.popleft()
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)
        self._waiting.clear()

    def after(self, number: int = 0) -> list[RecentDecision]:
        """The kept decisions with a higher number, oldest first."""
        self._obey()
        return [kept for kept in self._kept if kept.number > number]

    async def wait(self, number: int) -> None:
        """Waits until there is a decision with a higher number."""
        while self._last <= number:
            waiting = asyncio.get_running_loop().create_future()
            self._waiting.add(waiting)
            try:
                await waiting
            finally:
                self._waiting.discard(waiting)

    def _obey(self) -> None:
        """Forgets what a changed configuration no longer allows to keep."""
        config = self._current()
        if not config.ui.enabled:
            self._kept.clear()
        if self._has_texts and not config.page_keeps_texts:
            self._has_texts = False
            self._kept = deque(replace(kept, turns=()) for kept in self._kept)


def _has_many(request: RequestRecord) -> bool:
    return len(request.candidates) > MAX_CANDIDATES


def _kept_of(number: int, request: RequestRecord, *, keeps_texts: bool) -> RecentDecision:
    """What is kept of a record; a client can make no part of it large."""
    scores, question = request.scores, request.question
    bare = request
    if question is not None or scores is not None or request.trace or _has_many(request):
        bare = request._replace(
            question=None, scores=None, trace="", candidates=request.candidates[:MAX_CANDIDATES]
        )
    routes, none, threshold = _NO_SCORES, None, None
    if isinstance(scores, Scores) and scores.routes:
        none, threshold = scores.none, scores.threshold
        if len(scores.routes) <= MAX_SCORES and sum(map(len, scores.routes)) <= _MAX_NAMES:
            routes = scores.routes
    turns = question.turns if keeps_texts and question is not None else ()
    if sum(len(turn.text) for turn in turns) > MAX_TEXT:
        turns = ()
    is_inline = question is not None and question.is_inline
    return RecentDecision(number, bare, routes, none, threshold, is_inline, turns)
