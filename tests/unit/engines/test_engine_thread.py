"""The thread that an engine runs on, and its queue."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from serve_app.domain import Question, Reason, Route, Scores, Unavailable
from serve_app.engines.guard import Guard
from serve_app.engines.thread import EngineThread
from tests.unit.engines.questions import SCORES, leave, question, settle
from tests.unit.fakes import FakeClock


class Engine:
    """Scores on its thread: takes its time, waits for its gate, may raise."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.takes_s = 0.0
        self.error: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.started = threading.Event()
        self.threads: set[int] = set()
        self.asked: list[str] = []
        self.in_time: list[bool] = []

    def prepare(self, routes: tuple[Route, ...], no_route: tuple[str, ...] = ()) -> None:
        self.threads.add(threading.get_ident())
        self.asked.append(" ".join(["prepare", routes[0].name, *no_route]))

    def score(self, question: Question, in_time: Callable[[], bool]) -> Scores | Unavailable:
        self.threads.add(threading.get_ident())
        self.asked.append(question.turns[0].text)
        self.in_time.append(in_time())
        self.started.set()
        assert self.gate.wait(10)
        self.clock.now += self.takes_s
        self.in_time.append(in_time())
        if self.error is not None:
            raise self.error
        return SCORES


@pytest.fixture
def engine() -> Engine:
    return Engine(FakeClock())


@pytest.fixture
def thread(engine: Engine) -> Iterator[EngineThread]:
    made = EngineThread(engine, deadline_s=0.3, clock=engine.clock)
    yield made
    engine.gate.set()
    made.close()


async def start(thread: EngineThread, *texts: str) -> list[asyncio.Task[Scores | Unavailable]]:
    tasks = [asyncio.create_task(thread.score(question(text))) for text in texts]
    await settle()
    return tasks


async def test_engine_does_not_block_the_loop(engine: Engine, thread: EngineThread) -> None:
    """It runs on one thread of its own."""
    engine.gate.clear()
    tasks = await start(thread, "a", "b")
    engine.gate.set()  # by the loop, which would stand still otherwise
    assert await asyncio.gather(*tasks) == [SCORES] * 2
    assert engine.asked == ["a", "b"]
    assert len(engine.threads) == 1
    assert threading.get_ident() not in engine.threads


async def test_preparation_runs_on_the_engine_thread(engine: Engine, thread: EngineThread) -> None:
    """It waits in the queue, because engines are not thread-safe."""
    thread.prepare((Route("code", "code", ()),))
    thread.prepare((Route("code", "code", ()),), ("hi", "thanks"))
    assert await thread.score(question("a")) == SCORES
    assert engine.asked == ["prepare code", "prepare code hi thanks", "a"]
    assert len(engine.threads) == 1


async def test_engine_can_check_the_deadline(engine: Engine, thread: EngineThread) -> None:
    """It can stop before it has finished."""
    engine.takes_s = 0.3
    assert await thread.score(question()) == SCORES
    assert engine.in_time == [True, False]


async def test_engine_knows_how_long_a_request_still_waits(engine: Engine) -> None:
    """The shorter of the deadline and the question's own time, less the time in the queue."""
    waits: list[float | None] = []

    class Asked(Engine):
        def score(self, question: Question, in_time: Callable[[], bool]) -> Scores | Unavailable:
            waits.append(question.within_s)
            return super().score(question, in_time)

    asked = Asked(engine.clock)
    asked.takes_s = 0.1
    thread = EngineThread(asked, deadline_s=0.3, clock=asked.clock)
    await thread.score(question("a"))
    await thread.score(replace(question("b"), within_s=0.2))
    asked.gate.clear()
    tasks = await start(thread, "c", "d")
    asked.gate.set()
    await asyncio.gather(*tasks)
    thread.close()
    assert waits == pytest.approx([0.3, 0.2, 0.3, 0.2])


async def test_long_queue_refuses_questions(engine: Engine, thread: EngineThread) -> None:
    """A question that would wait longer than it may is refused at once; others are not."""
    engine.takes_s = 0.2
    await thread.score(question("first"))
    engine.gate.clear()
    engine.takes_s = 0.0
    tasks = await start(thread, "a", "b")
    assert await thread.score(question("c")) == Unavailable(
        Reason.ORCHESTRATOR_BUSY, "2 questions are queued, 200 ms each"
    )
    engine.gate.set()
    assert await asyncio.gather(*tasks) == [SCORES] * 2
    assert await thread.score(question("d")) == SCORES


async def test_stale_questions_are_not_run(engine: Engine, thread: EngineThread) -> None:
    """No request waits for them any more."""
    engine.gate.clear()
    engine.takes_s = 0.3
    first, second = await start(thread, "a", "b")
    engine.gate.set()
    assert await first == SCORES
    assert await second == Unavailable(
        Reason.ORCHESTRATOR_BUSY, "the question waited in the queue for too long"
    )
    assert engine.asked == ["a"]


async def test_question_may_have_a_shorter_deadline(engine: Engine, thread: EngineThread) -> None:
    """It is refused earlier, and not run after its deadline."""
    engine.takes_s = 0.1
    await thread.score(question("first"))
    engine.gate.clear()
    tasks = await start(thread, "a", "b")
    hurried = asyncio.create_task(thread.score(replace(question("c"), within_s=0.25)))
    await settle()
    assert await thread.score(replace(question("d"), within_s=0.25)) == Unavailable(
        Reason.ORCHESTRATOR_BUSY, "3 questions are queued, 100 ms each"
    )
    engine.takes_s = 0.13
    engine.gate.set()
    assert await asyncio.gather(*tasks) == [SCORES] * 2
    assert await hurried == Unavailable(
        Reason.ORCHESTRATOR_BUSY, "the question waited in the queue for too long"
    )
    assert engine.asked == ["first", "a", "b"]


async def test_thread_survives_an_exception(engine: Engine, thread: EngineThread) -> None:
    """The guard reports it, and the thread runs the next question."""
    guard = Guard(thread, deadline_s=5.0, clock=engine.clock)
    engine.error = RuntimeError("x")
    assert await guard.score(question("a")) == Unavailable(
        Reason.ORCHESTRATOR_ERROR, "failed with RuntimeError"
    )
    engine.error = None
    assert await guard.score(question("a")) == SCORES


async def test_cancelled_question_is_not_run(engine: Engine, thread: EngineThread) -> None:
    """It also frees its place in the queue."""
    engine.gate.clear()
    first, second, third = await start(thread, "a", "b", "c")
    await leave(second)
    engine.gate.set()
    assert [await first, await third] == [SCORES] * 2
    assert engine.asked == ["a", "c"]


async def test_closed_thread_drops_queued_questions(engine: Engine, thread: EngineThread) -> None:
    """Their requests get a fault, and so do later ones."""
    guard = Guard(thread, deadline_s=5.0, clock=engine.clock)
    engine.gate.clear()
    running, waiting = (asyncio.create_task(guard.score(question(text))) for text in "ab")
    assert await asyncio.to_thread(engine.started.wait, 10)
    thread.close()
    gave_up = Unavailable(Reason.ORCHESTRATOR_ERROR, "the question was cancelled")
    assert await waiting == gave_up
    engine.gate.set()
    assert await running == SCORES
    assert isinstance(await guard.score(question("c")), Unavailable)
