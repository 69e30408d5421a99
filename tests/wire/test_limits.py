"""Limits of entries, spent quotas and escalation, with real connections and over the hop."""

import asyncio
import http.client
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import pytest

from tests.scripted_provider import ScriptedProvider
from tests.scripts import Headers, Line, Script, answer
from tests.site import CHAT, MESSAGES, RESPONSES, Answered, Site, eventually, question
from tests.wire.conftest import serve_api

_SPENT: Final = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "6m0s"}
_OFF: Final = {"x-fingerpost-affinity": "off"}


class Gate:
    """Lets the model ``slow`` answer when it is opened, and counts who is inside."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.inside = self.most = 0

    def script(self, model: str) -> Script:
        """The script of a model."""

        async def play(line: Line, exchange: Headers, request: dict[str, Any]) -> None:
            self.inside += 1
            self.most = max(self.most, self.inside)
            try:
                while model == "slow" and not self.opened.is_set():  # noqa: ASYNC110 - of a thread
                    await asyncio.sleep(0.005)
                if model == "spent":
                    line.whole(_COMPLETION, headers=_SPENT)
                else:
                    await asyncio.sleep(0.02 if model == "brief" else 0)
                    await answer(line, exchange, request)
            finally:
                self.inside -= 1

        return play


_COMPLETION: Final = json.dumps(
    {
        "id": "c",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hi"},
                "finish_reason": "stop",
            }
        ],
    }
).encode()


@pytest.fixture
def gate() -> Gate:
    """What the provider does."""
    return Gate()


@pytest.fixture
def limited_site(tmp_path_factory: pytest.TempPathFactory, gate: Gate) -> Iterator[Site]:
    """A gateway whose models have limits, and a route that escalates."""
    with ScriptedProvider(find=gate.script) as provider:
        entry = {"provider_interface": "vllm", "base_url": provider.url}
        entries: list[dict[str, Any]] = [
            {**entry, "model": "p/slow", "limits": {"concurrent": 1}},
            {**entry, "model": "p/brief", "limits": {"concurrent": 2}},
            {**entry, "model": "p/free", "default": True},
            {**entry, "model": "p/spent"},
            {**entry, "model": "rate/*", "limits": {"requests_per_minute": 2}},
        ]
        route = {
            "name": "code",
            "description": "writing, explaining and debugging code",
            "models": ["p/free", "p/brief"],
            "escalate": True,
        }
        config = {
            "version": "v0.4.0",
            "model_providers": entries,
            "routing_preferences": [route],
            "queue": {"max_waiting": 20, "wait_s": 0.5},
        }
        file = tmp_path_factory.mktemp("limits") / "gateway.yaml"
        file.write_text(json.dumps(config))
        with serve_api(file, {"p": provider}, {}) as running:
            yield running


def ask(site: Site, model: str, path: str = CHAT, **fields: Any) -> Answered:
    """Requests an answer without a session."""
    body = {"model": model, **question(path, "hi"), **fields}
    return site.send(json.dumps(body).encode(), path=path, headers=_OFF)


def test_provider_never_gets_more_than_its_limit(limited_site: Site, gate: Gate) -> None:
    """Twenty requests at once wait for two slots, and all are answered."""
    with ThreadPoolExecutor(20) as pool:
        streams = [number % 2 == 0 for number in range(20)]
        answers = list(pool.map(lambda s: ask(limited_site, "p/brief", stream=s), streams))
    assert [answer.status for answer in answers] == [200] * 20
    assert gate.most == 2


@pytest.mark.parametrize("path", [CHAT, MESSAGES, RESPONSES])
def test_busy_gateway_answers_in_each_dialect(path: str, limited_site: Site, gate: Gate) -> None:
    """After the wait: 429 with `retry-after`; another candidate answers at once instead."""
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(ask, limited_site, "p/slow")
        eventually(lambda: gate.inside == 1, 5.0)
        began = time.monotonic()
        busy = ask(limited_site, "p/slow", path)
        assert 0.4 < time.monotonic() - began < 3.0
        assert (busy.status, busy.headers["retry-after"]) == (429, "1")
        assert "`limits` of their entries" in busy.json["error"]["message"]
        kind = "rate_limit_error" if path == MESSAGES else None
        assert kind is None or busy.json["error"]["type"] == kind
        other = ask(limited_site, "p/slow", path, models=["p/free"])
        assert other.headers["x-fingerpost-model"] == "p/free"
        gate.opened.set()
        assert first.result(10).status == 200
    assert ask(limited_site, "p/slow").status == 200


def test_client_that_left_frees_its_slot(limited_site: Site, gate: Gate) -> None:
    """Whether it waited in the queue or for its answer."""
    body = json.dumps({"model": "p/slow", **question(CHAT, "hi")}).encode()
    headers = {"content-type": "application/json", **_OFF}
    lines = [http.client.HTTPConnection(limited_site.host, limited_site.port) for _ in range(2)]
    for number, line in enumerate(lines):
        line.request("POST", CHAT, body, headers)
        eventually(lambda: gate.inside == 1, 5.0)
        time.sleep(0.05 * number)
    for line in lines:
        line.close()
    eventually(lambda: gate.inside == 0, 5.0)
    gate.opened.set()
    assert ask(limited_site, "p/slow").status == 200


def test_wildcard_shares_its_rate(limited_site: Site) -> None:
    """The third model within a minute is refused until the first request is a minute old."""
    statuses = [ask(limited_site, f"rate/{name}").status for name in "abc"]
    assert statuses == [200, 200, 429]


def test_spent_quota_moves_requests_before_a_429(limited_site: Site) -> None:
    """The answer is good, and its headers say that it was the last of the quota."""
    for model in ("p/spent", "p/free", "p/free"):
        answered = ask(limited_site, "p/spent", models=["p/free"])
        assert (answered.status, answered.headers["x-fingerpost-model"]) == (200, model)
        assert answered.headers["x-fingerpost-attempts"] == "1"


def test_session_escalates(limited_site: Site) -> None:
    """A user who says that it is still wrong moves the session one model up, and it stays there."""
    words = "Debug this python function, it raises an IndexError"
    turns: list[dict[str, str]] = [{"role": "user", "content": words}]
    seen = []
    for said in ("still wrong", "Please explain it", "und jetzt auf Deutsch"):
        body = json.dumps({"model": "auto", "messages": turns}).encode()
        answered = limited_site.send(body, headers={"x-session-id": "e"})
        assert answered.status == 200
        headers = answered.headers
        seen.append((headers["x-fingerpost-model"], headers["x-fingerpost-reason"]))
        turns += [{"role": "assistant", "content": "Done"}, {"role": "user", "content": said}]
    assert seen == [("p/free", "route"), ("p/brief", "escalation"), ("p/brief", "affinity")]
