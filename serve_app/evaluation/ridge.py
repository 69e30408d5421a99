"""The mathematics of ``fingerpost tune``, with numpy alone.

A multinomial logistic regression on top of given logits: the logit of class ``c`` gets
``weights[c] @ x + offsets[c]``, and a ridge pulls these towards 0, so that little data changes
little. As in every such regression, the weights are sums of the vectors in the data, so the
search is over one number for each conversation and class ("dual coefficients").
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from serve_app.config.tuned_file import LARGEST_TEMPERATURE, LEAST_TEMPERATURE
from serve_app.scoring.readout import Floats

Labels = npt.NDArray[np.intp]

OFFSET: Final = 0.3
"""How freely an offset moves, relative to a weight: the square of a constant dimension."""

TEMPERATURES: Final = np.geomspace(LEAST_TEMPERATURE, LARGEST_TEMPERATURE, 49)
LEAST_PROBABILITY: Final = 1e-9
FLIPS: Final = 4999

_STEPS: Final = 400
_TOLERANCE: Final = 1e-4


def shares(logits: Floats) -> Floats:
    """The softmax of each row."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    result: Floats = powers / powers.sum(axis=-1, keepdims=True)
    return result


def log_total(logits: Floats) -> Floats:
    """The logarithm of the sum of ``exp(logits)`` of each row."""
    highest = logits.max(axis=-1)
    result: Floats = highest + np.log(np.exp(logits - highest[..., None]).sum(axis=-1))
    return result


def losses(logits: Floats, labels: Labels, temperature: float = 1.0) -> Floats:
    """The negative log-likelihood of each row's label, in nats."""
    right = shares(logits / temperature)[np.arange(len(labels)), labels]
    result: Floats = -np.log(np.maximum(right, LEAST_PROBABILITY))
    return result


def best_temperature(logits: Floats, labels: Labels) -> float:
    """The temperature with the lowest mean loss."""
    means = [losses(logits, labels, temperature).mean() for temperature in TEMPERATURES]
    return float(TEMPERATURES[int(np.argmin(means))])


@dataclass(frozen=True, slots=True)
class Correction:
    """The weights of each class for a vector, and its offset."""

    weights: Floats
    """Shape ``(classes, dimensions)``."""
    offsets: Floats

    def of(self, vectors: Floats) -> Floats:
        """What is added to the logits of these vectors, shape ``(n, classes)``."""
        result: Floats = vectors @ self.weights.T + self.offsets
        return result


def fit(vectors: Floats, logits: Floats, labels: Labels, ridge: float) -> Correction:
    """The correction with the lowest loss: the sum of ``losses``, and half of ``ridge`` times the
    squares of the weights and of the offsets divided by OFFSET.

    Each step is Newton's with a constant bound of the curvature (Böhning, 1992), with Nesterov's
    momentum, which is dropped where it points upwards.
    """
    count = len(labels)
    kernel = vectors @ vectors.T + OFFSET
    targets = np.zeros_like(logits)
    targets[np.arange(count), labels] = 1.0
    step = np.linalg.inv(kernel / 2 + ridge * np.eye(count))
    dual = ahead = np.zeros_like(logits)
    momentum = 1.0
    for _ in range(_STEPS):
        slope = shares(logits + kernel @ ahead) - targets + ridge * ahead
        new = ahead - step @ slope
        change = new - dual
        if np.abs(change).max() < _TOLERANCE:
            dual = new
            break
        if float((slope * change).sum()) > 0.0:
            momentum = 1.0
        before, momentum = momentum, (1.0 + np.sqrt(1.0 + 4.0 * momentum**2)) / 2.0
        ahead = new + (before - 1.0) / momentum * change
        dual = new
    return Correction(dual.T @ vectors, OFFSET * dual.sum(axis=0))


def stratified_folds(labels: Sequence[int], folds: int) -> Labels:
    """The fold of each row: those of one label are spread evenly, in their order.

    All folds are equally large, give or take one.
    """
    order = np.argsort(np.asarray(labels), kind="stable")
    result = np.empty(len(order), np.intp)
    result[order] = np.arange(len(order)) % folds
    return result


def chance_of(gains: Floats) -> float:
    """The probability that gains of both signs, by chance, add up to as much as these.

    A paired randomization test: the share of FLIPS random choices of signs, with a constant seed.
    """
    chance = np.random.default_rng(0)
    signs = chance.integers(0, 2, (FLIPS, len(gains)), np.int8) * np.int8(2) - np.int8(1)
    sums = signs @ gains
    reached = int((sums >= gains.sum() - 1e-12).sum())
    return (1 + reached) / (1 + FLIPS)
