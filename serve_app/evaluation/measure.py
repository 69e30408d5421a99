"""Measures how well an engine matches the cases of a labelled set to their routes.

A labelled set is a file of JSON lines: first ``{"routes": [{"name", "description", "examples"?}]}``,
then one case per line, ``{"messages": [{"role", "content"}], "expect": NAME or null, "lang"?}``,
where null means that no route matches.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from serve_app.config.schema.orchestrator import OrchestratorSection
from serve_app.domain import Question, Scores, Unavailable
from serve_app.engines.embedding.engine import EmbeddingEngine, EmbeddingSettings
from serve_app.engines.faults import EngineFaultError
from serve_app.evaluation.labelled_set import Case, LabelledSet
from serve_app.ports import Orchestrator
from serve_app.routing.inline_routes import key_of
from serve_app.scoring.calibration import best_route
from serve_app.scoring.excerpt import conversation, recent

NO_ROUTE: Final = "(no route)"
"""Shown instead of the name of a route if no route matches."""

NO_ANSWER: Final = "(no answer)"
"""Shown instead of the name of a route if the engine did not answer."""

COLLIDING: Final = 0.8
"""Minimum cosine of two descriptions that are hard to distinguish."""

_THRESHOLDS: Final = tuple(round(0.02 * step, 2) for step in range(51))
_NEVER: Final = -1.0
_MAX_SHOWN: Final = 60


@dataclass(frozen=True, slots=True)
class CaseOutcome:
    """The result of one case."""

    case: Case
    best: str
    """The route with the highest score, even if it does not win."""
    score: float | None
    """None: the engine names a route and has no scores."""
    decided: str | None
    seconds: float
    fault: str = ""
    """Why the engine did not answer; empty if it did."""
    scores: Scores | None = None
    """What the engine returned; None if it was not asked, or did not answer."""

    @property
    def right(self) -> bool:
        """True if the best route is the expected one; False if none is expected."""
        return self.best == self.case.expect

    @property
    def is_routed(self) -> bool:
        """True if the case gets a route, right or wrong; thresholds apply."""
        return self.decided not in {None, NO_ANSWER}

    @property
    def reach(self) -> float:
        """The highest ``min_confidence`` with which the case gets its best route; -1 for none."""
        scores = self.scores
        if scores is None or scores.none is None or not scores.routes:
            unscored = self.score is None or self.best in {NO_ROUTE, NO_ANSWER}
            return _NEVER if unscored else self.score or 0.0
        best, lead = best_route(scores.routes)
        wins = scores.routes[best] > scores.none and lead >= scores.required_margin
        return scores.routes[best] if wins else _NEVER

    @property
    def match(self) -> float:
        """The probability that a route matches; the best score of an engine without one."""
        none = None if self.scores is None else self.scores.none
        return self.score or 0.0 if none is None else 1.0 - none


@dataclass(frozen=True, slots=True)
class RouteQuality:
    """How well the cases of a route are decided, thresholds applied."""

    name: str
    precision: float | None
    """Of the cases decided for the route: the share that belongs there. None without any."""
    recall: float | None
    """Of the cases of the route: the share decided for it. None without any."""
    cases: int
    """Number of cases that belong to the route."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """What a value of ``min_confidence`` would achieve."""

    min_confidence: float
    accuracy: float
    """Of the cases with a route: the share that gets the right one."""
    no_match_found: float
    """Of the cases without a route: the share that gets none."""
    routed: float
    """Of all cases: the share that gets a route, right or wrong."""
    error: float | None
    """Of the cases that get a route: the share that gets a wrong one. None without any."""


@dataclass(frozen=True, slots=True)
class Collision:
    """Two routes whose descriptions are hard to distinguish."""

    cosine: float
    route: str
    other: str


@dataclass(frozen=True, slots=True)
class Draws:
    """Accuracy with examples that are drawn from the set itself; drawn cases are not counted."""

    examples: int
    accuracies: tuple[float, ...]

    @property
    def mean(self) -> float:
        """The mean accuracy of the draws."""
        return sum(self.accuracies) / len(self.accuracies)


@dataclass(frozen=True, slots=True)
class Flips:
    """How many decisions change if the routes are in another order."""

    orders: int
    """Number of other orders."""
    share: float
    """Of all cases: the share that is decided otherwise in at least one of them."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The results of one set."""

    labelled: LabelledSet
    settings: EmbeddingSettings | OrchestratorSection
    """The settings of the embedded engine, or the section of another one."""
    outcomes: tuple[CaseOutcome, ...]
    collisions: tuple[Collision, ...]
    draws: tuple[Draws, ...] = ()
    flips: Flips | None = None
    """None if no other order was measured."""

    @property
    def accuracy(self) -> float:
        """Of the cases with a route: the share whose best route is right; thresholds do not apply."""
        return share_of(
            outcome.right for outcome in self.outcomes if outcome.case.expect is not None
        )

    @property
    def decided(self) -> float:
        """Of all cases: the share that is decided right with the thresholds, "no route" included."""
        return share_of(outcome.decided == outcome.case.expect for outcome in self.outcomes)

    @property
    def routed(self) -> float:
        """Of all cases: the share that gets a route, right or wrong; thresholds apply."""
        return share_of(outcome.is_routed for outcome in self.outcomes)

    @property
    def routed_error(self) -> float | None:
        """Of the cases that get a route: the share that gets a wrong one, those without a route
        included. None without any.
        """
        routed = [outcome for outcome in self.outcomes if outcome.is_routed]
        wrong = share_of(outcome.decided != outcome.case.expect for outcome in routed)
        return wrong if routed else None

    @property
    def engine(self) -> str:
        """The name of the engine."""
        return (
            self.settings.engine if isinstance(self.settings, OrchestratorSection) else "embedding"
        )

    @property
    def scored(self) -> bool:
        """True if the engine returns scores, which thresholds need."""
        return all(outcome.score is not None for outcome in self.outcomes)

    def faults(self) -> Counter[str]:
        """The reasons of missing answers, with their counts."""
        return Counter(outcome.fault for outcome in self.outcomes if outcome.fault)

    def confusion(self) -> Counter[tuple[str, str]]:
        """Counts of (expected, decided), thresholds applied."""
        return Counter(
            (outcome.case.expect or NO_ROUTE, outcome.decided or NO_ROUTE)
            for outcome in self.outcomes
        )

    def by_route(self) -> Iterator[RouteQuality]:
        """The quality of each route, and of "no route" as the last one."""
        counts = self.confusion()
        for name in [*(route.name for route in self.labelled.routes), NO_ROUTE]:
            cases = sum(count for (expected, _), count in counts.items() if expected == name)
            decided = sum(count for (_, decision), count in counts.items() if decision == name)
            hits = counts[name, name]
            precision = hits / decided if decided else None
            yield RouteQuality(name, precision, hits / cases if cases else None, cases)

    def thresholds(self) -> list[Threshold]:
        """What values of ``min_confidence`` would achieve.

        Empty if the set has cases of one kind only, or the engine has no scores.
        """
        inside = [outcome.case.expect is not None for outcome in self.outcomes]
        if not self.scored or all(inside) or not any(inside):
            return []
        return [self._threshold(limit) for limit in _THRESHOLDS]

    def _threshold(self, limit: float) -> Threshold:
        routed = [outcome for outcome in self.outcomes if outcome.reach >= limit]
        right = sum(outcome.right for outcome in routed)
        stray = sum(outcome.case.expect is None for outcome in routed)
        inside = sum(outcome.case.expect is not None for outcome in self.outcomes)
        return Threshold(
            limit,
            right / inside,
            1 - stray / (len(self.outcomes) - inside),
            len(routed) / len(self.outcomes),
            1 - right / len(routed) if routed else None,
        )

    def recommended(self) -> float | None:
        """The ``min_confidence`` with the highest mean of both shares; the lowest of equal ones.

        None if there is no threshold to choose from.
        """
        best = max(
            self.thresholds(),
            key=lambda row: (row.accuracy + row.no_match_found, -row.min_confidence),
            default=None,
        )
        return None if best is None else best.min_confidence

    def auroc(self) -> float | None:
        """How well the probability that a route matches separates cases with a route from those
        without; 0.5 is chance.
        """
        sides: dict[bool, list[float]] = {True: [], False: []}
        for outcome in self.outcomes if self.scored else ():
            sides[outcome.case.expect is not None].append(outcome.match)
        if not sides[True] or not sides[False]:
            return None
        differences = np.subtract.outer(np.array(sides[True]), np.array(sides[False]))
        return float((differences > 0).mean() + (differences == 0).mean() / 2)

    def latency_ms(self, share: float) -> float:
        """A quantile of the latency of decisions, milliseconds."""
        return float(np.quantile([outcome.seconds for outcome in self.outcomes], share)) * 1e3


Progress = Callable[[Sequence[Case]], Iterable[Case]]
"""Passes cases through and shows the progress."""


class EmbeddedOrchestrator:
    """The embedded engine behind the port of the others."""

    def __init__(self, engine: EmbeddingEngine) -> None:
        self._engine = engine

    async def score(self, question: Question) -> Scores | Unavailable:
        """The engine's scores, however long they take."""
        return self._engine.score(question, lambda: True)


def evaluate(
    labelled: LabelledSet, settings: EmbeddingSettings, progress: Progress, engine: EmbeddingEngine
) -> Evaluation:
    """Decides all cases of a set with the embedded engine, one after the other."""
    engine.prepare(labelled.routes, labelled.no_route_examples)
    outcomes = asyncio.run(case_outcomes(labelled, progress, EmbeddedOrchestrator(engine)))
    return Evaluation(labelled, settings, outcomes, tuple(_collisions(labelled, engine)))


async def case_outcomes(
    labelled: LabelledSet, progress: Progress, engine: Orchestrator, *, generates: bool = False
) -> tuple[CaseOutcome, ...]:
    """Decides all cases of a set with any engine, one after the other.

    As in the gateway, an engine that generates reads whole conversations.
    Raises EngineFaultError if the first question is not answered: others would fail as well.
    """
    outcomes: list[CaseOutcome] = []
    excerpt = conversation if generates else recent
    key, questions = key_of(labelled.routes), 0
    for case in progress(labelled.cases):
        question = Question(
            excerpt(case.turns),
            labelled.routes,
            key,
            no_route_examples=labelled.no_route_examples,
        )
        if not question.turns:  # no text of the user: the gateway does not call the engine either
            outcomes.append(CaseOutcome(case, NO_ROUTE, 0.0, None, 0.0))
            continue
        started = time.perf_counter()
        scores = await engine.score(question)
        seconds = time.perf_counter() - started
        questions += 1
        if isinstance(scores, Scores):
            outcomes.append(case_outcome(case, scores, seconds))
        elif questions == 1:
            raise EngineFaultError(f"cannot measure the engine: {scores.detail}")
        else:
            outcomes.append(CaseOutcome(case, NO_ANSWER, 0.0, NO_ANSWER, seconds, scores.detail))
    return tuple(outcomes)


def case_outcome(case: Case, scores: Scores, seconds: float) -> CaseOutcome:
    """The result of a case that has these scores."""
    if not scores.routes:
        best, score = scores.winner or NO_ROUTE, None
    else:
        best = best_route(scores.routes)[0]
        score = scores.routes[best]
    return CaseOutcome(case, best, score, scores.winner, seconds, scores=scores)


def _collisions(labelled: LabelledSet, engine: EmbeddingEngine) -> Iterator[Collision]:
    """Pairs of routes with similar descriptions, the most similar first."""
    cosines = engine.scorer.similarity(labelled.routes)
    names = [route.name for route in labelled.routes]
    pairs = [
        Collision(float(cosines[a, b]), names[a], names[b])
        for a in range(len(cosines))
        for b in range(a)
        if cosines[a, b] >= COLLIDING
    ]
    yield from sorted(pairs, key=lambda pair: -pair.cosine)[:_MAX_SHOWN]


def share_of(hits: Iterable[bool]) -> float:
    """The share of True values; 0 without values."""
    counted = list(hits)
    return sum(counted) / len(counted) if counted else 0.0
