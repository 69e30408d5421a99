"""A second look at close calls: the logits of a cross-encoder correct the probabilities of a few routes.

The routes T that are looked at, and "no route", keep their share of the probability together, and
divide it anew. With p the probabilities of the first look, z the logits of the cross-encoder,
and m the mean of the logits of T, weighted by p:

    new p of a route of T  ~  p * exp(SCALE * (z - m))
    new p of "no route"    ~  p

So a route gains by being better than the others, and "no route" neither gains nor loses while the
cross-encoder sees no difference. Only differences between logits count, because their level means
something else with every model. The order of the routes changes nothing.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from serve_app.domain import Scores
from serve_app.scoring.calibration import FLOOR, DecisionRule

MAX_ROUTES: Final = 4
"""Routes that are looked at, the most likely ones."""

LEAST_ROUTES: Final = 2
"""A comparison takes two."""

SCALE: Final = 0.5
"""Weight of a logit. Not measured: no cross-encoder was available when it was chosen."""

_DIGITS: Final = 6


def close_call(scores: Scores, below: float) -> tuple[str, ...]:
    """The routes that a second look compares, most likely first; empty if the decision is clear.

    It is clear if a route, or "no route", has a probability of at least ``below``. One route alone
    is not compared.
    """
    if scores.none is None or len(scores.routes) < LEAST_ROUTES:
        return ()
    if max(scores.none, *scores.routes.values()) >= below:
        return ()
    ranked = sorted(scores.routes, key=lambda name: (-scores.routes[name], name))
    return tuple(ranked[:MAX_ROUTES])


def with_second_look(
    scores: Scores, logits: Mapping[str, float], *, min_confidence: float
) -> Scores:
    """The scores after a second look at the routes of ``logits``, in the order of ``close_call``.

    The scores are returned as they are if a logit is not finite.
    """
    if scores.none is None or not all(map(math.isfinite, logits.values())):
        return scores
    before = {name: max(scores.routes[name], FLOOR) for name in logits}
    mean = math.fsum(before[name] * logits[name] for name in logits) / math.fsum(before.values())
    powers = {name: math.log(before[name]) + SCALE * (logits[name] - mean) for name in logits}
    none = math.log(max(scores.none, FLOOR))
    highest = max(none, *powers.values())
    weights = {name: math.exp(power - highest) for name, power in powers.items()}
    none_weight = math.exp(none - highest)
    share = math.fsum([scores.none, *(scores.routes[name] for name in logits)])
    share /= math.fsum([none_weight, *weights.values()])
    anew = {name: round(share * weight, _DIGITS) for name, weight in weights.items()}
    rule = DecisionRule(min_confidence, scores.required_margin)
    return rule.apply(
        replace(
            scores,
            routes={name: anew.get(name, value) for name, value in scores.routes.items()},
            none=round(share * none_weight, _DIGITS),
        )
    )
