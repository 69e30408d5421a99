"""An engine whose decisions are those of a rule."""

from serve_app.domain import Question, Reason, Route, Scores, Turn, Unavailable
from serve_app.engines.calibrated import CalibratedEngine, by_rule
from serve_app.scoring.calibration import Calibration, DecisionRule
from tests.unit.fakes import FakeOrchestrator

QUESTION = Question((Turn("user", "hi"),), (Route("a", "about a", ()),), "v1")
RULE = DecisionRule(0.5, 0.0, Calibration(1.0, 1.0))


async def test_scores_are_those_of_the_rule() -> None:
    """Probabilities are corrected, and the winner follows from them."""
    scores = Scores({"a": 0.6}, 0.12, "a", none=0.4)
    inner = FakeOrchestrator(scores)
    assert await CalibratedEngine(inner, RULE).score(QUESTION) == RULE.apply(scores)
    assert RULE.apply(scores).winner is None


async def test_unavailable_engine_stays_unavailable() -> None:
    """There is nothing to correct."""
    busy = Unavailable(Reason.ORCHESTRATOR_BUSY, "queue")
    assert await CalibratedEngine(FakeOrchestrator(busy), RULE).score(QUESTION) is busy


def test_without_a_rule_the_engine_decides_itself() -> None:
    """Nothing is put around it; with a rule, both are in its text."""
    inner = FakeOrchestrator(Scores({}, 0.0, None))
    assert by_rule(inner, None) is inner
    shown = repr(by_rule(inner, RULE))
    assert repr(inner) in shown
    assert "none_shift=1.0" in shown
