"""Routing rules over HTTP: coding agents' headers, aliases, sessions, and what is shown of a rule."""

import json
from collections.abc import Iterator
from typing import Any, Final
from uuid import uuid4

import pytest

from serve_app.domain import Question, Scores
from tests.scripted_provider import ScriptedProvider
from tests.site import CHAT, MESSAGES, RESPONSES, Answered, Site, question, write_config
from tests.wire.conftest import FakeMeter, serve_api

CLAUDE: Final = {
    "anthropic-version": "2023-06-01",
    "user-agent": "claude-cli/2.1.332 (external, cli)",
    "x-claude-code-request-class": "main",
}
COMPACTION: Final = {**CLAUDE, "x-claude-code-request-class": "compaction"}
EXPLORE: Final = {
    **CLAUDE,
    "x-claude-code-request-class": "subagent",
    "x-claude-code-agent-type": "Explore",
}
RULES: Final = [
    {
        "name": "housekeeping é",
        "match": {"request_class": ["compaction", "auxiliary"]},
        "model": "shared/parrot",
    },
    {"name": "explorer", "match": {"agent_type": "explore"}, "route": "poems and songs"},
    {
        "name": "codex agents",
        "match": {"headers": {"User-Agent": "codex_cli_rs/*", "x-openai-subagent": "*"}},
        "model": "inline/parrot",
    },
    {"name": "broken", "match": {"headers": {"x-broken": "yes"}}, "model": "dead/gone"},
    {"name": "lane", "match": {"alias": "claude-auto", "body_bytes": {"at_most": 300}}, "model": "inline/only-inline"},
    {"name": "large", "match": {"body_bytes": {"at_least": 50_000}}, "route": "translation"},
]  # fmt: skip


class Asked:
    """An orchestrator that finds the route ``code`` for everything, and counts the questions."""

    def __init__(self) -> None:
        self.count = 0

    async def score(self, question: Question) -> Scores:
        self.count += 1
        name = question.routes[0].name
        return Scores({name: 0.9}, 0.2, name)


ASKED: Final = Asked()
METER: Final = FakeMeter()


@pytest.fixture(scope="module")
def rules_site(
    tmp_path_factory: pytest.TempPathFactory,
    providers: dict[str, ScriptedProvider],
    environ: dict[str, str],
) -> Iterator[Site]:
    """A gateway with rules, routes, and an alias that leaves the choice open."""
    file = write_config(tmp_path_factory.mktemp("rules"), providers)
    config = json.loads(file.read_text())
    config["model_aliases"]["claude-auto"] = {"target": "auto"}
    file.write_text(json.dumps({**config, "routing_rules": RULES}))
    with serve_api(file, providers, environ, METER, orchestrator=ASKED) as running:
        yield running


def send(
    site: Site,
    headers: dict[str, str],
    model: str | None = "auto",
    path: str = MESSAGES,
    **fields: Any,
) -> Answered:
    """Asks something new, so that no answer of the orchestrator is cached."""
    body = {**question(path, f"Why does loop {uuid4().hex} never end?"), **fields}
    if model is not None:
        body["model"] = model
    return site.send(json.dumps(body).encode(), path=path, headers=headers)


def shown(answer: Answered) -> tuple[str, str, str | None, str | None]:
    """Model, reason, rule and route of a good answer."""
    assert answer.status == 200, answer.body
    heads = {name.removeprefix("x-fingerpost-"): value for name, value in answer.headers.items()}
    return heads["model"], heads["reason"], heads.get("rule"), heads.get("route")


HOUSEKEEPING: Final = ("shared/parrot", "rule", "housekeeping %C3%A9", None)
BY_CONTENT: Final = ("dedicated/coder", "route", None, "code")


@pytest.mark.parametrize("path", [MESSAGES, CHAT, RESPONSES])
@pytest.mark.parametrize("model", ["auto", "", None, "claude-auto", "smart"])
def test_rule_decides_open_requests_of_every_dialect(
    path: str, model: str | None, rules_site: Site
) -> None:
    """A request that leaves the model open goes where the rule says, and nobody else is asked."""
    before = ASKED.count
    assert shown(send(rules_site, COMPACTION, model, path)) == HOUSEKEEPING
    assert ASKED.count == before


def test_rule_of_a_route_answers_by_its_models(rules_site: Site) -> None:
    """A subagent's type chooses it, in any letter case."""
    answer = send(rules_site, EXPLORE)
    assert shown(answer) == ("inline/poet", "rule", "explorer", "poems and songs")
    assert "x-fingerpost-confidence" not in answer.headers


def test_rule_decides_streams(rules_site: Site) -> None:
    """As it decides complete answers."""
    answer = send(rules_site, COMPACTION, stream=True)
    assert shown(answer) == HOUSEKEEPING
    assert b"event: message_stop" in answer.body


def test_request_without_a_matching_rule_is_decided_by_content(rules_site: Site) -> None:
    """The headers of a rule do not show."""
    before = ASKED.count
    assert shown(send(rules_site, CLAUDE)) == BY_CONTENT
    assert ASKED.count == before + 1


@pytest.mark.parametrize("model", ["inline/parrot", "fast"])
def test_named_model_is_not_decided_by_rules(model: str, rules_site: Site) -> None:
    """Neither is an alias of a model."""
    answer = send(rules_site, COMPACTION, model)
    assert shown(answer)[1:3] == ("alias" if model == "fast" else "explicit", None)


def test_all_headers_of_a_rule_must_match(rules_site: Site) -> None:
    """One of them alone does not decide; letter case does not count."""
    agent = {"user-agent": "Codex_CLI_rs/0.169.0 (Linux)", "x-openai-subagent": "review"}
    assert shown(send(rules_site, agent, path=RESPONSES))[2] == "codex agents"
    for name, value in agent.items():
        assert shown(send(rules_site, {name: value}, path=RESPONSES)) == BY_CONTENT
    empty = {**agent, "x-openai-subagent": ""}
    assert shown(send(rules_site, empty, path=RESPONSES)) == BY_CONTENT


def test_alias_and_size_choose_a_rule(rules_site: Site) -> None:
    """The size is that of the body, in bytes; the name is that which the request asks for."""
    lane = ("inline/only-inline", "rule", "lane", None)
    large = ("shared/polyglot", "rule", "large", "translation")
    assert shown(send(rules_site, {}, "claude-auto")) == lane
    assert shown(send(rules_site, {}, "smart")) == BY_CONTENT
    assert shown(send(rules_site, {}, "claude-auto", metadata={"x": "é" * 200})) == BY_CONTENT
    assert shown(send(rules_site, {}, metadata={"x": "é" * 9000})) == large  # \u00e9: six bytes


def test_first_of_two_matching_rules_decides(rules_site: Site) -> None:
    """A compaction of an explorer's conversation is housekeeping."""
    both = {**EXPLORE, "x-claude-code-request-class": "compaction"}
    assert shown(send(rules_site, both)) == HOUSEKEEPING


def test_session_of_the_main_conversation_is_left_alone(rules_site: Site) -> None:
    """A compaction neither joins the session nor moves it, and begins none."""
    session = {"X-Claude-Code-Session-Id": uuid4().hex}
    other = send(rules_site, {**COMPACTION, **session}, "claude-auto")
    assert shown(other) == HOUSEKEEPING
    assert "x-fingerpost-affinity" not in other.headers
    first = send(rules_site, {**CLAUDE, **session}, "auto")
    assert (shown(first), first.headers["x-fingerpost-affinity"]) == (BY_CONTENT, "miss")
    assert shown(send(rules_site, {**COMPACTION, **session})) == HOUSEKEEPING
    again = send(rules_site, {**CLAUDE, **session})
    assert shown(again) == ("dedicated/coder", "affinity", None, "code")
    assert again.headers["x-fingerpost-affinity"] == "hit"


def test_default_model_answers_when_the_model_of_a_rule_fails(rules_site: Site) -> None:
    """The header of the rule stays."""
    answer = send(rules_site, {"x-broken": "yes"})
    assert shown(answer) == ("dedicated/parrot", "failover", "broken", None)


def test_explanation_names_the_rule(rules_site: Site) -> None:
    """With what of the request met its conditions; without a rule it has no such key."""
    agent = {"user-agent": "codex_cli_rs/1", "x-openai-subagent": "review"}
    explained = send(rules_site, agent, path="/v1/route")
    assert explained.headers["x-fingerpost-rule"] == "codex agents"
    content = explained.json
    assert content["rule"] == {
        "name": "codex agents",
        "matched": ["header user-agent: codex_cli_rs/*", "header x-openai-subagent: *"],
    }
    assert content["candidates"] == [
        {"model": "inline/parrot", "why": "the model of rule 'codex agents'"},
        {"model": "dedicated/parrot", "why": "the default model"},
    ]
    assert (content["orchestrator"], content["session"]) == (None, None)
    by_route = send(rules_site, EXPLORE, path="/v1/route").json
    assert by_route["candidates"][0]["why"] == "model 1 of route 'poems and songs'"
    assert "rule" not in send(rules_site, CLAUDE, path="/v1/route").json


def test_decision_api_follows_rules(rules_site: Site) -> None:
    """It lists the models of the rule, without the default."""
    answer = send(rules_site, COMPACTION, "inline/parrot", "/routing/v1/messages")
    content = answer.json
    assert (content["models"], content["route"]) == (["shared/parrot"], None)
    assert (content["reason"], content["scores"]) == ("rule", None)
    by_route = send(rules_site, EXPLORE, path="/routing/v1/messages").json
    assert (by_route["models"], by_route["route"]) == (["inline/poet"], "poems and songs")


def test_routes_of_a_request_skip_rules_of_other_routes(rules_site: Site) -> None:
    """A rule of a model decides all the same, and so does one whose route the request brings."""
    own = {"description": "d", "models": ["inline/own"]}
    code, poems = {"name": "sea", **own}, {"name": "poems and songs", **own}
    assert shown(send(rules_site, EXPLORE, routing_preferences=[code]))[1:] == (
        "route",
        None,
        "sea",
    )
    brought = send(rules_site, EXPLORE, routing_preferences=[code, poems])
    assert shown(brought) == ("inline/own", "rule", "explorer", "poems and songs")
    assert shown(send(rules_site, COMPACTION, routing_preferences=[code])) == HOUSEKEEPING


def test_requests_of_rules_are_counted_by_their_reason(rules_site: Site) -> None:
    """The label of the requests' metric has it."""
    send(rules_site, COMPACTION)
    assert any("rule" in labels for _, labels in METER.counts)
