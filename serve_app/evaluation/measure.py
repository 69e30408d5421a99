"""How well an engine finds the routes of a labelled set; what ``fingerpost eval`` measures.

A labelled set is a file of JSON lines: first ``{"routes": [{"name", "description", "examples"?}]}``,
then one case a line, ``{"messages": [{"role", "content"}], "expect": NAME or null}``, where null
says that no route matches.
"""

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from serve_app.config.schema.orchestrator import Orchestrator as Section
from serve_app.dialects.openai_chat import dialect
from serve_app.domain import Json, Question, Route, Scores, Turn, Unavailable
from serve_app.engines.embedding.engine import EmbeddingEngine, EngineFaultError, Settings, seen
from serve_app.errors import ConfigError, InvalidRequest, Problem
from serve_app.ports import Orchestrator
from serve_app.scoring.archetypes import ARCHETYPES
from serve_app.scoring.embedding import Scorer, Vector
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
class Case:
    """One conversation and where it belongs."""

    turns: tuple[Turn, ...]
    expect: str | None


@dataclass(frozen=True, slots=True)
class LabelledSet:
    """Routes, and conversations that are known to belong to them or to none."""

    file: str
    routes: tuple[Route, ...]
    cases: tuple[Case, ...]


def read_set(file: Path) -> LabelledSet:
    """The set in a file. Raises ConfigError with every line that is wrong, and why.

    Where the first line says nothing of routes, that is the only problem.
    """
    try:
        lines = file.read_text("utf-8").split("\n")  # splitlines() also cuts inside of texts
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(str(file), (Problem(0, "", f"can't be read: {error}"),)) from error
    problems: list[Problem] = []
    entries = (_object(lines[0]) or {}).get("routes")
    if not isinstance(entries, list) or not entries:
        wanted = 'must be {"routes": [{"name": ..., "description": ...}, ...]}'
        raise ConfigError(str(file), (Problem(1, "", wanted),))
    routes = _read_routes(entries, problems)
    names = _names(entries)
    cases = []
    for number, line in enumerate(lines[1:], 2):
        if line.strip():
            case = _read_case(line, number, names, problems)
            cases += [] if case is None else [case]
    if not problems and not cases:
        problems.append(Problem(len(lines), "", "holds no cases; add one a line"))
    if problems:
        raise ConfigError(str(file), tuple(problems))
    return LabelledSet(str(file), routes, tuple(cases))


def _names(entries: list[Json]) -> set[str] | None:
    """What cases may expect: also routes with a problem. None where one of them has no name."""
    names = [entry.get("name") if isinstance(entry, dict) else None for entry in entries]
    return {str(name) for name in names} if all(names) else None


def _read_routes(entries: list[Json], problems: list[Problem]) -> tuple[Route, ...]:
    routes: list[Route] = []
    for index, entry in enumerate(entries):
        place = f"routes[{index}]"
        texts = entry if isinstance(entry, dict) else {}
        name, description = texts.get("name"), texts.get("description")
        examples = texts.get("examples", [])
        if not (isinstance(name, str) and name and isinstance(description, str) and description):
            problems.append(Problem(1, place, "needs a name and a description, both texts"))
        elif not isinstance(examples, list) or not all(isinstance(e, str) for e in examples):
            problems.append(Problem(1, f"{place}.examples", "must be a list of texts"))
        elif any(name == route.name for route in routes):
            problems.append(Problem(1, place, f"another route is named {name!r}"))
        else:
            routes.append(Route(name, description, (), examples=tuple(examples)))
    return tuple(routes)


def _read_case(
    line: str, number: int, names: set[str] | None, problems: list[Problem]
) -> Case | None:
    case = _object(line)
    if case is None:
        problems.append(Problem(number, "", "is no JSON object"))
        return None
    expect = case.get("expect", "")
    known = names is None or (isinstance(expect, str) and expect in names)
    if expect is not None and not known:
        problems.append(Problem(number, "expect", f"{expect!r} is no route of line 1, nor null"))
        return None
    try:
        turns = dialect.read_turns(case.get("messages"))
    except InvalidRequest as error:
        problems.append(Problem(number, "messages", str(error)))
        return None
    return Case(turns, expect)


def _object(line: str) -> dict[str, Json] | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


@dataclass(frozen=True, slots=True)
class Outcome:
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
    settings: Settings | Section
    """Those of the embedded engine, or of another one."""
    outcomes: tuple[Outcome, ...]
    collisions: tuple[tuple[float, str, str], ...]
    draws: tuple[Draws, ...] = ()

    @property
    def accuracy(self) -> float:
        """Of the cases with a route: the share whose best route is right, thresholds aside."""
        return _share(outcome.right for outcome in self.outcomes if outcome.case.expect is not None)

    @property
    def decided(self) -> float:
        """Of all cases: the share decided rightly with the thresholds, "no route" included."""
        return _share(outcome.decided == outcome.case.expect for outcome in self.outcomes)

    @property
    def engine(self) -> str:
        """Which one was asked."""
        return self.settings.engine if isinstance(self.settings, Section) else "embedding"

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
                _share(right and score >= limit for right, score in inside),
                _share(score < limit for _, score in outside),
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
    labelled: LabelledSet, settings: Settings, progress: Progress, engine: EmbeddingEngine
) -> Evaluation:
    """Decides every case of a set with the embedded engine, one after the other."""
    engine.scorer.prepare(labelled.routes)
    outcomes = asyncio.run(outcomes_of(labelled, progress, _Embedded(engine)))
    return Evaluation(labelled, settings, outcomes, tuple(_collisions(labelled, engine)))


async def outcomes_of(
    labelled: LabelledSet, progress: Progress, engine: Orchestrator, *, generates: bool = False
) -> tuple[Outcome, ...]:
    """What any engine decides for every case of a set, one after the other.

    As in the gateway, one that generates is shown whole conversations.
    Raises EngineFaultError where the first question has no answer: then others have none either.
    """
    outcomes: list[Outcome] = []
    look = conversation if generates else recent
    asked = 0
    for case in progress(labelled.cases):
        question = Question(look(case.turns), labelled.routes, labelled.file)
        if not question.turns:  # nothing was said in words: the gateway asks no engine either
            outcomes.append(Outcome(case, NOWHERE, 0.0, None, 0.0))
            continue
        started = time.perf_counter()
        said = await engine.score(question)
        seconds = time.perf_counter() - started
        asked += 1
        if isinstance(said, Scores):
            outcomes.append(_outcome(case, said, seconds))
        elif asked == 1:
            raise EngineFaultError(f"the engine can't be measured: {said.detail}")
        else:
            outcomes.append(Outcome(case, FAILED, 0.0, FAILED, seconds, said.detail))
    return tuple(outcomes)


def _outcome(case: Case, said: Scores, seconds: float) -> Outcome:
    if not said.routes:
        return Outcome(case, said.winner or NOWHERE, None, said.winner, seconds)
    best = max(said.routes, key=lambda name: said.routes[name])
    return Outcome(case, best, said.routes[best], said.winner, seconds)


def draw_examples(
    labelled: LabelledSet, engine: EmbeddingEngine, settings: Settings, examples: int, draws: int
) -> Draws:
    """Accuracy with so many examples a route, drawn from its own cases, which then don't count.

    Seeded by the number of the draw. A route with too few cases keeps one of them to be asked.
    """
    known: dict[str, Vector] = {}

    def embed(text: str) -> Vector:
        if text not in known:
            known[text] = engine.model.embed(text)
        return known[text]

    bank = ARCHETYPES if settings.archetypes else ()
    scorer = Scorer(embed, min_confidence=0.0, archetypes=bank)
    accuracies = []
    for draw in range(draws):
        chosen = _chosen(labelled.cases, examples, random.Random(draw))  # noqa: S311 - no secret
        routes = tuple(
            replace(route, examples=tuple(_text(case) for case in chosen.get(route.name, ())))
            for route in labelled.routes
        )
        used = {id(case) for cases in chosen.values() for case in cases}
        accuracies.append(
            _share(
                _text(case) != "" and _outcome(case, scorer.score(_text(case), routes), 0.0).right
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
    return seen(Question(recent(case.turns), (), ""))


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


def _share(hits: Iterable[bool]) -> float:
    counted = list(hits)
    return sum(counted) / len(counted) if counted else 0.0
