"""What stands before an engine: cache, single flight, deadline and breaker."""

import asyncio
from dataclasses import replace

import pytest

from serve_app.breaker import FAILURES_TO_OPEN, FIRST_PAUSE_S, LONGEST_PAUSE_S, Breaker
from serve_app.domain import Question, Reason, Scores, Turn, Unavailable
from serve_app.engines import guard as guards
from serve_app.engines.guard import Guard, breaker
from serve_app.telemetry.metrics import Metric, MetricsObserver
from tests.unit.engines.questions import ROUTES, SCORES, leave, question, settle
from tests.unit.fakes import FakeClock, FakeMeter

CACHED = replace(SCORES, cached=True)
DOWN = Unavailable(Reason.ORCHESTRATOR_ERROR, "no engine")
BUSY = Unavailable(Reason.ORCHESTRATOR_BUSY, "full")


class Inner:
    """Says the same again and again, once its gate is open; remembers what happened to it."""

    def __init__(self, result: Scores | Unavailable | BaseException = SCORES) -> None:
        self.answer = result
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked: list[Question] = []
        self.cancelled = 0

    def __repr__(self) -> str:
        return "<Inner>"

    async def score(self, question: Question) -> Scores | Unavailable:
        self.asked.append(question)
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            await settle()  # whoever is stopped may need a moment for it
            raise
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


class Rig:
    """A guard around an orchestrator, on a clock that stands still."""

    def __init__(self, result: Scores | Unavailable | BaseException = SCORES) -> None:
        self.inner = Inner(result)
        self.clock = FakeClock()
        self.meter = FakeMeter()
        self.breaker = Breaker(self.clock)
        self.guard = self.around(5.0)

    def around(self, deadline_s: float) -> Guard:
        return Guard(
            self.inner,
            deadline_s=deadline_s,
            clock=self.clock,
            observer=MetricsObserver(self.meter),
            breaker=self.breaker,
        )

    async def ask(self, *texts: str) -> list[Scores | Unavailable]:
        """One after the other."""
        return [await self.guard.score(question(text)) for text in texts]

    async def start(self, *texts: str) -> list[asyncio.Task[Scores | Unavailable]]:
        """All at once; each of them waits when this returns."""
        tasks = [asyncio.create_task(self.guard.score(question(text))) for text in texts]
        await settle()
        return tasks

    async def fail(self, times: int = FAILURES_TO_OPEN) -> None:
        """So many failures in a row, of different questions; then all would be well again."""
        self.inner.answer = DOWN
        await self.ask(*[f"failing {len(self.inner.asked) + n}" for n in range(times)])
        self.inner.answer = SCORES

    @property
    def outcomes(self) -> list[str]:
        return [str(outcome) for (outcome,) in self.meter.counted(Metric.DECISIONS)]


async def test_scores_are_cached() -> None:
    """An equal question is answered at once, and marked as cached."""
    rig = Rig()
    assert await rig.ask("a", "a", "a") == [SCORES, CACHED, CACHED]
    assert rig.inner.asked == [question("a")]
    assert (rig.guard.asked, rig.outcomes) == (1, ["scored", "cached", "cached"])


@pytest.mark.parametrize(
    "other",
    [
        question("b"),
        question("a", key="v2"),
        Question((), ROUTES, "v1"),
        Question((Turn("assistant", "a"),), ROUTES, "v1"),
        Question((Turn("user", "a"), Turn("user", "")), ROUTES, "v1"),
        Question((Turn("user", ""), Turn("user", "a")), ROUTES, "v1"),
        Question((Turn("user", "a"), Turn("user", "a")), ROUTES, "v1"),
        question("a\0u1:a"),
        question("", key="v1\0u1:a"),
        question("\ud800"),
    ],
)
async def test_different_question_is_not_cached(other: Question) -> None:
    """Another text, role, number of turns or set of routes makes it different."""
    rig = Rig()
    await rig.ask("a")
    assert await rig.guard.score(other) == SCORES
    assert rig.inner.asked == [question("a"), other]


async def test_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The least recently used question is evicted."""
    monkeypatch.setattr(guards, "CACHE_ENTRIES", 2)
    rig = Rig()
    assert await rig.ask("a", "b", "a", "c") == [SCORES, SCORES, CACHED, SCORES]
    assert await rig.ask("a", "c", "b") == [CACHED, CACHED, SCORES]


async def test_answer_of_stand_in_is_not_cached() -> None:
    """The configured engine is tried each time until it answers."""
    instead = replace(SCORES, stand_in="the engine is starting")
    rig = Rig(instead)
    assert await rig.ask("a", "a") == [instead, instead]
    assert rig.guard.stand_in == "the engine is starting"
    rig.inner.answer = SCORES
    assert await rig.ask("a", "a") == [SCORES, CACHED]
    assert (rig.guard.stand_in, rig.guard.asked) == ("", 3)


async def test_equal_questions_share_a_flight() -> None:
    """Forty of them reach the orchestrator once, and all get the answer."""
    rig = Rig()
    rig.inner.gate.clear()
    tasks = await rig.start(*["a"] * 40)
    rig.inner.gate.set()
    assert await asyncio.gather(*tasks) == [SCORES] * 40
    assert rig.inner.asked == [question("a")]
    assert rig.outcomes == ["joined"] * 39 + ["scored"]


async def test_fault_is_shared_but_not_cached() -> None:
    """The next question reaches the orchestrator again."""
    rig = Rig(DOWN)
    rig.inner.gate.clear()
    tasks = await rig.start("a", "a", "a")
    rig.inner.gate.set()
    assert await asyncio.gather(*tasks) == [DOWN] * 3
    rig.inner.answer = SCORES
    assert await rig.ask("a") == [SCORES]
    assert rig.guard.asked == 2


async def test_cancelled_request_does_not_end_the_flight() -> None:
    """It continues for the others, whichever began it."""
    rig = Rig()
    rig.inner.gate.clear()
    first, second, third = await rig.start("a", "a", "a")
    await leave(first, third)
    assert rig.inner.cancelled == 0
    rig.inner.gate.set()
    assert await second == SCORES


async def test_last_cancelled_request_ends_the_flight() -> None:
    """An equal question starts another one, even before the first has stopped."""
    rig = Rig()
    rig.inner.gate.clear()
    await leave(*await rig.start("a", "a"))
    rig.inner.gate.set()
    assert await rig.ask("a") == [SCORES]
    assert (rig.inner.cancelled, len(rig.inner.asked)) == (1, 2)
    await settle()
    assert rig.breaker.state == "closed"
    assert await rig.ask("a") == [CACHED]


async def test_deadline_ends_a_question() -> None:
    """The orchestrator is cancelled, and nothing is cached."""
    rig = Rig()
    rig.guard = rig.around(0.01)
    rig.inner.gate.clear()
    late = Unavailable(Reason.ORCHESTRATOR_TIMEOUT, "timed out after 10 ms")
    assert await rig.ask("a") == [late]
    assert (rig.inner.cancelled, rig.guard.last_fault) == (1, late)
    rig.inner.gate.set()
    assert await rig.ask("a") == [SCORES]
    assert rig.guard.last_fault is None


@pytest.mark.parametrize(
    ("error", "reason", "detail"),
    [
        (ValueError("secret"), Reason.ORCHESTRATOR_ERROR, "failed with ValueError"),
        (TimeoutError(), Reason.ORCHESTRATOR_TIMEOUT, "timed out after 5000 ms"),
        (asyncio.CancelledError(), Reason.ORCHESTRATOR_ERROR, "the question was cancelled"),
    ],
)
async def test_exception_is_a_fault(error: BaseException, reason: Reason, detail: str) -> None:
    """The guard returns why there are no scores."""
    rig = Rig(error)
    assert await rig.ask("a", "a") == [Unavailable(reason, detail)] * 2


async def test_open_breaker_refuses_questions() -> None:
    """The refusal is immediate, contains the last fault, and lasts for a second."""
    rig = Rig()
    await rig.fail()
    detail = "the orchestrator failed several times in a row; last fault: no engine"
    expected = Unavailable(Reason.BREAKER_OPEN, detail)
    rig.clock.now += 0.75
    assert await rig.ask("a", "b") == [expected] * 2
    assert len(rig.inner.asked) == FAILURES_TO_OPEN
    assert rig.guard.breaker_state == "open"


async def test_cached_answer_needs_no_orchestrator() -> None:
    """An open breaker does not affect it."""
    rig = Rig()
    await rig.ask("a")
    await rig.fail()
    assert await rig.ask("a") == [CACHED]


async def test_breaker_counts_failures_in_a_row() -> None:
    """An answer between them resets the count."""
    rig = Rig()
    for text in ("a", "b", "c"):
        await rig.fail(FAILURES_TO_OPEN - 1)
        assert await rig.ask(text) == [SCORES]
    assert rig.breaker.state == "closed"


async def test_half_open_breaker_lets_one_probe_through() -> None:
    """Others are refused meanwhile, equal ones join it; its answer closes the breaker."""
    rig = Rig()
    await rig.fail()
    rig.clock.now += 1.0
    assert rig.guard.breaker_state == "half_open"
    rig.inner.gate.clear()
    probe, equal, other = await rig.start("a", "a", "b")
    assert isinstance(result := await other, Unavailable)
    assert result.reason is Reason.BREAKER_OPEN
    rig.inner.gate.set()
    assert [await probe, await equal] == [SCORES] * 2
    assert rig.guard.breaker_state == "closed"
    assert await rig.ask("b", "c") == [SCORES] * 2


@pytest.mark.parametrize("failed_probes", range(7))
async def test_pauses_of_breaker_grow(failed_probes: int) -> None:
    """Each failed probe doubles them, up to thirty seconds; a success resets them."""
    rig = Rig()
    await rig.fail()
    for _ in range(failed_probes):
        rig.clock.now += LONGEST_PAUSE_S
        await rig.fail(1)
    pause_s = min(2.0**failed_probes, 30.0)
    rig.clock.now += pause_s - 0.25
    assert rig.breaker.state == "open"
    rig.clock.now += 0.25
    assert rig.breaker.state == "half_open"
    assert await rig.ask("a") == [SCORES]
    await rig.fail()
    rig.clock.now += 1.0
    assert rig.breaker.state == "half_open"


@pytest.mark.parametrize(
    ("deadline_s", "longest_s"), [(0.05, 1.0), (0.3, 3.0), (0.5, 5.0), (5.0, 30.0)]
)
def test_longest_pause_depends_on_deadline(deadline_s: float, longest_s: float) -> None:
    """It is ten deadlines, but at least 1 s and at most 30 s."""
    clock = FakeClock()
    made = breaker(deadline_s, clock)
    for _ in range(FAILURES_TO_OPEN):
        made.failed()
    for _ in range(9):
        clock.now += LONGEST_PAUSE_S
        assert made.lets_through()
        made.failed()
    clock.now += longest_s - 0.01
    assert made.state == "open"
    clock.now += 0.02
    assert made.state == "half_open"


async def test_cancelled_probe_is_no_failure() -> None:
    """The next question is the probe."""
    rig = Rig()
    await rig.fail()
    rig.clock.now += 1.0
    rig.inner.gate.clear()
    await leave(*await rig.start("a"))
    await settle()
    await settle()
    rig.inner.gate.set()
    assert rig.breaker.state == "half_open"
    assert await rig.ask("b") == [SCORES]


async def test_busy_does_not_count_as_failure() -> None:
    """The breaker stays closed, and a busy probe frees its place."""
    rig = Rig(BUSY)
    assert await rig.ask(*"abcdefgh") == [BUSY] * 8
    assert rig.breaker.state == "closed"
    await rig.fail()
    rig.clock.now += 1.0
    rig.inner.answer = BUSY
    assert await rig.ask("a", "b") == [BUSY] * 2
    assert rig.breaker.state == "half_open"


async def test_questions_in_progress_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """One more is busy; joined and cached questions are not limited."""
    monkeypatch.setattr(guards, "MAX_FLIGHTS", 2)
    rig = Rig()
    await rig.ask("known")
    rig.inner.gate.clear()
    tasks = await rig.start("a", "b", "a")
    busy = Unavailable(Reason.ORCHESTRATOR_BUSY, "2 questions are already in progress")
    assert await rig.ask("c", "known") == [busy, CACHED]
    rig.inner.gate.set()
    assert await asyncio.gather(*tasks) == [SCORES] * 3
    assert await rig.ask("c") == [SCORES]


async def test_outcomes_are_recorded(caplog: pytest.LogCaptureFixture) -> None:
    """Each has its reason, and those that reached the orchestrator their time; changes are logged."""
    rig = Rig()
    await rig.ask("a", "a")
    await rig.fail()
    await rig.ask("b")
    rig.clock.now += 1.0
    await rig.ask("c")
    errors = ["orchestrator_error"] * FAILURES_TO_OPEN
    assert rig.outcomes == ["scored", "cached", *errors, "breaker_open", "scored"]
    timed = rig.meter.observed(Metric.DECISION_SECONDS)
    assert timed == [(0.0, (outcome,)) for outcome in ("scored", *errors, "scored")]
    assert [record.getMessage() for record in caplog.records] == [
        "orchestrator unavailable: orchestrator_error: no engine",
        "orchestrator available again",
    ]


async def test_guard_works_without_meter_and_breaker() -> None:
    """The guard around an engine in its own replica has neither."""
    inner = Inner(DOWN)
    guard = Guard(inner, deadline_s=1.0, clock=FakeClock())
    result = [await guard.score(question(str(number))) for number in range(9)]
    assert (result, guard.breaker_state) == ([DOWN] * 9, "closed")


async def test_guard_repr_shows_state_and_load() -> None:
    """An operator sees the inner orchestrator, breaker, cache, questions in progress and fault."""
    rig = Rig()
    assert repr(rig.guard) == (
        "<Guard <Inner>: closed, 0/4096 cached, 0/512 in progress, last fault: None>"
    )
    await rig.ask("a", "b")
    await rig.fail()
    rig.clock.now += FIRST_PAUSE_S
    rig.inner.gate.clear()
    (task,) = await rig.start("c")
    assert repr(rig.guard) == (
        "<Guard <Inner>: half_open, 2/4096 cached, 1/512 in progress, last fault: no engine>"
    )
    await leave(task)


async def test_turn_of_a_typed_question_is_not_an_outage() -> None:
    """Such a question is asked again while the engine is busy: nothing is counted or logged."""
    rig = Rig(BUSY)
    asked = replace(question(), wants_probabilities=True)
    for guard in (rig.guard, Guard(rig.inner, deadline_s=5.0, clock=rig.clock)):
        assert await guard.score(asked) == BUSY
        assert guard.last_fault is None
    assert rig.meter.counted(Metric.DECISIONS) == []
    rig.inner.answer = DOWN
    assert await rig.guard.score(asked) == DOWN
    assert rig.guard.last_fault == DOWN
    assert rig.meter.counted(Metric.DECISIONS) == [("orchestrator_error",)]
