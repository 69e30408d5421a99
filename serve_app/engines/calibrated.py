"""Corrects the probabilities of any engine, and decides by them."""

from serve_app.domain import Question, Scores, Unavailable
from serve_app.ports import Orchestrator
from serve_app.scoring.calibration import DecisionRule


class CalibratedEngine:
    """An orchestrator around another one; its scores are those of a rule."""

    def __init__(self, inner: Orchestrator, rule: DecisionRule) -> None:
        self._inner = inner
        self._rule = rule

    def __repr__(self) -> str:
        return f"<CalibratedEngine {self._inner!r}: {self._rule}>"

    async def score(self, question: Question) -> Scores | Unavailable:
        """The inner scores by the rule; Unavailable is passed on."""
        scores = await self._inner.score(question)
        return self._rule.apply(scores) if isinstance(scores, Scores) else scores


def by_rule(engine: Orchestrator, rule: DecisionRule | None) -> Orchestrator:
    """The engine with the decisions of a rule; for None the engine itself."""
    return engine if rule is None else CalibratedEngine(engine, rule)
