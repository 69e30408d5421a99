"""The life of an engine: started, watched, started again and ended, with a stand-in for vLLM."""

import asyncio
import gc
import logging
import threading
import time
from collections.abc import Callable, Iterator, MutableMapping
from typing import Final

import pytest

from serve_app.domain import Question, Reason, Route, Scores, Turn, Unavailable
from serve_app.engines.faults import EngineFaultError
from serve_app.engines.vllm import engine as life
from serve_app.engines.vllm.chat_decider import ChatDecider
from serve_app.engines.vllm.engine import VllmEngine
from serve_app.engines.vllm.settings import VllmSettings
from serve_app.engines.vllm.start import Running
from serve_app.scoring.prompt import FAMILIES

SETTINGS: Final = VllmSettings("/nowhere", FAMILIES["generic"])
SCORES: Final = Scores({"code": 0.9}, 0.1, "code")
QUESTION: Final = Question((Turn("user", "Hello"),), (Route("code", "code", ()),), "k")


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110 - of another thread
            await asyncio.sleep(0.005)


class FakeLLM:
    """As much of an AsyncLLM as is looked at."""

    def __init__(self) -> None:
        self.errored = False
        self.ended = False

    def shutdown(self) -> None:
        self.ended = True


class FakeDecider:
    """Decides once its gate is open; prepares like an embedding model."""

    def __init__(self, script: "Script") -> None:
        self.script = script
        self.under_way = 0
        self.prepared: list[tuple[Route, ...]] = []

    async def prepare(self, routes: tuple[Route, ...]) -> None:
        self.prepared.append(routes)

    async def decide(self, question: Question, mode: object = None) -> Scores | Unavailable:
        self.under_way += 1
        try:
            await until(self.script.gate.is_set)
            if self.script.error is not None:
                raise self.script.error
            return SCORES
        finally:
            self.under_way -= 1


class Script:
    """What starts come to, and what the engines do."""

    def __init__(self) -> None:
        self.fault: Exception | None = None
        self.error: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.may_start = threading.Event()
        self.may_start.set()
        self.made: list[Running] = []
        self.times: list[float] = []

    def start(
        self, settings: VllmSettings, share: float, environ: MutableMapping[str, str]
    ) -> Running:
        self.times.append(time.monotonic())
        assert self.may_start.wait(10)
        if self.fault is not None:
            raise self.fault
        self.made.append(Running(FakeLLM(), FakeDecider(self), "cpu"))  # type: ignore[arg-type]
        return self.made[-1]


Make = Callable[[], VllmEngine]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Script:
    made = Script()
    monkeypatch.setattr(life, "start", made.start)
    monkeypatch.setattr(life, "PROCESS_WATCH_S", 0.01)
    monkeypatch.setattr(life, "FIRST_RESTART_S", 0.02)
    return made


@pytest.fixture
def make(script: Script) -> Iterator[Make]:
    made: list[VllmEngine] = []

    def run() -> VllmEngine:
        made.append(VllmEngine(SETTINGS, routes=QUESTION.routes, deadline_s=1.0, environ={}))
        return made[-1]

    yield run
    script.gate.set()
    script.may_start.set()
    for engine in made:
        engine.close()
        assert not engine._thread.is_alive()
    gc.collect()


def outcome_of(answer: Scores | Unavailable) -> tuple[Reason, str]:
    assert isinstance(answer, Unavailable)
    return answer.reason, answer.detail


async def test_engine_is_ready_after_its_first_decisions(make: Make, script: Script) -> None:
    """Until then it returns busy without waiting."""
    script.gate.clear()
    engine = make()
    await until(lambda: bool(script.made))
    starting = (Reason.ORCHESTRATOR_BUSY, "the engine is starting; retry")
    assert outcome_of(await engine.score(QUESTION)) == starting
    assert (engine.ready, engine.wait(0.05)) == (False, False)
    script.gate.set()
    assert await asyncio.to_thread(engine.wait, 5)
    assert await engine.score(QUESTION) == SCORES
    assert (engine.starts, engine.fault) == (1, "")


async def test_embedding_model_prepares_routes_first(make: Make, script: Script) -> None:
    """They are the routes of the configuration."""
    assert await asyncio.to_thread(make().wait, 5)
    decider = script.made[0].decider
    assert not isinstance(decider, ChatDecider)
    assert decider.prepared == [QUESTION.routes]  # type: ignore[attr-defined]


async def test_failed_start_is_logged_and_repeated(
    make: Make, script: Script, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged once, and repeated with growing pauses until it succeeds."""
    script.fault = EngineFaultError("there is no folder")
    engine = make()
    assert not await asyncio.to_thread(engine.wait, 5)
    detail = "the engine has a fault: there is no folder"
    assert outcome_of(await engine.score(QUESTION)) == (Reason.ORCHESTRATOR_ERROR, detail)
    await until(lambda: len(script.times) >= 5)
    pauses = [later - sooner for sooner, later in zip(script.times, script.times[1:], strict=False)]
    assert pauses[0] >= 0.02
    assert pauses[3] >= 0.15
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    script.fault = None
    await until(lambda: engine.ready)
    assert await engine.score(QUESTION) == SCORES
    assert engine.fault == ""


async def test_exception_of_a_start_is_a_fault(make: Make, script: Script) -> None:
    """An unexpected one is reported with its type."""
    script.fault = MemoryError("too much")
    engine = make()
    assert not await asyncio.to_thread(engine.wait, 5)
    assert engine.fault == "MemoryError: too much"


async def test_failed_first_decision_is_a_fault(make: Make, script: Script) -> None:
    """The process of the engine is ended."""
    script.error = ValueError("head size 16")
    engine = make()
    assert not await asyncio.to_thread(engine.wait, 5)
    assert engine.fault == ("vLLM started, but its first decision failed (ValueError); see its log")
    assert script.made[0].engine.ended


async def test_dead_engine_is_replaced(
    make: Make, script: Script, caplog: pytest.LogCaptureFixture
) -> None:
    """Meanwhile answers are immediate; a question in progress gets the fault."""
    engine = make()
    assert await asyncio.to_thread(engine.wait, 5)
    script.gate.clear()
    first = asyncio.create_task(engine.score(QUESTION))
    await until(lambda: script.made[0].decider.under_way == 1)
    script.may_start.clear()
    script.error = RuntimeError("EngineCore encountered an issue")
    script.made[0].engine.errored = True
    script.gate.set()
    ended = (Reason.ORCHESTRATOR_ERROR, "the engine's process ended during the decision")
    assert outcome_of(await first) == ended
    await until(lambda: not engine.ready)
    again = "the engine is restarting because its process ended; retry"
    assert outcome_of(await engine.score(QUESTION)) == (Reason.ORCHESTRATOR_BUSY, again)
    script.error = None
    script.may_start.set()
    assert await asyncio.to_thread(engine.wait, 5, 2)
    assert script.made[0].engine.ended
    assert await engine.score(QUESTION) == SCORES
    assert "vLLM's process ended; restarting it" in caplog.text


async def test_exception_of_a_running_engine_is_a_fault(
    make: Make, script: Script, caplog: pytest.LogCaptureFixture
) -> None:
    """The fault has its type, and the log all of it."""
    engine = make()
    assert await asyncio.to_thread(engine.wait, 5)
    script.error = ValueError("a secret")
    error = (Reason.ORCHESTRATOR_ERROR, "vLLM failed with ValueError")
    assert outcome_of(await engine.score(QUESTION)) == error
    assert "a secret" in caplog.text
    assert engine.ready


async def test_cancelled_question_is_cancelled_in_the_engine(make: Make, script: Script) -> None:
    """It is cancelled on the engine's thread."""
    engine = make()
    assert await asyncio.to_thread(engine.wait, 5)
    script.gate.clear()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await engine.score(QUESTION)
    await until(lambda: script.made[0].decider.under_way == 0)


async def test_load_beyond_the_deadline_is_shed(make: Make, script: Script) -> None:
    """The estimate comes from the duration of earlier questions."""
    engine = make()
    assert await asyncio.to_thread(engine.wait, 5)
    script.gate.clear()
    slow = asyncio.create_task(engine.score(QUESTION))
    await asyncio.sleep(1.2)
    script.gate.set()
    assert await slow == SCORES
    script.gate.clear()
    tasks = [asyncio.create_task(engine.score(QUESTION)) for _ in range(5)]
    await asyncio.sleep(0.05)
    script.gate.set()
    answers = await asyncio.gather(*tasks)
    assert answers[0] == SCORES
    reason, detail = outcome_of(answers[-1])
    assert reason is Reason.ORCHESTRATOR_BUSY
    assert detail.startswith("1 questions are in progress, 12")
    assert isinstance(await engine.score(QUESTION), Scores)


async def test_close_during_a_start_does_not_wait(make: Make, script: Script) -> None:
    """An engine that was started all the same is ended."""
    script.may_start.clear()
    engine = make()
    await until(lambda: bool(script.times))
    started = time.monotonic()
    await asyncio.to_thread(engine.close)
    assert time.monotonic() - started < 2
    script.may_start.set()
    await until(lambda: bool(script.made) and script.made[0].engine.ended)
    assert outcome_of(await engine.score(QUESTION))[0] is Reason.ORCHESTRATOR_BUSY
    engine.close()


async def test_closed_engine_is_ended(make: Make, script: Script) -> None:
    """It answers like one that is not running."""
    engine = make()
    assert await asyncio.to_thread(engine.wait, 5)
    await asyncio.to_thread(engine.close)
    assert script.made[0].engine.ended
    assert isinstance(await engine.score(QUESTION), Unavailable)
