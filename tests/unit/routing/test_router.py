"""Which models may answer, and why."""

from pathlib import Path

import pytest

from serve_app.domain import ModelRef, Reason, RouteDecision, Scores, Unavailable
from serve_app.errors import NoModel, UnknownModel
from serve_app.routing.policy import Policy
from serve_app.routing.router import ByContent, ModelChoice, by_scores, confidence, decide, default
from tests.unit.config.broken import V
from tests.unit.fakes import snapshot_of

MODELS = f"""{V}
model_providers:
  - {{model: openai/a, name: first%s}}
  - {{model: openai/b}}
  - {{model: vllm/b, base_url: "http://h:1"}}
  - {{model: ollama/*, base_url: "http://h:2"}}
model_aliases:
  fast: {{target: openai/b}}
  smart: {{target: auto}}
"""
ROUTES = """
routing_preferences:
  - {name: code, description: d, models: [openai/b, openai/a]}
  - {name: talk, description: d, models: [ollama/x]}
"""


ALWAYS = "overrides: {always_route: true}\n"


def policy_of(
    directory: Path, *, default: bool = True, routes: bool = True, always: bool = False
) -> Policy:
    text = MODELS % (", default: true" if default else "")
    return snapshot_of(directory, text + ROUTES * routes + ALWAYS * always).policy


def models(*names: str) -> tuple[ModelRef, ...]:
    return tuple(map(ModelRef.parse, names))


@pytest.mark.parametrize(
    ("wish", "candidates", "reason"),
    [
        (ModelChoice("openai/a"), ["openai/a"], Reason.EXPLICIT),
        (ModelChoice("a"), ["openai/a"], Reason.EXPLICIT),
        (ModelChoice("ollama/x"), ["ollama/x"], Reason.EXPLICIT),
        (ModelChoice("fast"), ["openai/b"], Reason.ALIAS),
        (ModelChoice(None, "first"), ["openai/a"], Reason.EXPLICIT),
        (ModelChoice("auto", "first"), ["openai/a"], Reason.EXPLICIT),
        (ModelChoice("openai/b", "first"), ["openai/a"], Reason.EXPLICIT),
        (ModelChoice("zzz", "first"), ["openai/a"], Reason.EXPLICIT),
        (ModelChoice("openai/b", "fast"), ["openai/b"], Reason.EXPLICIT),
        (ModelChoice("openai/b", ""), ["openai/b"], Reason.EXPLICIT),
        (ModelChoice("a", None, ("fast", "ollama/x")), ["openai/a", "openai/b", "ollama/x"], Reason.EXPLICIT),
        (ModelChoice("fast", None, ("a",)), ["openai/b", "openai/a"], Reason.ALIAS),
        (ModelChoice("a", None, ("openai/a", "a", "fast", "openai/b")), ["openai/a", "openai/b"], Reason.EXPLICIT),
        (ModelChoice(None, "first", ("fast",)), ["openai/a", "openai/b"], Reason.EXPLICIT),
    ],
)  # fmt: skip
def test_explicit_name_needs_no_scores(
    wish: ModelChoice, candidates: list[str], reason: Reason, tmp_path: Path
) -> None:
    """The candidates are that model and then the client's own fallbacks, without duplicates."""
    assert decide(policy_of(tmp_path), wish) == RouteDecision(models(*candidates), reason)


AUTO = [None, "", "none", "auto", "None", "NONE", "Auto", "AUTO", "smart"]


@pytest.mark.parametrize("model", AUTO)
def test_missing_name_is_decided_by_content(model: str | None, tmp_path: Path) -> None:
    """Absent, empty, none and auto, in any case, and aliases of these have this meaning."""
    policy = policy_of(tmp_path)
    assert decide(policy, ModelChoice(model)) == ByContent(policy.routes)


@pytest.mark.parametrize("model", AUTO)
def test_without_routes_the_default_answers(model: str | None, tmp_path: Path) -> None:
    """There is nothing to score."""
    decision = decide(policy_of(tmp_path, routes=False), ModelChoice(model))
    assert decision == RouteDecision(models("openai/a"), Reason.DEFAULT)


@pytest.mark.parametrize("model", AUTO)
def test_without_routes_and_default_there_is_no_model(model: str | None, tmp_path: Path) -> None:
    """The client gets a 400."""
    with pytest.raises(NoModel):
        decide(policy_of(tmp_path, routes=False, default=False), ModelChoice(model))


@pytest.mark.parametrize(
    ("wish", "name", "param", "near"),
    [
        (ModelChoice("openai/bb"), "openai/bb", "model", "openai/b"),
        (ModelChoice("b"), "b", "model", "openai/b"),
        (ModelChoice("autos"), "autos", "model", "ollama/autos"),
        (ModelChoice(" auto"), " auto", "model", "ollama/ auto"),
        (ModelChoice("a", "zzz"), "zzz", "x-arch-llm-provider-hint", "ollama/zzz"),
        (ModelChoice("a", None, ("fast", "fasd")), "fasd", "models", "fast"),
    ],
)
def test_unknown_name_is_refused(
    wish: ModelChoice, name: str, param: str, near: str, tmp_path: Path
) -> None:
    """The 404 has the name, its parameter, and similar names."""
    with pytest.raises(UnknownModel) as caught:
        decide(policy_of(tmp_path), wish)
    assert (caught.value.model, caught.value.param) == (name, param)
    assert near in caught.value.nearest


@pytest.mark.parametrize("reason", [Reason.DEFAULT, Reason.ORCHESTRATOR_TIMEOUT])
def test_default_has_the_reason_of_the_caller(reason: Reason, tmp_path: Path) -> None:
    """It is the default model of the policy."""
    assert default(policy_of(tmp_path), reason) == RouteDecision(models("openai/a"), reason)


def test_without_a_default_the_first_route_answers(tmp_path: Path) -> None:
    """All its models are candidates, in their order."""
    decision = default(policy_of(tmp_path, default=False), Reason.DEFAULT)
    assert decision.candidates == models("openai/b", "openai/a")


@pytest.mark.parametrize(
    ("winner", "with_default", "candidates", "reason", "confidence"),
    [
        ("code", True, ["openai/b", "openai/a"], Reason.ROUTE, 0.7),
        ("talk", True, ["ollama/x", "openai/a"], Reason.ROUTE, 0.2),
        ("talk", False, ["ollama/x"], Reason.ROUTE, 0.2),
        (None, True, ["openai/a"], Reason.NO_MATCH, 0.7),
        (None, False, ["openai/b", "openai/a"], Reason.NO_MATCH, 0.7),
        ("gone", True, ["openai/a"], Reason.NO_MATCH, 0.7),
    ],
)
def test_winner_selects_a_route(
    winner: str | None,
    with_default: bool,
    candidates: list[str],
    reason: Reason,
    confidence: float | None,
    tmp_path: Path,
) -> None:
    """Its models come first and then the default; without a winner only the default."""
    policy = policy_of(tmp_path, default=with_default)
    scores = Scores({"code": 0.7, "talk": 0.2}, 0.1, winner)
    route = winner if reason is Reason.ROUTE else None
    assert by_scores(policy, ByContent(policy.routes), scores) == RouteDecision(
        models(*candidates), reason, route, confidence
    )


def test_winner_without_score_has_no_confidence(tmp_path: Path) -> None:
    """An orchestrator that leaves a score out fails no request."""
    policy = policy_of(tmp_path)
    decision = by_scores(policy, ByContent(policy.routes), Scores({}, 0.1, "code"))
    assert (decision.route, decision.confidence) == ("code", None)


@pytest.mark.parametrize("always", [True, False])
@pytest.mark.parametrize(
    "wish", [ModelChoice("auto"), ModelChoice("a", "smart"), ModelChoice("zzz", "NONE")]
)
def test_hint_has_precedence_over_name(wish: ModelChoice, always: bool, tmp_path: Path) -> None:
    """It may also leave the choice to the gateway."""
    policy = policy_of(tmp_path, always=always)
    assert decide(policy, wish) == ByContent(policy.routes)


NAMED = [
    (ModelChoice("vllm/b"), ["vllm/b"], Reason.EXPLICIT),
    (ModelChoice("fast"), ["openai/b"], Reason.ALIAS),
    (ModelChoice("zzz", "first"), ["openai/a"], Reason.EXPLICIT),
    (ModelChoice("vllm/b", None, ("fast", "ollama/y")), ["vllm/b", "openai/b", "ollama/y"], Reason.EXPLICIT),
]  # fmt: skip


@pytest.mark.parametrize(("wish", "candidates", "reason"), NAMED)
def test_always_route_scores_named_models_too(
    wish: ModelChoice, candidates: list[str], reason: Reason, tmp_path: Path
) -> None:
    """The decision by name is kept for the case that no route matches."""
    policy = policy_of(tmp_path, always=True)
    otherwise = RouteDecision(models(*candidates), reason)
    assert decide(policy, wish) == ByContent(policy.routes, otherwise)
    assert decide(policy, wish, policy.routes[1:]) == ByContent(policy.routes[1:], otherwise)


@pytest.mark.parametrize(("wish", "candidates", "reason"), NAMED)
def test_always_route_needs_routes(
    wish: ModelChoice, candidates: list[str], reason: Reason, tmp_path: Path
) -> None:
    """Without them, or if the request removes them, a name is explicit."""
    named = RouteDecision(models(*candidates), reason)
    assert decide(policy_of(tmp_path, always=True), wish, ()) == named
    assert decide(policy_of(tmp_path, always=True, routes=False), wish) == named


def test_always_route_refuses_unknown_names(tmp_path: Path) -> None:
    """A route might win, but the mistake is still reported."""
    for wish in (
        ModelChoice("openai/bb"),
        ModelChoice("a", "zzz"),
        ModelChoice("a", None, ("fasd",)),
    ):
        with pytest.raises(UnknownModel):
            decide(policy_of(tmp_path, always=True), wish)


@pytest.mark.parametrize(
    ("named", "winner", "candidates"),
    [
        (["vllm/b"], "code", ["openai/b", "openai/a", "vllm/b"]),
        (["vllm/b"], "talk", ["ollama/x", "vllm/b", "openai/a"]),
        (["openai/a"], "talk", ["ollama/x", "openai/a"]),
        (["ollama/x", "vllm/b"], "talk", ["ollama/x", "vllm/b", "openai/a"]),
    ],
)
@pytest.mark.parametrize("cached", [True, False])
def test_matching_route_has_precedence_over_name(
    named: list[str], winner: str, candidates: list[str], cached: bool, tmp_path: Path
) -> None:
    """The candidates are its models, the named one, and the default, without duplicates."""
    policy = policy_of(tmp_path, always=True)
    asked = ByContent(policy.routes, RouteDecision(models(*named), Reason.EXPLICIT))
    scores = Scores({"code": 0.7, "talk": 0.2}, 0.1, winner, cached=cached)
    assert by_scores(policy, asked, scores) == RouteDecision(
        models(*candidates), Reason.ALWAYS_ROUTE, winner, scores.routes[winner]
    )


@pytest.mark.parametrize(
    "scores",
    [
        Scores({"code": 0.7}, 0.9, None),
        Scores({}, 0.0, None),
        Scores({"code": 0.7}, 0.1, "gone"),
        Unavailable(Reason.ORCHESTRATOR_TIMEOUT, "x"),
        Unavailable(Reason.BREAKER_OPEN, "x"),
    ],
)
@pytest.mark.parametrize("reason", [Reason.EXPLICIT, Reason.ALIAS])
def test_without_a_match_the_name_decides(
    scores: Scores | Unavailable, reason: Reason, tmp_path: Path
) -> None:
    """The decision is the same as without routing."""
    policy = policy_of(tmp_path, always=True)
    named = RouteDecision(models("vllm/b", "openai/b"), reason)
    assert by_scores(policy, ByContent(policy.routes, named), scores) is named


@pytest.mark.parametrize("with_default", [True, False])
def test_without_an_orchestrator_the_default_answers(with_default: bool, tmp_path: Path) -> None:
    """Otherwise it is the first of the scored routes; the reason is the orchestrator's."""
    policy = policy_of(tmp_path, default=with_default)
    scores = Unavailable(Reason.ORCHESTRATOR_BUSY, "x")
    expected = models("openai/a") if with_default else models("ollama/x")
    assert by_scores(policy, ByContent(policy.routes[1:]), scores) == RouteDecision(
        expected, Reason.ORCHESTRATOR_BUSY
    )


@pytest.mark.parametrize(
    ("score", "expected"), [(None, None), (-0.2, 0.0), (0.0, 0.0), (0.5, 0.5), (1.0000001, 1.0)]
)
def test_confidence_is_limited_to_0_and_1(score: float | None, expected: float | None) -> None:
    """A cosine may be slightly outside."""
    assert confidence(score) == expected
