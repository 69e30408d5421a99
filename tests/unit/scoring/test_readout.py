"""From similarities to probabilities: the numbers of a read-out."""

import json
import math
from dataclasses import asdict, replace
from itertools import permutations
from typing import Final

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.engines.embedding.minilm import READOUT as BUNDLED
from serve_app.scoring.readout import GENERIC, Floats, Readout, soft_maximum, softmax
from tests.unit.scoring.embeddings import READOUT

EVERY: Final = pytest.mark.parametrize(
    "readout", [READOUT, GENERIC, BUNDLED], ids=["plain", "generic", "bundled"]
)


def probabilities(
    similarity: list[float],
    *,
    near: list[float] | None = None,
    examples: list[int] | None = None,
    none: float | None = None,
    readout: Readout = READOUT,
) -> Floats:
    count = len(similarity)
    return readout.probabilities(
        np.array(similarity), np.array(near or [0.0] * count), examples or [0] * count, none
    )


def test_similarity_sums_the_three_forms_of_a_text() -> None:
    """Each has its share: the whole, the name and the nearest phrase."""
    readout = replace(READOUT, whole=0.5, name=0.2, phrase=0.3)
    forms = (np.array([1.0, 0.0]), np.array([0.5, 1.0]), np.array([0.0, 0.5]))
    assert readout.similarity(*forms) == pytest.approx([0.6, 0.35])


def test_logits_become_shares() -> None:
    """No route has the logit 0 beside those of the routes."""
    powers = [math.exp(8 * 0.5 - 2), math.exp(8 * 0.25 - 2), 1.0]
    expected = [power / sum(powers) for power in powers]
    assert probabilities([0.5, 0.25]) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("count", "logit"), [(0, 2.0), (1, 2.25), (2, 2.5), (3, 3.0), (4, 3.0), (64, 3.0)]
)
def test_trust_grows_with_the_number_of_examples(count: int, logit: float) -> None:
    """It is that of the last number for all larger ones; without examples their cosine is nothing."""
    route, none = probabilities([0.5], near=[0.5], examples=[count])
    assert math.log(route / none) == pytest.approx(logit)


@EVERY
def test_trust_is_a_share_that_grows(readout: Readout) -> None:
    """No examples have none of it, and more never have less."""
    assert readout.trust[0] == 0.0
    assert list(readout.trust) == sorted(readout.trust)
    assert 0 < readout.trust[-1] <= 1


@EVERY
def test_nearest_examples_pull(readout: Readout) -> None:
    """The nearer they are the likelier is their route, and with three more than with one."""
    for count in (1, 2, 3, 9):
        pulls = [
            float(
                probabilities([0.3, 0.3], near=[near, 0.0], examples=[count, 0], readout=readout)[0]
            )
            for near in (0.0, 0.3, 0.6, 0.9)
        ]
        assert pulls == sorted(set(pulls))
    by_count = [
        float(probabilities([0.3], near=[0.9], examples=[count], readout=readout)[0])
        for count in (0, 1, 2, 3)
    ]
    assert by_count == sorted(set(by_count))


@EVERY
def test_examples_of_no_route_raise_none(readout: Readout) -> None:
    """Even far ones take nothing from it, and the nearer they are the more it gets."""
    similarity, nearest = np.array([0.4, 0.1]), np.zeros(2)
    nones = [  # logits, because what -1 adds is lost in the rounding of a probability
        float(readout.logits(similarity, nearest, [0, 0], none)[-1])
        for none in (None, -1.0, 0.0, 0.3, 0.6, 0.9)
    ]
    assert nones == sorted(set(nones))


@EVERY
def test_logit_of_no_route_takes_from_all_routes(readout: Readout) -> None:
    """They keep their shares, and the examples of "no route" count beside it."""
    for nearest in (None, 0.2):
        found = [
            softmax(readout.logits(np.array([0.5, 0.2]), np.zeros(2), [0, 0], nearest, logit))
            for logit in (-2.0, 0.0, 3.0)
        ]
        assert [row[0] / row[1] for row in found] == pytest.approx([found[0][0] / found[0][1]] * 3)
        assert found[0][2] < found[1][2] < found[2][2]
    without = readout.probabilities(np.array([0.5]), np.zeros(1), [0], None, 1.5)
    rest = math.exp(readout.text * 0.5 - readout.bar - 1.5)
    assert without[0] / without[1] == pytest.approx(rest)


@pytest.mark.parametrize("none", [None, 0.6])
def test_temperature_flattens_probabilities(none: float | None) -> None:
    """All logits are divided by it, so no order changes; ``at`` changes nothing else."""
    hot = replace(READOUT, temperature=4.0)
    assert replace(hot, temperature=1.0) == READOUT
    assert READOUT.temperature == 1.0
    cold, flat = (probabilities([0.9, 0.2], none=none, readout=one) for one in (READOUT, hot))
    assert list(np.argsort(cold)) == list(np.argsort(flat))
    assert flat == pytest.approx(softmax(np.log(cold) / 4))
    assert flat.max() < cold.max()


@EVERY
def test_readout_survives_json(readout: Readout) -> None:
    """It is equal afterwards, and so are its probabilities."""
    again = Readout.from_json(json.loads(json.dumps(asdict(readout))))
    assert again == readout
    assert hash(again) == hash(readout)


def test_readout_without_a_direction_can_be_read() -> None:
    """A file from before there was one decides as it did."""
    fields = asdict(READOUT)
    del fields["none_direction"]
    assert Readout.from_json(fields) == READOUT


@pytest.mark.parametrize("fields", [{"whole": 1.0}, {**asdict(READOUT), "other": 1.0}])
def test_incomplete_readout_is_refused(fields: dict[str, object]) -> None:
    """A file of another version is an error at the start, not another decision."""
    with pytest.raises((KeyError, TypeError)):
        Readout.from_json(fields)


COSINES: Final = st.floats(-1, 1, width=32)


@EVERY
@given(
    st.lists(st.tuples(COSINES, COSINES, st.integers(0, 64)), min_size=1, max_size=40),
    st.none() | COSINES,
)
def test_probabilities_sum_to_one(
    readout: Readout, routes: list[tuple[float, float, int]], none: float | None
) -> None:
    """They do so for any cosines and numbers of examples, and none of them is negative."""
    similarity, near, examples = (list(values) for values in zip(*routes, strict=True))
    found = probabilities(similarity, near=near, examples=examples, none=none, readout=readout)
    assert found.shape == (len(routes) + 1,)
    assert found.dtype == np.float64
    assert math.fsum(found) == pytest.approx(1.0, abs=1e-12)
    assert (found >= 0).all()


@given(
    st.lists(st.tuples(COSINES, COSINES, st.integers(0, 5)), min_size=2, max_size=4),
    st.none() | COSINES,
)
def test_probabilities_follow_their_routes(
    routes: list[tuple[float, float, int]], none: float | None
) -> None:
    """In another order they are the same to the last bit."""

    def found(order: tuple[tuple[float, float, int], ...]) -> tuple[set[object], float]:
        similarity, near, examples = (list(values) for values in zip(*order, strict=True))
        values = probabilities(similarity, near=near, examples=examples, none=none)
        return set(zip(order, values.tolist(), strict=False)), float(values[-1])

    first = found(tuple(routes))
    assert all(found(order) == first for order in permutations(routes))


@pytest.mark.parametrize("logits", [[0.0], [1e4, -1e4], [-1e4, -1e4], [700.0, 710.0, 709.0]])
def test_softmax_stands_large_logits(logits: list[float]) -> None:
    """The sum is 1 without an overflow."""
    values = softmax(np.array(logits))
    assert values.sum() == pytest.approx(1.0)
    assert values.argmax() == np.argmax(logits)


@given(st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=70))
def test_soft_maximum_is_between_mean_and_maximum(cosines: list[float]) -> None:
    """Of the eight largest, in any order."""
    largest = sorted(cosines)[-8:]
    found = soft_maximum(np.array(cosines))
    assert sum(largest) / len(largest) - 1e-9 <= found <= largest[-1] + 1e-9
    assert found == soft_maximum(np.array(cosines[::-1])) == soft_maximum(np.array(largest))


def test_soft_maximum_rises_with_each_near_example() -> None:
    """One that is nearly the same counts most, and several count more than one."""
    one, several, same = (
        soft_maximum(np.array(cosines))
        for cosines in ([0.6, 0.1, 0.1], [0.6, 0.6, 0.1], [0.9, 0.1, 0.1])
    )
    assert 0.5 < one < several < 0.6 < same < 0.9
    assert soft_maximum(np.array([0.6])) == 0.6
