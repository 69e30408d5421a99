"""Fixtures of the tests of engines."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from serve_app.engines.decision import DecisionEngine, DecisionSettings
from serve_app.engines.servers import own_server
from serve_app.exchange import Operation
from tests.unit.engines.chat_server import SECRET, Server
from tests.unit.engines.decision_server import SURE, MakeDecision, choice


@pytest.fixture
async def make_decision(server: Server) -> AsyncIterator[MakeDecision]:
    """Builds engines that ask the server for decisions, and closes them after the test."""
    server.answer = choice(SURE)
    made: list[DecisionEngine] = []

    def engine(*, base_url: str | None = None, **changed: Any) -> DecisionEngine:
        at = own_server(base_url or server.url, "luna", "$KEY", Operation.DECISIONS)
        made.append(DecisionEngine(replace(DecisionSettings(at), **changed), {"KEY": SECRET}))
        return made[-1]

    yield engine
    for each in made:
        await each.close()
        await each.close()  # closing twice must be harmless
