"""Probabilities of routes for texts, with embeddings that can be computed by hand."""

import random
from dataclasses import replace
from itertools import permutations
from math import exp, log, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.domain import Route, Scores
from serve_app.scoring.embedding import EmbeddingScorer, phrases, readable
from serve_app.scoring.readout import GENERIC, Readout
from tests.unit.scoring.embeddings import READOUT, Bag, dense, logit, route, scorer, scores_of


@pytest.mark.parametrize(
    ("description", "listed"),
    [
        ("fix bugs, write tests", ("fix bugs", "write tests")),
        ("bugs; tests: units / wholes", ("bugs", "tests", "units", "wholes")),
        ("poems (short) & songs", ("poems", "short", "songs")),
        ("bugs and tests or both", ("bugs", "tests", "both")),
        ("sandy beaches, orchids", ("sandy beaches", "orchids")),
        ("Poems. Songs.\nEssays.", ("Poems", "Songs", "Essays")),
        ("version 3.11 of Python", ("version 3.11 of Python",)),
        ("one topic", ("one topic",)),
        (",, a ,,", ("a",)),
        (" , ", (" , ",)),
        (".", (".",)),
        ("and", ("and",)),
        ("写代码", ("写代码",)),
        (", ".join(map(str, range(99))), tuple(map(str, range(24)))),
    ],
)
def test_description_is_split_into_topics(description: str, listed: tuple[str, ...]) -> None:
    """It is split where lists are, never empty, and limited in number."""
    assert phrases(description) == listed


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("code", "code"),
        ("book_flight", "book flight"),
        ("book-flight.now", "book flight now"),
        ("bookFlight", "book Flight"),
        ("SQL", "SQL"),
        ("GPT4Questions", "GPT4Questions"),
        ("__x__", "x"),
        ("___", "___"),
        (" a  b ", "a  b"),
        ("写代码", "写代码"),
    ],
)
def test_name_is_split_into_words(name: str, words: str) -> None:
    """No name becomes empty."""
    assert readable(name) == words


CODE = route("code", "fix bugs, write tests")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("code", 0.25 / sqrt(5) + 0.25),
        ("tests", 0.25 / sqrt(5) + 0.5 / sqrt(2)),
        ("fix bugs", 0.25 * 2 / sqrt(10) + 0.5),
        ("code tests", 0.25 * 2 / sqrt(10) + 0.25 / sqrt(2) + 0.5 / 2),
        ("code fix bugs write tests", 0.25 + 0.25 / sqrt(5) + 0.5 * 2 / sqrt(10)),
        ("poems", 0.0),
        ("", 0.0),
    ],
)
def test_similarity_is_a_weighted_sum(text: str, expected: float) -> None:
    """The whole and the name are a quarter each here, the nearest phrase is a half."""
    assert logit(text, CODE) == pytest.approx(8 * expected - 2, abs=1e-3)


def test_name_counts_by_its_words() -> None:
    """It does so as part of the whole, too."""
    expected = 0.25 * 2 / sqrt(2 * 3) + 0.25
    found = logit("book flight", route("book_flight", "travel"))
    assert found == pytest.approx(8 * expected - 2, abs=1e-3)


def test_generic_readout_is_the_default() -> None:
    """A scorer of a model without a read-out of its own has it."""
    bag = Bag()
    plain = EmbeddingScorer(bag, min_confidence=0.0).score(bag.query("code"), (CODE,))
    assert plain == scores_of("code", CODE, readout=GENERIC)
    assert plain != scores_of("code", CODE)


@pytest.mark.parametrize(
    ("count", "trust"), [(0, 0.0), (1, 0.25), (2, 0.5), (3, 1.0), (4, 1.0), (9, 1.0)]
)
def test_examples_are_trusted_by_their_number(count: int, trust: float) -> None:
    """The eight nearest count; from one example to three they get more of the logit."""
    examples = [f"example{number}" for number in range(count)]
    near = 1 - log(min(count, 8)) / 20 if count else 0.0
    found = logit("example0", route("x", "y", *examples))
    assert found == pytest.approx((1 - trust) * -2 + trust * (8 * near - 3), abs=1e-3)


def test_more_like_examples_raise_a_probability() -> None:
    """Each of the first three does, if all are as near; a fourth one changes nothing."""
    examples = ("write a b", "write a c", "write a d", "write a e")
    found = [
        scores_of("write a", route("x", "y", *examples[:count])).routes["x"] for count in range(5)
    ]
    assert found[0] < found[1] < found[2] < found[3] == found[4]


def test_nearer_examples_raise_a_probability() -> None:
    """The route whose examples are like the text takes from the others, and from none."""
    far, near = (
        scores_of("sail a boat", route("x", "y", *examples), route("z", "boat"))
        for examples in (("a b c", "d e", "f"), ("sail a boat", "sail a ship", "a boat"))
    )
    assert near.routes["x"] > far.routes["x"]
    assert near.routes["z"] < far.routes["z"]
    assert (near.none or 0.0) < (far.none or 0.0)
    assert (near.winner, far.winner) == ("x", "z")


def test_examples_lower_the_probability_of_unlike_texts() -> None:
    """The description has less weight if there are examples."""
    plain, taught = (scores_of("y", made) for made in (route("x", "y"), route("x", "y", *"abc")))
    assert taught.routes["x"] < plain.routes["x"]
    similarity = 0.25 / sqrt(2) + 0.5
    assert logit("y", route("x", "y", *"abc")) == pytest.approx(4 * similarity - 3, abs=1e-3)


def test_examples_belong_to_their_route() -> None:
    """The position of the route does not matter, and those of others have none of them."""
    routes = (route("a", "b"), route("c", "d", "hello"), route("e", "f"))
    scores = scores_of("hello", *routes)
    far = (scores.none or 0.0) * exp(-2)
    assert scores.routes["a"] == scores.routes["e"] == pytest.approx(far, abs=1e-6)
    assert logit("hello", routes[1]) == pytest.approx(0.75 * -2 + 0.25 * 5, abs=1e-3)


def test_examples_of_no_route_raise_none() -> None:
    """Their nearest count, too; every route loses the same share."""
    routes = (route("a", "b"), route("c", "hello"))
    plain = scores_of("hello", *routes)
    some, more = (
        scores_of("hello", *routes, no_route=texts)
        for texts in (("hello you", "x", "y", "z"), ("hello", "hello", "hello", "z"))
    )
    for one, near in ((some, 1 / sqrt(2) - log(4) / 20), (more, 1 + log(3 / 4) / 20)):
        lost = [one.routes[name] / plain.routes[name] for name in "ac"]
        assert lost[0] == pytest.approx(lost[1], abs=1e-3)
        assert lost[0] < 1
        power = exp(8 * near - 3)
        ratio = (one.none or 0) / one.routes["c"] * plain.routes["c"] / (plain.none or 1)
        assert ratio == pytest.approx(1 + power, rel=1e-3)
    assert (plain.winner, some.winner, more.winner) == ("c", "c", None)
    assert (plain.none or 0) < (some.none or 0) < (more.none or 0)


@pytest.mark.parametrize(
    ("text", "min_confidence", "min_margin", "winner"),
    [
        ("a", 0.0, 0.0, "a"),
        ("a", 0.99, 0.99, "a"),
        ("a", 0.998, 0.0, None),
        ("a", 0.0, 0.998, None),
        ("a b b", 0.0, 0.0, "b"),
        ("a b b", 0.96, 0.94, "b"),
        ("a b b", 0.97, 0.0, None),
        ("a b b", 0.96, 0.95, None),
        ("b a", 0.0, 0.0, "a"),
        ("b a", 0.49, 0.0, "a"),
        ("b a", 0.5, 0.0, None),
        ("b a", 0.0, 0.01, None),
        ("z", 0.0, 0.0, None),
    ],
)
def test_winner_reaches_all_thresholds(
    text: str, min_confidence: float, min_margin: float, winner: str | None
) -> None:
    """It is likelier than none, at least as likely as configured, and far enough ahead."""
    routes = (route("a", "a"), route("b", "b"))
    scores = scores_of(text, *routes, min_confidence=min_confidence, min_margin=min_margin)
    assert (scores.winner, scores.required_margin) == (winner, min_margin)
    assert scores.threshold == max(scores.none or 0.0, min_confidence)
    assert not scores.cached


def test_equality_reaches_a_threshold() -> None:
    """A probability as high as configured is enough, and so is such a lead."""
    routes = (route("a", "a"), route("b", "b"))
    values = scores_of("a b b", *routes).routes
    lead = values["b"] - values["a"]
    assert scores_of("a b b", *routes, min_confidence=values["b"], min_margin=lead).winner == "b"


def test_route_as_likely_as_none_does_not_win() -> None:
    """In doubt no route matches."""
    scores = scores_of("z", route("a", "b"), readout=replace(READOUT, bar=0.0))
    assert scores.routes["a"] == scores.none == 0.5
    assert scores.winner is None


@pytest.mark.parametrize(("text", "winner"), [("a", "a"), ("z", None), ("", None)])
def test_single_route_needs_no_margin(text: str, winner: str | None) -> None:
    """There is no other route to compare with; none is."""
    assert scores_of(text, route("a", "a"), min_margin=1.0).winner == winner


def test_scores_have_the_order_of_the_routes() -> None:
    """The order does not depend on their values."""
    names = ["d", "a", "c", "b"]
    scores = scores_of("a a b", *(route(name, name) for name in names))
    assert list(scores.routes) == names
    powers = {name: exp(-2) for name in names}
    powers |= {"a": exp(16 / sqrt(5) - 2), "b": exp(8 / sqrt(5) - 2)}
    total = 1 + sum(powers.values())
    expected = {name: powers[name] / total for name in names}
    assert scores.routes == pytest.approx(expected, abs=1e-6)
    assert scores.none == pytest.approx(1 / total, abs=1e-6)


def test_more_routes_take_from_each_other() -> None:
    """Another one that fits halves a probability; one that does not costs little."""
    routes = (route("a", "x"), route("b", "y"), route("a_", "x"))
    alone, beside, split = (scores_of("a x", *routes[:count]) for count in (1, 2, 3))
    assert alone.routes["a"] > beside.routes["a"] > 0.98 * alone.routes["a"]
    assert split.routes["a"] == split.routes["a_"] == pytest.approx(0.5, abs=0.02)


def test_order_of_routes_decides_nothing_between_equal_ones() -> None:
    """Of routes that read the same, the first by name wins, wherever it is."""
    routes = (route("a_b", "x", "e"), route("c", "y"), route("a-b", "x", "e"), route("a.b", "x"))
    for order in permutations(routes):
        scores = scores_of("a b x e", *order)
        assert scores.routes["a_b"] == scores.routes["a-b"]
        assert scores.winner == "a-b"


DIRECTED = replace(READOUT, none_direction=tuple((5 * dense("none")).tolist()))
"""A read-out that has a direction of "no route"."""


def test_conversation_that_turns_to_none_is_less_likely_routed() -> None:
    """What counts is how much further than the mean of the routes' texts it points that way."""
    routes = (route("a", "b"), route("c", "d"))
    for text in ("none", "q", "a: b"):
        plain, turned = (
            scorer(dense, readout=readout).score(dense(text), routes)
            for readout in (READOUT, DIRECTED)
        )
        mean = (dense("a: b") + dense("c: d")) / 2
        change = 5 * float(dense("none") @ (dense(text) - mean))
        assert turned.none is not None
        assert plain.none is not None
        for name in "ac":
            before, after = plain.none / plain.routes[name], turned.none / turned.routes[name]
            assert after / before == pytest.approx(exp(change), rel=1e-3)


@pytest.mark.parametrize("readout", [READOUT, DIRECTED], ids=["plain", "directed"])
@given(st.integers(0, 999), st.integers(1, 14), st.randoms(use_true_random=False))
def test_order_of_routes_changes_nothing(
    readout: Readout, seed: int, count: int, chance: random.Random
) -> None:
    """Every probability is the same to the last digit, and so is the winner."""
    routes = [
        route(
            f"r{seed} {number}",
            ", ".join(f"{seed} {number} {part}" for part in range(chance.randint(1, 5))),
            *(f"e{seed} {number} {part}" for part in range(chance.randint(0, 6))),
        )
        for number in range(count)
    ]
    none = tuple(f"n{seed} {number}" for number in range(chance.randint(0, 4)))
    judge = scorer(dense, readout=readout)
    first = judge.score(dense(f"q{seed}"), tuple(routes), none)
    for _ in range(3):
        chance.shuffle(routes)
        other = judge.score(dense(f"q{seed}"), tuple(routes), none)
        assert dict(other.routes) == dict(first.routes)
        assert (other.none, other.winner) == (first.none, first.winner)


def test_similarity_compares_routes() -> None:
    """It uses names and descriptions, is 1 with itself, and symmetric."""
    cosines = scorer().similarity((route("a", "x"), route("b", "x"), route("c", "y")))
    assert cosines == pytest.approx(np.array([[1, 0.5, 0], [0.5, 1, 0], [0, 0, 1]]))


WORDS = st.lists(st.sampled_from(["a", "b", "c", "d,", "and", "e;", "f.", "G_h"]), max_size=6).map(
    " ".join
)
ROUTES = st.lists(
    st.builds(
        Route,
        st.sampled_from(["a", "b_c", "dE", "f", "_"]),
        WORDS,
        st.just(()),
        examples=st.lists(WORDS, max_size=6).map(tuple),
    ),
    min_size=1,
    max_size=5,
    unique_by=lambda made: made.name,
).map(tuple)


@given(
    WORDS | st.text(max_size=9),
    ROUTES,
    st.lists(WORDS, max_size=4).map(tuple),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_any_routes_are_scored(
    text: str,
    routes: tuple[Route, ...],
    no_route: tuple[str, ...],
    min_confidence: float,
    min_margin: float,
) -> None:
    """The probabilities of all routes and of none sum to 1, and only the likeliest can win."""
    scores: Scores = scores_of(
        text, *routes, no_route=no_route, min_confidence=min_confidence, min_margin=min_margin
    )
    assert list(scores.routes) == [made.name for made in routes]
    assert scores.none is not None
    values = [scores.none, *scores.routes.values()]
    assert all(0 <= value <= 1 for value in values)
    assert sum(values) == pytest.approx(1, abs=1e-6 * len(values))
    if scores.winner is not None:
        assert scores.routes[scores.winner] == max(scores.routes.values()) > scores.none
        assert scores.routes[scores.winner] >= scores.threshold
