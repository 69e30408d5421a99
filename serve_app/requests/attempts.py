"""Plans the exchanges of one request: which candidate, at which endpoint, how often.

No clock and no I/O: the gateway asks for the next try, makes it, and records its verdict.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple, TypeAlias

from serve_app.domain import ModelRef
from serve_app.requests.endpoint_order import EndpointTest, never
from serve_app.requests.verdict import NEXT, Action, Verdict

MAX_ATTEMPTS: Final = 4
"""Exchanges for one request, whatever the number of candidates."""

MAX_PAUSE_S: Final = 2.0
"""The longest pause before a second try; a provider that asks for more is not asked again."""

_FIRST_PAUSE_S: Final = 0.25

OrdinalsOf: TypeAlias = Callable[[ModelRef], Sequence[int]]
"""The ordinals of a model's endpoints, in the order in which they are tried; at least one."""


class Try(NamedTuple):
    """One exchange that is to be made."""

    candidate: ModelRef
    endpoint: int
    """The ordinal of the candidate's endpoint."""
    fresh: bool = False
    """Use a new connection: the exchange before was reset."""
    pause_s: float = 0.0
    """How long to wait before it."""


class Attempts:
    """The tries of one request, in order: first every endpoint of every candidate once.

    Endpoints that rest come last, and after them those that are full. Then follow those whose fault
    may have passed, once more, each after a pause that is drawn between zero and a bound that
    doubles (full jitter).
    """

    def __init__(
        self,
        candidates: Sequence[ModelRef],
        order: OrdinalsOf,
        limit: int = MAX_ATTEMPTS,
        *,
        rests: EndpointTest = never,
        is_full: EndpointTest = never,
        draw: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._left_tries = limit
        self._verdict = NEXT
        self._draw = draw
        self._full: list[_Planned] = []
        self._current: _Planned
        self._tries = self._plan(_in_order(candidates, order, rests, is_full, self._full))

    def next(self) -> Try | None:
        """The next exchange to make; None when the last outcome is the answer."""
        if self._left_tries <= 0:
            return None
        self._left_tries -= 1
        return next(self._tries, None)

    @property
    def full(self) -> tuple[Try, ...]:
        """What is left to try after this, because it was full when its turn came."""
        return tuple(tried for tried, _ in self._full)

    def swap(self, tried: Try, place: int) -> Try:
        """Puts a full endpoint off once more, and tries another one of ``full`` in its place."""
        self._full.insert(0, self._current)
        self._current = self._full.pop(place + 1)
        return self._current[0]._replace(fresh=tried.fresh, pause_s=tried.pause_s)

    def record(self, verdict: Verdict) -> None:
        """Takes what came of the last try."""
        self._verdict = verdict
        if verdict.action in (Action.GOOD, Action.FINAL):
            self._left_tries = 0

    @property
    def _was_reset(self) -> bool:
        return self._verdict.action is Action.AGAIN

    def _plan(self, in_order: "Iterator[_Planned]") -> Iterator[Try]:
        """Runs on after each record; a candidate's only endpoint is tried again after a reset."""
        again: list[tuple[Try, float]] = []
        refused: set[ModelRef] = set()
        for planned in in_order:
            if planned[0].candidate in refused:
                continue
            self._current = planned
            yield planned[0]._replace(fresh=True) if self._was_reset else planned[0]
            tried, is_only = self._current
            if self._was_reset and is_only:
                yield tried._replace(fresh=True)
                tried, is_only = self._current
            if self._verdict.action is Action.OTHER_MODEL:
                refused.add(tried.candidate)
                self._full[:] = [left for left in self._full if left[0].candidate not in refused]
            elif self._verdict.action is Action.LATER:
                again.append((tried, self._verdict.retry_after_s or 0.0))
        for number, (tried, asked_s) in enumerate(again):
            if tried.candidate not in refused and asked_s <= MAX_PAUSE_S:
                bound_s = min(MAX_PAUSE_S, _FIRST_PAUSE_S * 2**number)
                yield tried._replace(pause_s=max(asked_s, self._draw(0.0, bound_s)))


_Planned: TypeAlias = tuple[Try, bool]
"""An endpoint to try; True for its candidate's only one."""


def _in_order(
    candidates: Sequence[ModelRef],
    order: OrdinalsOf,
    rests: EndpointTest,
    is_full: EndpointTest,
    full: list[_Planned],
) -> Iterator[_Planned]:
    """Each endpoint of each candidate, then those that rest, then those that were full.

    The last ones wait in ``full``, whose order the caller may change.
    """
    resting: list[_Planned] = []
    for candidate in candidates:
        endpoints = order(candidate)
        for endpoint in endpoints:
            found = Try(candidate, endpoint), len(endpoints) == 1
            if rests(candidate, endpoint):
                resting.append(found)
            elif is_full(candidate, endpoint):
                full.append(found)
            else:
                yield found
    for found in resting:
        if is_full(found[0].candidate, found[0].endpoint):
            full.append(found)
        else:
            yield found
    while full:
        yield full.pop(0)
