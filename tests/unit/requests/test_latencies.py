"""How long models take to begin their answers."""

import pytest

from serve_app.domain import ModelRef
from serve_app.requests import latencies
from serve_app.requests.latencies import (
    EXPLORE_EVERY,
    EXPLORE_UNKNOWN_EVERY,
    FAILED_S,
    MAX_AGE_S,
    Latencies,
)
from tests.unit.fakes import FakeClock

A, B, C = MODELS = tuple(ModelRef("p", name) for name in "abc")


def measured(clock: FakeClock, **seconds: float) -> Latencies:
    """A measure of complete answers for each of these models."""
    found = Latencies(clock)
    for name, value in seconds.items():
        found.note(ModelRef("p", name), value, stream=False)
    return found


def test_order_puts_fast_models_first() -> None:
    """Models without a measure keep their order behind the others."""
    found = measured(FakeClock(), c=0.2, b=0.4)
    assert found.order(MODELS, stream=False) == (C, B, A)
    assert found.order(MODELS, stream=True) == MODELS
    assert repr(found) == "<Latencies of 2 models>"


def test_average_follows_new_measures() -> None:
    """A model that becomes slow loses its place after some requests, not after the first."""
    found = measured(FakeClock(), a=1.0, b=1.4)
    found.note(A, 2.0, stream=False)
    assert found.seconds(A, stream=False) == 1.3
    assert found.order((A, B), stream=False) == (A, B)
    found.note(A, 2.0, stream=False)
    assert found.order((A, B), stream=False) == (B, A)


def test_failure_counts_as_slow() -> None:
    """A fault that comes at once does not make a model the fastest."""
    found = measured(FakeClock(), a=1.0, b=1.2)
    found.note(A, 0.01, stream=False, failed=True)
    assert found.order((A, B), stream=False) == (B, A)
    found.note(C, 0.01, stream=False, failed=True)
    assert found.seconds(C, stream=False) == FAILED_S


def test_old_measures_do_not_count() -> None:
    """A measure older than MAX_AGE_S is replaced by the next one, not averaged with it."""
    clock = FakeClock()
    found = measured(clock, b=1.0)
    clock.now += MAX_AGE_S + 1
    assert found.seconds(B, stream=False) is None
    assert found.order((A, B), stream=False) == (A, B)
    found.note(B, 3.0, stream=False)
    assert found.seconds(B, stream=False) == 3.0


def test_unmeasured_models_are_explored() -> None:
    """Some requests go to each of them in turn, until all have been measured."""
    clock = FakeClock()
    found = measured(clock, a=1.0)
    led = [found.choose(MODELS, stream=False)[0] for _ in range(2 * EXPLORE_UNKNOWN_EVERY)]
    assert led == [*[A] * (EXPLORE_UNKNOWN_EVERY - 1), B, *[A] * (EXPLORE_UNKNOWN_EVERY - 1), C]


def test_measured_models_are_explored_rarely() -> None:
    """The least recently asked one leads now and then, whatever its measure, the others follow."""
    clock = FakeClock()
    found = measured(clock, a=1.0, b=3.0, c=2.0)
    for model in (B, C, A):
        clock.now += 1
        found.note(model, {A: 1.0, B: 3.0, C: 2.0}[model], stream=False)
    led = [found.choose(MODELS, stream=False) for _ in range(2 * EXPLORE_EVERY)]
    assert led.count((A, C, B)) == 2 * EXPLORE_EVERY - 2
    assert led[EXPLORE_EVERY - 1] == (B, A, C)
    assert led[2 * EXPLORE_EVERY - 1] == (C, A, B)


def test_busy_model_is_not_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model that was measured longest ago is, however often others were measured meanwhile."""
    monkeypatch.setattr(latencies, "MAX_MODELS", 3)
    clock = FakeClock()
    measured = Latencies(clock)
    busy = ModelRef("p", "busy")
    for number in range(40):
        clock.now += 0.3
        measured.note(busy, 1.0, stream=True)
        measured.note(ModelRef("p", str(number // 4)), 1.0, stream=True)
        assert measured.seconds(busy, stream=True) == 1.0
    assert measured.seconds(ModelRef("p", "5"), stream=True) is None


def test_maps_are_bounded() -> None:
    """However many models of wildcards are asked, only the latest are remembered."""
    found = Latencies(FakeClock())
    models = [ModelRef("p", str(number)) for number in range(latencies.MAX_MODELS + 10)]
    for model in models:
        found.note(model, 1.0, stream=False)
        found.choose((model, A), stream=False)
    assert repr(found) == f"<Latencies of {latencies.MAX_MODELS} models>"
    assert found.seconds(models[0], stream=False) is None
    assert len(found._turns) == latencies.MAX_MODELS
