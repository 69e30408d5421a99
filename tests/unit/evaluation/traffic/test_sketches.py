"""Quantiles and distinct counts in bounded memory."""

from random import Random

import pytest

from serve_app.evaluation.traffic.sketches import DistinctTexts, Quantiles, bucket_of


def test_quantiles_are_within_one_percent() -> None:
    """Of values over six orders of magnitude."""
    random = Random(3)
    values = [random.lognormvariate(4, 2.5) for _ in range(5000)]
    quantiles = Quantiles()
    for value in values:
        quantiles.buckets[bucket_of(value)] += 1
    values.sort()
    for share in (0.01, 0.5, 0.9, 0.99, 1.0):
        assert quantiles.at(share) == pytest.approx(values[round(share * 5000) - 1], rel=0.0101)
    assert quantiles.count == 5000
    assert len(quantiles.buckets) < 1500


def test_quantiles_without_values_are_unknown() -> None:
    """And a time of 0 is a small one."""
    quantiles = Quantiles()
    assert quantiles.as_json() == {"count": 0, "p50": None, "p90": None, "p99": None}
    quantiles.buckets[bucket_of(0.0)] += 1
    assert quantiles.at(0.5) == pytest.approx(0.001, rel=0.01)


@pytest.mark.parametrize(("different", "within"), [(0, 0), (20_000, 0), (300_000, 0.03)])
def test_distinct_texts_are_counted(different: int, within: float) -> None:
    """Few exactly, many about; the memory does not grow."""
    texts = DistinctTexts()
    for number in range(different):
        texts.add(f"session {number}")
        if number % 3 == 0:
            texts.add(f"session {number // 2}")
    assert texts.count == pytest.approx(different, rel=within)
    assert len(texts._hashes) <= 32_768
