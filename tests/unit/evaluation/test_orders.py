"""Whether the order of the routes changes decisions."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from serve_app.domain import Route
from serve_app.engines.embedding.engine import EmbeddingEngine, EmbeddingSettings
from serve_app.evaluation.labelled_set import LabelledSet, read_set
from serve_app.evaluation.measure import Evaluation, Flips, evaluate
from serve_app.evaluation.orders import measure_flips, other_orders
from tests.unit.evaluation.labelled_sets import HEAD, PROMPTS, TopicModel, line, write_set
from tests.unit.evaluation.scored import evaluation_with, scored

ROUTES = tuple(Route(name, f"about {name}", ()) for name in "abcd")


def test_other_orders_begin_with_the_reverse_one() -> None:
    """Each is another one, and every run has the same."""
    orders = list(other_orders(ROUTES, 8))
    assert orders[0] == ROUTES[::-1]
    assert len(set(orders) | {ROUTES}) == len(orders) + 1
    assert all(set(order) == set(ROUTES) for order in orders)
    assert orders == list(other_orders(ROUTES, 8))
    assert list(other_orders(ROUTES, 3)) == orders[:3]


@pytest.mark.parametrize(("routes", "count", "found"), [(1, 5, 0), (2, 5, 1), (3, 0, 0)])
def test_few_routes_have_few_orders(routes: int, count: int, found: int) -> None:
    """A single route has no other order."""
    assert len(list(other_orders(ROUTES[:routes], count))) == found


def answers(*winners: str | None) -> Evaluation:
    return evaluation_with(
        *(
            scored("a", {"a": 0.4, "b": 0.4, "c": 0.0, **({winner: 0.9} if winner else {})}, 0.5)
            for winner in winners
        )
    )


def measuring(*evaluations: Evaluation) -> Callable[[LabelledSet], Evaluation]:
    """An engine that answers each order with the next of these."""
    left = list(evaluations)
    return lambda labelled: replace(left.pop(0), labelled=labelled)


def test_case_that_changes_in_any_order_is_a_flip() -> None:
    """Two of four cases change, one of them twice."""
    before = answers("a", "b", None, "a")
    first, second = answers("a", "a", None, "a"), answers("a", "a", "b", "a")
    flips = measure_flips(before, measuring(first, second), 2)
    assert flips == Flips(2, 0.5)


def test_without_other_orders_there_are_no_flips() -> None:
    """Nothing is decided again."""
    before = answers("a")
    assert measure_flips(before, measuring(), 0) is None
    single = replace(before, labelled=replace(before.labelled, routes=ROUTES[:1]))
    assert measure_flips(single, measuring(), 3) is None


def test_embedded_engine_does_not_depend_on_the_order(tmp_path: Path) -> None:
    """No decision changes, and no probability by more than rounding."""
    labelled = read_set(write_set(tmp_path, HEAD, *(line(*prompt) for prompt in PROMPTS)))
    engine = EmbeddingEngine(EmbeddingSettings(), TopicModel())

    def measure(one: LabelledSet) -> Evaluation:
        return evaluate(one, EmbeddingSettings(), list, engine)

    assert measure_flips(measure(labelled), measure, 3) == Flips(1, 0.0)
