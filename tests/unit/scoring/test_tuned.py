"""What was learned changes the scores of its routes, and of no others."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import permutations
from typing import Final

import numpy as np
import pytest

from serve_app.config.tuned_file import TunedFile
from serve_app.domain import Route, Scores
from serve_app.scoring.embedding import EmbeddingScorer, Vector
from serve_app.scoring.tuned import Tuned
from tests.unit.scoring.embeddings import READOUT, dense, route, scorer
from tests.unit.tuned_files import learned, tuned_file

CODE: Final = route("code", "writing code, fixing bugs", "why does my loop never end")
POEMS: Final = route("poems", "poems and rhymes")
TRAVEL: Final = route("travel", "trips, hotels")
ROUTES: Final = (CODE, POEMS, TRAVEL)
NONE: Final = ("hello",)
QUERY: Final = dense("fix this for me")
CHANCE: Final = np.random.default_rng(1)


def numbers(*shape: int) -> list[float]:
    values: list[float] = np.round(CHANCE.normal(0, 0.5, shape), 6).tolist()
    return values


def vectors(*texts: str) -> list[list[float]]:
    return [dense(text).astype(float).tolist() for text in texts]


FILE: Final = tuned_file(
    {
        CODE: learned(weights=numbers(384), offset=0.2, examples=vectors("a", "b")),
        POEMS: learned(weights=numbers(384), offset=-0.1),
        TRAVEL: learned(examples=vectors("c", "d", "e", "f")),
    },
    learned(weights=numbers(384), offset=0.4, examples=vectors("g")),
    no_route_examples=NONE,
    dimensions=384,
    temperature=1.5,
)


def judge(file: TunedFile | None = FILE) -> EmbeddingScorer:
    new = scorer(dense)
    new.tuned = None if file is None else Tuned(file)
    return new


def all_of(scores: Scores) -> dict[str | None, float]:
    return dict([*scores.routes.items(), (None, scores.none or 0.0)])


def cosine(one: Sequence[float] | Vector, other: Sequence[float] | Vector) -> float:
    return math.fsum(float(a) * float(b) for a, b in zip(one, other, strict=True))


def nearest(own: Sequence[float]) -> float:
    powers = [math.exp(20 * one) for one in sorted(own)[-8:]]
    return math.log(sum(powers) / len(powers)) / 20


def by_hand(file: TunedFile, routes: Sequence[Route]) -> dict[str | None, float]:
    """The probabilities, one number at a time, from the definition of the read-out."""
    logits: dict[str | None, float] = {}
    plain = judge(None).closeness(QUERY, tuple(routes), NONE)
    for index, one in enumerate(routes):
        own = file.routes[one.name]
        examples = [cosine(dense(text), QUERY) for text in one.examples]
        examples += [cosine(vector, QUERY) for vector in own.examples]
        similarity = float(plain.similarity[index])
        logit = READOUT.text * similarity - READOUT.bar
        if examples:
            trust = READOUT.trust[min(len(examples), 3)]
            beside = READOUT.text_beside * similarity + READOUT.near * nearest(examples)
            logit += trust * (beside - READOUT.bar_beside - logit)
        logits[one.name] = logit + (cosine(own.weights, QUERY) if own.weights else 0) + own.offset
    none = file.no_route or learned()
    near = [cosine(dense(text), QUERY) for text in NONE]
    near += [cosine(vector, QUERY) for vector in none.examples]
    logits[None] = math.log1p(math.exp(READOUT.near_none * nearest(near) - READOUT.bar_none))
    logits[None] += cosine(none.weights, QUERY) + none.offset
    powers = {name: math.exp(logit / file.temperature) for name, logit in logits.items()}
    return {name: power / sum(powers.values()) for name, power in powers.items()}


def test_scores_are_those_of_the_definition() -> None:
    """Corrections, offsets, additional examples and the temperature, of "no route", too."""
    scores = all_of(judge().score(QUERY, ROUTES, NONE))
    assert scores == pytest.approx(by_hand(FILE, ROUTES), abs=2e-6)
    assert scores != pytest.approx(all_of(judge(None).score(QUERY, ROUTES, NONE)), abs=0.01)


@pytest.mark.parametrize("none", [NONE, ()])
def test_order_of_the_routes_changes_nothing(none: tuple[str, ...]) -> None:
    """Not even the last digit."""
    expected = all_of(judge().score(QUERY, ROUTES, none))
    for order in permutations(ROUTES):
        assert all_of(judge().score(QUERY, order, none)) == expected


def test_routes_of_a_request_are_scored_as_before() -> None:
    """Even if their texts are those of the configuration."""
    plain = judge(None).score(QUERY, ROUTES, NONE)
    assert judge().score(QUERY, ROUTES, NONE, is_inline=True) == plain


@pytest.mark.parametrize(
    "changed",
    [replace(POEMS, description="poems, rhymes"), replace(POEMS, examples=("a sonnet",))],
)
def test_changed_route_is_not_corrected(changed: Route) -> None:
    """The others still are, and a new route is like a changed one."""
    unlearned = {**FILE.routes, "poems": learned().model_copy(update={"texts": "x"})}
    routes = (CODE, changed, TRAVEL)
    scores = judge().score(QUERY, routes, NONE)
    assert scores == judge(FILE.model_copy(update={"routes": unlearned})).score(QUERY, routes, NONE)
    assert scores != judge(None).score(QUERY, routes, NONE)
    del unlearned["poems"]
    assert scores == judge(FILE.model_copy(update={"routes": unlearned})).score(QUERY, routes, NONE)


@pytest.mark.parametrize(
    ("file", "none"), [(FILE, ("bye",)), (FILE.model_copy(update={"no_route": None}), NONE)]
)
def test_no_route_keeps_its_probability(file: TunedFile, none: tuple[str, ...]) -> None:
    """If nothing was learned about it, or its examples have changed; routes are corrected still."""
    plain = judge(None).score(QUERY, ROUTES, none)
    for temperature in (1.0, 2.0):
        tuned = judge(file.model_copy(update={"temperature": temperature})).score(
            QUERY, ROUTES, none
        )
        assert tuned.routes != plain.routes
        if temperature == 1.0:
            assert tuned.none == pytest.approx(plain.none, abs=2e-6)


def test_routes_that_are_all_unknown_are_scored_as_before() -> None:
    """The temperature was learned for other routes, so it does not apply either."""
    others = (route("billing", "invoices"), route("support", "help"))
    assert judge().score(QUERY, others, NONE) == judge(None).score(QUERY, others, NONE)


def logits_of(scores: Mapping[str | None, float]) -> dict[str | None, float]:
    return {name: math.log(value) for name, value in scores.items()}


def test_nothing_learned_is_the_plain_read_out() -> None:
    """With the temperature 1; any other one only makes decisions surer or less sure."""
    empty = {one: learned() for one in ROUTES}
    plain = all_of(judge(None).score(QUERY, ROUTES))
    assert all_of(judge(tuned_file(empty, dimensions=384)).score(QUERY, ROUTES)) == plain
    softer = all_of(judge(tuned_file(empty, dimensions=384, temperature=2.0)).score(QUERY, ROUTES))
    before, after = logits_of(plain), logits_of(softer)
    for name in plain:
        assert after[name] - after[None] == pytest.approx(
            (before[name] - before[None]) / 2, abs=1e-4
        )
