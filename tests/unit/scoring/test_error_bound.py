"""Upper bounds of errors, and the threshold that is picked by them."""

import math
import random
from dataclasses import dataclass

import pytest

from serve_app.scoring.error_bound import loosest_threshold, upper_bound


@dataclass(frozen=True)
class Point:
    routed: int
    wrong: int
    limit: float = 0.0


def at_most(count: int, total: int, share: float) -> float:
    return sum(
        math.comb(total, number) * share**number * (1 - share) ** (total - number)
        for number in range(count + 1)
    )


@pytest.mark.parametrize(
    ("wrong", "total"), [(0, 1), (0, 45), (1, 10), (9, 10), (3, 134), (50, 200), (170, 900)]
)
@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.99])
def test_bound_is_where_the_binomial_tail_is_left(
    wrong: int, total: int, confidence: float
) -> None:
    """With the bound as true share, as few errors are seen with probability 1 - confidence."""
    bound = upper_bound(wrong, total, confidence)
    assert wrong / total < bound < 1
    assert at_most(wrong, total, bound) == pytest.approx(1 - confidence, rel=1e-6)


def test_bound_without_errors_has_a_closed_form() -> None:
    """It is 1 - (1 - confidence) ** (1 / total)."""
    for total in (1, 20, 5000):
        assert upper_bound(0, total, 0.9) == pytest.approx(1 - 0.1 ** (1 / total), rel=1e-9)


@pytest.mark.parametrize(("wrong", "total"), [(0, 0), (1, 1), (7, 7)])
def test_bound_without_a_right_case_is_one(wrong: int, total: int) -> None:
    """Nothing is known, or all are wrong."""
    assert upper_bound(wrong, total, 0.9) == 1.0


def test_bound_of_large_counts_is_finite() -> None:
    """No power under- or overflows."""
    assert upper_bound(400_000, 1_000_000, 0.9) == pytest.approx(0.4006, abs=1e-4)
    assert upper_bound(1, 1_000_000, 0.9) == pytest.approx(3.89e-6, rel=0.01)


def curve_of(*rows: tuple[int, int]) -> list[Point]:
    return [Point(routed, wrong, index / 10) for index, (routed, wrong) in enumerate(rows)]


def test_loosest_threshold_that_keeps_the_error_is_picked() -> None:
    """The bounds of the last three are below 0.1, those of the first two are not."""
    curve = curve_of((1000, 200), (800, 100), (600, 40), (400, 15), (300, 5))
    picked = loosest_threshold(curve, 0.1, 0.9)
    assert picked is not None
    assert picked.limit == 0.2


def test_test_ends_at_the_first_threshold_that_fails() -> None:
    """A looser one that would pass again is luck."""
    curve = curve_of((1000, 60), (800, 120), (600, 40), (400, 15))
    picked = loosest_threshold(curve, 0.1, 0.9)
    assert picked is not None
    assert picked.limit == 0.2


def test_handful_of_conversations_is_skipped() -> None:
    """The strictest thresholds route too few to say anything, so the test begins below them."""
    curve = curve_of((1000, 20), (500, 10), (60, 3), (8, 2), (1, 1), (0, 0))
    picked = loosest_threshold(curve, 0.1, 0.9)
    assert picked is not None
    assert picked.limit == 0.0


def test_small_set_passes_only_without_an_error() -> None:
    """45 conversations are the fewest that can show an error below 0.05 with 90 % confidence."""
    for routed, wrong, passes in ((45, 0, True), (44, 0, False), (60, 1, False)):
        picked = loosest_threshold(curve_of((routed, wrong)), 0.05, 0.9)
        assert (picked is not None) is passes


def test_error_that_no_threshold_keeps_is_none() -> None:
    """Too many are wrong, or nothing is routed."""
    assert loosest_threshold(curve_of((1000, 300), (500, 100)), 0.1, 0.9) is None
    assert loosest_threshold(curve_of((0, 0), (0, 0)), 0.5, 0.9) is None


def test_picked_threshold_rarely_exceeds_the_wanted_error() -> None:
    """Among many draws of labelled conversations at most one in ten picks a threshold too low."""
    chance, grid, wanted = random.Random(1), [step / 20 for step in range(20)], 0.2
    errors = {limit: (1 - limit) / 2 for limit in grid}  # a share of 1 - p is wrong, p is uniform
    exceeded, draws = 0, 200
    for _ in range(draws):
        cases = [(p, chance.random() > p) for p in (chance.random() for _ in range(400))]
        curve = [
            Point(
                sum(p >= limit for p, _ in cases),
                sum(wrong for p, wrong in cases if p >= limit),
                limit,
            )
            for limit in grid
        ]
        picked = loosest_threshold(curve, wanted, 0.9)
        exceeded += picked is not None and errors[picked.limit] > wanted + 1e-9
    assert 0 < exceeded / draws <= 0.1
