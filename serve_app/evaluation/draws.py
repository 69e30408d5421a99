"""Measures accuracy with examples that are drawn from the set itself."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache

from serve_app.engines.embedding.engine import EmbeddingEngine
from serve_app.evaluation.labelled_set import Case, LabelledSet
from serve_app.evaluation.measure import Draws, case_outcome, share_of
from serve_app.scoring.embedding import EmbeddingScorer
from serve_app.scoring.excerpt import recent


def draw_examples(
    labelled: LabelledSet,
    engine: EmbeddingEngine,
    examples: int,
    draws: int,
) -> Draws:
    """Accuracy with ``examples`` per route, drawn from its cases; drawn cases are not counted.

    The seed is the number of the draw. At least one case of a route is not drawn.
    """
    scorer = EmbeddingScorer(
        cache(engine.model.embed),
        engine.model.readout,
        min_confidence=0.0,
        embed_example=cache(engine.embed_example),
    )
    queries = {
        id(case): engine.model.embed_turns(turns)
        for case in labelled.cases
        if (turns := recent(case.turns))
    }
    accuracies = []
    for draw in range(draws):
        chosen = _chosen(labelled.cases, examples, random.Random(draw))  # noqa: S311 - no secret
        routes = tuple(
            replace(route, examples=tuple(_text(case) for case in chosen.get(route.name, ())))
            for route in labelled.routes
        )
        used = {id(case) for cases in chosen.values() for case in cases}
        accuracies.append(
            share_of(
                id(case) in queries
                and case_outcome(case, scorer.score(queries[id(case)], routes), 0.0).right
                for case in labelled.cases
                if case.expect is not None and id(case) not in used
            )
        )
    return Draws(examples, tuple(accuracies))


def _chosen(
    cases: Sequence[Case], examples: int, chance: random.Random
) -> Mapping[str, list[Case]]:
    by_route: dict[str, list[Case]] = {}
    for case in cases:
        if case.expect is not None and _text(case):
            by_route.setdefault(case.expect, []).append(case)
    return {name: chance.sample(own, min(examples, len(own) - 1)) for name, own in by_route.items()}


def _text(case: Case) -> str:
    """What the user said in the turns that are compared; an example is such a text."""
    return "\n".join(turn.text for turn in recent(case.turns) if turn.role == "user")
