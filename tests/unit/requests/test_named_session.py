"""Sessions of requests that name a model, where the content decides all the same."""

import json
from pathlib import Path
from typing import Any, Final

import pytest

from serve_app.domain import Scores
from serve_app.exchange import FaultKind
from tests.unit.affinity.session_rig import CODE, DOWN, NOTHING, SAID, TALK, TEXT, ask, rig
from tests.unit.fakes import Rig, fault, request_of

ALWAYS: Final = TEXT + "overrides: {always_route: true}\n"
NAMED: Final = {"model": "openai/c"}
INLINE: Final = {
    "routing_preferences": [
        {"name": "code", "description": "code", "models": ["openai/b"]},
        {"name": "talk", "description": "talk", "models": ["openai/a"]},
    ]
}


@pytest.fixture
def asking(tmp_path: Path) -> Rig:
    return rig(tmp_path, ALWAYS)


def shown(headers: dict[str, str]) -> tuple[str, str, str | None]:
    """Model, reason and state of the session."""
    return (
        headers["x-fingerpost-model"],
        headers["x-fingerpost-reason"],
        headers.get("x-fingerpost-affinity"),
    )


async def test_second_turn_keeps_the_model(asking: Rig) -> None:
    """A session is bound by the route that won over the name, and the next turn stays on it."""
    assert shown(await ask(asking, CODE, body=NAMED)) == ("openai/b", "always_route", "miss")
    assert shown(await ask(asking, TALK, body=NAMED)) == ("openai/b", "affinity", "hit")
    assert len(asking.orchestrator.questions) == 1


async def test_lane_is_the_name(asking: Rig) -> None:
    """Requests by another name, or by one that leaves the model open, are other sessions."""
    assert shown(await ask(asking, CODE, body=NAMED))[0] == "openai/b"
    for body in ({"model": "openai/a"}, {"model": "auto"}, {"model": "smart"}):
        assert shown(await ask(asking, TALK, body=body))[::2] == ("openai/c", "miss")
    assert shown(await ask(asking, TALK, body=NAMED))[::2] == ("openai/b", "hit")
    assert shown(await ask(asking, TALK, hint="openai/c"))[::2] == ("openai/b", "hit")
    assert "s:lane:openai/c" in asking.store.bindings


async def test_named_model_is_bound_until_a_route_matches(asking: Rig) -> None:
    """Without a match the named model answers, and the first match replaces it."""
    assert shown(await ask(asking, NOTHING, body=NAMED)) == ("openai/c", "explicit", "miss")
    assert shown(await ask(asking, NOTHING, body=NAMED)) == ("openai/c", "affinity", "hit")
    assert shown(await ask(asking, CODE, body=NAMED)) == ("openai/b", "always_route", "hit")
    assert shown(await ask(asking, TALK, body=NAMED)) == ("openai/b", "affinity", "hit")


async def test_named_model_is_not_bound_without_an_answer_of_the_engine(asking: Rig) -> None:
    """The named model answers, and the next turn is decided as if it were the first."""
    assert shown(await ask(asking, DOWN, body=NAMED)) == ("openai/c", "explicit", "miss")
    assert asking.store.bindings == {}
    assert shown(await ask(asking, CODE, body=NAMED)) == ("openai/b", "always_route", "miss")


async def test_named_model_follows_the_bound_one(tmp_path: Path) -> None:
    """If the bound model fails, the rest of its route, the named model and its fallbacks follow."""
    asking = rig(tmp_path, ALWAYS)
    await ask(asking, TALK, body={"model": "openai/b"})
    asking.upstream._script["openai/c"].clear()
    asking.upstream._script["openai/c"].append(fault(FaultKind.CONNECT))
    headers = await ask(asking, CODE, body={"model": "openai/b"})
    assert shown(headers) == ("openai/b", "failover", "hit")
    assert asking.upstream.models[-2:] == ["openai/c", "openai/b"]


@pytest.mark.parametrize("scores", [CODE, NOTHING])
async def test_routes_of_the_request_may_bind_the_named_model(asking: Rig, scores: Scores) -> None:
    """It is among the models that such a request may get, so its binding is not void."""
    body = {**NAMED, **INLINE}
    first = shown(await ask(asking, scores, body=body))
    assert first[2] == "miss"
    assert shown(await ask(asking, scores, body=body)) == (first[0], "affinity", "hit")


@pytest.mark.parametrize("body", [NAMED, {"model": "openai/c", "fallbacks": ["openai/a"]}])
async def test_without_always_route_a_name_has_no_session(
    tmp_path: Path, body: dict[str, Any]
) -> None:
    """The named model answers, and nothing is bound."""
    asking = rig(tmp_path)
    for _ in range(2):
        assert shown(await ask(asking, CODE, body=body)) == ("openai/c", "explicit", None)
    assert (asking.store.keys, asking.orchestrator.questions) == ([], [])


async def test_header_turns_it_off(asking: Rig) -> None:
    """A request without a session is decided by its content each time."""
    named = {**SAID["s"], "x-fingerpost-affinity": "off"}
    assert shown(await ask(asking, CODE, body=NAMED, named=named))[2] is None
    assert shown(await ask(asking, TALK, body=NAMED, named=named))[0] == "openai/c"


async def test_explanation_tells_why_the_named_model_follows(asking: Rig) -> None:
    """Its place is neither that of the session's route nor the default."""
    body = {"model": "openai/b", "messages": [{"role": "user", "content": "Hello"}]}
    await ask(asking, TALK, body={"model": "openai/b"})
    request = request_of(asking.snapshot, json.dumps(body), session=SAID["s"])
    answer = await asking.gateway.explain(request)
    assert isinstance(answer.body, bytes)
    said = json.loads(answer.body)
    assert said["reason"] == "affinity"
    assert [candidate["why"] for candidate in said["candidates"]] == [
        "the model that the session is on",
        "what the request names",
        "the default model",
    ]
