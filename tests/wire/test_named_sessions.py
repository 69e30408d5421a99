"""Sessions where every request is routed by its content, and how many of them are kept."""

import json
from collections.abc import Iterator
from uuid import uuid4

import pytest

from tests.scripted_provider import ScriptedProvider
from tests.site import PROMPTS, Answered, Site, write_routing_config
from tests.wire.conftest import serve_api

CODE, VERSE = "dedicated/coder", "inline/poet"


@pytest.fixture
def always_site(
    tmp_path_factory: pytest.TempPathFactory, providers: dict[str, ScriptedProvider]
) -> Iterator[Site]:
    """A gateway that always routes, and keeps three sessions."""
    file = write_routing_config(tmp_path_factory.mktemp("always"), providers)
    config = {**json.loads(file.read_text()), "routing": {"session_max_entries": 3}}
    file.write_text(json.dumps(config))
    with serve_api(file, providers, {}) as running:
        yield running


def turn(
    site: Site, route: str, session: str, model: str = "shared/named", **headers: str
) -> Answered:
    body = {"model": model, "messages": [{"role": "user", "content": PROMPTS[route]}]}
    more = {name.replace("_", "-"): value for name, value in headers.items()}
    return site.send(json.dumps(body).encode(), headers={"X-Model-Affinity": session, **more})


def shown(answer: Answered) -> tuple[str, str, str]:
    """Model, reason and state of the session."""
    assert answer.status == 200, answer.body
    names = ("model", "reason", "affinity")
    model, reason, affinity = (answer.headers[f"x-fingerpost-{name}"] for name in names)
    return model, reason, affinity


def test_session_of_a_named_model_is_pinned(always_site: Site) -> None:
    """The first turn's route decides, and later turns by the same name stay on its model."""
    session = uuid4().hex
    assert shown(turn(always_site, "code", session)) == (CODE, "always_route", "miss")
    assert shown(turn(always_site, "poems and songs", session)) == (CODE, "affinity", "hit")
    other = turn(always_site, "poems and songs", session, "shared/other")
    assert shown(other) == (VERSE, "always_route", "miss")
    assert shown(turn(always_site, "poems and songs", session)) == (CODE, "affinity", "hit")


def test_subagents_and_side_requests_do_not_inherit_the_pin(always_site: Site) -> None:
    """Each subagent is bound by its own first turn; a compaction goes on with the conversation."""
    session, verse = uuid4().hex, "poems and songs"
    for more in (
        {},
        {"x_claude_code_agent_id": "a1"},
        {"x_claude_code_request_class": "auxiliary"},
    ):
        route = "code" if not more else verse
        expected = CODE if not more else VERSE
        first = shown(turn(always_site, route, session, **more))
        assert first == (expected, "always_route", "miss")
        other = "code" if route == verse else verse
        assert shown(turn(always_site, other, session, **more)) == (expected, "affinity", "hit")
    compaction = turn(always_site, verse, session, x_claude_code_request_class="compaction")
    assert shown(compaction) == (CODE, "affinity", "hit")
    second = turn(always_site, "code", session, x_claude_code_agent_id="a2")
    assert shown(second) == (CODE, "always_route", "miss")


def test_no_more_sessions_are_bound_than_configured(always_site: Site) -> None:
    """The ingress forgets a session together with the store, also one that it has just used."""
    one, *others = (uuid4().hex for _ in range(4))
    for session in (one, *others[:2]):
        assert shown(turn(always_site, "code", session))[2] == "miss"
    assert shown(turn(always_site, "code", one))[2] == "hit"
    assert shown(turn(always_site, "code", others[2]))[2] == "miss"
    assert [shown(turn(always_site, "code", session))[2] for session in others] == ["hit"] * 3
    assert shown(turn(always_site, "code", one))[2] == "miss"
