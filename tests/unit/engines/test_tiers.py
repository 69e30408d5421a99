"""Close calls go to the better engine, and everything that keeps it from deciding them."""

import asyncio
import time
from dataclasses import replace
from typing import Final

import pytest

from serve_app.config.schema.gateway import GatewayConfig
from serve_app.config.schema.prices import PriceOverride
from serve_app.domain import ModelRef, Question, Reason, Scores, TokenUsage, Turn, Unavailable
from serve_app.engines.guard import Guard, breaker
from serve_app.engines.tiers import (
    MAX_UNSURE,
    InTime,
    Tier,
    TierObserver,
    Tiers,
    is_close,
    time_for_both,
)
from serve_app.ports import Clock, Orchestrator
from serve_app.providers.prices import CurrentPrices
from serve_app.telemetry.metrics import Metric, MetricsObserver
from tests.unit.engines.questions import question, settle
from tests.unit.fakes import FakeClock, FakeMeter, FakeOrchestrator

CLEAR: Final = Scores({"code": 0.6, "poems": 0.3}, 0.12, "code", none=0.1, tier="embedding")
CLOSE: Final = Scores({"code": 0.4, "poems": 0.3}, 0.3, "code", none=0.3, tier="embedding")
NONE: Final = Scores({"code": 0.2, "poems": 0.2}, 0.6, None, none=0.6, tier="embedding")
NAMED: Final = Scores({}, 0.0, "poems", usage=TokenUsage(100, 5))
DOWN: Final = Unavailable(Reason.ORCHESTRATOR_ERROR, "cannot connect to openai")
MODEL: Final = ModelRef("openai", "gpt-4o-mini")


class Slow(FakeOrchestrator):
    """Answers after some time, and remembers whether it was cancelled."""

    def __init__(self, scores: Scores | Unavailable, takes_s: float = 0.0) -> None:
        super().__init__(scores)
        self.takes_s = takes_s
        self.cancelled = 0

    async def score(self, question: Question) -> Scores | Unavailable:
        try:
            await asyncio.sleep(self.takes_s)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return await super().score(question)


def tiers(
    first: Scores | Unavailable | Orchestrator,
    better: FakeOrchestrator,
    deadline_s: float = 5.0,
    clock: Clock = time.monotonic,
) -> Tiers:
    if isinstance(first, Scores | Unavailable):
        first = FakeOrchestrator(first)
    return Tiers(first, better, below=0.5, deadline_s=deadline_s, clock=clock)


class Late(FakeOrchestrator):
    """A first engine that takes its time, on a clock that the test moves."""

    def __init__(self, clock: FakeClock, takes_s: float) -> None:
        super().__init__(CLOSE)
        self.clock, self.takes_s = clock, takes_s

    async def score(self, question: Question) -> Scores | Unavailable:
        self.clock.now += self.takes_s
        return await super().score(question)


@pytest.mark.parametrize(
    ("scores", "close"),
    [
        (CLEAR, False),
        (CLOSE, True),
        (NONE, False),
        (replace(CLOSE, routes={"code": 0.5}), False),
        (replace(CLOSE, routes={"code": 0.49}), True),
        (replace(NONE, none=None), True),
        (Scores({"code": 0.3}, 0.12, "code"), True),
        (Scores({}, 0.0, "code"), False),
        (Scores({}, 0.0, None), False),
        (Scores({}, 0.0, None, none=0.2), True),
        (DOWN, True),
    ],
)
def test_call_is_close_by_its_probability(scores: Scores | Unavailable, *, close: bool) -> None:
    """The highest of all routes and of no route counts; without numbers no call is close, and
    without an answer every one.
    """
    assert is_close(scores, 0.5) is close


@pytest.mark.parametrize("scores", [CLEAR, NONE, Scores({}, 0.0, "code")])
async def test_clear_call_stays_with_first_engine(scores: Scores) -> None:
    """The better engine is not asked."""
    better = FakeOrchestrator(NAMED)
    assert await tiers(scores, better).score(question()) == scores
    assert better.questions == []


async def test_close_call_is_decided_by_better_engine() -> None:
    """Its scores are returned as they are, with the name of the tier; it learns what time is left."""
    better = FakeOrchestrator(NAMED)
    assert await tiers(CLOSE, better).score(question()) == replace(NAMED, tier="when_unsure")
    (asked,) = better.questions
    assert asked.within_s == pytest.approx(5.0, abs=0.5)
    assert replace(asked, within_s=None) == question()


async def test_unanswered_question_is_decided_by_better_engine() -> None:
    """So it is if the first engine has no answer at all."""
    better = FakeOrchestrator(NAMED)
    assert await tiers(DOWN, better).score(question()) == replace(NAMED, tier="when_unsure")


@pytest.mark.parametrize("reason", [Reason.ORCHESTRATOR_ERROR, Reason.ORCHESTRATOR_BUSY, Reason.BREAKER_OPEN])  # fmt: skip
async def test_first_decision_stands_without_an_answer(reason: Reason) -> None:
    """The scores say why the better engine did not decide."""
    better = FakeOrchestrator(Unavailable(reason, "no route to host"))
    expected = replace(CLOSE, fell_back="no route to host")
    assert await tiers(CLOSE, better).score(question()) == expected


async def test_two_failures_are_both_reported() -> None:
    """The reason is that of the first engine."""
    first = Unavailable(Reason.ORCHESTRATOR_BUSY, "20 questions are queued")
    expected = replace(first, detail=f"{first.detail}; when_unsure: {DOWN.detail}")
    assert await tiers(first, FakeOrchestrator(DOWN)).score(question()) == expected


async def test_slow_better_engine_is_given_up_in_time() -> None:
    """The first decision is returned within the deadline, and the question is cancelled."""
    better = Slow(NAMED, takes_s=30)
    started = time.monotonic()
    scores = await tiers(CLOSE, better, 0.2).score(question())
    assert time.monotonic() - started < 2
    assert isinstance(scores, Scores)
    assert scores.winner == "code"
    assert scores.fell_back.startswith("timed out after ")
    assert better.cancelled == 1


async def test_better_engine_is_not_asked_without_time() -> None:
    """The first engine has used up all of it."""
    clock, better = FakeClock(), FakeOrchestrator(NAMED)
    scores = await tiers(Late(clock, 6), better, clock=clock).score(question())
    assert scores == replace(CLOSE, fell_back="no time was left to ask it")
    assert better.questions == []


async def test_better_engine_gets_what_time_is_left() -> None:
    """A slow first engine takes from it."""
    clock, better = FakeClock(), FakeOrchestrator(NAMED)
    await tiers(Late(clock, 3), better, clock=clock).score(question())
    assert better.questions[0].within_s == pytest.approx(2.0)


async def test_questions_at_better_engine_are_bounded() -> None:
    """Those beyond the bound get the first engine's decision at once."""
    better = Slow(NAMED, takes_s=0.3)
    both = tiers(CLOSE, better)
    results = await asyncio.gather(*[both.score(question(str(n))) for n in range(MAX_UNSURE + 3)])
    assert [scores.fell_back for scores in results if isinstance(scores, Scores)] == [
        *[""] * MAX_UNSURE,
        *["32 questions are waiting for it already"] * 3,
    ]
    assert isinstance(await both.score(question()), Scores)
    assert len(better.questions) == MAX_UNSURE + 1


async def test_each_engine_gets_what_it_reads() -> None:
    """An embedding model gets the last turns of a conversation that a language model reads whole."""
    turns = (*[Turn("user", f"earlier {n}") for n in range(9)], Turn("user", "word " * 20))
    first, better = FakeOrchestrator(CLOSE), FakeOrchestrator(NAMED)
    both = tiers(Tier(first.score, whole=False, name="embedding"), better)
    await both.score(replace(question(), turns=turns))
    assert first.questions[0].turns == (Turn("user", ("word " * 20).strip()),)
    assert better.questions[0].turns == turns


async def test_tier_names_its_scores() -> None:
    """A fault has no name, and without one the scores keep theirs."""
    named = Tier(FakeOrchestrator(NAMED).score, name="http")
    assert await named.score(question()) == replace(NAMED, tier="http")
    assert await Tier(FakeOrchestrator(CLOSE).score).score(question()) == CLOSE
    assert await Tier(FakeOrchestrator(DOWN).score, name="http").score(question()) == DOWN


@pytest.mark.parametrize(("deadline_s", "left_s"), [(5.0, 4.8), (0.5, 0.4), (1.0, 0.8)])
def test_way_back_has_time(deadline_s: float, left_s: float) -> None:
    """It is a fifth of the deadline, at most a fifth of a second."""
    assert time_for_both(deadline_s) == pytest.approx(left_s)


class Rig:
    """A guarded better engine with its metrics."""

    def __init__(self, inner: FakeOrchestrator, deadline_s: float = 5.0) -> None:
        self.meter = FakeMeter()
        prices = {"openai/gpt-4o-mini": PriceOverride(input=2.0, output=10.0, cached_input=1.0)}
        config = GatewayConfig(version="v0.4.0", prices=prices)
        observer = TierObserver(
            MetricsObserver(self.meter), "when_unsure", MODEL, CurrentPrices(lambda: config)
        )
        clock = time.monotonic
        self.guard = Guard(
            InTime(inner, deadline_s=deadline_s, clock=clock, observer=observer),
            deadline_s=2 * deadline_s,
            clock=clock,
            observer=observer,
            breaker=breaker(deadline_s, clock),
            name="orchestrator.when_unsure",
        )

    @property
    def outcomes(self) -> list[str]:
        return [labels[-1] for labels in self.meter.counted(Metric.TIER_QUESTIONS)]

    def amount(self, metric: Metric, *labels: str) -> float | None:
        return self.meter.amounts.get((metric, ("when_unsure", str(MODEL), *labels)))


async def test_questions_are_counted_and_priced_once() -> None:
    """An equal question is cached, and costs nothing; the decisions as a whole are counted elsewhere."""
    usage = TokenUsage(1000, 50, cached_tokens=200)
    rig = Rig(FakeOrchestrator(replace(NAMED, usage=usage)))
    for _ in range(2):
        assert isinstance(await rig.guard.score(question()), Scores)
    assert rig.outcomes == ["scored", "cached"]
    assert rig.amount(Metric.TIER_TOKENS, "input") == 1000
    assert rig.amount(Metric.TIER_TOKENS, "output") == 50
    assert rig.amount(Metric.TIER_COST) == pytest.approx((800 * 2 + 200 * 1 + 50 * 10) / 1e6)
    assert rig.amount(Metric.TIER_UNPRICED) is None
    (seconds, labels), = rig.meter.observed(Metric.TIER_SECONDS)  # fmt: skip
    assert (seconds < 5, labels) == (True, ("when_unsure", str(MODEL), "scored"))
    assert rig.meter.counted(Metric.DECISIONS) == []


@pytest.mark.parametrize(
    ("result", "outcome", "usd"),
    [
        (NAMED, "scored", (100 * 2 + 5 * 10) / 1e6),
        (replace(NAMED, usage=None), "scored", None),
        (DOWN, "orchestrator_error", None),
        (replace(DOWN, usage=TokenUsage(10)), "orchestrator_error", 20 / 1e6),
    ],
)
async def test_unknown_cost_is_not_zero(
    result: Scores | Unavailable, outcome: str, usd: float | None
) -> None:
    """A question without a count of tokens is unpriced; an unusable answer costs as a usable one."""
    rig = Rig(FakeOrchestrator(result))
    await rig.guard.score(question())
    assert rig.outcomes == [outcome]
    assert rig.amount(Metric.TIER_COST) == (None if usd is None else pytest.approx(usd))
    assert rig.amount(Metric.TIER_UNPRICED) == (1 if usd is None else None)


async def test_model_without_a_price_is_unpriced() -> None:
    """Its tokens are counted all the same."""
    meter = FakeMeter()
    config = GatewayConfig(version="v0.4.0")
    own = ModelRef("127.0.0.1:8000", "m")
    observer = TierObserver(MetricsObserver(meter), "http", own, CurrentPrices(lambda: config))
    guard = Guard(FakeOrchestrator(NAMED), deadline_s=5, clock=time.monotonic, observer=observer)
    await guard.score(question())
    tier = ("http", "127.0.0.1:8000/m")
    assert meter.amounts[Metric.TIER_UNPRICED, tier] == 1
    assert meter.amounts[Metric.TIER_TOKENS, (*tier, "input")] == 100


async def test_timeout_and_open_breaker_are_counted() -> None:
    """Neither has a known cost, but only a question that was asked is unpriced."""
    rig = Rig(Slow(NAMED, takes_s=9), deadline_s=0.02)
    for number in range(7):
        assert isinstance(await rig.guard.score(question(str(number))), Unavailable)
    assert rig.outcomes == [*["orchestrator_timeout"] * 5, *["breaker_open"] * 2]
    assert rig.amount(Metric.TIER_UNPRICED) == 5
    refused = await rig.guard.score(question("again"))
    assert isinstance(refused, Unavailable)
    assert refused.detail == (
        "the orchestrator.when_unsure failed several times in a row; last fault: timed out after 20 ms"
    )


async def test_question_with_less_time_ends_earlier() -> None:
    """The deadline of the question counts if it is shorter."""
    engine = InTime(Slow(NAMED, takes_s=9), deadline_s=60, clock=time.monotonic)
    expected = Unavailable(Reason.ORCHESTRATOR_TIMEOUT, "timed out after 50 ms")
    assert await engine.score(replace(question(), within_s=0.05)) == expected


async def test_question_of_a_client_that_leaves_is_counted() -> None:
    """Its answer may cost something all the same, so it is unpriced."""
    rig = Rig(Slow(NAMED, takes_s=9))
    asked = asyncio.create_task(rig.guard.score(question()))
    await settle()
    asked.cancel()
    await asyncio.gather(asked, return_exceptions=True)
    await settle()
    assert rig.outcomes == ["cancelled"]
    assert rig.amount(Metric.TIER_UNPRICED) == 1


async def test_fallback_of_unsure_call_is_not_cached() -> None:
    """The ingress asks again, because the better engine may answer next time."""
    first = FakeOrchestrator(replace(CLOSE, fell_back="cannot connect"))
    guard = Guard(first, deadline_s=5, clock=time.monotonic)
    await guard.score(question())
    assert guard.fell_back == "cannot connect"
    first.scores = replace(NAMED, tier="when_unsure")
    for cached in (False, True):
        scores = await guard.score(question())
        assert isinstance(scores, Scores)
        assert (scores.cached, scores.tier) == (cached, "when_unsure")
    assert guard.fell_back == ""
    assert len(first.questions) == 2


def test_tiers_show_their_engines() -> None:
    """An operator sees both engines and the limit."""
    first, better = FakeOrchestrator(CLOSE), FakeOrchestrator(NAMED)
    in_time = InTime(better, deadline_s=1, clock=time.monotonic)
    both = Tiers(first, in_time, below=0.4, deadline_s=1, clock=time.monotonic)
    assert repr(both) == f"<Tiers below 0.4: {first!r}, then {better!r}>"


async def test_engine_without_probabilities_is_left_out_where_they_are_needed() -> None:
    """The first engine's scores stand, and the better one is not asked in vain."""
    better = FakeOrchestrator(NAMED)
    asked = replace(question("Hello"), wants_probabilities=True)
    names_only = Tier(better.score, has_probabilities=False)
    both = Tiers(FakeOrchestrator(CLOSE), names_only, below=0.5, deadline_s=5, clock=time.monotonic)
    assert await both.score(asked) == replace(CLOSE, fell_back="it has no probabilities")
    assert not better.questions
    assert await both.score(question("Hello")) == replace(NAMED, tier="when_unsure")
