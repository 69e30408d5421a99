"""How long models take to begin their answers: measured from the requests of this process."""

from collections import OrderedDict
from dataclasses import dataclass
from math import inf
from typing import Final

from serve_app.domain import ModelRef
from serve_app.ports import Clock

MAX_MODELS: Final = 1024
"""Models that are remembered, streams and complete answers apart."""
MAX_AGE_S: Final = 600.0
"""Seconds after which a measure no longer counts."""
EXPLORE_EVERY: Final = 20
"""One of this number of requests goes to the model that was not asked for the longest time."""
EXPLORE_UNKNOWN_EVERY: Final = 5
"""The same while a model has no measure."""
FAILED_S: Final = 10.0
"""The least that a failure counts as, seconds."""

_MOVE_S: Final = 1.0
_WEIGHT: Final = 0.3
"""Of the newest measure; older ones fade."""


@dataclass(slots=True)
class _Measure:
    seconds: float = inf
    at: float = -inf
    asked: float = -inf
    moved: float = -inf
    """When it was last put behind the others."""


class Latencies:
    """A moving average for each model: until the first token of a stream, or the whole answer.

    The two are kept apart, because a complete answer takes longer by its length.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._measures: OrderedDict[tuple[ModelRef, bool], _Measure] = OrderedDict()
        self._turns: OrderedDict[tuple[tuple[ModelRef, ...], bool], int] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Latencies of {len(self._measures)} models>"

    def note(self, model: ModelRef, seconds: float, *, stream: bool, failed: bool = False) -> None:
        """A model has begun its answer, or failed, after this time; a failure counts as slow."""
        if failed:
            seconds = max(seconds, FAILED_S)
        measure, now = self._measure(model, stream=stream), self._clock()
        is_old = now - measure.at > MAX_AGE_S
        measure.seconds = (
            seconds if is_old else measure.seconds + _WEIGHT * (seconds - measure.seconds)
        )
        measure.at = measure.asked = now

    def seconds(self, model: ModelRef, *, stream: bool) -> float | None:
        """The average of a model; None if it has none, or it is too old."""
        measure = self._measures.get((model, stream))
        if measure is None or self._clock() - measure.at > MAX_AGE_S:
            return None
        return measure.seconds

    def order(self, models: tuple[ModelRef, ...], *, stream: bool) -> tuple[ModelRef, ...]:
        """The models, the fastest first; those without a measure last, in their order."""
        now, keys = self._clock(), {}
        for model in models:
            measure = self._measures.get((model, stream))
            is_known = measure is not None and now - measure.at <= MAX_AGE_S
            keys[model] = measure.seconds if is_known and measure is not None else inf
        return tuple(sorted(models, key=keys.__getitem__))

    def choose(self, models: tuple[ModelRef, ...], *, stream: bool) -> tuple[ModelRef, ...]:
        """As ``order``, for one request more; now and then a model that is measured anew leads."""
        ordered = self.order(models, stream=stream)
        key = models, stream
        turn = self._turns[key] = self._turns.pop(key, 0) + 1
        if len(self._turns) > MAX_MODELS:
            self._turns.popitem(last=False)
        is_known = self.seconds(ordered[-1], stream=stream) is not None
        if turn % (EXPLORE_EVERY if is_known else EXPLORE_UNKNOWN_EVERY):
            return ordered
        explored = min(models, key=lambda model: self._asked(model, stream=stream))
        self._measure(explored, stream=stream).asked = self._clock()
        return (explored, *(model for model in ordered if model != explored))

    def _asked(self, model: ModelRef, *, stream: bool) -> float:
        measure = self._measures.get((model, stream))
        return -inf if measure is None else measure.asked

    def _measure(self, model: ModelRef, *, stream: bool) -> _Measure:
        key = model, stream
        measure = self._measures.get(key)
        if measure is None:
            measure = self._measures[key] = _Measure()
            if len(self._measures) > MAX_MODELS:
                self._measures.popitem(last=False)
        now = self._clock()
        if now - measure.moved > _MOVE_S:  # else it is among the last ones already
            measure.moved = now
            self._measures.move_to_end(key)
        return measure
