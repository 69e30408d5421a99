"""How good decisions are: the figures that the card of the model shows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from serve_app.scoring.readout import Readout
from training.features import Features, Floats

BINS = 10


@dataclass(frozen=True, slots=True)
class Quality:
    """Figures over all conversations of several policies."""

    conversations: int
    decided: float
    """Share that is decided right, "none" included."""
    best_route: float
    """Of those with a route: the share whose likeliest route is right."""
    none_found: float
    """Of those without a route: the share that is decided so."""
    auroc: float
    """How well the probability of "none" separates those with a route from those without."""
    ece: float
    """Expected calibration error of the decision's probability, ten equal bins."""
    wrong_when_routed: float
    """Of those that get a route: the share that gets a wrong one."""
    languages: dict[str, float]
    """``decided`` by language."""

    def line(self) -> str:
        """One line for people."""
        languages = " ".join(f"{name} {share:.2f}" for name, share in self.languages.items())
        return (
            f"decided {self.decided:.3f} best {self.best_route:.3f} none {self.none_found:.3f} "
            f"auroc {self.auroc:.3f} ece {self.ece:.3f} wrong {self.wrong_when_routed:.3f} | {languages}"
        )


def quality(parts: Sequence[tuple[Features, Readout]], threshold: float = 0.0) -> Quality:
    """The figures of these policies, each with its read-out; ``threshold`` is ``min_confidence``."""
    rows = [_outcomes(features, readout, threshold) for features, readout in parts]
    right, best_right, has_route, routed, probability, none = (
        np.concatenate([row[at] for row in rows]) for at in range(6)
    )
    languages = np.array([name for features, _ in parts for name in features.languages])
    shares = {
        name: round(float(right[languages == name].mean()), 4) for name in sorted(set(languages))
    }
    other = right[languages != "en"]
    return Quality(
        conversations=len(right),
        decided=_mean(right),
        best_route=_mean(best_right[has_route]),
        none_found=_mean(~routed[~has_route]),
        auroc=auroc(-none[has_route], -none[~has_route]),
        ece=calibration_error(right, probability),
        wrong_when_routed=_mean(~right[routed]),
        languages={**shares, "not en": round(float(other.mean()), 4) if len(other) else 0.0},
    )


def _mean(values: np.ndarray) -> float:
    return round(float(values.mean()), 4) if len(values) else float("nan")


def _outcomes(features: Features, readout: Readout, threshold: float) -> tuple[np.ndarray, ...]:
    values = features.probabilities(readout)
    routes = values.shape[1] - 1
    best = values[:, :routes].argmax(1)
    top = values[:, :routes].max(1)
    routed = (top > values[:, routes]) & (top >= threshold)
    decided = np.where(routed, best, routes)
    probability = np.where(routed, top, values[:, routes])
    has_route = features.expected < routes
    return (
        decided == features.expected,
        best == features.expected,
        has_route,
        routed,
        probability,
        values[:, routes],
    )


def calibration_error(right: np.ndarray, probability: np.ndarray) -> float:
    """The expected calibration error over ten equal bins (Guo et al., 2017)."""
    bins = np.minimum((probability * BINS).astype(int), BINS - 1)
    error = sum(
        (bins == at).mean() * abs(right[bins == at].mean() - probability[bins == at].mean())
        for at in range(BINS)
        if (bins == at).any()
    )
    return round(float(error), 4)


def auroc(higher: Floats, lower: Floats) -> float:
    """The probability that a value of the first kind is larger than one of the second."""
    if not len(higher) or not len(lower):
        return float("nan")
    values = np.concatenate([higher, lower])
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    total = ranks[: len(higher)].sum() - len(higher) * (len(higher) + 1) / 2
    return round(float(total / (len(higher) * len(lower))), 4)
