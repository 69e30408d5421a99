"""The last decisions that the page shows: how many are kept, and how much of each."""

import asyncio
from typing import Any

import pytest

from serve_app.config.schema.gateway import GatewayConfig
from serve_app.domain import Question, Route, Scores, Turn
from serve_app.telemetry.recent import (
    MAX_CANDIDATES,
    MAX_SCORES,
    MAX_TEXT,
    RecentDecisions,
)
from serve_app.telemetry.record import AttemptRecord, DecisionRecord, RequestRecord

ROUTE = Route("code", "c", ())


def config_of(**keys: Any) -> GatewayConfig:
    return GatewayConfig.model_validate({"version": "v0.4.0", **keys})


def record(text: str = "hello", **fields: Any) -> RequestRecord:
    question = Question((Turn("user", text),), (ROUTE,), "key")
    return RequestRecord("chat", 200, **{"question": question, **fields})


def recent_of(**keys: Any) -> RecentDecisions:
    config = config_of(**keys)
    return RecentDecisions(lambda: config)


def test_recent_decisions_keep_the_newest() -> None:
    """Their number is bounded by `ui.decisions`, and each has a number that only rises."""
    recent = recent_of(ui={"decisions": 3})
    for _ in range(10):
        recent.ended(record())
    assert [kept.number for kept in recent.after()] == [8, 9, 10]
    assert [kept.number for kept in recent.after(9)] == [10]
    assert len(recent) == 3
    assert recent.last == 10


def test_recent_decisions_keep_nothing_while_the_page_is_off() -> None:
    """A page that is off costs nothing, and what was kept before is forgotten."""
    current = [config_of()]
    recent = RecentDecisions(lambda: current[0])
    recent.ended(record())
    current[0] = config_of(ui={"enabled": False})
    recent.ended(record())
    assert recent.last == 1
    assert recent.after() == []
    assert len(recent) == 0


def test_recent_decisions_leave_out_unknown_paths() -> None:
    """A request to a path that is not a surface decides nothing."""
    recent = recent_of()
    recent.ended(RequestRecord("other", 404))
    assert recent.after() == []


@pytest.mark.parametrize(
    ("keys", "are_kept"),
    [
        ({}, True),
        ({"client_keys": ["$KEY"]}, False),
        ({"allow_anonymous": True}, False),
        ({"ui": {"keep_texts": False}}, False),
        ({"client_keys": ["$KEY"], "ui": {"keep_texts": True}}, True),
    ],
)
def test_texts_are_kept_where_only_this_machine_reads_them(
    keys: dict[str, Any], are_kept: bool
) -> None:
    """With client keys or anonymous clients from elsewhere, an operator has to allow it."""
    recent = recent_of(**keys)
    recent.ended(record("a secret plan"))
    (kept,) = recent.after()
    assert bool(kept.turns) == are_kept
    assert "secret" not in repr(kept)
    assert kept.record.question is None


def test_texts_are_forgotten_when_the_configuration_forbids_them() -> None:
    """A reload that switches texts off also clears those that were kept before."""
    current = [config_of()]
    recent = RecentDecisions(lambda: current[0])
    recent.ended(record())
    current[0] = config_of(ui={"keep_texts": False})
    assert [kept.turns for kept in recent.after()] == [()]
    current[0] = config_of()
    assert [kept.turns for kept in recent.after()] == [()]


def test_a_client_cannot_make_a_kept_decision_large() -> None:
    """Long texts, many routes, long names and long lists of candidates are left out or cut."""
    recent = recent_of()
    many = {f"route {number}": 0.0 for number in range(MAX_SCORES + 1)}
    long = {"n" * 10_000: 0.5}
    for scores in (many, long):
        found = Scores(scores, 0.2, None, none=0.5)
        candidates = tuple(f"openai/{number}" for number in range(100))
        recent.ended(
            record("x" * (MAX_TEXT + 1), scores=found, candidates=candidates, trace="t" * 60_000)
        )
    for kept in recent.after():
        assert kept.turns == ()
        assert kept.scores == {}
        assert (kept.none, kept.threshold) == (0.5, 0.2)
        assert len(kept.record.candidates) == MAX_CANDIDATES
        assert kept.record.trace == ""


async def test_waiting_ends_with_the_next_decision() -> None:
    """All that wait are woken at once; one that leaves is forgotten."""
    recent = recent_of()
    waiting = [asyncio.create_task(recent.wait(0)) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    recent.ended(record())
    await asyncio.wait_for(asyncio.gather(*waiting[1:]), 1)
    await recent.wait(0)
    assert repr(recent) == "<RecentDecisions 1 kept, 0 waiting>"


def test_other_events_are_not_kept() -> None:
    """Decisions, attempts and events of sessions are part of the request's own record."""
    recent = recent_of()
    recent.decided(DecisionRecord("scored", 0.1))
    recent.attempted(AttemptRecord("openai", "openai/a", "ok", 0.1))
    recent.session_changed("hit")
    assert len(recent) == 0
