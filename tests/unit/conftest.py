"""Fixtures and settings of all unit tests."""

import gc
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from serve_app.engines.http import HttpEngine, HttpEngineSettings
from serve_app.engines.servers import own_server
from tests.unit.engines.chat_server import Make, Server

settings.register_profile(
    "unit",
    deadline=None,  # a busy machine must not fail a test
    max_examples=100,
    database=None,  # keep the working tree clean
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("unit")


@pytest.fixture
def anyio_backend() -> str:
    """Run asynchronous tests on asyncio, the loop that Serve uses."""
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
def small_heap() -> None:
    """Exclude objects of earlier tests, above all vLLM's modules, from garbage collection.

    A full collection takes longer than the deadlines that these tests check.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    runner = await server.start()
    yield server
    await runner.cleanup()


@pytest.fixture
async def make(server: Server) -> AsyncIterator[Make]:
    """Builds engines that call the server by default, and closes them after the test."""
    engines: list[HttpEngine] = []

    def engine(
        *,
        base_url: str | None = None,
        model: str = "Arch-Router-1.5B",
        access_key: str | None = None,
        environ: dict[str, str] | None = None,
        **changed: Any,
    ) -> HttpEngine:
        at = own_server(base_url or server.url, model, access_key)
        settings = replace(HttpEngineSettings(at), **changed)
        engines.append(HttpEngine(settings, environ or {}))
        return engines[-1]

    yield engine
    for each in engines:
        await each.close()
        await each.close()  # closing twice must be harmless
