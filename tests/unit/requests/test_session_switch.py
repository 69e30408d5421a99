"""Sessions that may move: within a budget, on the user's turns, never in an open tool loop."""

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
LONG = "x" * 40_000  # 10 000 tokens and a few


def _budget(share: float) -> str:
    return f"{PRICES}routing: {{routing_budget: {{max_switch_spend_pct: {share}}}}}\n"


def _bound(asking: Rig, model: str = "b", idle_s: float = 10.0) -> None:
    asking.store.bindings["s"] = Binding(
        ModelRef("openai", model), "code", last_used=asking.wall_clock.now - idle_s
    )


async def _turn(asking: Rig, said: Any, **more: Any) -> dict[str, str]:
    more.setdefault("body", {"messages": [{"role": "user", "content": LONG}]})
    return await ask(asking, said, **more)


async def test_what_costs_too_much_is_not_done(tmp_path: Path) -> None:
    """The session stays, and its books say what staying has cost."""
    asking = rig(tmp_path, TEXT + _budget(25))
    _bound(asking)
    headers = await _turn(asking, TALK)
    assert (headers["x-fingerpost-model"], headers["x-fingerpost-reason"]) == (
        "openai/b",
        "affinity",
    )
    assert len(asking.orchestrator.asked) == 1
    spend = asking.store.bindings["s"].spend
    assert spend.baseline_usd == pytest.approx(10_000 * 0.3e-6, rel=0.01)
    assert (spend.switch_spend_usd, spend.switches) == (0.0, 0)


async def test_what_fits_is_done_in_time(tmp_path: Path) -> None:
    """Once staying has cost enough, the session moves, and pays for it."""
    asking = rig(tmp_path, TEXT + _budget(100))
    _bound(asking)
    for turn in range(1, 40):  # noqa: B007 - read behind the loop
        asking.wall_clock.now += 10
        if (await _turn(asking, TALK))["x-fingerpost-model"] == "openai/c":
            break
    cost = 10_000 * (5.0 - 0.3) * 1e-6
    assert turn == pytest.approx(cost / (10_000 * 0.3e-6), abs=1)
    binding = asking.store.bindings["s"]
    assert (str(binding.model), binding.spend.switches) == ("openai/c", 1)
    assert binding.spend.switch_spend_usd == pytest.approx(cost, rel=0.01)
    assert binding.default_model == "openai/b"


@pytest.mark.parametrize(
    ("header", "model"), [("0", "openai/b"), ("nonsense", "openai/b"), ("101", "openai/b")]
)
async def test_a_request_may_bring_its_budget(tmp_path: Path, header: str, model: str) -> None:
    """Zero allows what is free; what can't be read is no budget, and the session stays anyway."""
    asking = rig(tmp_path, TEXT + PRICES)
    _bound(asking)
    named = {"x-model-affinity": "s", "x-plano-max-switch-spend-pct": header}
    headers = await _turn(asking, TALK, named=named)
    assert headers["x-fingerpost-model"] == model
    assert len(asking.orchestrator.asked) == (1 if header == "0" else 0)


async def test_without_prices_a_switch_is_allowed(tmp_path: Path) -> None:
    """As Plano does it."""
    asking = rig(tmp_path, TEXT.replace("openai/", "ollama/").replace(
        "{model: ollama/a, default: true}", '{model: ollama/a, default: true, base_url: "http://h"}'
    ).replace("{model: ollama/b}", '{model: ollama/b, base_url: "http://h"}').replace(
        "{model: ollama/c}", '{model: ollama/c, base_url: "http://h"}'
    ) + "routing: {routing_budget: {max_switch_spend_pct: 0}}\n")  # fmt: skip
    asking.upstream._script = {
        name.replace("openai", "ollama"): answers
        for name, answers in asking.upstream._script.items()
    }
    asking.store.bindings["s"] = Binding(
        ModelRef("ollama", "b"), "code", last_used=asking.wall_clock.now
    )
    assert (await _turn(asking, TALK))["x-fingerpost-model"] == "ollama/c"


async def test_a_session_whose_cache_is_gone_moves_freely(tmp_path: Path) -> None:
    """After five minutes there is nothing left to lose."""
    asking = rig(tmp_path, TEXT + _budget(0))
    _bound(asking, idle_s=301)
    assert (await _turn(asking, TALK))["x-fingerpost-model"] == "openai/c"
    assert asking.store.bindings["s"].spend.switch_spend_usd == 0.0


async def test_an_open_tool_loop_is_never_left(tmp_path: Path) -> None:
    """Whatever the budget."""
    asking = rig(tmp_path, TEXT + _budget(100))
    _bound(asking, idle_s=301)
    body = {"messages": [USER, CALLS, RESULTS[0]]}
    assert (await _turn(asking, TALK, body=body))["x-fingerpost-model"] == "openai/b"
    assert asking.orchestrator.asked == []


async def test_no_match_keeps_the_session_where_it_is(tmp_path: Path) -> None:
    """A turn that is about nothing is no reason to move."""
    asking = rig(tmp_path, TEXT + _budget(100))
    _bound(asking)
    assert (await _turn(asking, NOTHING))["x-fingerpost-model"] == "openai/b"
    assert (await _turn(asking, CODE))["x-fingerpost-model"] == "openai/b"
