"""What the embedding scorer keeps of routes, and what it embeds."""

from collections.abc import Callable
from typing import Final

import pytest

from serve_app.scoring import embedding
from serve_app.scoring.embedding import OutOfTimeError
from tests.unit.scoring.embeddings import Bag, route, scorer, scores_of

CODE: Final = route("code", "fix bugs, write tests")
WHOLE_CODE: Final = ["code: fix bugs, write tests", "code", "fix bugs", "write tests"]


def test_routes_are_embedded_once_and_no_text_of_a_user() -> None:
    """A second question costs no embedding, and a new scorer has embedded nothing."""
    bag = Bag()
    judge = scorer(bag)
    assert bag.asked == []
    first = judge.score(bag.query("secret"), (CODE,), ("hello",))
    assert sorted(bag.asked) == sorted([*WHOLE_CODE, "hello"])
    assert judge.score(bag.query("secret"), (CODE,), ("hello",)) == first
    assert len(bag.asked) == 5
    assert "secret" not in [text for text, _ in judge._texts]


def test_missing_lists_the_texts_to_embed() -> None:
    """They are exactly these texts, without duplicates; known routes have none."""
    bag = Bag()
    judge = scorer(bag)
    routes = (CODE, route("x_y", "a, b and a", "c"))
    missing = judge.missing(routes, ("hello", "c"))
    judge.score(bag.query("text"), routes, ("hello", "c"))
    assert bag.asked == [*dict.fromkeys(bag.asked)]
    assert sorted(missing) == sorted(bag.asked)
    assert judge.missing(routes, ("hello", "c")) == []
    assert judge.missing(routes) == []
    assert judge.missing((routes[1], route("z", "a")), ("bye",)) == ["bye", "z: a", "z"]


def test_sets_of_routes_share_embeddings() -> None:
    """A text in several sets of routes is embedded once."""
    bag = Bag()
    judge = scorer(bag)
    judge.prepare((CODE,))
    judge.prepare((route("x", "y"), CODE))
    judge.prepare((CODE,), ("y",))
    judge.prepare((), ("nothing",))
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
    assert sorted(bag.asked[10:]) == sorted(["b: bs", "again", "b", "bs"])
    assert len(judge._texts) == 7


def test_cached_sets_of_routes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit counts rows: two per route, its phrases and examples; the oldest set is evicted."""
    monkeypatch.setattr(embedding, "MAX_ROWS", 12)
    judge = scorer()
    a, b, c = ((route(name, f"{name}, of it", "example"),) for name in "abc")
    for routes in (a, b, a, c):
        judge.prepare(routes)
    assert list(judge._sets) == [(a, ()), (c, ())]
    assert judge._rows == sum(known.rows for known in judge._sets.values()) == 10
    judge.prepare(c, ("hello", "bye"))  # another set, with two rows more
    assert list(judge._sets) == [(c, ()), (c, ("hello", "bye"))]
    assert judge._rows == 12


def test_set_beyond_the_limit_is_cached_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is needed for the answer, and evicted by the next one."""
    monkeypatch.setattr(embedding, "MAX_ROWS", 4)
    judge = scorer()
    for count in (1, 5, 7, 1):
        routes = tuple(route(f"n{number}", "x") for number in range(count))
        judge.score(Bag().query("x"), routes)
        assert list(judge._sets) == [(routes, ())]
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
            scores = judge.score(
                bag.query("a poem"), routes, ("hello",), in_time=in_time_for(texts)
            )
        except OutOfTimeError:
            assert len(bag.asked) == calls * texts
        else:
            break
    assert calls == -(-10 // texts)
    assert len(bag.asked) == len(set(bag.asked)) == 10
    assert scores == scores_of("a poem", *routes, no_route=("hello",))


def test_known_routes_are_always_in_time() -> None:
    """Nothing is left to embed."""
    bag = Bag()
    judge = scorer(bag)
    judge.prepare((CODE,), ("hello",))
    scores = judge.score(bag.query("tests"), (CODE,), ("hello",), in_time=lambda: False)
    assert scores.winner == "code"
