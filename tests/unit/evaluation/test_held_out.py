"""What examples promise: each is decided while it is left out."""

from collections.abc import Callable
from typing import Final

from serve_app.domain import Question, Route, Scores, Unavailable
from serve_app.engines.embedding.engine import EmbeddingEngine, EmbeddingSettings
from serve_app.evaluation.held_out import Promise, measure_promise, promise_text
from serve_app.evaluation.measure import CaseOutcome
from tests.unit.evaluation.labelled_sets import TopicModel, evaluation_of, outcome

CODE: Final = ("fix a bug", "why this loop", "explain the code", "a function that adds")
POEMS: Final = ("a sonnet", "rhyme with moon", "lyrics of a song")
NONE: Final = ("what is the rent", "who won", "hello")
ROUTES: Final = (
    Route("code", "code", (), examples=CODE),
    Route("poems", "poems", (), examples=POEMS),
)
SETTINGS: Final = EmbeddingSettings(min_confidence=0.0)


class Recorded(EmbeddingEngine):
    """Records the examples that each question is decided by."""

    def __init__(self) -> None:
        super().__init__(SETTINGS, TopicModel())
        self.examples: list[tuple[str, set[str]]] = []

    def score(self, question: Question, in_time: Callable[[], bool]) -> Scores | Unavailable:
        known = {text for route in question.routes for text in route.examples}
        known |= set(question.no_route_examples)
        self.examples.append((question.turns[0].text, known))
        return super().score(question, in_time)


def test_each_example_is_decided_by_the_others() -> None:
    """By two thirds of them in one measurement, and by none in the other."""
    engine = Recorded()
    promise = measure_promise(ROUTES, NONE, SETTINGS, engine, iter)
    every = {*CODE, *POEMS, *NONE}
    seen, bare = engine.examples[: len(every)], engine.examples[len(every) :]
    assert {text for text, _ in seen} == {text for text, _ in bare} == every
    assert all(text not in known and len(known) in {6, 7} for text, known in seen)
    assert not any(known for _, known in bare)
    assert [len(one.outcomes) for one in (promise.with_examples, promise.without)] == [10, 10]


def test_route_with_few_examples_is_measured() -> None:
    """Some parts are empty then."""
    promise = measure_promise(
        (ROUTES[0], Route("poems", "poems", ())), (), SETTINGS, Recorded(), iter
    )
    assert len(promise.with_examples.outcomes) == len(CODE)
    assert "(no route)" not in "\n".join(promise_text(promise)[:9])


NAMES: Final = tuple(f"r{number}" for number in range(12))


def right(name: str) -> CaseOutcome:
    return outcome(name, name, 0.9, name)


def test_report_shows_the_worst_routes_and_what_is_confused() -> None:
    """Both shares, for all examples and for each of ten routes."""
    wrong = [outcome("r5", "r6", 0.5, "r6")] * 2 + [outcome(None, "r1", 0.5, "r1")]
    every = [*map(right, NAMES), *wrong]
    before = [*map(right, NAMES[:6]), *(outcome(name, "r0", 0.5, None) for name in NAMES[6:])]
    promise = Promise(
        evaluation_of(*every, names=NAMES),
        evaluation_of(*before, outcome(None, "a", 0.1, None), names=NAMES),
    )
    lines = promise_text(promise)
    assert lines[:6] == [
        "Measured on these 15 examples by the embedded engine:",
        "                    decided right  best route right",
        "  without examples          0.538             0.500",
        "  with examples             0.800             0.857",
        "",
        "  route (the 10 worst)  examples  without  with",
    ]
    assert lines[6:9] == [
        "  (no route)                   1     1.00  0.00",
        "  r5                           3     1.00  0.33",
        "  r0                           1     1.00  1.00",
    ]
    assert lines[16:21] == [
        "",
        "Most confused, with examples:",
        "  times  expected    decided",
        "      2  r5          r6",
        "      1  (no route)  r1",
    ]
    assert "real traffic will be decided less well" in " ".join(lines[21:])


def test_report_warns_of_examples_that_harm() -> None:
    """Where fewer are decided right with them."""
    good, bad = evaluation_of(right("a")), evaluation_of(outcome("a", "b", 0.5, "b"))
    warning = "With these examples, fewer are decided right than without"
    assert warning in "\n".join(promise_text(Promise(with_examples=bad, without=good)))
    assert warning not in "\n".join(promise_text(Promise(with_examples=good, without=bad)))


def test_report_without_mistakes_has_no_list_of_them() -> None:
    """The note follows the routes."""
    one = evaluation_of(right("a"), right("b"))
    lines = promise_text(Promise(one, one))
    assert lines[5] == "  route  examples  without  with"
    assert not any("confused" in line for line in lines)
