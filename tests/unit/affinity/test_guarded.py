"""What stands around a store that may fail."""

import asyncio
import logging
import time
from contextlib import suppress

import pytest

from serve_app.affinity.guarded import LOG_EVERY_S, GuardedStore, StoreError
from serve_app.breaker import FAILURES_TO_OPEN, FIRST_PAUSE_S, Breaker
from serve_app.domain import Binding, ModelRef
from tests.unit.fakes import FOREVER, FakeClock

A, B = Binding(ModelRef("p", "a")), Binding(ModelRef("p", "b"))
DOWN = StoreError("ConnectionError at here:1")
SECRET = "hunter2"


class Inner:
    """A store that says always the same, after a pause."""

    def __init__(self) -> None:
        self.fault: BaseException | None = None
        self.pause_s = 0.0
        self.stubborn_s = 0.0
        self.asked: list[tuple[object, ...]] = []

    async def get(self, key: str) -> Binding | None:
        await self._answer(key)
        return A

    async def bind(self, key: str, binding: Binding, *, instead_of: ModelRef | None) -> bool:
        await self._answer(key, binding, instead_of)
        return True

    async def _answer(self, *question: object) -> None:
        self.asked.append(question)
        try:
            await asyncio.sleep(self.pause_s)
        except asyncio.CancelledError:
            await asyncio.sleep(self.stubborn_s)
            raise
        if self.fault is not None:
            raise self.fault


class Rig:
    """A steady store around one that is told what to do, on a clock that stands still."""

    def __init__(self, deadline_s: float = 5.0) -> None:
        self.inner = Inner()
        self.clock = FakeClock()
        self.breaker = Breaker(self.clock)
        self.reports: list[str] = []
        self.store = GuardedStore(
            self.inner,
            clock=self.clock,
            breaker=self.breaker,
            report=self.reports.append,
            deadline_s=deadline_s,
        )

    async def fail(self, times: int = FAILURES_TO_OPEN) -> None:
        """So many failures in a row; then all would be well again."""
        self.inner.fault = DOWN
        assert [await self.store.get("k") for _ in range(times)] == [None] * times
        self.inner.fault = None


@pytest.fixture
def rig() -> Rig:
    return Rig()


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage().split(",")[0].split(":")[0] for record in caplog.records]


BEGINS, ENDS = "affinity store unavailable", "affinity store available again"


async def test_answers_pass_through(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """A working store gets the same operations, and nothing is logged."""
    assert await rig.store.get("k") == A
    assert await rig.store.bind("k", B, instead_of=A.model)
    assert rig.inner.asked == [("k",), ("k", B, A.model)]
    assert (rig.reports, rig.store.trouble, caplog.records) == ([], None, [])


@pytest.mark.parametrize(
    ("fault", "trouble"),
    [
        (DOWN, "ConnectionError at here:1"),
        (RuntimeError(f"redis://:{SECRET}@here"), "failed with RuntimeError"),
        (asyncio.CancelledError(), "the operation was cancelled"),
        (TimeoutError(), "failed with TimeoutError"),
    ],
)
async def test_failure_counts_as_no_binding(
    rig: Rig, caplog: pytest.LogCaptureFixture, fault: BaseException, trouble: str
) -> None:
    """For any exception nothing is bound, and only safe texts are shown."""
    rig.inner.fault = fault
    assert await rig.store.get("k") is None
    assert not await rig.store.bind("k", A, instead_of=None)
    assert (rig.reports, rig.store.trouble) == (["error", "error"], trouble)
    assert trouble in caplog.text
    assert SECRET not in caplog.text + repr(rig.store)


async def test_first_answer_ends_trouble(rig: Rig) -> None:
    """Nothing more is reported after it."""
    await rig.fail(1)
    assert await rig.store.get("k") == A
    assert rig.store.trouble is None
    assert rig.reports == ["error"]


@pytest.mark.parametrize("stubborn_s", [0.0, 0.3])
async def test_deadline_limits_every_operation(stubborn_s: float) -> None:
    """It does so even if the store takes long to be cancelled."""
    rig = Rig(deadline_s=0.05)
    rig.inner.pause_s, rig.inner.stubborn_s = FOREVER, stubborn_s
    started = time.monotonic()
    assert await rig.store.get("k") is None
    assert not await rig.store.bind("k", A, instead_of=None)
    assert 0.1 <= time.monotonic() - started < 0.2
    assert rig.store.trouble == "timed out after 50 ms"
    await asyncio.sleep(stubborn_s + 0.05)
    assert not rig.store._abandoned


async def test_late_error_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """An error after the deadline does not appear in a log of asyncio."""
    rig = Rig(deadline_s=0.01)

    async def late(key: str) -> Binding | None:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(FOREVER)
        raise RuntimeError(SECRET)

    rig.inner.get = late  # type: ignore[method-assign]
    assert await rig.store.get("k") is None
    await asyncio.sleep(0.01)
    assert not rig.store._abandoned
    assert SECRET not in caplog.text


async def test_breaker_refuses_operations(rig: Rig) -> None:
    """After several failures the store is not used for a while, and results are immediate."""
    await rig.fail()
    asked = len(rig.inner.asked)
    rig.inner.pause_s = FOREVER
    assert await rig.store.get("k") is None
    assert not await rig.store.bind("k", A, instead_of=None)
    assert len(rig.inner.asked) == asked
    assert rig.reports == ["error"] * (FAILURES_TO_OPEN + 2)
    assert rig.store.trouble == str(DOWN)


async def test_one_operation_probes_after_the_pause(rig: Rig) -> None:
    """The others are refused until it has its answer."""
    await rig.fail()
    rig.clock.now += FIRST_PAUSE_S
    rig.inner.pause_s = 0.02
    assert await asyncio.gather(*(rig.store.get("k") for _ in range(5))) == [A, *[None] * 4]
    assert await asyncio.gather(*(rig.store.get("k") for _ in range(5))) == [A] * 5


async def test_failed_probe_doubles_the_pause(rig: Rig) -> None:
    """A probe without an answer opens the breaker again."""
    await rig.fail()
    rig.clock.now += FIRST_PAUSE_S
    await rig.fail(1)
    rig.clock.now += FIRST_PAUSE_S
    assert await rig.store.get("k") is None
    rig.clock.now += FIRST_PAUSE_S
    assert await rig.store.get("k") == A


async def test_cancelled_probe_is_no_failure(rig: Rig) -> None:
    """The next operation is the probe."""
    await rig.fail()
    rig.clock.now += FIRST_PAUSE_S
    rig.inner.pause_s = FOREVER
    task = asyncio.create_task(rig.store.get("k"))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    rig.inner.pause_s = 0.0
    assert await rig.store.get("k") == A
    assert len(rig.reports) == FAILURES_TO_OPEN
    await asyncio.sleep(0)
    assert not rig.store._abandoned


async def test_outage_is_logged_once(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """There is one warning at its beginning and one at its end, however long it lasts."""
    for _ in range(3):
        await rig.fail(2)
        rig.clock.now += LOG_EVERY_S
    assert warnings(caplog) == [BEGINS]
    await rig.store.get("k")
    await rig.store.get("k")
    assert warnings(caplog) == [BEGINS, ENDS]
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


async def test_repeated_outages_are_logged_rarely(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    """At most one pair is logged in ten seconds; an outage that lasts is logged after that."""
    for _ in range(9):
        await rig.fail(1)
        await rig.store.get("k")
        rig.clock.now += 1.0
    assert warnings(caplog) == [BEGINS, ENDS]
    await rig.fail(1)
    rig.clock.now += 1.0
    assert warnings(caplog) == [BEGINS, ENDS]
    await rig.fail(1)
    await rig.store.get("k")
    assert warnings(caplog) == [BEGINS, ENDS] * 2


async def test_guarded_store_repr_shows_state_and_trouble(rig: Rig) -> None:
    """It contains the inner store, the state of the breaker and the last fault."""
    await rig.fail()
    assert repr(rig.store).endswith(f"open, trouble: {DOWN}>")
