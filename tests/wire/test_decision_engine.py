"""The engine `decision` of one gateway asks the orchestrator of another one."""

import pytest

from serve_app.domain import Question, Reason, Route, Scores, Turn, Unavailable
from serve_app.engines.decision import DecisionEngine, DecisionSettings
from serve_app.engines.servers import own_server
from serve_app.exchange import Operation
from tests.site import Site

ROUTES = (
    Route("code", "writing, explaining and debugging code", ()),
    Route("poems", "poems, song lyrics and rhymes", ()),
)


def engine_at(site: Site, api: str, model: str = "fingerpost/route") -> DecisionEngine:
    server = own_server(f"{site.url}/v1", model, "client-key", Operation.DECISIONS)
    return DecisionEngine(DecisionSettings(server, api=api), {})


@pytest.mark.parametrize("api", ["decisions", "systemone"])
async def test_another_gateway_decides(api: str, site: Site) -> None:
    """Both APIs have its probabilities, in any order of the routes."""
    engine = engine_at(site, api)
    question = Question((Turn("user", "Write a poem with rhymes about the sea"),), ROUTES, "v1")
    scores = await engine.score(question)
    reverse = await engine.score(Question(question.turns, ROUTES[::-1], "v2"))
    await engine.close()
    assert isinstance(scores, Scores)
    assert scores.winner == "poems"
    assert scores.none is not None
    assert sum(scores.routes.values()) + scores.none == pytest.approx(1, abs=3e-6)
    assert isinstance(reverse, Scores)
    assert (scores.routes, scores.none) == (reverse.routes, reverse.none)


async def test_gateway_without_the_model_is_a_fault(site: Site) -> None:
    """The fault says which key to check."""
    engine = engine_at(site, "decisions", "unknown/jev")
    result = await engine.score(Question((Turn("user", "Hello there"),), ROUTES, "v1"))
    await engine.close()
    assert isinstance(result, Unavailable)
    assert result.reason is Reason.ORCHESTRATOR_ERROR
    assert result.detail.endswith("check orchestrator.model and base_url")
