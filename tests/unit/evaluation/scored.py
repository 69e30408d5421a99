"""Outcomes with probabilities, as tests of calibration need them."""

import random
from collections.abc import Mapping
from typing import Final

from serve_app.domain import Route, Scores, Turn
from serve_app.engines.embedding.engine import EmbeddingSettings
from serve_app.evaluation.labelled_set import Case, LabelledSet
from serve_app.evaluation.measure import CaseOutcome, Evaluation, case_outcome
from serve_app.scoring.calibration import Calibration, DecisionRule

NAMES: Final = ("a", "b", "c")
RULE: Final = DecisionRule(0.0)


def scored(
    expect: str | None,
    routes: Mapping[str, float],
    none: float,
    *,
    rule: DecisionRule = RULE,
    lang: str | None = None,
) -> CaseOutcome:
    """The outcome of a case with these probabilities, decided by a rule."""
    case = Case((Turn("user", "x"),), expect, lang)
    return case_outcome(case, rule.apply(Scores(routes, 0.0, None, none=none)), 0.001)


def evaluation_with(*outcomes: CaseOutcome, file: str = "set.jsonl") -> Evaluation:
    """The evaluation of a set with three routes."""
    routes = tuple(Route(name, f"about {name}", ()) for name in NAMES)
    cases = tuple(outcome.case for outcome in outcomes)
    return Evaluation(LabelledSet(file, routes, cases), EmbeddingSettings(), outcomes, ())


def drawn(count: int, distortion: Calibration, seed: int = 0) -> list[CaseOutcome]:
    """Cases whose answers are drawn from the probabilities, which are then distorted.

    The inverse of the distortion makes them right again.
    """
    chance = random.Random(seed)
    outcomes = []
    for _ in range(count):
        weights = [chance.gammavariate(0.6, 1.0) + 1e-3 for _ in range(len(NAMES) + 1)]
        shares = [weight / sum(weights) for weight in weights]
        expect = chance.choices([None, *NAMES], shares)[0]
        routes = dict(zip(NAMES, shares[1:], strict=True))
        outcomes.append(scored(expect, *distortion.correct(routes, shares[0])))
    return outcomes
