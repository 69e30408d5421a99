"""The mathematics of ``fingerpost tune``, against slow and plain versions of it."""

import math
from collections import Counter
from dataclasses import replace
from itertools import product
from typing import Final

import numpy as np
import pytest

from serve_app.evaluation.ridge import (
    FLIPS,
    OFFSET,
    TEMPERATURES,
    Correction,
    Labels,
    best_temperature,
    chance_of,
    fit,
    losses,
    shares,
    stratified_folds,
)
from serve_app.scoring.readout import Floats

RIDGES: Final = (0.03, 0.3, 3.0, 30.0)
KINDS: Final = 4


def problem(count: int = 24, width: int = 7, seed: int = 0) -> tuple[Floats, Floats, Labels]:
    """Unit vectors, logits that know a little, and labels."""
    chance = np.random.default_rng(seed)
    centres = chance.normal(0, 1, (KINDS, width))
    labels = chance.integers(0, KINDS, count)
    vectors = centres[labels] + chance.normal(0, 1, (count, width))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors, chance.normal(0, 1, (count, KINDS)), labels


def objective(correction: Correction, data: tuple[Floats, Floats, Labels], ridge: float) -> float:
    """What ``fit`` says that it minimizes, a row at a time."""
    total = 0.0
    for vector, logits, label in zip(*data, strict=True):
        values = [
            logit + math.fsum(weights * vector) + offset
            for logit, weights, offset in zip(
                logits, correction.weights, correction.offsets, strict=True
            )
        ]
        total += math.log(sum(math.exp(value) for value in values)) - values[label]
    squares = float((correction.weights**2).sum() + (correction.offsets**2).sum() / OFFSET)
    return total + ridge / 2 * squares


def slowly(data: tuple[Floats, Floats, Labels], ridge: float) -> Correction:
    """Plain gradient descent on weights and offsets."""
    vectors, logits, labels = data
    targets = np.eye(KINDS)[labels]
    weights, offsets = np.zeros((KINDS, vectors.shape[1])), np.zeros(KINDS)
    rate = 1.0 / (len(labels) + ridge / OFFSET)
    for _ in range(20_000):
        errors = shares(logits + vectors @ weights.T + offsets) - targets
        weights = weights - rate * (errors.T @ vectors + ridge * weights)
        offsets = offsets - rate * (errors.sum(axis=0) + ridge * offsets / OFFSET)
    return Correction(weights, offsets)


@pytest.mark.parametrize("ridge", RIDGES)
def test_fit_finds_what_slow_descent_finds(ridge: float) -> None:
    """The minimum is unique, so both must agree."""
    data = problem()
    found, expected = fit(*data, ridge), slowly(data, ridge)
    assert found.of(data[0]) == pytest.approx(expected.of(data[0]), abs=5e-3)
    assert objective(found, data, ridge) == pytest.approx(
        objective(expected, data, ridge), abs=1e-4
    )


@pytest.mark.parametrize("ridge", RIDGES)
def test_fit_is_a_minimum_in_every_direction(ridge: float) -> None:
    """Finite differences of the objective are 0 there, in weights and in offsets."""
    data = problem(seed=1)
    found = fit(*data, ridge)
    for kind, dimension in product(range(KINDS), range(-1, data[0].shape[1])):
        values = []
        for step in (1e-3, -1e-3):
            weights, offsets = found.weights.copy(), found.offsets.copy()
            if dimension < 0:
                offsets[kind] += step
            else:
                weights[kind, dimension] += step
            values.append(objective(Correction(weights, offsets), data, ridge))
        assert (values[0] - values[1]) / 2e-3 == pytest.approx(0.0, abs=0.02)


def test_strong_ridge_leaves_the_logits_as_they_are() -> None:
    """And a weaker one moves them further."""
    data = problem()
    moved = [float(np.abs(fit(*data, ridge).of(data[0])).max()) for ridge in (1e6, 10.0, 1.0, 0.1)]
    assert moved[0] < 1e-4
    assert moved == sorted(moved)


def test_one_conversation_moves_little() -> None:
    """One vector of length 1 with ridge 1 moves a logit by less than 1.3, its weight and offset."""
    found = fit(np.array([[1.0, 0.0]]), np.zeros((1, 3)), np.array([1]), 1.0)
    added = found.of(np.array([[1.0, 0.0]]))[0]
    assert 0.0 < added[1] < 1.0 + OFFSET
    assert added.sum() == pytest.approx(0.0, abs=1e-9)


def test_losses_are_of_the_expected_label() -> None:
    """At any temperature; a probability of 0 is a finite loss."""
    logits = np.array([[math.log(3.0), 0.0], [2000.0, 0.0]])
    found = losses(logits, np.array([0, 1]))
    assert found[0] == pytest.approx(-math.log(3 / 4))
    assert found[1] == pytest.approx(-math.log(1e-9))
    assert losses(logits, np.array([0, 1]), 1e3)[1] == pytest.approx(math.log1p(math.exp(2.0)))


def test_best_temperature_undoes_a_wrong_one() -> None:
    """Labels are drawn from the probabilities at another temperature."""
    chance = np.random.default_rng(0)
    logits = chance.normal(0, 2, (4000, 3))
    draws = chance.random((4000, 1))
    labels = (shares(logits).cumsum(axis=1) < draws).sum(axis=1)
    assert best_temperature(3 * logits, labels) == pytest.approx(3.0, rel=0.1)
    assert best_temperature(logits / 2, labels) == pytest.approx(0.5, rel=0.1)
    assert TEMPERATURES[0] < 1.0 < TEMPERATURES[-1]


@pytest.mark.parametrize("counts", [(6, 6, 6, 8), (1, 2, 30), (5,), (3, 3)])
def test_folds_are_equally_large_and_stratified(counts: tuple[int, ...]) -> None:
    """The conversations of a route are spread evenly, whatever the order of the routes."""
    labels = [kind for kind, count in enumerate(counts) for _ in range(count)]
    folds = stratified_folds(labels, 5)
    sizes = Counter(folds.tolist())
    assert max(sizes.values()) - min(sizes[fold] for fold in range(5)) <= 1
    for kind, count in enumerate(counts):
        own = Counter(folds[np.array(labels) == kind].tolist())
        assert all(abs(own[fold] - count / 5) < 1 for fold in range(5))
    assert sorted(stratified_folds(labels, len(labels)).tolist()) == list(range(len(labels)))


def test_chance_is_the_share_of_signs_that_reach_the_sum() -> None:
    """All signs of ten gains are tried here, and drawn there."""
    gains = np.random.default_rng(2).normal(0.4, 1.0, 10)
    sums = [float(np.dot(signs, gains)) for signs in product((-1, 1), repeat=10)]
    exact = sum(total >= gains.sum() - 1e-9 for total in sums) / len(sums)
    assert chance_of(gains) == pytest.approx(exact, abs=0.02)
    assert chance_of(gains) == chance_of(gains)


@pytest.mark.parametrize(
    ("gains", "expected"),
    [(np.zeros(30), 1.0), (np.full(40, 0.1), 1 / (1 + FLIPS)), (np.full(40, -0.1), 1.0)],
)
def test_chance_has_limits(gains: Floats, expected: float) -> None:
    """No gain at all is chance; 40 equal gains are not."""
    assert chance_of(gains) == pytest.approx(expected)


def test_correction_is_linear() -> None:
    """Its offset applies to every vector."""
    correction = Correction(np.array([[1.0, 2.0]]), np.array([0.5]))
    assert correction.of(np.array([[3.0, 4.0], [0.0, 0.0]])).tolist() == [[11.5], [0.5]]
    assert replace(correction, offsets=np.zeros(1)).of(np.zeros((1, 2))).tolist() == [[0.0]]
