"""What tests of engines share."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from serve_app.engines.http import HttpEngine, Settings
from tests.unit.engines.chat_server import Make, Server


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    runner = await server.start()
    yield server
    await runner.cleanup()


@pytest.fixture
async def make(server: Server) -> AsyncIterator[Make]:
    """Engines that ask the server, unless something else is said; closed at the end."""
    made: list[HttpEngine] = []

    def engine(*, environ: dict[str, str] | None = None, **changed: Any) -> HttpEngine:
        settings = Settings(base_url=server.url, model="Arch-Router-1.5B", deadline_s=5.0)
        made.append(HttpEngine(replace(settings, **changed), environ or {}))
        return made[-1]

    yield engine
    for engine_made in made:
        await engine_made.close()
        await engine_made.close()  # twice does no harm
