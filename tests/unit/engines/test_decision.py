"""The engine `decision`, with a server of decisions on loopback."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from openai.types import Decision
from openai.types.decision_create_params import DecisionCreateParams
from pydantic import TypeAdapter

from serve_app.config.schema.orchestrator import MAX_DECISION_ROUTES
from serve_app.domain import Reason, Route, Scores, TokenUsage, Turn, Unavailable
from serve_app.engines.decision import DecisionEngine, DecisionSettings
from serve_app.engines.servers import SECOND, Servers
from serve_app.scoring.prompt import MAX_TURNS
from tests.unit.config_texts import VERSION
from tests.unit.engines.chat_server import SECRET, Server
from tests.unit.engines.decision_server import (
    NONE,
    ROUTES,
    SURE,
    USAGE,
    MakeDecision,
    choice,
    question,
    system_one,
)
from tests.unit.fakes import snapshot_of


async def test_probabilities_become_scores(make_decision: MakeDecision) -> None:
    """Those of routes and of none, with the tokens and the winner by the default thresholds."""
    assert await make_decision().score(question()) == Scores(
        routes={"travel": 0.05, "code": 0.7, "misc": 0.1},
        threshold=0.2,
        winner="code",
        none=0.15,
        usage=TokenUsage(90, 7, 64),
    )


async def test_question_is_valid_for_openai(server: Server, make_decision: MakeDecision) -> None:
    """It has the form of the official SDK's types, and what the server answers has it, too."""
    await make_decision().score(question())
    (request,), (body,) = server.requests, server.bodies
    assert request.path == "/v1/decisions"
    assert request.headers["authorization"] == f"Bearer {SECRET}"
    TypeAdapter(DecisionCreateParams).validate_python(body)
    assert body["model"] == "luna"
    assert body["input"] == [{"role": "user", "content": "fix this bug"}]
    (asked,) = body["questions"]
    assert (asked["type"], asked["name"]) == ("choice", "route")
    assert asked["choices"] == [
        {"value": "code", "description": "writing programs, fixing bugs"},
        {"value": "misc"},
        {"value": "travel", "description": "booking flights, hotels"},
        {"value": NONE, "description": "The request matches none of the other options."},
    ]
    Decision.model_validate(json.loads((await choice(SURE)(request)).body))  # type: ignore[attr-defined]


async def test_question_for_system_one(server: Server, make_decision: MakeDecision) -> None:
    """The options are a map, the conversation is a text, and the answer has the question's name."""
    server.answer = system_one(SURE)
    talk = replace(
        question(), turns=(Turn("user", "hi"), Turn("assistant", "Hello"), Turn("user", "a bug"))
    )
    scores = await make_decision(api="systemone").score(talk)
    assert isinstance(scores, Scores)
    assert (scores.winner, scores.none, scores.usage) == ("code", 0.15, TokenUsage(318, 34))
    (request,), (body,) = server.requests, server.bodies
    assert request.path == "/v1/systemone"
    assert (body["model"], body["state"]) == ("luna", "user: hi\nassistant: Hello\nuser: a bug")
    (asked,) = body["questions"].values()
    assert asked["type"] == "choice"
    assert list(asked["criteria"].items())[:2] == [
        ("code", "writing programs, fixing bugs"),
        ("misc", None),
    ]
    assert list(body["questions"]) == ["route"]
    assert list(asked["criteria"])[-1] == NONE


async def test_order_of_routes_changes_nothing(server: Server, make_decision: MakeDecision) -> None:
    """The same body is sent, and the scores differ in their order alone."""
    engine = make_decision()
    first = await engine.score(question())
    second = await engine.score(question(routes=ROUTES[::-1]))
    assert isinstance(first, Scores)
    assert isinstance(second, Scores)
    assert server.bodies[0] == server.bodies[1]
    assert first == second
    assert list(first.routes) == list(second.routes)[::-1]


@pytest.mark.parametrize(
    ("probabilities", "changed", "winner", "threshold"),
    [
        ({"code": 0.4, "misc": 0.0, "travel": 0.1, NONE: 0.5}, {}, None, 0.5),
        ({"code": 0.7, "misc": 0.0, "travel": 0.1, NONE: 0.2}, {"min_confidence": 0.8}, None, 0.8),
        ({"code": 0.5, "misc": 0.0, "travel": 0.4, NONE: 0.1}, {"min_margin": 0.2}, None, 0.2),
        ({"code": 0.4, "misc": 0.1, "travel": 0.4, NONE: 0.1}, {}, "code", 0.2),
        ({"code": 0, "misc": 0, "travel": 1, NONE: 0}, {"min_margin": 0.9}, "travel", 0.2),
    ],
)
async def test_thresholds_decide(
    probabilities: dict[str, float],
    changed: dict[str, float],
    winner: str | None,
    threshold: float,
    server: Server,
    make_decision: MakeDecision,
) -> None:
    """A route must reach the confidence, lead the second one, and be likelier than none."""
    server.answer = choice(probabilities)
    scores = await make_decision(**changed).score(question())
    assert isinstance(scores, Scores)
    assert (scores.winner, scores.threshold) == (winner, threshold)
    assert scores.required_margin == changed.get("min_margin", 0.0)


async def test_rounded_probabilities_are_scaled(
    server: Server, make_decision: MakeDecision
) -> None:
    """Their sum becomes 1; options that were not asked for are ignored."""
    server.answer = choice({"code": 0.63, "misc": 0.09, "travel": 0.09, NONE: 0.13, "else": 0.01})
    scores = await make_decision().score(question())
    assert isinstance(scores, Scores)
    assert scores.none is not None
    assert sum(scores.routes.values()) + scores.none == pytest.approx(1, abs=3e-6)
    assert scores.routes["code"] == pytest.approx(0.63 / 0.94, abs=1e-6)


async def test_route_may_be_named_as_the_option_for_none(
    server: Server, make_decision: MakeDecision
) -> None:
    """That option then has another value, which differs also where letter case is ignored."""
    routes = (Route("None of these", "a", ()), Route(f"({NONE})", "b", ()))
    server.answer = choice({"None of these": 0.1, f"({NONE})": 0.2, f"(({NONE}))": 0.7})
    scores = await make_decision().score(question(routes=routes))
    assert isinstance(scores, Scores)
    assert (scores.routes, scores.none) == ({"None of these": 0.1, f"({NONE})": 0.2}, 0.7)


async def test_most_routes_of_a_question(server: Server, make_decision: MakeDecision) -> None:
    """254 are asked for; more are not sent, which does not count as a failure of the server."""
    routes = tuple(Route(f"r{n}", "", ()) for n in range(MAX_DECISION_ROUTES))
    server.answer = choice({**{route.name: 0.0 for route in routes}, "r9": 1.0, NONE: 0.0})
    scores = await make_decision().score(question(routes=routes))
    assert isinstance(scores, Scores)
    assert scores.winner == "r9"
    assert len(server.bodies[0]["questions"][0]["choices"]) == 255
    result = await make_decision().score(question(routes=(*routes, Route("one more", "", ()))))
    assert result == Unavailable(
        Reason.ORCHESTRATOR_BUSY,
        "255 routes are more than the 254 that a question may have; merge some, or use another "
        "engine",
    )
    assert len(server.bodies) == 1


async def test_last_turns_are_sent(server: Server, make_decision: MakeDecision) -> None:
    """At most MAX_TURNS with text, oldest first; unpaired surrogates are replaced."""
    turns = [Turn("assistant" if n % 2 else "user", f"turn {n}") for n in range(21)]
    turns += [Turn("assistant", "  "), Turn("user", "now \ud83d")]
    await make_decision().score(replace(question(), turns=tuple(turns)))
    sent = server.bodies[0]["input"]
    assert [message["content"] for message in sent] == [
        *(f"turn {n}" for n in range(22 - MAX_TURNS, 21)),
        "now ?",
    ]
    assert [message["role"] for message in sent][-2:] == ["user", "user"]


async def test_budget_limits_the_conversation(server: Server, make_decision: MakeDecision) -> None:
    """The newest turn is shortened in its middle, and what is older is left out."""
    turns = (
        Turn("user", "old"),
        Turn("assistant", "older " * 99),
        Turn("user", "x" * 4000 + "end"),
    )
    await make_decision(budget_tokens=256).score(replace(question(), turns=turns))
    (message,) = server.bodies[0]["input"]
    assert message["content"].startswith("xxx")
    assert message["content"].endswith("xend")
    assert len(message["content"].encode()) <= 4 * 256
    short = (Turn("user", "old"), Turn("assistant", "a" * 4000), Turn("user", "end"))
    await make_decision(budget_tokens=256).score(replace(question(), turns=short))
    sent = server.bodies[1]["input"]
    assert [(message["role"], len(message["content"]) > 9) for message in sent] == [
        ("assistant", True),
        ("user", False),
    ]


async def test_routes_may_fill_the_budget(server: Server, make_decision: MakeDecision) -> None:
    """Nothing is sent, and the fault says what to do."""
    routes = (Route("long", "many words " * 100, ()),)
    result = await make_decision(budget_tokens=256).score(question(routes=routes))
    assert isinstance(result, Unavailable)
    assert result.reason is Reason.ORCHESTRATOR_BUSY
    assert result.detail.startswith("these routes need about 29")
    assert result.detail.endswith("raise orchestrator.max_model_len")
    assert server.bodies == []


@pytest.mark.parametrize("api", ["decisions", "systemone"])
async def test_model_of_a_provider_is_asked(api: str, server: Server, tmp_path: Path) -> None:
    """Address, key and price are those of its entry; TypeSafe's API needs no operation there."""
    more = ", operations: [chat, decisions]" if api == "decisions" else ""
    entry = f"{{model: vllm/org/jev, base_url: '{server.url}/own', access_key: $KEY{more}}}"
    text = f"{VERSION}model_providers: [{entry}]\norchestrator:\n  when_unsure:\n"
    text += f"    {{engine: decision, model: vllm/org/jev, api: {api}, min_confidence: 0.3}}\n"
    snapshot = snapshot_of(tmp_path, text)
    better = snapshot.config.orchestrator.when_unsure
    assert better is not None
    servers = Servers.of(snapshot.config, snapshot.providers)
    settings = DecisionSettings.from_section(better, 5.0, servers, SECOND)
    assert (settings.min_confidence, str(settings.server.priced_as)) == (0.3, "vllm/org/jev")
    server.answer = choice(SURE) if api == "decisions" else system_one(SURE)
    engine = DecisionEngine(settings, {"KEY": SECRET})
    scores = await engine.score(question())
    await engine.close()
    assert isinstance(scores, Scores)
    assert scores.winner == "code"
    assert server.requests[0].path == f"/own/{api}"
    assert server.requests[0].headers["authorization"] == f"Bearer {SECRET}"
    assert server.bodies[0]["model"] == "org/jev"


async def test_key_is_not_shown(server: Server, make_decision: MakeDecision) -> None:
    """Neither in the engine's representation nor in that of its settings."""
    engine = make_decision()
    await engine.score(question())
    assert SECRET not in repr(engine) + repr(engine._settings)
    assert "(decisions)" in repr(engine)
    assert USAGE["total_tokens"] == 97
