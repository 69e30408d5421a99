"""Endpoints that rest are probed in the background, over real connections."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from serve_app.domain import Reason, Unavailable
from tests.scripted_provider import ScriptedProvider
from tests.scripts import Headers, Line, Script, answer
from tests.site import Site
from tests.unit.fakes import FakeOrchestrator
from tests.wire.conftest import serve_api

GOOD_KEY = "sk-good-0123456789"
_POST = "POST /v1/chat/completions"
ERROR = b'{"error": {"message": "no", "type": "x", "code": null}}'


@dataclass
class Provider:
    """A provider that checks keys, and whose list of models may be public."""

    is_public: bool = False
    seen: list[str] = field(default_factory=list)

    def script(self, model: str) -> Script:
        """The script for requests, which are all alike."""
        del model
        return self._answer

    async def _answer(self, line: Line, exchange: Headers, request: dict[str, Any]) -> None:
        asked: Any = exchange
        self.seen.append(f"{asked.method} {asked.path}")
        assert not (asked.method == "GET" and asked.body), "a probe has no body"
        is_list = asked.method == "GET"
        if asked.headers.get("authorization") != f"Bearer {GOOD_KEY}" and not (
            is_list and self.is_public
        ):
            line.whole(ERROR, 401)
        elif is_list:
            line.whole(b'{"object": "list", "data": []}')
        else:
            await answer(line, exchange, request)


@dataclass
class Scene:
    """A gateway with a first endpoint that fails, and a spare one."""

    site: Site
    port: int
    key: Path
    spare: Provider
    stack: ExitStack

    def start_first(self, provider: Provider) -> None:
        """Starts the first endpoint's server."""
        self.stack.enter_context(ScriptedProvider(self.port, provider.script))

    def ask(self, times: int = 1) -> list[str]:
        """How many attempts each request needed."""
        answers = [self.site.ask("inline/a", messages=[]) for _ in range(times)]
        assert {each.status for each in answers} == {200}
        return [each.headers["x-fingerpost-attempts"] for each in answers]


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """No server listens at the first endpoint."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    key = tmp_path / "key"
    key.write_text(GOOD_KEY)
    spare = Provider()
    entry = {
        "model": "inline/a",
        "provider_interface": "openai",
        "access_key": f"file:{key}",
        "data_path": "inline",
    }
    with ExitStack() as stack:
        second = stack.enter_context(ScriptedProvider(find=spare.script))
        config = {
            "version": "v0.4.0",
            "model_providers": [
                {**entry, "base_url": f"http://127.0.0.1:{port}"},
                {**entry, "base_url": second.url, "access_key": GOOD_KEY, "weight": 0},
            ],
            "probes": {"every_s": 0.1, "timeout_s": 1.0},
        }
        file = tmp_path / "gateway.yaml"
        file.write_text(json.dumps(config))
        engine = FakeOrchestrator(Unavailable(Reason.ORCHESTRATOR_TIMEOUT, "none"))
        site = stack.enter_context(serve_api(file, {}, {}, orchestrator=engine))
        yield Scene(site, port, key, spare, stack)


def _until(holds: Callable[[], bool], within_s: float = 5.0) -> None:
    ends_at = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < ends_at, "not in time"
        time.sleep(0.02)


def test_probe_finds_a_server_that_is_back(scene: Scene) -> None:
    """While it is gone no request tries it again; once it answers a probe, the next one does."""
    assert scene.ask(3) == ["2"] * 3  # three failures in a row make it rest for two seconds
    time.sleep(2.3)
    assert scene.ask(3) == ["1"] * 3  # without probes, the first of these would try it
    assert len(scene.spare.seen) == 6
    first = Provider()
    scene.start_first(first)
    _until(lambda: bool(first.seen))
    assert set(first.seen) == {"GET /v1/models"}
    _until(lambda: scene.ask() == ["1"] and _POST in first.seen)
    spared = len(scene.spare.seen)
    assert scene.ask(2) == ["1"] * 2
    assert first.seen[-2:] == [_POST] * 2
    assert len(scene.spare.seen) == spared
    asked = len(first.seen)
    time.sleep(0.4)
    assert len(first.seen) == asked, "what does not rest is not probed"


def test_probe_finds_a_key_that_is_valid_again(scene: Scene) -> None:
    """A key that was replaced in its file is used within seconds, not after its minute of rest."""
    scene.key.write_text("sk-revoked-0123456789")
    first = Provider()
    scene.start_first(first)
    assert scene.ask(2) == ["2", "1"]
    _until(lambda: first.seen.count("GET /v1/models") >= 2)
    assert scene.ask() == ["1"]
    assert first.seen.count(_POST) == 1
    scene.key.write_text(GOOD_KEY)
    _until(lambda: scene.ask() == ["1"] and first.seen.count(_POST) > 1, within_s=10)


def test_public_list_of_models_misleads_once(scene: Scene) -> None:
    """Where the list needs no key, one request finds out, and the key is not probed again soon."""
    scene.key.write_text("sk-revoked-0123456789")
    first = Provider(is_public=True)
    scene.start_first(first)
    assert scene.ask() == ["2"]
    _until(lambda: scene.ask() == ["2"])
    assert scene.ask(2) == ["1"] * 2
    time.sleep(0.5)
    assert scene.ask() == ["1"]
    assert first.seen.count("GET /v1/models") == 1
