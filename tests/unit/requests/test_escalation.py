"""Conversations that move one model up their route after a setback."""

import json
from pathlib import Path
from typing import Any

import pytest

from serve_app.domain import Binding, ModelRef, Reason, Scores
from serve_app.snapshot import Snapshot
from tests.unit.config.broken import V
from tests.unit.fakes import Rig, headers_of, reply, request_of, snapshot_of
from tests.unit.requests.gateway_rig import make_rig

TEXT = f"""{V}
model_providers:
  - {{model: openai/a}}
  - {{model: openai/b}}
  - {{model: openai/c}}
  - {{model: openai/d, default: true}}
routing_preferences:
  - {{name: code, description: d, models: [openai/a, openai/b, openai/c], escalate: true}}
  - {{name: plain, description: d, models: [openai/a, openai/b]}}
"""
STILL_WRONG = [
    {"role": "user", "content": "Fix the test"},
    {"role": "assistant", "content": "Done"},
    {"role": "user", "content": "No, it is still wrong"},
]
SESSION = {"x-model-affinity": "s"}


def failing(times: int) -> list[dict[str, Any]]:
    """An agent whose tool fails so often."""
    messages: list[dict[str, Any]] = [{"role": "user", "content": "Fix the test"}]
    for number in range(times):
        function = {"name": "edit", "arguments": "{}"}
        call = {"id": f"c{number}", "type": "function", "function": function}
        messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
        messages.append({"role": "tool", "tool_call_id": f"c{number}", "content": "Error: no"})
    return messages


def rig_of(snapshot: Snapshot, route: str = "code") -> Rig:
    """A gateway whose orchestrator names a route."""
    names = [f"openai/{name}" for name in "abcd"]
    return make_rig(snapshot, {name: reply() for name in names}, Scores({route: 0.9}, 0.1, route))


@pytest.fixture
def snapshot(tmp_path: Path) -> Snapshot:
    """A configuration with a route that escalates, and one that does not."""
    return snapshot_of(tmp_path, TEXT)


async def asked(rig: Rig, messages: list[dict[str, Any]], **more: Any) -> tuple[str, str]:
    """Which model answers in the session, and why."""
    headers = headers_of(await rig.ask({"messages": messages}, **{"named": SESSION, **more}))
    return headers["x-fingerpost-model"].removeprefix("openai/"), headers["x-fingerpost-reason"]


async def test_session_moves_up_at_each_setback(snapshot: Snapshot) -> None:
    """It stays on the new model until the next setback, and at last on the last one."""
    rig = rig_of(snapshot)
    steps = [
        (failing(0), "a", "route"),
        (failing(2), "a", "affinity"),
        (failing(3), "b", "escalation"),
        (failing(4), "b", "affinity"),
        (failing(5), "b", "affinity"),
        (failing(6), "c", "escalation"),
        (STILL_WRONG, "c", "affinity"),
    ]
    for messages, model, reason in steps:
        assert await asked(rig, messages) == (model, reason)
    assert len(rig.orchestrator.questions) == 1
    (binding,) = rig.store.bindings.values()
    assert (binding.model, binding.route) == (ModelRef("openai", "c"), "code")


async def test_user_moves_session_up(snapshot: Snapshot) -> None:
    """A user who says that it is still wrong gets the next model at once."""
    rig = rig_of(snapshot)
    assert await asked(rig, failing(0)) == ("a", "route")
    assert await asked(rig, STILL_WRONG) == ("b", "escalation")
    assert await asked(rig, failing(1)) == ("b", "affinity")


async def test_weaker_models_come_after_stronger_ones(snapshot: Snapshot) -> None:
    """If the next model fails, the one above it is asked, then the one below, then the default."""
    rig = rig_of(snapshot)
    await asked(rig, failing(0))
    for name in "bca":
        rig.upstream._script[f"openai/{name}"].clear()
        rig.upstream._script[f"openai/{name}"].append(reply(404, b"{}"))
    assert await asked(rig, STILL_WRONG) == ("d", "failover")
    assert rig.upstream.models[1:] == ["openai/b", "openai/c", "openai/a", "openai/d"]


async def test_request_without_session_starts_one_further(snapshot: Snapshot) -> None:
    """So does the first request of a session."""
    rig = rig_of(snapshot)
    for named in ({"x-fingerpost-affinity": "off"}, SESSION):
        assert await asked(rig, STILL_WRONG, named=named) == ("b", "escalation")


async def test_route_without_escalation_stays(snapshot: Snapshot) -> None:
    """It is off by default."""
    rig = rig_of(snapshot, "plain")
    assert await asked(rig, STILL_WRONG) == ("a", "route")
    assert await asked(rig, failing(3)) == ("a", "affinity")


async def test_state_of_provider_stays(snapshot: Snapshot) -> None:
    """A conversation that only its provider can read does not move."""
    rig = rig_of(snapshot)
    await asked(rig, failing(0))
    spoken = {"role": "assistant", "audio": {"id": "audio_1"}}
    assert await asked(rig, [*STILL_WRONG[:1], spoken, STILL_WRONG[2]]) == ("a", "affinity")


async def test_session_of_another_model_stays(snapshot: Snapshot) -> None:
    """A model outside of the route, such as the default after a failure, has no next one."""
    rig = rig_of(snapshot)
    await asked(rig, failing(0))
    (key,) = rig.store.bindings
    rig.store.bindings[key] = Binding(ModelRef("openai", "d"), "code")
    assert await asked(rig, STILL_WRONG) == ("d", "affinity")


async def test_routed_turns_do_not_move_session_down(tmp_path: Path) -> None:
    """With `route_on_user_only`, a turn that matches the same route keeps the model reached."""
    text = f"{TEXT}routing: {{route_on_user_only: true}}\n"
    rig = rig_of(snapshot_of(tmp_path, text))
    assert await asked(rig, failing(0)) == ("a", "route")
    assert await asked(rig, STILL_WRONG) == ("b", "escalation")
    assert await asked(rig, failing(0)) == ("b", "affinity")
    rig.orchestrator.scores = Scores({"plain": 0.9}, 0.1, "plain")
    assert await asked(rig, failing(0)) == ("a", "route")


async def test_budget_may_refuse_the_move(tmp_path: Path) -> None:
    """A session's budget for changes of its model counts for this one, too."""
    prices = "prices: {openai/a: {input: 1, output: 1}, openai/b: {input: 900, output: 900}}\n"
    budget = "routing: {routing_budget: {max_switch_spend_pct: 1}}\n"
    rig = rig_of(snapshot_of(tmp_path, TEXT + prices + budget))
    assert await asked(rig, failing(0)) == ("a", "route")
    assert await asked(rig, STILL_WRONG) == ("a", "affinity")


async def explained(rig: Rig, messages: list[dict[str, Any]]) -> Any:
    """The explanation of a decision in the session."""
    content = json.dumps({"messages": messages})
    answer = await rig.gateway.explain(request_of(rig.snapshot, content, session=SESSION))
    assert isinstance(answer.body, bytes)
    return json.loads(answer.body)


async def test_explanation_names_the_setback(snapshot: Snapshot) -> None:
    """With each candidate's place, with a session and without."""
    rig = rig_of(snapshot)
    first = await explained(rig, STILL_WRONG)
    await asked(rig, failing(0))
    second = await explained(rig, failing(3))
    because = "the next model of route 'code', because "
    places = ["of route 'code'", "of route 'code'", "the default model"]
    assert first["setback"] == "still_wrong"
    assert second["setback"] == "tool_fails"
    assert {first["reason"], second["reason"]} == {Reason.ESCALATION}
    assert [entry["why"] for entry in first["candidates"]] == [
        f"{because}the user says that it is still wrong",
        *places,
    ]
    assert [entry["why"] for entry in second["candidates"]] == [
        f"{because}the same tool has failed three times in a row",
        *places,
    ]
    assert "setback" not in await explained(rig, failing(1))


async def test_decision_api_lists_the_next_model_first(snapshot: Snapshot) -> None:
    """Plano's clients ask the models in the order of the answer."""
    rig = rig_of(snapshot)
    await asked(rig, failing(0))
    content = json.dumps({"messages": STILL_WRONG})
    answer = await rig.gateway.match(request_of(snapshot, content, session=SESSION))
    assert isinstance(answer.body, bytes)
    assert json.loads(answer.body)["models"] == [f"openai/{name}" for name in "bcad"]
