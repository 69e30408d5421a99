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
        # A generator of its own would refer to this object, and each request, with its body, would
        # wait for the garbage collector.
        self._planned = _in_order(candidates, order, rests, is_full, self._full)
        self._current: _Planned | None = None
        """What is tried now, while not everything has been tried once."""
        self._is_repeated = False
        self._refused: set[ModelRef] = set()
        self._again: list[tuple[Try, float]] = []
        """What is tried once more at the end, and how long the provider asks to wait before."""
        self._pauses = 0

    def next(self) -> Try | None:
        """The next exchange to make; None when the last outcome is the answer."""
        if self._left_tries <= 0:
            return None
        self._left_tries -= 1
        if self._current is not None:
            repeated = self._conclude(*self._current)
            if repeated is not None:
                return repeated
        for planned in self._planned:
            if planned[0].candidate not in self._refused:
                self._current, self._is_repeated = planned, False
                return planned[0]._replace(fresh=True) if self._was_reset else planned[0]
        self._current = None
        return self._after_pause()

    @property
    def full(self) -> tuple[Try, ...]:
        """What is left to try after this, because it was full when its turn came."""
        return tuple(tried for tried, _ in self._full)

    def swap(self, tried: Try, place: int) -> Try:
        """Puts a full endpoint off once more, and tries another one of ``full`` in its place."""
        if self._current is not None:
            self._full.insert(0, self._current)
            self._current = self._full.pop(place + 1)
            return self._current[0]._replace(fresh=tried.fresh, pause_s=tried.pause_s)
        return tried

    def record(self, verdict: Verdict) -> None:
        """Takes what came of the last try."""
        self._verdict = verdict
        if verdict.action in (Action.GOOD, Action.FINAL):
            self._left_tries = 0

    @property
    def _was_reset(self) -> bool:
        return self._verdict.action is Action.AGAIN

    def _conclude(self, tried: Try, is_only: bool) -> Try | None:  # noqa: FBT001 - a tuple's fields
        """What follows from the last verdict: the same try once more, or None for another one.

        A candidate's only endpoint is tried again after a reset.
        """
        if self._was_reset and is_only and not self._is_repeated:
            self._is_repeated = True
            return tried._replace(fresh=True)
        if self._verdict.action is Action.OTHER_MODEL:
            self._refused.add(tried.candidate)
            self._full[:] = [left for left in self._full if left[0].candidate not in self._refused]
        elif self._verdict.action is Action.LATER:
            self._again.append((tried, self._verdict.retry_after_s or 0.0))
        return None

    def _after_pause(self) -> Try | None:
        """The next of those whose fault may have passed; None if there is none left."""
        while self._pauses < len(self._again):
            tried, asked_s = self._again[self._pauses]
            bound_s = min(MAX_PAUSE_S, _FIRST_PAUSE_S * 2**self._pauses)
            self._pauses += 1
            if tried.candidate not in self._refused and asked_s <= MAX_PAUSE_S:
                return tried._replace(pause_s=max(asked_s, self._draw(0.0, bound_s)))
        return None


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
