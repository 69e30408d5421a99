"""Sessions that may switch models: within a budget, on user turns, never in an open tool loop."""

from pathlib import Path
from typing import Any

import pytest

from serve_app.domain import Binding, ModelRef
from tests.unit.affinity.session_rig import (
    CALLS,
    CODE,
    NOTHING,
    RESULTS,
    TALK,
    TEXT,
    USER,
    ask,
    rig,
)
from tests.unit.fakes import Rig

PRICES = """prices:
  openai/b: {input: 3.0, output: 15.0, cached_input: 0.3}
  openai/c: {input: 5.0, output: 25.0}
"""
LONG = "x" * 40_000  # just over 10 000 tokens


def _budget(share: float) -> str:
    return f"{PRICES}routing: {{routing_budget: {{max_switch_spend_pct: {share}}}}}\n"


def _bound(session_rig: Rig, model: str = "b", idle_s: float = 10.0) -> None:
    session_rig.store.bindings["s"] = Binding(
        ModelRef("openai", model), "code", last_used=session_rig.wall_clock.now - idle_s
    )


async def _turn(session_rig: Rig, scores: Any, **more: Any) -> dict[str, str]:
    more.setdefault("body", {"messages": [{"role": "user", "content": LONG}]})
    return await ask(session_rig, scores, **more)


async def test_session_stays_if_switch_exceeds_budget(tmp_path: Path) -> None:
    """A session whose switch would exceed the budget stays on its model and records the cost of
    staying.
    """
    session_rig = rig(tmp_path, TEXT + _budget(25))
    _bound(session_rig)
    headers = await _turn(session_rig, TALK)
    assert (headers["x-fingerpost-model"], headers["x-fingerpost-reason"]) == (
        "openai/b",
        "affinity",
    )
    assert len(session_rig.orchestrator.questions) == 1
    spend = session_rig.store.bindings["s"].spend
    assert spend.baseline_usd == pytest.approx(10_000 * 0.3e-6, rel=0.01)
    assert (spend.switch_spend_usd, spend.switches) == (0.0, 0)


async def test_session_switches_once_budget_allows(tmp_path: Path) -> None:
    """A session switches once the cost of staying has grown enough, and records the cost of the
    switch.
    """
    session_rig = rig(tmp_path, TEXT + _budget(100))
    _bound(session_rig)
    for turn in range(1, 40):  # noqa: B007 - read behind the loop
        session_rig.wall_clock.now += 10
        if (await _turn(session_rig, TALK))["x-fingerpost-model"] == "openai/c":
            break
    cost = 10_000 * (5.0 - 0.3) * 1e-6
    assert turn == pytest.approx(cost / (10_000 * 0.3e-6), abs=1)
    binding = session_rig.store.bindings["s"]
    assert (str(binding.model), binding.spend.switches) == ("openai/c", 1)
    assert binding.spend.switch_spend_usd == pytest.approx(cost, rel=0.01)
    assert binding.default_model == "openai/b"


@pytest.mark.parametrize(
    ("header", "model"), [("0", "openai/b"), ("nonsense", "openai/b"), ("101", "openai/b")]
)
async def test_request_header_sets_switch_budget(tmp_path: Path, header: str, model: str) -> None:
    """The header sets the budget of one request; zero allows free switches only, and an invalid
    value is ignored.
    """
    session_rig = rig(tmp_path, TEXT + PRICES)
    _bound(session_rig)
    named = {"x-model-affinity": "s", "x-plano-max-switch-spend-pct": header}
    headers = await _turn(session_rig, TALK, named=named)
    assert headers["x-fingerpost-model"] == model
    assert len(session_rig.orchestrator.questions) == (1 if header == "0" else 0)


async def test_session_switches_freely_without_prices(tmp_path: Path) -> None:
    """A switch between models without prices is allowed, as in Plano."""
    session_rig = rig(tmp_path, TEXT.replace("openai/", "ollama/").replace(
        "{model: ollama/a, default: true}", '{model: ollama/a, default: true, base_url: "http://h"}'
    ).replace("{model: ollama/b}", '{model: ollama/b, base_url: "http://h"}').replace(
        "{model: ollama/c}", '{model: ollama/c, base_url: "http://h"}'
    ) + "routing: {routing_budget: {max_switch_spend_pct: 0}}\n")  # fmt: skip
    session_rig.upstream._script = {
        name.replace("openai", "ollama"): answers
        for name, answers in session_rig.upstream._script.items()
    }
    session_rig.store.bindings["s"] = Binding(
        ModelRef("ollama", "b"), "code", last_used=session_rig.wall_clock.now
    )
    assert (await _turn(session_rig, TALK))["x-fingerpost-model"] == "ollama/c"


async def test_session_switches_freely_after_cache_expiry(tmp_path: Path) -> None:
    """A session idle for more than five minutes switches without cost, because the provider's cache
    has expired.
    """
    session_rig = rig(tmp_path, TEXT + _budget(0))
    _bound(session_rig, idle_s=301)
    assert (await _turn(session_rig, TALK))["x-fingerpost-model"] == "openai/c"
    assert session_rig.store.bindings["s"].spend.switch_spend_usd == 0.0


async def test_session_stays_in_open_tool_loop(tmp_path: Path) -> None:
    """A session never switches in an open tool loop, whatever its budget is."""
    session_rig = rig(tmp_path, TEXT + _budget(100))
    _bound(session_rig, idle_s=301)
    body = {"messages": [USER, CALLS, RESULTS[0]]}
    assert (await _turn(session_rig, TALK, body=body))["x-fingerpost-model"] == "openai/b"
    assert session_rig.orchestrator.questions == []


async def test_session_stays_if_no_route_matches(tmp_path: Path) -> None:
    """A turn that matches no route does not switch the session."""
    session_rig = rig(tmp_path, TEXT + _budget(100))
    _bound(session_rig)
    assert (await _turn(session_rig, NOTHING))["x-fingerpost-model"] == "openai/b"
    assert (await _turn(session_rig, CODE))["x-fingerpost-model"] == "openai/b"
