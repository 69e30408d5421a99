"""How well an engine finds the routes of a labelled set; what ``fingerpost eval`` measures.

A labelled set is a file of JSON lines: first ``{"routes": [{"name", "description", "examples"?}]}``,
then one case a line, ``{"messages": [{"role", "content"}], "expect": NAME or null}``, where null
says that no route matches.
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
from serve_app.evaluation.labelled_set import (
    Case,
    LabelledSet,
)
from serve_app.ports import Orchestrator
from serve_app.scoring.excerpt import conversation, recent

NOWHERE: Final = "(no route)"
"""How "no route matches" is written where names of routes stand."""

FAILED: Final = "(no answer)"
"""The same for "the engine gave no answer": it is never what was expected."""

COLLIDING: Final = 0.8
"""Descriptions with a larger cosine are hard to tell apart."""

_THRESHOLDS: Final = tuple(round(0.02 * step, 2) for step in range(26))
_MAX_SHOWN: Final = 60


@dataclass(frozen=True, slots=True)
class CaseOutcome:
    """What came of one case."""

    case: Case
    best: str
    """The route with the highest score, wins or not."""
    score: float | None
    """None: the engine names a route, and has no numbers."""
    decided: str | None
    seconds: float
    fault: str = ""
    """Why there was no answer."""

    @property
    def right(self) -> bool:
        """The best route is the expected one; False where none is expected."""
        return self.best == self.case.expect


@dataclass(frozen=True, slots=True)
class Draws:
    """Accuracy with examples drawn from the set itself, the drawn cases left out."""

    examples: int
    accuracies: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Over the draws."""
        return sum(self.accuracies) / len(self.accuracies)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All that was found out about one set."""

    labelled: LabelledSet
    settings: EmbeddingSettings | OrchestratorSection
    """Those of the embedded engine, or of another one."""
    outcomes: tuple[CaseOutcome, ...]
    collisions: tuple[tuple[float, str, str], ...]
    draws: tuple[Draws, ...] = ()

    @property
    def accuracy(self) -> float:
        """Of the cases with a route: the share whose best route is right, thresholds aside."""
        return share_of(
            outcome.right for outcome in self.outcomes if outcome.case.expect is not None
        )

    @property
    def decided(self) -> float:
        """Of all cases: the share decided rightly with the thresholds, "no route" included."""
        return share_of(outcome.decided == outcome.case.expect for outcome in self.outcomes)

    @property
    def engine(self) -> str:
        """Which one was asked."""
        return (
            self.settings.engine if isinstance(self.settings, OrchestratorSection) else "embedding"
        )

    @property
    def scored(self) -> bool:
        """The engine gives numbers; without, there is nothing to set a threshold by."""
        return all(outcome.score is not None for outcome in self.outcomes)

    def faults(self) -> Counter[str]:
        """Why there was no answer, and how often."""
        return Counter(outcome.fault for outcome in self.outcomes if outcome.fault)

    def confusion(self) -> Counter[tuple[str, str]]:
        """How often (expected, decided) came up; with thresholds."""
        return Counter(
            (outcome.case.expect or NOWHERE, outcome.decided or NOWHERE)
            for outcome in self.outcomes
        )

    def by_route(self) -> Iterator[tuple[str, float | None, float | None, int]]:
        """Name, precision, recall and number of cases of each route and of none."""
        counts = self.confusion()
        for name in [*(route.name for route in self.labelled.routes), NOWHERE]:
            expected = sum(count for (wish, _), count in counts.items() if wish == name)
            decided = sum(count for (_, said), count in counts.items() if said == name)
            hits = counts[name, name]
            yield (
                name,
                hits / decided if decided else None,
                hits / expected if expected else None,
                expected,
            )

    def thresholds(self) -> list[tuple[float, float, float]]:
        """Of ``min_confidence``: its value, in-scope accuracy, share of no-match recognized.

        Empty where the set has no case without a route, or the engine no scores.
        """
        inside, outside = self._sides()
        if not inside or not outside:
            return []
        return [
            (
                limit,
                share_of(right and score >= limit for right, score in inside),
                share_of(score < limit for _, score in outside),
            )
            for limit in _THRESHOLDS
        ]

    def recommended(self) -> float | None:
        """The threshold with the highest mean of both shares; the lowest of equal ones."""
        found = self.thresholds()
        return max(found, key=lambda row: (row[1] + row[2], -row[0]))[0] if found else None

    def auroc(self) -> float | None:
        """How well the best score tells cases with a route from those without: 0.5 is chance."""
        inside, outside = ([score for _, score in side] for side in self._sides())
        if not inside or not outside:
            return None
        differences = np.subtract.outer(np.array(inside), np.array(outside))
        return float((differences > 0).mean() + (differences == 0).mean() / 2)

    def _sides(self) -> tuple[list[tuple[bool, float]], list[tuple[bool, float]]]:
        """Whether a case was right and its score: of those with a route, and of the others."""
        inside: list[tuple[bool, float]] = []
        outside: list[tuple[bool, float]] = []
        for outcome in self.outcomes if self.scored else ():
            side = outside if outcome.case.expect is None else inside
            side.append((outcome.right, outcome.score or 0.0))
        return inside, outside

    def latency_ms(self, share: float) -> float:
        """A quantile of the time that a decision took."""
        return float(np.quantile([outcome.seconds for outcome in self.outcomes], share)) * 1e3


Progress = Callable[[Sequence[Case]], Iterable[Case]]
"""Passes cases through and shows how far it is."""


class _Embedded:
    """The embedded engine as the others are asked."""

    def __init__(self, engine: EmbeddingEngine) -> None:
        self._engine = engine

    async def score(self, question: Question) -> Scores | Unavailable:
        return self._engine.score(question, lambda: True)


def evaluate(
    labelled: LabelledSet, settings: EmbeddingSettings, progress: Progress, engine: EmbeddingEngine
) -> Evaluation:
    """Decides every case of a set with the embedded engine, one after the other."""
    engine.scorer.prepare(labelled.routes)
    outcomes = asyncio.run(outcomes_of(labelled, progress, _Embedded(engine)))
    return Evaluation(labelled, settings, outcomes, tuple(_collisions(labelled, engine)))


async def outcomes_of(
    labelled: LabelledSet, progress: Progress, engine: Orchestrator, *, generates: bool = False
) -> tuple[CaseOutcome, ...]:
    """What any engine decides for every case of a set, one after the other.

    As in the gateway, one that generates is shown whole conversations.
    Raises EngineFaultError where the first question has no answer: then others have none either.
    """
    outcomes: list[CaseOutcome] = []
    look = conversation if generates else recent
    asked = 0
    for case in progress(labelled.cases):
        question = Question(look(case.turns), labelled.routes, labelled.file)
        if not question.turns:  # nothing was said in words: the gateway asks no engine either
            outcomes.append(CaseOutcome(case, NOWHERE, 0.0, None, 0.0))
            continue
        started = time.perf_counter()
        said = await engine.score(question)
        seconds = time.perf_counter() - started
        asked += 1
        if isinstance(said, Scores):
            outcomes.append(case_outcome(case, said, seconds))
        elif asked == 1:
            raise EngineFaultError(f"the engine can't be measured: {said.detail}")
        else:
            outcomes.append(CaseOutcome(case, FAILED, 0.0, FAILED, seconds, said.detail))
    return tuple(outcomes)


def case_outcome(case: Case, said: Scores, seconds: float) -> CaseOutcome:
    """Compares the scores of a case with the route that the case expects."""
    if not said.routes:
        return CaseOutcome(case, said.winner or NOWHERE, None, said.winner, seconds)
    best = max(said.routes, key=lambda name: said.routes[name])
    return CaseOutcome(case, best, said.routes[best], said.winner, seconds)


def _collisions(labelled: LabelledSet, engine: EmbeddingEngine) -> Iterator[tuple[float, str, str]]:
    """Pairs of routes whose descriptions are nearly one, the nearest first."""
    cosines = engine.scorer.similarity(labelled.routes)
    pairs = [
        (float(cosines[a, b]), labelled.routes[a].name, labelled.routes[b].name)
        for a in range(len(cosines))
        for b in range(a)
        if cosines[a, b] >= COLLIDING
    ]
    yield from sorted(pairs, reverse=True)[:_MAX_SHOWN]


def share_of(hits: Iterable[bool]) -> float:
    """The share of True values; 0 if there are none at all."""
    counted = list(hits)
    return sum(counted) / len(counted) if counted else 0.0
