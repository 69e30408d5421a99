"""Fits a calibration to labelled conversations, and measures the errors by threshold.

The fit minimizes the negative log-likelihood of the expected answers. In ``1 / temperature`` and
the shift it is convex, so Newton's method finds the minimum. A weak pull to "as it is", worth one
case or so, keeps a fit on a handful of cases finite.

All published figures are cross-validated: each case is corrected by a fit on the others. With five
sets or more, a fit is tested on sets that it has not seen, so that their routes are new to it.
"""

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from serve_app.config.calibration_file import (
    LARGEST_SHIFT,
    LARGEST_TEMPERATURE,
    LEAST_TEMPERATURE,
    CurvePoint,
    FitFigures,
)
from serve_app.evaluation.measure import CaseOutcome, Evaluation, case_outcome
from serve_app.evaluation.reliability import reliability_of
from serve_app.scoring.calibration import AS_IS, FLOOR, Calibration, DecisionRule
from serve_app.scoring.error_bound import upper_bound

FOLDS: Final = 5
CONFIDENCE: Final = 0.9
"""Of the upper bounds of errors."""

MIN_CASES: Final = 50
"""Cases that a calibration needs; fewer say next to nothing about rare errors."""

_POINTS: Final = 100
_DIGITS: Final = 6
_PULL: Final = 1.0
_NEWTON_STEPS: Final = 50
_TOLERANCE: Final = 1e-9

_HALVINGS: Final = 40

_Floats: TypeAlias = npt.NDArray[np.float64]

_UNCHANGED: Final[_Floats] = np.array([1.0, 0.0])
"""The values of a fit: 1 / temperature, and the shift."""


class UncalibratableError(Exception):
    """Raised for cases that no calibration can be fitted to; the text says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """A calibration, and what it is worth on cases that it was not fitted to."""

    calibration: Calibration
    cases: int
    before: FitFigures
    after: FitFigures
    curve: tuple[CurvePoint, ...]

    @property
    def helps(self) -> bool:
        """True if the correction fits unseen cases better than the engine's own probabilities."""
        return self.calibration != AS_IS


def calibrate(evaluations: Sequence[Evaluation], min_margin: float, *, fits: bool = True) -> Fitted:
    """Fits a calibration to all cases that an engine has scored.

    Without ``fits``, or where the correction does not help on unseen cases, the probabilities stay
    as they are. Raises UncalibratableError.
    """
    folds = _folds([_scored(evaluation) for evaluation in evaluations])
    scored = [outcome for fold in folds for outcome in fold]
    _check(scored)
    rule = DecisionRule(0.0, min_margin)
    plain = [_corrected(outcome, rule) for outcome in scored]
    before = _figures(plain)
    if fits:
        rules = [replace(rule, calibration=fit(_others(folds, at))) for at in range(FOLDS)]
        unseen = [
            _corrected(outcome, own)
            for own, fold in zip(rules, folds, strict=True)
            for outcome in fold
        ]
        after = _figures(unseen)
        if after.negative_log_likelihood < before.negative_log_likelihood:
            return Fitted(fit(scored), len(scored), before, after, error_curve(unseen))
    return Fitted(AS_IS, len(scored), before, before, error_curve(plain))


def fit(outcomes: Sequence[CaseOutcome]) -> Calibration:
    """The temperature and the shift under which the expected answers are the likeliest."""
    answers = _Answers.of(outcomes)
    values = _UNCHANGED
    loss = answers.loss(values)
    for _ in range(_NEWTON_STEPS):
        gradient, curvature = answers.slope(values)
        gradient = gradient + _PULL * (values - _UNCHANGED)
        step = np.linalg.solve(curvature + _PULL * np.eye(2), gradient)
        trials = (_inside(values - step / 2**halvings) for halvings in range(_HALVINGS))
        better = next((trial for trial in trials if answers.loss(trial) < loss - _TOLERANCE), None)
        if better is None:
            break
        values, loss = better, answers.loss(better)
    return Calibration(round(1 / float(values[0]), _DIGITS), round(float(values[1]), _DIGITS))


def error_curve(outcomes: Sequence[CaseOutcome]) -> tuple[CurvePoint, ...]:
    """What each threshold does, from 0 to 1 in steps of 0.01."""
    reach = np.array([outcome.reach for outcome in outcomes])
    wrong = np.array([not outcome.right for outcome in outcomes])
    points = []
    for step in range(_POINTS + 1):
        limit = step / _POINTS
        routed = reach >= limit
        total, errors = int(routed.sum()), int((routed & wrong).sum())
        points.append(
            CurvePoint(
                min_confidence=limit,
                routed=total,
                wrong=errors,
                error=round(errors / total, _DIGITS) if total else None,
                error_at_most=round(upper_bound(errors, total, CONFIDENCE), _DIGITS),
            )
        )
    return tuple(points)


def corrected(evaluation: Evaluation, rule: DecisionRule) -> Evaluation:
    """The evaluation with the probabilities and the decisions of a rule."""
    outcomes = tuple(_corrected(outcome, rule) for outcome in evaluation.outcomes)
    return replace(evaluation, outcomes=outcomes)


def _corrected(outcome: CaseOutcome, rule: DecisionRule) -> CaseOutcome:
    if outcome.scores is None:
        return outcome
    return case_outcome(outcome.case, rule.apply(outcome.scores), outcome.seconds)


def _scored(evaluation: Evaluation) -> list[CaseOutcome]:
    """The cases that the engine answered."""
    return [outcome for outcome in evaluation.outcomes if outcome.scores is not None]


def _check(outcomes: Sequence[CaseOutcome]) -> None:
    for outcome in outcomes:
        _probabilities(outcome)
    if len(outcomes) < MIN_CASES:
        message = f"{len(outcomes)} answered cases; a calibration needs at least {MIN_CASES}"
        raise UncalibratableError(message)
    without = sum(outcome.case.expect is None for outcome in outcomes)
    if not 0 < without < len(outcomes):
        kind = "with" if without else "without"
        raise UncalibratableError(f"no case {kind} a route; add conversations of both kinds")


def _folds(sets: Sequence[list[CaseOutcome]]) -> list[list[CaseOutcome]]:
    """All cases in parts: whole sets if there are enough of them, else cases at random."""
    if len(sets) >= FOLDS:
        return [[case for one in sets[fold::FOLDS] for case in one] for fold in range(FOLDS)]
    cases = [case for one in sets for case in one]
    random.Random(0).shuffle(cases)  # noqa: S311 - no secret
    return [cases[fold::FOLDS] for fold in range(FOLDS)]


def _others(folds: Sequence[list[CaseOutcome]], index: int) -> list[CaseOutcome]:
    return [case for number, fold in enumerate(folds) if number != index for case in fold]


def _figures(outcomes: Sequence[CaseOutcome]) -> FitFigures:
    likelihood = _Answers.of(outcomes).likelihood(_UNCHANGED) / len(outcomes)
    reliability = reliability_of(outcomes)
    error = 0.0 if reliability is None else reliability.calibration_error
    return FitFigures(
        negative_log_likelihood=round(likelihood, _DIGITS),
        calibration_error=round(error, _DIGITS),
    )


@dataclass(frozen=True, slots=True)
class _Answers:
    """What an engine said of each case, one row each; rows are as long as the longest."""

    logits: _Floats
    """Log-probabilities, that of "no route" first; 0 in columns that a row lacks."""
    present: npt.NDArray[np.bool_]
    """False in columns that a row lacks."""
    expected: npt.NDArray[np.intp]
    """The column of the expected answer."""

    @classmethod
    def of(cls, outcomes: Iterable[CaseOutcome]) -> Self:
        """Those of cases that an engine has scored."""
        rows, expected = [], []
        for outcome in outcomes:
            routes, none = _probabilities(outcome)
            rows.append([none, *routes.values()])
            route = outcome.case.expect
            expected.append(0 if route is None else 1 + list(routes).index(route))
        logits = np.zeros((len(rows), max(map(len, rows))))
        present = np.zeros(logits.shape, np.bool_)
        for index, row in enumerate(rows):
            logits[index, : len(row)] = np.log(np.maximum(row, FLOOR))
            present[index, : len(row)] = True
        return cls(logits, present, np.array(expected, np.intp))

    def corrected(self, values: _Floats) -> _Floats:
        """The logits with a scale and a shift, at most 0; -inf in columns that a row lacks."""
        logits = np.where(self.present, values[0] * self.logits, -np.inf)
        logits[:, 0] += values[1]
        result: _Floats = logits - logits.max(axis=1, keepdims=True)
        return result

    def likelihood(self, values: _Floats) -> float:
        """The negative log-likelihood of the expected answers, in all."""
        logits = self.corrected(values)
        of_expected = logits[np.arange(len(self.expected)), self.expected]
        return float((np.log(np.exp(logits).sum(axis=1)) - of_expected).sum())

    def slope(self, values: _Floats) -> tuple[_Floats, _Floats]:
        """Gradient and Hessian of the likelihood: from mean and covariance of the features."""
        powers = np.exp(self.corrected(values))
        shares = powers / powers.sum(axis=1, keepdims=True)
        is_none = np.zeros_like(self.logits)
        is_none[:, 0] = 1.0
        features = np.stack([self.logits, is_none])
        means = (features * shares).sum(axis=2)
        of_expected = features[:, np.arange(len(self.expected)), self.expected]
        deviations = features - means[:, :, None]
        curvature: _Floats = np.einsum("anc,bnc,nc->ab", deviations, deviations, shares)
        gradient: _Floats = (means - of_expected).sum(axis=1)
        return gradient, curvature

    def loss(self, values: _Floats) -> float:
        """What a fit minimizes."""
        pull = float(((values - _UNCHANGED) ** 2).sum())
        return self.likelihood(values) + _PULL / 2 * pull


def _probabilities(outcome: CaseOutcome) -> tuple[Mapping[str, float], float]:
    """The probabilities of the routes and of no route. Raises UncalibratableError."""
    scores = outcome.scores
    if scores is None or scores.none is None or not scores.routes:
        message = "the engine does not return the probability of every route and of no route"
        raise UncalibratableError(message)
    return scores.routes, scores.none


def _inside(values: _Floats) -> _Floats:
    """The nearest values that a file may hold."""
    scale = np.clip(values[0], 1 / LARGEST_TEMPERATURE, 1 / LEAST_TEMPERATURE)
    return np.array([scale, np.clip(values[1], -LARGEST_SHIFT, LARGEST_SHIFT)])
