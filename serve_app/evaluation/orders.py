"""Measures whether the order of the routes changes decisions."""

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TypeAlias

from serve_app.domain import Route
from serve_app.evaluation.labelled_set import LabelledSet
from serve_app.evaluation.measure import Evaluation, Flips, share_of

_Routes: TypeAlias = tuple[Route, ...]


def measure_flips(
    evaluation: Evaluation, measure: Callable[[LabelledSet], Evaluation], orders: int
) -> Flips | None:
    """Decides all cases again with the routes in other orders.

    None if there is no other order: for a single route, or for 0 orders.
    """
    labelled = evaluation.labelled
    before = [outcome.decided for outcome in evaluation.outcomes]
    changed = [False] * len(before)
    number = 0
    for routes in other_orders(labelled.routes, orders):
        number += 1
        again = measure(replace(labelled, routes=routes)).outcomes
        for index, outcome in enumerate(again):
            changed[index] = changed[index] or outcome.decided != before[index]
    return Flips(number, share_of(changed)) if number else None


def other_orders(routes: _Routes, count: int) -> Iterator[_Routes]:
    """At most ``count`` other orders: the reverse one, then random ones, the same in every run."""
    if len(routes) == 1:
        return
    seen = {tuple(route.name for route in routes)}
    chance = random.Random(0)  # noqa: S311 - no secret
    order = list(reversed(routes))
    for _ in range(count):
        names = tuple(route.name for route in order)
        if names not in seen:
            seen.add(names)
            yield tuple(order)
        chance.shuffle(order)
