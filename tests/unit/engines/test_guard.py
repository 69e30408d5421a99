"""What stands before an engine: cache, single flight, deadline and breaker."""

import asyncio
from dataclasses import replace

import pytest

from serve_app.breaker import FAILURES_TO_OPEN, FIRST_PAUSE_S, LONGEST_PAUSE_S, Breaker
from serve_app.domain import Question, Reason, Route, Scores, Turn, Unavailable
from serve_app.engines import guard as guards
from serve_app.engines.guard import Guard, breaker
from serve_app.telemetry.metrics import Metric, MetricsObserver
from tests.unit.fakes import FakeClock, FakeMeter

SCORES = Scores({"code": 0.9}, 0.1, "code")
CACHED = replace(SCORES, cached=True)
DOWN = Unavailable(Reason.ORCHESTRATOR_ERROR, "no engine")
BUSY = Unavailable(Reason.ORCHESTRATOR_BUSY, "full")
ROUTES = (Route("code", "writing code", ()),)


def question(text: str = "Hello", key: str = "v1") -> Question:
    return Question((Turn("user", text),), ROUTES, key)


class Inner:
    """Says the same again and again, once its gate is open; remembers what happened to it."""

    def __init__(self, said: Scores | Unavailable | BaseException = SCORES) -> None:
        self.said = said
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
        if isinstance(self.said, BaseException):
            raise self.said
        return self.said


class Rig:
    """A guard around an orchestrator, on a clock that stands still."""

    def __init__(self, said: Scores | Unavailable | BaseException = SCORES) -> None:
        self.inner = Inner(said)
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
        self.inner.said = DOWN
        await self.ask(*[f"failing {len(self.inner.asked) + n}" for n in range(times)])
        self.inner.said = SCORES

    @property
    def outcomes(self) -> list[str]:
        return [str(outcome) for (outcome,) in self.meter.counted(Metric.DECISIONS)]


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def leave(*tasks: asyncio.Task[Scores | Unavailable]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert all(task.cancelled() for task in tasks)


async def test_scores_are_remembered() -> None:
    """An equal question is answered at once, and the answer says that it is remembered."""
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
async def test_another_question_is_asked(other: Question) -> None:
    """Other words, another side that said them, other turns, or other routes."""
    rig = Rig()
    await rig.ask("a")
    assert await rig.guard.score(other) == SCORES
    assert rig.inner.asked == [question("a"), other]


async def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was not asked for longest is forgotten."""
    monkeypatch.setattr(guards, "CACHE_ENTRIES", 2)
    rig = Rig()
    assert await rig.ask("a", "b", "a", "c") == [SCORES, SCORES, CACHED, SCORES]
    assert await rig.ask("a", "c", "b") == [CACHED, CACHED, SCORES]


async def test_what_a_stand_in_says_is_not_remembered() -> None:
    """The engine that it stands in for is asked again each time, until it answers."""
    instead = replace(SCORES, stand_in="the engine is starting")
    rig = Rig(instead)
    assert await rig.ask("a", "a") == [instead, instead]
    assert rig.guard.stand_in == "the engine is starting"
    rig.inner.said = SCORES
    assert await rig.ask("a", "a") == [SCORES, CACHED]
    assert (rig.guard.stand_in, rig.guard.asked) == ("", 3)


async def test_equal_questions_at_once_are_one() -> None:
    """Forty of them are asked once, and all have the answer."""
    rig = Rig()
    rig.inner.gate.clear()
    tasks = await rig.start(*["a"] * 40)
    rig.inner.gate.set()
    assert await asyncio.gather(*tasks) == [SCORES] * 40
    assert rig.inner.asked == [question("a")]
    assert rig.outcomes == ["joined"] * 39 + ["scored"]


async def test_a_fault_is_that_of_all_who_wait() -> None:
    """It is not remembered: the next one asks anew."""
    rig = Rig(DOWN)
    rig.inner.gate.clear()
    tasks = await rig.start("a", "a", "a")
    rig.inner.gate.set()
    assert await asyncio.gather(*tasks) == [DOWN] * 3
    rig.inner.said = SCORES
    assert await rig.ask("a") == [SCORES]
    assert rig.guard.asked == 2


async def test_who_leaves_takes_the_question_from_nobody() -> None:
    """It goes on for those who stay, whoever was first."""
    rig = Rig()
    rig.inner.gate.clear()
    first, second, third = await rig.start("a", "a", "a")
    await leave(first, third)
    assert rig.inner.cancelled == 0
    rig.inner.gate.set()
    assert await second == SCORES


async def test_the_last_one_to_leave_ends_the_question() -> None:
    """The orchestrator is told; an equal question is asked anew, even before it has stopped."""
    rig = Rig()
    rig.inner.gate.clear()
    await leave(*await rig.start("a", "a"))
    rig.inner.gate.set()
    assert await rig.ask("a") == [SCORES]
    assert (rig.inner.cancelled, len(rig.inner.asked)) == (1, 2)
    await settle()
    assert rig.breaker.state == "closed"
    assert await rig.ask("a") == [CACHED]


async def test_there_is_a_deadline() -> None:
    """The orchestrator is left alone with a question that takes too long; nothing is kept."""
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
async def test_an_exception_fails_no_request(
    error: BaseException, reason: Reason, detail: str
) -> None:
    """Whatever the orchestrator does, the guard says why there are no scores."""
    rig = Rig(error)
    assert await rig.ask("a", "a") == [Unavailable(reason, detail)] * 2


async def test_after_failures_nobody_is_asked() -> None:
    """The answer comes at once, says what the last failure was, and lasts for a second."""
    rig = Rig()
    await rig.fail()
    detail = "the orchestrator failed several times in a row; last fault: no engine"
    expected = Unavailable(Reason.BREAKER_OPEN, detail)
    rig.clock.now += 0.75
    assert await rig.ask("a", "b") == [expected] * 2
    assert len(rig.inner.asked) == FAILURES_TO_OPEN
    assert rig.guard.breaker_state == "open"


async def test_what_is_remembered_needs_no_orchestrator() -> None:
    """An open breaker keeps no known answer back."""
    rig = Rig()
    await rig.ask("a")
    await rig.fail()
    assert await rig.ask("a") == [CACHED]


async def test_failures_count_in_a_row() -> None:
    """One answer between them, and the count starts again."""
    rig = Rig()
    for text in ("a", "b", "c"):
        await rig.fail(FAILURES_TO_OPEN - 1)
        assert await rig.ask(text) == [SCORES]
    assert rig.breaker.state == "closed"


async def test_one_probe_is_let_through() -> None:
    """Others are refused while it is under way, equal ones join it; its answer ends the trouble."""
    rig = Rig()
    await rig.fail()
    rig.clock.now += 1.0
    assert rig.guard.breaker_state == "half_open"
    rig.inner.gate.clear()
    probe, equal, other = await rig.start("a", "a", "b")
    assert isinstance(said := await other, Unavailable)
    assert said.reason is Reason.BREAKER_OPEN
    rig.inner.gate.set()
    assert [await probe, await equal] == [SCORES] * 2
    assert rig.guard.breaker_state == "closed"
    assert await rig.ask("b", "c") == [SCORES] * 2


@pytest.mark.parametrize("failed_probes", range(7))
async def test_pauses_grow(failed_probes: int) -> None:
    """Each failed probe doubles them, up to thirty seconds; a good one makes them short again."""
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
def test_what_a_probe_costs_says_how_rare_it_is(deadline_s: float, longest_s: float) -> None:
    """Ten deadlines apart, though between 1 s and 30 s."""
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


async def test_a_probe_that_nobody_waits_for_frees_its_place() -> None:
    """It says nothing about the orchestrator; the next question is the probe."""
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


async def test_busy_is_no_failure() -> None:
    """Who is busy is not broken: the breaker stays closed, and a busy probe frees its place."""
    rig = Rig(BUSY)
    assert await rig.ask(*"abcdefgh") == [BUSY] * 8
    assert rig.breaker.state == "closed"
    await rig.fail()
    rig.clock.now += 1.0
    rig.inner.said = BUSY
    assert await rig.ask("a", "b") == [BUSY] * 2
    assert rig.breaker.state == "half_open"


async def test_questions_under_way_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """One more is busy; what joins another one or is remembered needs no place."""
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
    """Each with its reason, and the time of those that were asked; the log tells of changes."""
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


async def test_a_guard_needs_no_meter_and_no_breaker() -> None:
    """As around an engine in its own replica."""
    inner = Inner(DOWN)
    guard = Guard(inner, deadline_s=1.0, clock=FakeClock())
    said = [await guard.score(question(str(number))) for number in range(9)]
    assert (said, guard.breaker_state) == ([DOWN] * 9, "closed")


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
