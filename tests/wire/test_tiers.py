"""Two engines behind the API: what a client sees of a close call, with a model server on loopback."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from deployments.orchestrator import Orchestrator
from serve_app.domain import Question, Scores, Unavailable
from serve_app.engines import http
from serve_app.engines.http import HttpEngine, HttpEngineSettings
from tests.scripted_provider import ScriptedProvider
from tests.site import SECRET, Answered, Site, write_config
from tests.unit.engines.chat_server import Server, raw, says
from tests.wire.conftest import serve_api


class OnLoop:
    """The orchestrator's deployment on the loop of the test, as seen from the API's loop."""

    def __init__(self, orchestrator: Orchestrator) -> None:
        self._orchestrator = orchestrator
        self._loop = asyncio.get_running_loop()

    async def score(self, question: Question) -> Scores | Unavailable:
        asked = asyncio.run_coroutine_threadsafe(self._orchestrator.score(question), self._loop)
        return await asyncio.wrap_future(asked)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    runner = await server.start()
    yield server
    await runner.cleanup()


@pytest.fixture
async def site(
    server: Server,
    tmp_path: Path,
    providers: dict[str, ScriptedProvider],
    environ: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Site]:
    """A gateway whose close calls, which are all, go to a model of a provider."""
    engines: list[HttpEngine] = []

    class Recorded(HttpEngine):
        def __init__(self, settings: HttpEngineSettings, environ: Mapping[str, str]) -> None:
            super().__init__(settings, environ)
            engines.append(self)

    monkeypatch.setattr(http, "HttpEngine", Recorded)
    monkeypatch.setenv("FINGERPOST_TEST_KEY", SECRET)
    monkeypatch.setenv("ROUTER_KEY", "sk-router-key")
    file = write_config(tmp_path, providers)
    config = json.loads(file.read_text("utf-8"))
    config["model_providers"].append(
        {"model": "vllm/router", "base_url": server.url, "access_key": "$ROUTER_KEY"}
    )
    config["orchestrator"] = {
        "deadline_ms": 3000,
        "when_unsure": {"engine": "http", "model": "vllm/router", "below": 1},
    }
    file.write_text(json.dumps(config), "utf-8")
    orchestrator = Orchestrator(str(file))
    with serve_api(
        file, providers, {**environ, "ROUTER_KEY": "x"}, orchestrator=OnLoop(orchestrator)
    ) as running:
        yield running
    orchestrator.__del__()
    for engine in engines:
        await engine.close()


async def asked(site: Site, text: str) -> Answered:
    messages: Any = [{"role": "user", "content": text}]
    return await asyncio.to_thread(site.ask, "auto", messages=messages)


async def test_headers_name_the_tier_that_decided(site: Site, server: Server) -> None:
    """The better engine has no confidence; equal questions are cached, and keep the name."""
    server.answer = says('{"route": "poems and songs"}')
    for reason in ("route", "cached"):
        answer = await asked(site, "Debug this function")
        assert answer.status == 200
        assert answer.headers["x-fingerpost-tier"] == "when_unsure"
        assert answer.headers["x-fingerpost-route"] == "poems and songs"
        assert answer.headers["x-fingerpost-reason"] == reason
        assert "x-fingerpost-confidence" not in answer.headers
    assert len(server.bodies) == 1
    assert server.requests[0].headers["authorization"] == "Bearer sk-router-key"


async def test_failed_better_engine_changes_nothing_for_the_client(
    site: Site, server: Server
) -> None:
    """The decision of the embedded engine stands, and the explanation says why."""
    server.answer = raw(b"", 500)
    answer = await asked(site, "Debug this function")
    assert (answer.status, answer.headers["x-fingerpost-tier"]) == (200, "embedding")
    assert float(answer.headers["x-fingerpost-confidence"]) > 0
    shown = await asyncio.to_thread(site.explain, "Debug this function")
    orchestrator = shown["orchestrator"]
    assert (orchestrator["engine"], orchestrator["tier"]) == ("embedding", "embedding")
    assert orchestrator["fell_back"].endswith("returned an error (status 500)")
    assert "sk-router-key" not in json.dumps(shown)


async def test_named_model_has_no_tier(site: Site, server: Server) -> None:
    """No engine is asked."""
    answer = await asyncio.to_thread(site.ask, "dedicated/parrot")
    assert "x-fingerpost-tier" not in answer.headers
    assert server.bodies == []
