"""What a second look does to the probabilities of a close call."""

import itertools
import math
from dataclasses import replace
from typing import Final

import pytest

from serve_app.domain import Scores
from serve_app.scoring.second_look import MAX_ROUTES, SCALE, close_call, with_second_look

SCORES: Final = Scores(
    {"a": 0.3, "b": 0.25, "c": 0.1, "d": 0.08, "e": 0.07}, 0.2, "a", none=0.2, required_margin=0.02
)
LOGITS: Final = {"a": -6.0, "b": -3.0, "c": -9.0, "d": -7.5}


def looked(
    scores: Scores = SCORES, logits: dict[str, float] = LOGITS, min_confidence: float = 0.1
) -> Scores:
    return with_second_look(scores, logits, min_confidence=min_confidence)


def test_close_call_has_the_likeliest_routes() -> None:
    """At most four, the most likely first; of equal ones the first by name."""
    assert close_call(SCORES, 0.5) == ("a", "b", "c", "d")
    assert MAX_ROUTES == 4
    equal = replace(SCORES, routes=dict.fromkeys("edcba", 0.16))
    assert close_call(equal, 0.5) == ("a", "b", "c", "d")


@pytest.mark.parametrize(
    ("routes", "none", "is_close"),
    [
        ({"a": 0.5, "b": 0.3}, 0.2, False),
        ({"a": 0.499999, "b": 0.3}, 0.2, True),
        ({"a": 0.2, "b": 0.2}, 0.6, False),
        ({"a": 0.4}, 0.4, False),
        ({"a": 0.3, "b": 0.3}, None, False),
        ({}, None, False),
    ],
)
def test_clear_decisions_get_no_second_look(
    routes: dict[str, float], none: float | None, *, is_close: bool
) -> None:
    """A sure "no route" is clear, too; one route, or scores without "no route", are not compared."""
    assert bool(close_call(Scores(routes, 0.0, None, none=none), 0.5)) is is_close


def test_probabilities_follow_the_formula() -> None:
    """The routes that were looked at and "no route" divide what they have together."""
    result = looked()
    before = {name: SCORES.routes[name] for name in LOGITS}
    mean = sum(before[name] * LOGITS[name] for name in LOGITS) / sum(before.values())
    weights = {name: before[name] * math.exp(SCALE * (LOGITS[name] - mean)) for name in LOGITS}
    share = (sum(before.values()) + 0.2) / (sum(weights.values()) + 0.2)
    for name, weight in weights.items():
        assert result.routes[name] == pytest.approx(share * weight, abs=1e-6)
    assert result.none == pytest.approx(share * 0.2, abs=1e-6)
    assert result.routes["e"] == 0.07
    assert sum(result.routes.values()) + (result.none or 0) == pytest.approx(1.0, abs=1e-5)
    assert list(result.routes) == list(SCORES.routes)


def test_better_route_wins() -> None:
    """What a clear difference takes, it takes from "no route", too."""
    result = looked()
    assert result.winner == "b"
    assert result.routes["b"] > 0.6
    assert result.none is not None
    assert result.none < 0.15


@pytest.mark.parametrize("level", [-11.0, 0.0, 7.0, 5000.0])
def test_equal_logits_change_nothing(level: float) -> None:
    """Their level has no meaning."""
    result = looked(logits=dict.fromkeys("abcd", level))
    assert result.routes == pytest.approx(SCORES.routes, abs=2e-6)
    assert result.none == pytest.approx(0.2, abs=2e-6)
    assert result.winner == "a"


def test_order_of_the_routes_changes_nothing() -> None:
    """It is so to the last digit."""
    expected = looked()
    for names in itertools.permutations("abcd"):
        logits = {name: LOGITS[name] for name in close_call(SCORES, 0.5)}
        routes = {name: SCORES.routes[name] for name in (*names, "e")}
        result = looked(replace(SCORES, routes=routes), logits)
        assert result.routes == expected.routes
        assert result.none == expected.none


def test_thresholds_apply_anew() -> None:
    """Minimum confidence, margin and "no route" as of the first look."""
    assert looked(min_confidence=0.9).winner is None
    assert looked(min_confidence=0.9).threshold == 0.9
    apart = replace(SCORES, required_margin=0.9)
    assert looked(apart).winner is None
    unlike = replace(SCORES, routes={"a": 0.1, "b": 0.1}, none=0.4)
    assert looked(unlike, {"a": 0.0, "b": 0.0}).winner is None


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_logits_that_are_not_finite_are_not_used(value: float) -> None:
    """The first look stands."""
    assert looked(logits={**LOGITS, "b": value}) is SCORES


def test_scores_without_no_route_stand() -> None:
    """There is nothing to divide."""
    bare = replace(SCORES, none=None)
    assert looked(bare) is bare


def test_extreme_logits_are_no_trouble() -> None:
    """One route takes nearly all, and probabilities of 0 count as small ones."""
    result = looked(logits={"a": -1000.0, "b": 1000.0, "c": 0.0, "d": 0.0})
    assert result.routes["b"] == pytest.approx(0.93, abs=1e-5)
    zero = replace(SCORES, routes={"a": 0.0, "b": 0.0}, none=0.0)
    assert looked(zero, {"a": 1.0, "b": 0.0}).winner is None
