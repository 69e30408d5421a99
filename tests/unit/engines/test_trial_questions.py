"""Trials: questions that no request waits for stay out of the way of requests."""

import asyncio
import time
from dataclasses import replace

from serve_app.breaker import Breaker
from serve_app.domain import Question, Reason, Scores, Unavailable
from serve_app.engines.guard import Guard
from serve_app.engines.thread import EngineThread
from tests.unit.engines.questions import SCORES, question, settle
from tests.unit.engines.test_engine_thread import Engine
from tests.unit.engines.test_guard import BUSY, DOWN, Inner
from tests.unit.fakes import FakeClock


def trial(text: str) -> Question:
    return replace(question(text), is_trial=True)


async def test_guard_does_not_cache_scores_of_trials() -> None:
    """Edited routes would otherwise push the questions of requests out of the cache."""
    inner = Inner()
    guard = Guard(inner, deadline_s=5, clock=FakeClock())
    assert await guard.score(trial("a")) == SCORES
    assert await guard.score(trial("a")) == SCORES
    assert len(inner.asked) == 2


async def test_breaker_ignores_failures_of_trials() -> None:
    """A trial that fails neither pauses the orchestrator for requests nor shows as its fault."""
    clock = FakeClock()
    inner = Inner(DOWN)
    breaker = Breaker(clock)
    guard = Guard(inner, deadline_s=5, clock=clock, breaker=breaker)
    for number in range(20):
        await guard.score(trial(f"{number}"))
    assert guard.breaker_state == "closed"
    assert guard.last_fault is None
    inner.answer = BUSY
    assert await guard.score(trial("busy")) == BUSY


async def test_engine_refuses_trials_while_requests_are_decided() -> None:
    """A trial never waits in the queue of requests, so it delays none but the next one."""
    engine = Engine(FakeClock())
    thread = EngineThread(engine, deadline_s=5.0, clock=engine.clock)
    engine.gate.clear()
    request = asyncio.create_task(thread.score(question("request")))
    await asyncio.to_thread(engine.started.wait, 10)
    refused = await thread.score(trial("trial"))
    engine.gate.set()
    assert isinstance(refused, Unavailable)
    assert refused.reason is Reason.ORCHESTRATOR_BUSY
    assert await request == SCORES
    assert isinstance(await thread.score(trial("trial")), Scores)
    assert engine.asked == ["request", "trial"]
    thread.close()


async def test_trials_do_not_count_for_the_time_of_a_question() -> None:
    """A trial that embeds many new routes does not make the engine shed requests."""
    engine = Engine(FakeClock())
    thread = EngineThread(engine, deadline_s=5.0, clock=engine.clock)
    engine.takes_s = 4.0
    await thread.score(trial("slow"))
    engine.takes_s = 0.0
    engine.gate.clear()
    tasks = [asyncio.create_task(thread.score(question(f"{n}"))) for n in range(8)]
    await settle()
    engine.gate.set()
    began = time.monotonic()
    assert await asyncio.gather(*tasks) == [SCORES] * 8
    assert time.monotonic() - began < 10
    thread.close()
