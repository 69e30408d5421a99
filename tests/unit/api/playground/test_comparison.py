"""Comparisons: one at a time, within a deadline, and in breaks between the questions."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from serve_app.api.playground import comparison
from serve_app.api.playground.comparison import MAX_AGAIN, MAX_WAITING, Comparisons
from serve_app.domain import ModelRef, Reason, RouteDecision, Turn, Unavailable
from serve_app.errors import PageBusy
from serve_app.snapshot import Snapshot
from serve_app.telemetry.recent import RecentDecision
from serve_app.telemetry.record import RequestRecord
from tests.unit.fakes import FakeClock, snapshot_of
from tests.unit.requests.gateway_rig import ROUTES, TEXT

MODEL = ModelRef("openai", "b")
ROUTED = RouteDecision((MODEL,), Reason.ROUTE, "code é", 0.9)
BUSY = Unavailable(Reason.ORCHESTRATOR_BUSY, "requests are being decided")


class Again:
    """Decides everything alike, and notes how many are decided at once."""

    def __init__(self, clock: FakeClock, result: RouteDecision | Unavailable = ROUTED) -> None:
        self.clock = clock
        self.result = result
        self.takes_s = 0.0
        self.now = self.most = self.calls = 0

    async def decide_again(self, *_: Any) -> RouteDecision | Unavailable:
        self.calls += 1
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0)
        self.clock.now += self.takes_s
        self.now -= 1
        return self.result


@pytest.fixture
def snapshot(tmp_path: Path) -> Snapshot:
    return snapshot_of(tmp_path, TEXT + ROUTES)


def kept(number: int = 1, **fields: Any) -> RecentDecision:
    record = RequestRecord(
        "chat", 200, reason="route", route="code é", candidates=(str(MODEL),), confidence=0.8
    )
    return replace(RecentDecision(number, record, turns=(Turn("user", "x" * 500),)), **fields)


def rig(result: RouteDecision | Unavailable = ROUTED) -> tuple[Comparisons, Again]:
    clock = FakeClock()
    again = Again(clock, result)
    return Comparisons(again, clock), again  # type: ignore[arg-type]


async def test_comparison_takes_the_newest_decisions_that_it_can(snapshot: Snapshot) -> None:
    """At most a hundred, newest first; those without text and with routes of their own stay out."""
    comparisons, _ = rig()
    many = [kept(number) for number in range(1, 151)]
    many += [kept(151, turns=()), kept(152, is_inline=True)]
    compared = await comparisons.compare(many, snapshot)
    numbers = [row["number"] for row in compared["rows"]]
    assert numbers == list(range(150, 150 - MAX_AGAIN, -1))
    assert compared["decided"] == MAX_AGAIN
    assert compared["changed"] == 0
    assert compared["routes"] == [{"route": "code é", "before": MAX_AGAIN, "after": MAX_AGAIN}]
    assert all(len(row["text"]) < 250 for row in compared["rows"])


@pytest.mark.parametrize(
    "after", [replace(ROUTED, route=None), replace(ROUTED, candidates=(ModelRef("openai", "d"),))]
)
async def test_another_route_or_model_is_a_change(after: RouteDecision, snapshot: Snapshot) -> None:
    """Another score alone is not."""
    comparisons, _ = rig(after)
    compared = await comparisons.compare([kept()], snapshot)
    assert compared["changed"] == 1
    assert compared["rows"][0]["after"]["route"] == after.route


async def test_comparison_that_meets_a_busy_engine_is_incomplete(snapshot: Snapshot) -> None:
    """It says so, and does not count what was not decided."""
    comparisons, _ = rig(BUSY)
    compared = await comparisons.compare([kept(), kept(2)], snapshot)
    assert (compared["decided"], compared["is_complete"]) == (0, False)
    assert compared["rows"][0]["after"] is None


async def test_comparison_ends_with_its_deadline(
    snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was decided until then is shown."""
    monkeypatch.setattr(comparison, "_LONGEST_BREAK_S", 0.0)
    comparisons, again = rig()
    again.takes_s = comparison.DEADLINE_S / 4
    compared = await comparisons.compare([kept(n) for n in range(1, 50)], snapshot)
    assert compared["decided"] == 4
    assert not compared["is_complete"]


async def test_one_comparison_runs_at_a_time(snapshot: Snapshot) -> None:
    """Others wait, one too many is refused, and one that leaves makes room."""
    comparisons, again = rig()
    tasks = [
        asyncio.create_task(comparisons.compare([kept(), kept(2)], snapshot))
        for _ in range(MAX_WAITING)
    ]
    await asyncio.sleep(0)
    with pytest.raises(PageBusy):
        await comparisons.compare([kept()], snapshot)
    tasks.pop().cancel()
    await asyncio.gather(*tasks)
    assert again.most == 1
    assert (await comparisons.compare([kept()], snapshot))["decided"] == 1
