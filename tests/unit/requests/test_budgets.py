"""Budgets, costs and savings, through the whole API between fakes."""

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from serve_app.access.limiter import Limiter
from tests.unit.access.answering import (
    GPT_4O_USD,
    Provider,
    error_of,
    keyed,
    used,
)
from tests.unit.access.api_rig import MESSAGES, ask_chat, rig_of
from tests.unit.fakes import FakeClock


async def test_budget_is_exceeded_by_what_was_in_flight_at_most(tmp_path: Path) -> None:
    """Requests at once stop at the budget; what is spent beyond is less than what was under way."""
    provider = Provider()
    provider.pause_s = 0.001
    rig = rig_of(tmp_path, keyed("budget: {usd: 0.1, window: day}"), provider)
    at_once = 8
    statuses: Counter[int] = Counter()
    for _ in range(10):
        got = await asyncio.gather(*(rig.ask(ask_chat(max_tokens=200)) for _ in range(at_once)))
        statuses.update(one.status for one in got)
    spent = statuses[200] * GPT_4O_USD
    assert 0.1 <= spent <= 0.1 + at_once * GPT_4O_USD
    assert statuses[429] > 0
    (counted,) = used(rig).values()
    assert counted / 1e9 == pytest.approx(spent)
    refused = await rig.ask(ask_chat())
    assert error_of(refused) == (429, "rate_limit_error", "spending_cap_reached")
    assert refused.headers["x-should-retry"] == "false"


async def test_message_headers_warn_of_the_budget(tmp_path: Path) -> None:
    """Good messages carry Anthropic's standing, from 75 % on with a warning; then a billing error."""
    rig = rig_of(tmp_path, keyed("budget: {usd: 0.0225, window: week}"), Provider())
    body = {**ask_chat(), "max_tokens": 5}
    seen = []
    for _ in range(5):
        got = await rig.ask(body, path=MESSAGES)
        prefix = "anthropic-ratelimit-unified-"
        own = {
            name.removeprefix(prefix): value
            for name, value in got.headers.items()
            if name.startswith(prefix)
        }
        assert "anthropic-ratelimit-x" not in got.headers
        assert own["reset"] == own["overage-reset"]
        seen.append(
            (own["status"], own.get("overage-surpassed-threshold"), own["overage-utilization"])
        )
        assert own["representative-claim"] == "overage"
        assert own["overage-status"] == own["status"]
    assert [status for status, _, _ in seen] == ["allowed"] * 4 + ["allowed_warning"]
    assert seen[-1][1] == "0.75"
    refused = await rig.ask(body, path=MESSAGES)
    assert refused.status == 429
    assert refused.json["error"]["type"] == "billing_error"
    assert "budget of 0.02 USD for this week" in refused.json["error"]["message"]
    assert refused.headers["anthropic-ratelimit-unified-overage-period"] == "weekly"
    assert "anthropic-ratelimit-unified-representative-claim" not in refused.headers
    other = await rig.ask(body, path=MESSAGES, key="fp-batch")
    assert not [name for name in other.headers if name.startswith("anthropic-ratelimit-unified")]


async def test_budget_begins_again_with_its_window(tmp_path: Path) -> None:
    """A day's budget is spent until midnight UTC, and whole again after it."""
    wall = FakeClock(1_796_083_100.0)
    limiter = Limiter(clock=FakeClock(), wall_clock=wall)
    text = keyed("budget: {usd: 0.001, window: day}")
    rig = rig_of(tmp_path, text, Provider(), limiter)
    assert [(await rig.ask(ask_chat())).status for _ in range(2)] == [200, 429]
    refused = await rig.ask(ask_chat())
    assert refused.headers["retry-after"] == "100"
    wall.now += 100
    assert [(await rig.ask(ask_chat())).status for _ in range(2)] == [200, 429]


async def test_unpriced_model_is_refused_under_a_budget(tmp_path: Path) -> None:
    """Unpriced is not free: a key with a budget can't use such a model, others can."""
    provider = Provider()
    rig = rig_of(tmp_path, keyed("budget: {usd: 5}"), provider)
    got = await rig.ask(ask_chat("vllm/own"))
    assert error_of(got) == (403, "permission_error", "model_without_price")
    assert "prices" in got.json["error"]["message"]
    assert (await rig.ask(ask_chat("vllm/own"), key="fp-batch")).status == 200
    await rig.ask(ask_chat("vllm/own", fallbacks=["openai/gpt-4o"]))
    assert provider.asked == ["vllm/own", "openai/gpt-4o"]
    priced = rig_of(
        tmp_path,
        keyed("budget: {usd: 5}") + "prices: {vllm/own: {input: 1, output: 1}}\n",
        provider,
    )
    assert (await priced.ask(ask_chat("vllm/own"))).status == 200


async def test_cost_header_and_savings(tmp_path: Path) -> None:
    """A complete answer shows its cost if asked for, and the record what the baseline would cost."""
    text = (
        keyed("limits: {concurrent: 9}") + "cost_header: true\nsavings: {baseline: openai/gpt-4o}\n"
    )
    rig = rig_of(tmp_path, text, Provider())
    got = await rig.ask(ask_chat("fast"))
    record = rig.records.ended_requests[-1]
    assert record.usd is not None
    assert float(got.headers["x-fingerpost-cost-usd"]) == pytest.approx(record.usd)
    assert record.baseline_usd == pytest.approx(GPT_4O_USD)
    assert record.usd < GPT_4O_USD
    assert "x-fingerpost-cost-usd" not in (await rig.ask(ask_chat("vllm/own"))).headers
