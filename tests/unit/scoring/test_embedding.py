"""Scores of texts against routes, with embeddings that can be computed by hand."""

from collections.abc import Callable
from math import sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.domain import Route, Scores
from serve_app.scoring import embedding
from serve_app.scoring.archetypes import Archetype
from serve_app.scoring.embedding import (
    OutOfTimeError,
    phrases,
    readable,
    texts_of_bank,
)
from tests.unit.scoring.embeddings import Bag, route, scorer, value


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
def test_score_is_a_weighted_sum(text: str, expected: float) -> None:
    """The whole and the name are a quarter each, the nearest phrase is a half."""
    assert value(text, CODE) == pytest.approx(expected, abs=2e-6)


def test_name_counts_by_its_words() -> None:
    """It does so as part of the whole, too."""
    expected = 0.25 * 2 / sqrt(2 * 3) + 0.25
    assert value("book flight", route("book_flight", "travel")) == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize(
    ("count", "weight"), [(0, 0.0), (1, 0.2), (2, 0.3), (3, 0.4), (4, 0.45), (5, 0.5), (9, 0.5)]
)
def test_examples_weigh_by_their_number(count: int, weight: float) -> None:
    """The nearest and the mean count half each; a single example has a small weight."""
    examples = [f"example{number}" for number in range(count)]
    near = (1 + 1 / sqrt(count)) / 2 if count else 0.0
    assert value("example0", route("x", "y", *examples)) == pytest.approx(weight * near, abs=2e-6)


def test_examples_lower_the_score_of_unlike_texts() -> None:
    """The rest of the score has less weight if there are examples."""
    plain, taught = value("y", route("x", "y")), value("y", route("x", "y", "a", "b", "c"))
    assert taught == pytest.approx(0.6 * plain, abs=2e-6)


def test_examples_belong_to_their_route() -> None:
    """The position of the route does not matter."""
    routes = (route("a", "b"), route("c", "d", "hello"), route("e", "f"))
    assert scorer().score("hello", routes).routes == {"a": 0.0, "c": 0.2, "e": 0.0}


RHYME = Archetype("kind", "of rhyme lines", ("sonnet", "ballad", "haiku"))
LAUGH = Archetype("jokes", "that make merry", ("pun", "jest"))


@pytest.mark.parametrize(
    ("description", "inherited"),
    [
        ("of rhyme x", 0.5),  # 2 of 4 words are shared with 4: a cosine of 0.5
        ("of rhyme lines", 0.5),
        ("of rhyme x y", 0.0),  # 2 of 5: 0.447
        ("of x y", 0.0),
        ("x y z", 0.0),
    ],
)
def test_prompts_are_inherited_from_a_cosine_of_a_half(description: str, inherited: float) -> None:
    """The two nearest prompts of a kind are half of the score of a route about it."""
    near = value("sonnet", route("w", description), archetypes=(LAUGH, RHYME))
    assert near == pytest.approx(inherited * (1 + 0) / 2, abs=2e-6)


def test_the_two_nearest_prompts_count() -> None:
    """Their mean counts; a third one that is far changes nothing."""
    near = value("sonnet ballad", route("kind", "of rhyme lines"), archetypes=(RHYME,))
    assert near == pytest.approx(0.5 / sqrt(2), abs=2e-6)


def test_route_inherits_from_several_kinds() -> None:
    """Their prompts are one set, of which the two nearest count."""
    other = Archetype("kind", "of rhyme words", ("limerick",))
    near = value("limerick", route("kind", "of rhyme"), archetypes=(RHYME, LAUGH, other))
    assert near == pytest.approx(0.5 * (1 + 0) / 2, abs=2e-6)


def test_examples_are_added_after_prompts() -> None:
    """Half of the score comes from prompts; then examples take their share of the whole."""
    taught = route("kind", "of rhyme lines", "sonnet", "ode")
    near = value("sonnet", taught, archetypes=(RHYME,))
    prompts, examples = 0.5 * (1 + 0) / 2, (1 + 1 / sqrt(2)) / 2
    assert near == pytest.approx(0.7 * prompts + 0.3 * examples, abs=2e-6)


@pytest.mark.parametrize(
    ("text", "min_confidence", "min_margin", "winner"),
    [
        ("a", 1.0, 0.0, "a"),
        ("a", 1.0, 1.0, "a"),
        ("a b b", 0.0, 0.0, "b"),
        ("a b b", 0.9, 0.0, None),
        ("a b b", 0.8, 0.4, "b"),
        ("a b b", 0.8, 0.5, None),
        ("b a", 0.0, 0.0, "a"),
        ("b a", 0.0, 0.01, None),
        ("z", 0.0, 0.0, "a"),
        ("z", 0.01, 0.0, None),
    ],
)
def test_winner_reaches_both_thresholds(
    text: str, min_confidence: float, min_margin: float, winner: str | None
) -> None:
    """Equality is enough, and the first of equal routes wins."""
    judge = scorer(min_confidence=min_confidence, min_margin=min_margin)
    scores = judge.score(text, (route("a", "a"), route("b", "b")))
    assert (scores.winner, scores.threshold, scores.required_margin) == (
        winner,
        min_confidence,
        min_margin,
    )
    assert not scores.cached


@pytest.mark.parametrize("text", ["z", "a", ""])
def test_single_route_needs_no_margin(text: str) -> None:
    """There is no other route to compare with."""
    assert scorer(min_margin=1.0).score(text, (route("a", "a"),)).winner == "a"


def test_scores_have_the_order_of_the_routes() -> None:
    """The order does not depend on their values."""
    names = ["d", "a", "c", "b"]
    scores = scorer().score("a a b", tuple(route(name, name) for name in names))
    assert list(scores.routes) == names
    assert scores.routes == pytest.approx({"d": 0, "a": 2 / sqrt(5), "c": 0, "b": 1 / sqrt(5)})


def test_first_of_equal_routes_wins() -> None:
    """Sorting does not mix them up."""
    words = ["b"] * 5 + ["a"] * 40 + ["c"] * 30
    routes = tuple(route(f"r{n}", word) for n, word in enumerate(words))
    assert scorer().score("a a a b b c", routes).winner == "r5"
    assert scorer().score("a a a b b c", routes[::-1]).winner == "r44"


def test_routes_are_embedded_once_and_texts_each_time() -> None:
    """A second question costs one embedding; no text of a user is kept."""
    bag = Bag()
    judge = scorer(bag)
    first = judge.score("secret", (CODE,))
    known = len(bag.asked)
    assert judge.score("secret", (CODE,)) == first
    assert bag.asked[known:] == ["secret"]
    assert "secret" not in judge._texts


def test_missing_lists_the_texts_to_embed() -> None:
    """They are exactly these texts, without duplicates; known routes have none."""
    bag = Bag()
    judge = scorer(bag)
    routes = (CODE, route("x_y", "a, b and a", "c"))
    missing = judge.missing(routes)
    judge.score("text", routes)
    assert bag.asked == [*dict.fromkeys(bag.asked[:-1]), "text"]
    assert sorted(missing) == sorted(bag.asked[:-1])
    assert judge.missing(routes) == []
    assert judge.missing((routes[1], route("z", "a"))) == ["z: a", "z"]


def test_new_scorer_embeds_the_texts_of_the_bank() -> None:
    """They have no duplicates, although kinds may share prompts."""
    bag = Bag()
    kinds = (Archetype("a", "b", ("c", "d")), Archetype("e", "f", ("d",)))
    scorer(bag, archetypes=kinds)
    assert sorted(texts_of_bank(kinds)) == sorted(set(bag.asked))


def test_sets_of_routes_share_embeddings() -> None:
    """A text in several sets of routes is embedded once."""
    bag = Bag()
    judge = scorer(bag)
    judge.prepare((CODE,))
    judge.prepare((route("x", "y"), CODE))
    judge.prepare(())
    assert len(bag.asked) == len(set(bag.asked))
    assert bag.asked[4:] == ["x: y", "x", "y"]


def test_cached_embeddings_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The least recently used text is evicted, and embedded again when it is needed."""
    monkeypatch.setattr(embedding, "MAX_TEXTS", 7)
    bag = Bag()
    judge = scorer(bag)
    judge.prepare((route("a", "as"),))
    judge.prepare((route("b", "bs"),))
    judge.prepare((route("a", "as", "example"),))  # seven texts; those of b are the oldest
    judge.prepare((route("c", "cs"),))
    assert len(judge._texts) == 7
    assert len(bag.asked) == len(set(bag.asked)) == 10
    judge.prepare((route("a", "as", "example", "example"), route("c", "cs")))
    assert len(bag.asked) == 10
    judge.prepare((route("b", "bs", "again"),))
    assert bag.asked[10:] == ["b: bs", "again", "b", "bs"]
    assert len(judge._texts) == 7


def test_cached_sets_of_routes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit counts rows: two per route, its phrases and examples; the oldest set is evicted."""
    monkeypatch.setattr(embedding, "MAX_ROWS", 12)
    judge = scorer()
    a, b, c = ((route(name, f"{name}, of it", "example"),) for name in "abc")
    for routes in (a, b, a, c):
        judge.prepare(routes)
    assert list(judge._sets) == [a, c]
    assert judge._rows == sum(known.rows for known in judge._sets.values()) == 10


def test_set_beyond_the_limit_is_cached_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is needed for the answer, and evicted by the next one."""
    monkeypatch.setattr(embedding, "MAX_ROWS", 4)
    judge = scorer()
    for count in (1, 5, 7, 1):
        routes = tuple(route(f"n{number}", "x") for number in range(count))
        judge.score("x", routes)
        assert list(judge._sets) == [routes]
    assert judge._rows == 3


def in_time_for(texts: int) -> Callable[[], bool]:
    """Says yes so often, then no."""
    answers = iter([True] * texts)
    return lambda: next(answers, False)


@pytest.mark.parametrize("texts", [1, 2, 3, 5, 8])
def test_embeddings_made_in_time_are_cached(texts: int) -> None:
    """Each call continues where the last one had to stop, and nothing is embedded twice."""
    bag = Bag()
    judge = scorer(bag)
    routes = (CODE, route("poems", "verses, songs", "write a poem"))
    calls = 0
    while True:
        calls += 1
        try:
            scores = judge.score("a poem", routes, in_time=in_time_for(texts))
        except OutOfTimeError:
            assert len(bag.asked) == calls * texts
            assert "a poem" not in bag.asked
        else:
            break
    assert calls == -(-9 // texts)
    assert len(bag.asked) == len(set(bag.asked)) == 10
    assert scores == scorer().score("a poem", routes)


def test_known_routes_are_always_in_time() -> None:
    """Only the text is left to embed."""
    judge = scorer()
    judge.prepare((CODE,))
    assert judge.score("tests", (CODE,), in_time=lambda: False).winner == "code"


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


@given(WORDS | st.text(max_size=9), ROUTES, st.floats(0, 1), st.floats(0, 1))
def test_any_routes_are_scored(
    text: str, routes: tuple[Route, ...], min_confidence: float, min_margin: float
) -> None:
    """Every route has a score in the range of a cosine, and only the best one can win."""
    judge = scorer(min_confidence=min_confidence, min_margin=min_margin, archetypes=(RHYME, LAUGH))
    scores: Scores = judge.score(text, routes)
    assert list(scores.routes) == [made.name for made in routes]
    assert all(-1.000001 <= score <= 1.000001 for score in scores.routes.values())
    if scores.winner is not None:
        assert scores.routes[scores.winner] == max(scores.routes.values())
        assert scores.routes[scores.winner] >= min_confidence - 1e-6
