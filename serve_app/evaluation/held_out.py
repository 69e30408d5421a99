"""Measures what examples promise: each third of them is left out in turn and decided by the rest."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from serve_app.domain import Route, Turn
from serve_app.engines.embedding.engine import EmbeddingEngine, EmbeddingSettings
from serve_app.evaluation.labelled_set import Case, LabelledSet
from serve_app.evaluation.measure import Evaluation, Progress, evaluate
from serve_app.evaluation.report import table

_PARTS: Final = 3
_MAX_ROUTES: Final = 10
_MAX_PAIRS: Final = 8

_NOTE: Final = (
    "Each third of the examples was left out and decided by the others. A model wrote them, and",
    "what it writes is alike: real traffic will be decided less well. Measure with messages of",
    "your users: `fingerpost eval`.",
)

_WORSE: Final = (
    "With these examples, fewer are decided right than without: look for messages that fit another",
    "route or none, and measure before you use them.",
)


@dataclass(frozen=True, slots=True)
class Promise:
    """How the embedded engine decides the examples themselves."""

    with_examples: Evaluation
    """Each example is decided while it and a third of all are left out."""
    without: Evaluation
    """Each example is decided by names and descriptions alone."""


def measure_promise(
    routes: Sequence[Route],
    no_route: Sequence[str],
    settings: EmbeddingSettings,
    engine: EmbeddingEngine,
    progress: Progress,
) -> Promise:
    """Decides all examples of these routes and of "no route", with other examples and without."""
    bare = tuple(replace(route, examples=()) for route in routes)
    cases = [_case(text, route.name) for route in routes for text in route.examples]
    cases += [_case(text, None) for text in no_route]
    with_examples = [
        evaluate(labelled, settings, progress, engine) for labelled in _left_out(routes, no_route)
    ]
    outcomes = tuple(outcome for one in with_examples for outcome in one.outcomes)
    everything = LabelledSet("examples", bare, tuple(cases))
    return Promise(
        replace(with_examples[0], labelled=everything, outcomes=outcomes),
        evaluate(everything, settings, progress, engine),
    )


def _left_out(routes: Sequence[Route], no_route: Sequence[str]) -> Iterator[LabelledSet]:
    """For each part the rest as examples, and the part as cases."""
    for part in range(_PARTS):
        cases = [
            _case(text, route.name) for route in routes for text in route.examples[part::_PARTS]
        ]
        cases += [_case(text, None) for text in no_route[part::_PARTS]]
        kept = tuple(replace(route, examples=_without(route.examples, part)) for route in routes)
        yield LabelledSet(f"examples {part}", kept, tuple(cases), _without(no_route, part))


def _without(texts: Sequence[str], part: int) -> tuple[str, ...]:
    return tuple(text for position, text in enumerate(texts) if position % _PARTS != part)


def _case(text: str, expect: str | None) -> Case:
    return Case((Turn("user", text),), expect)


def promise_text(promise: Promise) -> list[str]:
    """The report as lines: the shares, the routes decided worst, and what is confused."""
    now, before = promise.with_examples, promise.without
    wrong = sorted(
        (pair for pair in now.confusion().items() if pair[0][0] != pair[0][1]),
        key=lambda pair: (-pair[1], pair[0]),
    )
    shares = [["", "decided right", "best route right"]]
    shares += [
        [name, f"{one.decided:.3f}", f"{one.accuracy:.3f}"]
        for name, one in (("without examples", before), ("with examples", now))
    ]
    lines = [
        f"Measured on these {len(now.outcomes)} examples by the embedded engine:",
        *(f"  {line}" for line in table(shares, right=(1, 2))),
        "",
        *(f"  {line}" for line in _worst(now, before)),
    ]
    if now.decided < before.decided:
        lines += ["", *_WORSE]
    if wrong:
        rows = [["times", "expected", "decided"]]
        rows += [[str(times), *pair] for pair, times in wrong[:_MAX_PAIRS]]
        lines += ["", "Most confused, with examples:"]
        lines += [f"  {line}" for line in table(rows, right=(0,))]
    return [*lines, "", *_NOTE]


def _worst(now: Evaluation, before: Evaluation) -> list[str]:
    """The shares of the routes that are decided worst with examples."""
    earlier = {route.name: route.recall for route in before.by_route()}
    measured = [
        (recall, earlier[route.name] or 0.0, route)
        for route in now.by_route()
        if (recall := route.recall) is not None
    ]
    ranked = sorted(measured, key=lambda row: (row[0], row[2].name))
    title = "route" if len(ranked) <= _MAX_ROUTES else f"route (the {_MAX_ROUTES} worst)"
    rows = [[title, "examples", "without", "with"]]
    rows += [
        [route.name, str(route.cases), f"{was:.2f}", f"{recall:.2f}"]
        for recall, was, route in ranked[:_MAX_ROUTES]
    ]
    return table(rows, right=(1, 2, 3))
