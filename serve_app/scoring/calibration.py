"""Calibrates the probabilities of an engine, and decides by them.

The probability of each route and of "no route" is raised to ``1 / temperature``; that of "no
route" is then multiplied by ``exp(none_shift)``; all of them are scaled to a sum of 1. So the
ranking of the routes stays, and their order in the configuration changes nothing.

Source: temperature and bias scaling, Guo et al., On Calibration of Modern Neural Networks (2017).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from serve_app.domain import Scores

FLOOR: Final = 5e-7
"""Probability that stands for 0: engines round to 6 digits, so a 0 is not a certainty."""

_DIGITS: Final = 6


@dataclass(frozen=True, slots=True)
class Calibration:
    """The correction of an engine's probabilities; ``fingerpost eval --calibrate`` fits it."""

    temperature: float = 1.0
    """Above 1 the engine is less sure of all it says, below 1 surer."""
    none_shift: float = 0.0
    """What is added to the logit of "no route"."""

    def correct(
        self, routes: Mapping[str, float], none: float
    ) -> tuple[Mapping[str, float], float]:
        """The corrected probabilities of routes and of "no route"."""
        if self == AS_IS:
            return routes, none
        logits = {name: self._logit(probability) for name, probability in routes.items()}
        none_logit = self._logit(none) + self.none_shift
        highest = max(none_logit, *logits.values())
        powers = {name: math.exp(logit - highest) for name, logit in logits.items()}
        none_power = math.exp(none_logit - highest)
        total = math.fsum([*powers.values(), none_power])
        corrected = {name: round(power / total, _DIGITS) for name, power in powers.items()}
        return corrected, round(none_power / total, _DIGITS)

    def _logit(self, probability: float) -> float:
        return math.log(max(probability, FLOOR)) / self.temperature


AS_IS: Final = Calibration()
"""Changes nothing."""


@dataclass(frozen=True, slots=True)
class DecisionRule:
    """Which route wins, from an engine's probabilities."""

    min_confidence: float
    min_margin: float = 0.0
    calibration: Calibration = AS_IS

    def apply(self, scores: Scores) -> Scores:
        """Scores with corrected probabilities, and the winner by this rule.

        No route wins in a script that the engine does not read. A single route has no second
        one to lead. Scores without a probability of "no route" are returned as they are.
        """
        if scores.none is None or not scores.routes:
            return scores
        routes, none = self.calibration.correct(scores.routes, scores.none)
        best, lead = best_route(routes)
        leads = len(routes) == 1 or lead >= self.min_margin
        wins = leads and routes[best] > none and routes[best] >= self.min_confidence
        return replace(
            scores,
            routes=routes,
            none=none,
            threshold=max(none, self.min_confidence),
            winner=best if wins and not scores.unreadable else None,
            required_margin=self.min_margin,
        )


def best_route(routes: Mapping[str, float]) -> tuple[str, float]:
    """The route with the highest probability, and its lead over the second one.

    Of equal ones the first by name. ``routes`` has at least one.
    """
    ranked = sorted(routes, key=lambda name: (-routes[name], name))
    second = routes[ranked[1]] if len(ranked) > 1 else 0.0
    return ranked[0], routes[ranked[0]] - second
