"""How far the probability of a decision means what it says: reliability, and calibration error."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from serve_app.evaluation.measure import CaseOutcome, share_of

BINS: Final = 10


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Decisions with a similar probability."""

    low: float
    high: float
    cases: int
    probability: float | None
    """Mean of the decisions. None without any."""
    right: float | None
    """The share of them that is right. None without any."""


@dataclass(frozen=True, slots=True)
class Reliability:
    """Decisions by their probability, "no route" included; in 10 bins of equal width."""

    bins: tuple[ReliabilityBin, ...]

    @property
    def calibration_error(self) -> float:
        """The expected calibration error: the mean gap between probability and share of right
        decisions, each bin weighted by its cases.

        Source: Naeini et al., Obtaining Well Calibrated Probabilities Using Bayesian Binning (2015).
        """
        filled = [one for one in self.bins if one.cases]
        gaps = (abs((one.probability or 0.0) - (one.right or 0.0)) * one.cases for one in filled)
        return sum(gaps) / sum(one.cases for one in filled)


def reliability_of(outcomes: Iterable[CaseOutcome]) -> Reliability | None:
    """The reliability of all decisions that the engine made, thresholds applied.

    None if there is none, or if the engine has no probability of "no route".
    """
    decided = [outcome for outcome in outcomes if outcome.scores is not None]
    probabilities = [_probability(outcome) for outcome in decided]
    if not decided or None in probabilities:
        return None
    filled: list[list[tuple[float, bool]]] = [[] for _ in range(BINS)]
    for outcome, probability in zip(decided, probabilities, strict=True):
        share = probability or 0.0
        index = min(int(share * BINS), BINS - 1)
        filled[index].append((share, outcome.decided == outcome.case.expect))
    return Reliability(tuple(_bin(index, pairs) for index, pairs in enumerate(filled)))


def _probability(outcome: CaseOutcome) -> float | None:
    """The probability of what was decided."""
    scores = outcome.scores
    if scores is None or scores.none is None:
        return None
    return scores.none if outcome.decided is None else scores.routes[outcome.decided]


def _bin(index: int, pairs: list[tuple[float, bool]]) -> ReliabilityBin:
    low, high = index / BINS, (index + 1) / BINS
    if not pairs:
        return ReliabilityBin(low, high, 0, None, None)
    mean = sum(probability for probability, _ in pairs) / len(pairs)
    return ReliabilityBin(low, high, len(pairs), mean, share_of(right for _, right in pairs))
