"""Applies what ``fingerpost tune`` learned: more examples, and corrections of the logits.

The logit of a route gets ``weights @ query + offset``; so does that of "no route". With little to
learn from, these are near 0 and the read-out decides as before. Routes whose texts have changed,
and new ones, are not corrected. "No route" keeps its probability if nothing was learned about it,
or if its examples have changed. The order of the routes changes nothing.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

import numpy as np
import numpy.typing as npt

from serve_app.config.tuned_file import LearnedRoute, TunedFile, no_route_hash, route_hash
from serve_app.domain import Route
from serve_app.scoring.readout import Floats

Matrix32 = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class LearnedArrays:
    """What was learned about one route, as arrays."""

    texts: str
    """Hash of the texts of the route."""
    weights: Matrix32
    """Shape ``(dimensions,)``."""
    offset: float
    examples: Matrix32
    """Vectors as rows."""

    @classmethod
    def of(cls, learned: LearnedRoute, dimensions: int) -> Self:
        """The arrays of a part of the file."""
        return cls(
            learned.texts,
            np.array(learned.weights or np.zeros(dimensions), np.float32),
            learned.offset,
            np.array(learned.examples, np.float32).reshape(-1, dimensions),
        )


@dataclass(frozen=True, slots=True)
class Adjustment:
    """What was learned about some routes in their order, and about "no route" as the last."""

    weights: Matrix32
    """Shape ``(n + 1, dimensions)``."""
    offsets: Floats
    examples: tuple[Matrix32, ...]
    """Additional examples of each of them."""
    knows_none: bool
    """False: "no route" keeps the probability that it has without what was learned."""
    temperature: float

    def adjust(self, plain: Floats, logits: Floats, query: Matrix32) -> Floats:
        """The logits with their corrections, at the learned temperature.

        ``logits`` are those with the additional examples, ``plain`` those without.
        """
        corrections = np.asarray(np.vecdot(self.weights, query), np.float64) + self.offsets
        adjusted: Floats = logits + corrections
        if not self.knows_none:
            adjusted[-1] = plain[-1] + _log_total(adjusted[:-1]) - _log_total(plain[:-1])
        return adjusted / self.temperature


def _log_total(logits: Floats) -> float:
    """The logarithm of the sum of ``exp(logits)``, the same in every order."""
    highest = float(logits.max())
    return highest + math.log(math.fsum(np.exp(logits - highest)))


class Tuned:
    """What was learned, for any selection of routes."""

    def __init__(self, file: TunedFile) -> None:
        self._routes = {
            name: LearnedArrays.of(own, file.dimensions) for name, own in file.routes.items()
        }
        nothing = LearnedRoute(texts="", conversations=0, weights=[], offset=0.0, examples=[])
        self._nothing = LearnedArrays.of(nothing, file.dimensions)
        self._no_route = LearnedArrays.of(file.no_route or nothing, file.dimensions)
        self._temperature = file.temperature
        self.adjustment = lru_cache(maxsize=2)(self._adjustment)
        """What applies to these routes and the examples of "no route"; None if nothing does."""

    def _adjustment(
        self, routes: tuple[Route, ...], no_route: tuple[str, ...] = ()
    ) -> Adjustment | None:
        learned = [self._of(route) for route in routes]
        if all(own is self._nothing for own in learned):
            return None
        knows_none = self._no_route.texts == no_route_hash(no_route)
        learned.append(self._no_route if knows_none else self._nothing)
        return Adjustment(
            weights=np.stack([own.weights for own in learned]),
            offsets=np.array([own.offset for own in learned]),
            examples=tuple(own.examples for own in learned),
            knows_none=knows_none,
            temperature=self._temperature,
        )

    def _of(self, route: Route) -> LearnedArrays:
        own = self._routes.get(route.name, self._nothing)
        return own if own.texts == route_hash(route) else self._nothing
