"""Upper bounds for the share of wrong decisions, and the threshold that keeps a wanted share.

Of ``total`` conversations that got a route, ``wrong`` got a wrong one. The upper bound of the true
share is the one of Clopper and Pearson: the share ``p`` at which so few wrong ones, or fewer,
would be seen with a probability of ``1 - confidence`` only, so ``P(X <= wrong) = 1 - confidence``
for ``X ~ Binomial(total, p)``.
Source: Clopper and Pearson, The use of confidence or fiducial limits (Biometrika 26, 1934).

A threshold that is picked because its bound is low enough would be picked too often by luck. So
thresholds are tested in a fixed order, from the strictest to the loosest, and the test ends at the
first that fails; then the error at the picked one exceeds the wanted share with a probability of at
most ``1 - confidence``, however many thresholds there are.
Source: fixed-sequence testing in Angelopoulos et al., Learn then Test (arXiv 2110.01052, 2021).
"""

import math
from collections.abc import Sequence
from typing import Final, Protocol, TypeVar

_STEPS: Final = 48
"""Halvings of the interval of a bound: more digits than a float of its size has."""

_NEGLIGIBLE: Final = 1e-17

_LEAST_SHARE: Final = 0.1
"""Share of the routed conversations from which on a threshold is tested first."""


class MeasuredThreshold(Protocol):
    """What a threshold did on labelled conversations."""

    @property
    def routed(self) -> int:
        """Number of conversations that get a route."""
        ...

    @property
    def wrong(self) -> int:
        """Number of these that get a wrong one."""
        ...


_Measured = TypeVar("_Measured", bound=MeasuredThreshold)


def upper_bound(wrong: int, total: int, confidence: float) -> float:
    """The upper bound of Clopper and Pearson for a share, one-sided; 1 for a total of 0."""
    if wrong >= total:
        return 1.0
    low, high = wrong / total, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if _at_most(wrong, total, middle) > 1 - confidence:
            low = middle
        else:
            high = middle
    return high


def loosest_threshold(
    curve: Sequence[_Measured], max_error: float, confidence: float
) -> _Measured | None:
    """The loosest threshold that keeps the error among routed conversations; None if none does.

    ``curve`` goes from the loosest threshold to the strictest. The test begins at the strictest
    threshold that routes a tenth of what the loosest does, and enough conversations to pass if half
    of ``max_error`` were wrong: on a handful of conversations any threshold fails. Without such a
    one it begins where it passes only if none is wrong.
    """
    picked = None
    for row in curve[: _start(curve, max_error, confidence) + 1][::-1]:
        if upper_bound(row.wrong, row.routed, confidence) > max_error:
            break
        picked = row
    return picked


def _start(curve: Sequence[MeasuredThreshold], max_error: float, confidence: float) -> int:
    """The index at which the test begins; -1 if no threshold can pass.

    It depends on how many conversations are routed, not on which of them are wrong.
    """
    least = _LEAST_SHARE * curve[0].routed
    for allowed, needed in ((max_error / 2, least), (0.0, 0.0)):
        for index in reversed(range(len(curve))):
            routed = curve[index].routed
            wrong = math.ceil(routed * allowed)
            if routed >= needed and upper_bound(wrong, routed, confidence) <= max_error:
                return index
    return -1


def _at_most(count: int, total: int, share: float) -> float:
    """``P(X <= count)`` for ``X ~ Binomial(total, share)``, where ``share >= count / total``."""
    rest = total - count
    term = math.exp(
        math.lgamma(total + 1)
        - math.lgamma(count + 1)
        - math.lgamma(rest + 1)
        + count * math.log(share)
        + rest * math.log1p(-share)
    )
    result = term
    for number in range(count, 0, -1):
        term *= number * (1 - share) / ((total - number + 1) * share)
        result += term
        if term < result * _NEGLIGIBLE:
            break
    return result
