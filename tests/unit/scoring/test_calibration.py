"""The correction of probabilities, and the rule by which a route wins."""

import math
from dataclasses import replace
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.domain import Scores
from serve_app.scoring.calibration import AS_IS, FLOOR, Calibration, DecisionRule, best_route

SCORES: Final = Scores({"a": 0.5, "b": 0.2}, 0.3, "a", none=0.3, doubt=0.1, named=("a",))

PROBABILITIES = st.floats(0, 1).map(lambda value: round(value, 6))
LISTED = st.lists(PROBABILITIES, min_size=1, max_size=6)
CALIBRATIONS = st.builds(Calibration, st.floats(0.05, 20), st.floats(-20, 20))


def scores_of(routes: list[float], none: float) -> Scores:
    named = {f"route {number}": value for number, value in enumerate(routes)}
    return Scores(named, 0.0, None, none=none)


def test_temperature_and_shift_follow_the_formula() -> None:
    """A probability is raised to 1/T, that of no route multiplied by exp(shift), all scaled to 1."""
    routes, none = Calibration(2.0, 0.7).correct({"a": 0.5, "b": 0.2}, 0.3)
    weights = [0.5**0.5, 0.2**0.5, 0.3**0.5 * math.exp(0.7)]
    expected = [weight / sum(weights) for weight in weights]
    assert [routes["a"], routes["b"], none] == pytest.approx(expected, abs=1e-6)


def test_as_it_is_changes_no_probability() -> None:
    """Temperature 1 without a shift is the identity, to the digit."""
    routes = {"a": 0.123457, "b": 0.0}
    assert AS_IS.correct(routes, 0.5) == (routes, 0.5)
    assert Calibration(1.0, 0.0) == AS_IS


def test_probability_zero_is_a_small_one() -> None:
    """An engine rounds to six digits, so a zero may win at a high temperature."""
    routes, none = Calibration(10.0).correct({"a": 0.0}, 1.0)
    expected = FLOOR**0.1 / (FLOOR**0.1 + 1)
    assert (routes["a"], none) == pytest.approx((expected, 1 - expected), abs=1e-6)


@given(LISTED, PROBABILITIES, CALIBRATIONS)
def test_corrected_probabilities_sum_to_one_and_keep_their_ranking(
    values: list[float], none: float, calibration: Calibration
) -> None:
    """Any probabilities can be corrected, also if all of them are zero."""
    before = scores_of(values, none).routes
    after, after_none = calibration.correct(before, none)
    if calibration != AS_IS:
        assert sum(after.values()) + after_none == pytest.approx(1, abs=1e-5)
    ranked = sorted(before, key=lambda name: before[name])
    assert [after[name] for name in ranked] == sorted(after.values())


@given(LISTED, PROBABILITIES, CALIBRATIONS, st.randoms())
def test_order_of_routes_changes_nothing(
    values: list[float], none: float, calibration: Calibration, chance: object
) -> None:
    """Each route has the same probability, and the same route wins, also among equals."""
    scores = scores_of(values, none)
    names = list(scores.routes)
    chance.shuffle(names)  # type: ignore[attr-defined]
    other = replace(scores, routes={name: scores.routes[name] for name in names})
    rule = DecisionRule(0.1, 0.0, calibration)
    one, two = rule.apply(scores), rule.apply(other)
    assert dict(one.routes) == pytest.approx(dict(two.routes), abs=2e-6)
    assert one.winner == two.winner


@pytest.mark.parametrize(
    ("rule", "winner", "threshold"),
    [
        (DecisionRule(0.0), "a", 0.3),
        (DecisionRule(0.5), "a", 0.5),
        (DecisionRule(0.51), None, 0.51),
        (DecisionRule(0.0, 0.3), "a", 0.3),
        (DecisionRule(0.0, 0.31), None, 0.3),
        (DecisionRule(0.0, 0.0, Calibration(1.0, 2.0)), None, 0.76),
        (DecisionRule(0.5, 0.0, Calibration(0.5)), "a", 0.5),
    ],
)
def test_winner_follows_from_the_rule(
    rule: DecisionRule, winner: str | None, threshold: float
) -> None:
    """A route wins if it reaches both thresholds, and is likelier than no route."""
    after = rule.apply(SCORES)
    assert (after.winner, after.required_margin) == (winner, rule.min_margin)
    assert after.threshold == pytest.approx(threshold, abs=0.01)
    assert (after.doubt, after.named, after.cached) == (0.1, ("a",), False)


def test_route_as_likely_as_no_route_does_not_win() -> None:
    """The route has to be likelier."""
    assert DecisionRule(0.0).apply(Scores({"a": 0.5}, 0.0, "a", none=0.5)).winner is None


@pytest.mark.parametrize(
    "scores",
    [
        Scores({"a": 0.4}, 0.12, "a"),
        Scores({}, 0.0, "a", named=("a",)),
        Scores({}, 0.0, None, none=1.0),
    ],
)
def test_scores_without_all_probabilities_stay_as_they_are(scores: Scores) -> None:
    """There is nothing to correct in them, and the engine's own decision stands."""
    assert DecisionRule(0.9, 0.5, Calibration(2.0)).apply(scores) is scores


def test_best_route_has_a_lead() -> None:
    """The only route leads by its probability; of equal ones the first by name is the best."""
    assert best_route({"a": 0.4}) == ("a", 0.4)
    assert best_route({"b": 0.4, "a": 0.4}) == ("a", 0.0)
    assert best_route({"b": 0.5, "a": 0.25}) == ("b", 0.25)


def test_script_that_is_not_read_wins_under_no_rule() -> None:
    """However likely a route is by the rule, the engine has guessed it."""
    guessed = Scores({"a": 0.9}, 0.2, None, none=0.1, unreadable=True)
    assert DecisionRule(0.1, 0.0, Calibration(0.5)).apply(guessed).winner is None


def test_single_route_needs_no_margin() -> None:
    """There is no second one to lead."""
    scores = Scores({"a": 0.4}, 0.0, None, none=0.3)
    assert DecisionRule(0.2, 0.9).apply(scores).winner == "a"
