"""Fits of a calibration, and the errors by threshold."""

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest

from serve_app.domain import Scores
from serve_app.evaluation.calibrate import (
    CONFIDENCE,
    FOLDS,
    MIN_CASES,
    UncalibratableError,
    calibrate,
    corrected,
    error_curve,
    fit,
)
from serve_app.evaluation.measure import CaseOutcome, case_outcome
from serve_app.scoring.calibration import AS_IS, Calibration, DecisionRule
from serve_app.scoring.error_bound import upper_bound
from tests.unit.evaluation.labelled_sets import OUTCOMES
from tests.unit.evaluation.scored import drawn, evaluation_with, scored

DISTORTION = Calibration(0.5, 1.0)
"""Makes an engine too sure, above all of no route; temperature 2 and shift -0.5 undo it."""


def likelihood(outcomes: Sequence[CaseOutcome], calibration: Calibration) -> float:
    """The negative log-likelihood of a correction, with a pull as weak as that of the fit."""
    total = ((1 / calibration.temperature - 1) ** 2 + calibration.none_shift**2) / 2
    for outcome in outcomes:
        assert outcome.scores is not None
        assert outcome.scores.none is not None
        routes, none = calibration.correct(outcome.scores.routes, outcome.scores.none)
        expect = outcome.case.expect
        total -= math.log(max(none if expect is None else routes[expect], 1e-9))
    return total


def test_fit_undoes_a_distortion() -> None:
    """With enough cases it finds the temperature and the shift that the answers were drawn with."""
    found = fit(drawn(4000, DISTORTION))
    assert found.temperature == pytest.approx(2.0, rel=0.1)
    assert found.none_shift == pytest.approx(-0.5, abs=0.12)


def test_fit_leaves_right_probabilities_nearly_as_they_are() -> None:
    """What remains is chance."""
    found = fit(drawn(4000, AS_IS))
    assert found.temperature == pytest.approx(1.0, rel=0.08)
    assert found.none_shift == pytest.approx(0.0, abs=0.1)


def test_fit_is_a_minimum() -> None:
    """Every step away from it fits worse."""
    outcomes = drawn(120, Calibration(1.7, -0.8), seed=3)
    found = fit(outcomes)
    least = likelihood(outcomes, found)
    for scale in (0.9, 1.0, 1.1):
        for step in (-0.1, 0.0, 0.1):
            other = Calibration(found.temperature * scale, found.none_shift + step)
            assert likelihood(outcomes, other) >= least - 1e-3


def test_fit_of_separated_cases_is_finite() -> None:
    """An engine that is always right is not made certain of everything."""
    cases = [scored("a", {"a": 0.6, "b": 0.2, "c": 0.1}, 0.1)] * 30
    found = fit([*cases, scored(None, {"a": 0.1, "b": 0.1, "c": 0.1}, 0.7)])
    assert 0.05 <= found.temperature < 1
    assert abs(found.none_shift) < 5


def test_fit_of_an_engine_that_guesses_is_finite() -> None:
    """The temperature stays within what a file may hold."""
    wrong = [scored("b", {"a": 1.0, "b": 0.0, "c": 0.0}, 0.0) for _ in range(200)]
    found = fit([*wrong, scored(None, {"a": 1.0, "b": 0.0, "c": 0.0}, 0.0)])
    assert found.temperature == pytest.approx(20.0)
    assert abs(found.none_shift) <= 20


def test_sets_of_different_routes_are_fitted_together() -> None:
    """A row that is shorter than another one counts as much."""
    short = [scored("a" if number % 4 else None, {"a": 0.7}, 0.3) for number in range(100)]
    mixed = [*short, *drawn(100, DISTORTION)]
    found = fit(mixed)
    least = likelihood(mixed, found)
    for scale, step in ((0.95, 0.0), (1.05, 0.0), (1.0, -0.05), (1.0, 0.05)):
        other = Calibration(found.temperature * scale, found.none_shift + step)
        assert likelihood(mixed, other) > least


def test_calibration_is_cross_validated() -> None:
    """Both figures are better on cases that the fit has not seen, and the curve is theirs."""
    evaluation = evaluation_with(*drawn(600, DISTORTION), *OUTCOMES[:1])
    fitted = calibrate([evaluation], 0.0)
    assert fitted.helps
    assert (fitted.cases, len(fitted.curve)) == (600, 101)
    assert fitted.after.negative_log_likelihood < fitted.before.negative_log_likelihood - 0.1
    assert fitted.after.calibration_error < fitted.before.calibration_error / 2
    assert fitted.calibration == fit(evaluation.outcomes[:600])


def test_correction_that_does_not_help_is_dropped() -> None:
    """A handful of cases with right probabilities teach nothing."""
    fitted = calibrate([evaluation_with(*drawn(60, AS_IS, seed=0))], 0.0)
    assert not fitted.helps
    assert fitted.before == fitted.after
    assert fitted.calibration == AS_IS


def test_without_a_fit_only_the_errors_are_measured() -> None:
    """The probabilities stay as they are, right or not."""
    outcomes = drawn(600, DISTORTION)
    fitted = calibrate([evaluation_with(*outcomes)], 0.0, fits=False)
    assert (fitted.calibration, fitted.helps) == (AS_IS, False)
    assert fitted.before == fitted.after
    assert fitted.curve[30] == error_curve(outcomes)[30]


def test_whole_sets_are_left_out_of_a_fit() -> None:
    """With five sets a set of its own kind is corrected by the others, which spoils it."""
    good = [drawn(120, Calibration(2.0), seed) for seed in range(FOLDS - 1)]
    odd = drawn(120, Calibration(0.2), seed=9)
    by_set = calibrate([evaluation_with(*one) for one in (*good, odd)], 0.0)
    cases = [outcome for one in (*good, odd) for outcome in one]
    by_case = calibrate([evaluation_with(*cases)], 0.0)
    assert by_set.before.negative_log_likelihood == pytest.approx(
        by_case.before.negative_log_likelihood, abs=1e-5
    )
    assert by_set.after.negative_log_likelihood > by_case.after.negative_log_likelihood


def test_margin_applies_to_the_curve() -> None:
    """Fewer cases get a route."""
    evaluation = evaluation_with(*drawn(200, AS_IS))
    plain, strict = (calibrate([evaluation], margin, fits=False) for margin in (0.0, 0.3))
    assert strict.curve[0].routed < plain.curve[0].routed


def test_curve_counts_the_routed_and_the_wrong() -> None:
    """A case without a route that gets one is wrong, too."""
    curve = error_curve(
        [
            scored("a", {"a": 0.9, "b": 0.0, "c": 0.0}, 0.1),
            scored("b", {"a": 0.6, "b": 0.1, "c": 0.0}, 0.3),
            scored(None, {"a": 0.5, "b": 0.1, "c": 0.0}, 0.4),
            scored(None, {"a": 0.1, "b": 0.1, "c": 0.0}, 0.8),
        ]
    )
    rows = {point.min_confidence: (point.routed, point.wrong) for point in curve}
    assert [rows[limit] for limit in (0.0, 0.5, 0.51, 0.6, 0.61, 0.9, 0.91, 1.0)] == [
        (3, 2), (3, 2), (2, 1), (2, 1), (1, 0), (1, 0), (0, 0), (0, 0),
    ]  # fmt: skip
    assert curve[0].error == pytest.approx(2 / 3, abs=1e-6)
    assert curve[0].error_at_most == pytest.approx(upper_bound(2, 3, CONFIDENCE), abs=1e-6)
    assert (curve[-1].error, curve[-1].error_at_most) == (None, 1.0)


def test_evaluation_is_corrected_by_a_rule() -> None:
    """Cases that no engine was asked about stay as they are."""
    evaluation = evaluation_with(scored("a", {"a": 0.6}, 0.4), OUTCOMES[0])
    after = corrected(evaluation, DecisionRule(0.0, 0.0, Calibration(1.0, 1.0)))
    assert [outcome.decided for outcome in after.outcomes] == [None, "a"]
    assert after.outcomes[1] is OUTCOMES[0]
    assert after.labelled is evaluation.labelled


@pytest.mark.parametrize(
    ("outcomes", "message"),
    [
        (drawn(MIN_CASES - 1, AS_IS), "49 answered cases; a calibration needs at least 50"),
        (
            [one for one in drawn(200, AS_IS) if one.case.expect],
            "no case without a route; add conversations of both kinds",
        ),
        (
            [one for one in drawn(400, AS_IS) if not one.case.expect],
            "no case with a route; add conversations of both kinds",
        ),
        (
            [
                case_outcome(one.case, replace(one.scores or Scores({}, 0, None), none=None), 0.0)
                for one in drawn(60, AS_IS)
            ],
            "the engine does not return the probability of every route and of no route",
        ),
    ],
)
def test_cases_that_no_fit_is_possible_with(outcomes: list[CaseOutcome], message: str) -> None:
    """The error says what is missing."""
    with pytest.raises(UncalibratableError) as caught:
        calibrate([evaluation_with(*outcomes)], 0.0)
    assert str(caught.value) == message
