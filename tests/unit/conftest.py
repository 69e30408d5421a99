"""What all unit tests share."""

import gc

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "unit",
    deadline=None,  # a busy machine is no failure
    max_examples=100,
    database=None,  # nothing is left behind in the working tree
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("unit")


@pytest.fixture
def anyio_backend() -> str:
    """Async tests run on asyncio, the loop that Serve uses."""
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
def small_heap() -> None:
    """What earlier tests left, vLLM's modules above all, is not searched for garbage any more.

    Such a search takes longer than the deadlines that tests here are about.
    """
    gc.collect()
    gc.freeze()
