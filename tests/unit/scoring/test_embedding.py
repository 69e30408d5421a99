"""How near a text is to each route, with embeddings that can be reckoned by hand."""

import re
from collections.abc import Callable
from math import sqrt
from typing import Final

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.domain import Route, Scores
from serve_app.scoring import embedding
from serve_app.scoring.archetypes import Archetype
from serve_app.scoring.embedding import (
    EmbeddingScorer,
    OutOfTimeError,
    Vector,
    phrases,
    readable,
    texts_of_bank,
)

DIMENSIONS: Final = 256


class Bag:
    """Embeds a text as the words that it holds: each is a dimension, in order of appearance.

    The cosine of two texts of n and m different words that share k is k / sqrt(n * m).
    """

    def __init__(self) -> None:
        self.words: dict[str, int] = {}
        self.asked: list[str] = []

    def __call__(self, text: str) -> Vector:
        self.asked.append(text)
        vector = np.zeros(DIMENSIONS, np.float32)
        for word in re.findall(r"\w+", text.lower()):
            vector[self.words.setdefault(word, len(self.words) % DIMENSIONS)] += 1
        length = float(np.linalg.norm(vector))
        return vector if length == 0.0 else vector / np.float32(length)


def scorer(
    embed: Bag | None = None,
    *,
    min_confidence: float = 0.0,
    min_margin: float = 0.0,
    archetypes: tuple[Archetype, ...] = (),
) -> EmbeddingScorer:
    return EmbeddingScorer(
        embed or Bag(), min_confidence=min_confidence, min_margin=min_margin, archetypes=archetypes
    )


def route(name: str, description: str, *examples: str) -> Route:
    return Route(name, description, (), examples=examples)


def value(text: str, *routes: Route, archetypes: tuple[Archetype, ...] = ()) -> float:
    """The score of the first of these routes."""
    said = scorer(archetypes=archetypes).score(text, routes)
    return said.routes[routes[0].name]


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
def test_a_description_lists_topics(description: str, listed: tuple[str, ...]) -> None:
    """Cut where lists are cut, never empty, and not more than can be of use."""
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
def test_a_name_is_read_as_words(name: str, words: str) -> None:
    """Where its words are joined they are parted; no name becomes empty."""
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
def test_a_score_is_a_blend(text: str, expected: float) -> None:
    """A quarter the whole, a quarter the name, a half the nearest of the phrases."""
    assert value(text, CODE) == pytest.approx(expected, abs=2e-6)


def test_a_name_counts_by_its_words() -> None:
    """As part of the whole, too."""
    expected = 0.25 * 2 / sqrt(2 * 3) + 0.25
    assert value("book flight", route("book_flight", "travel")) == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize(
    ("count", "weight"), [(0, 0.0), (1, 0.2), (2, 0.3), (3, 0.4), (4, 0.45), (5, 0.5), (9, 0.5)]
)
def test_examples_weigh_by_their_number(count: int, weight: float) -> None:
    """The nearest of them and all on average, half each; a single one weighs little."""
    examples = [f"example{number}" for number in range(count)]
    near = (1 + 1 / sqrt(count)) / 2 if count else 0.0
    assert value("example0", route("x", "y", *examples)) == pytest.approx(weight * near, abs=2e-6)


def test_examples_push_away_what_is_unlike_them() -> None:
    """The rest of the score weighs less where there are examples."""
    plain, taught = value("y", route("x", "y")), value("y", route("x", "y", "a", "b", "c"))
    assert taught == pytest.approx(0.6 * plain, abs=2e-6)


def test_an_example_of_one_route_is_none_of_another() -> None:
    """Each route has its own, whatever stands before it."""
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
def test_prompts_are_inherited_from_a_half_on(description: str, inherited: float) -> None:
    """The two nearest prompts of a kind that a route is about are half of its score."""
    near = value("sonnet", route("w", description), archetypes=(LAUGH, RHYME))
    assert near == pytest.approx(inherited * (1 + 0) / 2, abs=2e-6)


def test_the_two_nearest_prompts_count() -> None:
    """On average; a third that is far changes nothing."""
    near = value("sonnet ballad", route("kind", "of rhyme lines"), archetypes=(RHYME,))
    assert near == pytest.approx(0.5 / sqrt(2), abs=2e-6)


def test_a_route_inherits_from_several_kinds() -> None:
    """Their prompts are one set, of which the two nearest count."""
    other = Archetype("kind", "of rhyme words", ("limerick",))
    near = value("limerick", route("kind", "of rhyme"), archetypes=(RHYME, LAUGH, other))
    assert near == pytest.approx(0.5 * (1 + 0) / 2, abs=2e-6)


def test_examples_come_on_top_of_prompts() -> None:
    """Half of the score is the prompts', then the examples take their weight of the whole."""
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
def test_a_winner_is_near_enough_and_ahead(
    text: str, min_confidence: float, min_margin: float, winner: str | None
) -> None:
    """A route has to reach both thresholds; what just reaches them wins, and a tie goes first."""
    judge = scorer(min_confidence=min_confidence, min_margin=min_margin)
    said = judge.score(text, (route("a", "a"), route("b", "b")))
    assert (said.winner, said.threshold, said.required_margin) == (
        winner,
        min_confidence,
        min_margin,
    )
    assert not said.cached


@pytest.mark.parametrize("text", ["z", "a", ""])
def test_a_single_route_needs_no_margin(text: str) -> None:
    """There is none that it could be ahead of."""
    assert scorer(min_margin=1.0).score(text, (route("a", "a"),)).winner == "a"


def test_scores_stand_in_the_order_of_the_routes() -> None:
    """Not in that of their values."""
    names = ["d", "a", "c", "b"]
    said = scorer().score("a a b", tuple(route(name, name) for name in names))
    assert list(said.routes) == names
    assert said.routes == pytest.approx({"d": 0, "a": 2 / sqrt(5), "c": 0, "b": 1 / sqrt(5)})


def test_of_many_equal_routes_the_first_wins() -> None:
    """Also where sorting could mix them up."""
    words = ["b"] * 5 + ["a"] * 40 + ["c"] * 30
    routes = tuple(route(f"r{n}", word) for n, word in enumerate(words))
    assert scorer().score("a a a b b c", routes).winner == "r5"
    assert scorer().score("a a a b b c", routes[::-1]).winner == "r44"


def test_routes_are_embedded_once_and_texts_each_time() -> None:
    """A second question costs one embedding; nothing of what users say is kept."""
    bag = Bag()
    judge = scorer(bag)
    first = judge.score("secret", (CODE,))
    known = len(bag.asked)
    assert judge.score("secret", (CODE,)) == first
    assert bag.asked[known:] == ["secret"]
    assert "secret" not in judge._texts


def test_what_is_missing_is_what_would_be_embedded() -> None:
    """Exactly those texts, each once; a scorer that knows them embeds the conversation alone."""
    bag = Bag()
    judge = scorer(bag)
    routes = (CODE, route("x_y", "a, b and a", "c"))
    missing = judge.missing(routes)
    judge.score("text", routes)
    assert bag.asked == [*dict.fromkeys(bag.asked[:-1]), "text"]
    assert sorted(missing) == sorted(bag.asked[:-1])
    assert judge.missing(routes) == []
    assert judge.missing((routes[1], route("z", "a"))) == ["z: a", "z"]


def test_the_bank_s_texts_are_what_a_new_scorer_embeds() -> None:
    """Each once, although kinds may share prompts."""
    bag = Bag()
    kinds = (Archetype("a", "b", ("c", "d")), Archetype("e", "f", ("d",)))
    scorer(bag, archetypes=kinds)
    assert sorted(texts_of_bank(kinds)) == sorted(set(bag.asked))


def test_routes_share_what_they_have_in_common() -> None:
    """A text that several sets of routes hold is embedded once."""
    bag = Bag()
    judge = scorer(bag)
    judge.prepare((CODE,))
    judge.prepare((route("x", "y"), CODE))
    judge.prepare(())
    assert len(bag.asked) == len(set(bag.asked))
    assert bag.asked[4:] == ["x: y", "x", "y"]


def test_texts_that_are_kept_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one whose last use is longest ago goes, and is embedded again when it is needed."""
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


def test_sets_of_routes_that_are_kept_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """By their rows: two of each route, its phrases and its examples; the oldest set goes."""
    monkeypatch.setattr(embedding, "MAX_ROWS", 12)
    judge = scorer()
    a, b, c = ((route(name, f"{name}, of it", "example"),) for name in "abc")
    for routes in (a, b, a, c):
        judge.prepare(routes)
    assert list(judge._sets) == [a, c]
    assert judge._rows == sum(known.rows for known in judge._sets.values()) == 10


def test_a_set_beyond_the_bound_is_kept_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has to be answered, and makes room for the next one."""
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
def test_what_was_done_in_time_is_kept(texts: int) -> None:
    """Each call goes on where the last one had to stop, and nothing is embedded twice."""
    bag = Bag()
    judge = scorer(bag)
    routes = (CODE, route("poems", "verses, songs", "write a poem"))
    calls = 0
    while True:
        calls += 1
        try:
            said = judge.score("a poem", routes, in_time=in_time_for(texts))
        except OutOfTimeError:
            assert len(bag.asked) == calls * texts
            assert "a poem" not in bag.asked
        else:
            break
    assert calls == -(-9 // texts)
    assert len(bag.asked) == len(set(bag.asked)) == 10
    assert said == scorer().score("a poem", routes)


def test_known_routes_are_always_in_time() -> None:
    """Nothing is left to embed but the text."""
    judge = scorer()
    judge.prepare((CODE,))
    assert judge.score("tests", (CODE,), in_time=lambda: False).winner == "code"


def test_routes_are_compared_with_one_another() -> None:
    """By name and description: 1 with itself, the same both ways."""
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
    """Every route has a score like a cosine, and only the best one can win."""
    judge = scorer(min_confidence=min_confidence, min_margin=min_margin, archetypes=(RHYME, LAUGH))
    said: Scores = judge.score(text, routes)
    assert list(said.routes) == [made.name for made in routes]
    assert all(-1.000001 <= score <= 1.000001 for score in said.routes.values())
    if said.winner is not None:
        assert said.routes[said.winner] == max(said.routes.values())
        assert said.routes[said.winner] >= min_confidence - 1e-6
