"""Timeouts by name: for one model or all, and what a keep-alive counts for."""

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from serve_app.requests import commit
from serve_app.telemetry.metrics import Metric
from tests.scripted_provider import ScriptedProvider
from tests.scripts import OPEN_S, Headers, Line, Script, event, script_of
from tests.site import CHAT, MESSAGES, RESPONSES, Site
from tests.wire.conftest import FakeMeter, serve_api

STREAM = {"content-type": "text/event-stream"}
ROLE = event({"role": "assistant", "content": ""})
COMMENT = b": PROCESSING\n\n"
TOTAL_S = 1.2
ENTRIES: list[dict[str, Any]] = [
    {"model": "vllm/*"},
    {"model": "quick/*", "timeouts": {"first_token_s": 0.4, "idle_s": 0.3}},
    {"model": "quick/hang", "timeouts": {"first_byte_s": 0.2}},
    {"model": "short/*", "timeouts": {"attempt_s": 0.3}},
    {"model": "twice/hang", "access_key": "k1"},
    {"model": "twice/hang", "access_key": "k2"},
]


def repeat(first: bytes, then: bytes, pause_s: float = 0.05, times: int = 10_000) -> Script:
    """A stream that begins with ``first`` and goes on with ``then``."""

    async def script(line: Line, exchange: Headers, request: dict[str, Any]) -> None:
        del exchange, request
        line.head(200, STREAM, None)
        line.chunk(first)
        for _ in range(times):
            await asyncio.sleep(pause_s)
            line.chunk(then)
        line.chunk(event({}, "stop") + b"data: [DONE]\n\n")
        line.end()

    return script


async def silent(line: Line, exchange: Headers, request: dict[str, Any]) -> None:
    """Sends the head of a stream, and nothing more."""
    del exchange, request
    line.head(200, STREAM, None)
    await asyncio.sleep(OPEN_S)


SCRIPTS: dict[str, Script] = {
    "silent": silent,
    "comments": repeat(ROLE, COMMENT),
    "pings-after-content": repeat(ROLE + event({"content": "half"}), COMMENT),
    "empty-after-content": repeat(event({"content": "half"}), event({"content": ""})),
    "slow": repeat(ROLE, event({"content": "word "}), 0.15, 5),
    "slow-with-pings": repeat(ROLE, COMMENT + event({"content": "word "}), 0.15, 5),
}


def find(name: str) -> Script:
    return SCRIPTS.get(name) or script_of(name)


@pytest.fixture(scope="module")
def meter() -> FakeMeter:
    """Counts what the gateway reports."""
    return FakeMeter()


@pytest.fixture(scope="module")
def timed_site(tmp_path_factory: pytest.TempPathFactory, meter: FakeMeter) -> Iterator[Site]:
    """A gateway whose entries have timeouts of their own."""
    with ScriptedProvider(find=find) as provider:
        entries = [
            {**entry, "base_url": provider.url, "provider_interface": "vllm"} for entry in ENTRIES
        ]
        del entries[0]["provider_interface"]
        file = tmp_path_factory.mktemp("timeouts") / "gateway.yaml"
        timeouts = {"total_s": TOTAL_S, "first_byte_s": 5.0, "idle_s": 5.0}
        config = {"version": "v0.4.0", "model_providers": entries, "timeouts": timeouts}
        file.write_text(json.dumps(config))
        with serve_api(file, {"provider": provider}, {}, meter) as running:
            yield running


@pytest.fixture
def timed() -> Callable[[], float]:
    """The seconds since the test began."""
    started = time.monotonic()
    return lambda: time.monotonic() - started


def test_silent_model_leaves_time_for_the_next_one(
    timed_site: Site, meter: FakeMeter, timed: Callable[[], float]
) -> None:
    """A complete answer has half of the time while another can be asked, and who failed is named."""
    answer = timed_site.ask("quick/hang", fallbacks=["vllm/good"])
    assert answer.status == 200
    assert TOTAL_S / 2 <= timed() < TOTAL_S
    assert answer.headers["x-fingerpost-model"] == "vllm/good"
    assert answer.headers["x-fingerpost-attempts"] == "2"
    assert "quick/hang timeout" in answer.headers["server-timing"].replace("%20", " ")
    attempts = {labels[:3] for metric, labels in meter.counts if metric is Metric.ATTEMPTS}
    assert attempts == {("quick", "quick/hang", "timeout"), ("vllm", "other", "ok")}


@pytest.mark.parametrize("stream", [False, True])
def test_only_silent_models_end_with_the_total(
    timed_site: Site, timed: Callable[[], float], *, stream: bool
) -> None:
    """The last one has all that is left; the error names a model that was asked."""
    answer = timed_site.ask("vllm/hang@1", fallbacks=["vllm/hang@2"], stream=stream)
    assert (answer.status, answer.error["code"]) == (504, "upstream_timeout")
    assert TOTAL_S <= timed() < TOTAL_S + 0.5
    assert answer.headers["x-fingerpost-attempts"] == "2"
    assert "no time was left" not in answer.error["message"]


def test_second_endpoint_of_a_silent_model_is_asked_in_time(
    timed_site: Site, timed: Callable[[], float]
) -> None:
    """Endpoints of one model share the time, too."""
    answer = timed_site.ask("twice/hang", fallbacks=["vllm/good"])
    assert answer.status == 200
    assert answer.headers["x-fingerpost-attempts"] == "3"
    assert TOTAL_S * 3 / 4 <= timed() < TOTAL_S


def test_entry_limits_a_complete_exchange(timed_site: Site, timed: Callable[[], float]) -> None:
    """``attempt_s`` counts before the share, for wildcards, too."""
    answer = timed_site.ask("short/hang", fallbacks=["vllm/good"])
    assert answer.status == 200
    assert 0.3 <= timed() < 0.9
    alone = timed_site.ask("short/hang@2")
    assert alone.status == 504
    assert alone.error["message"] == "short/hang@2: short timed out after 0.3 s"


def test_limit_of_a_complete_exchange_spares_streams(timed_site: Site) -> None:
    """A stream may take longer than ``attempt_s``."""
    assert timed_site.ask("short/slow", stream=True).body.endswith(b"[DONE]\n\n")


def test_entry_limits_the_head_of_a_stream(timed_site: Site, timed: Callable[[], float]) -> None:
    """An entry of one model has its own ``first_byte_s``."""
    answer = timed_site.ask("quick/hang", stream=True)
    assert (answer.status, timed() < 0.8) == (504, True)
    assert answer.error["message"] == "quick/hang: quick timed out after 0.2 s"


@pytest.mark.parametrize("script", ["silent", "comments"])
def test_stream_without_content_falls_back_before_its_commit(
    script: str, timed_site: Site, timed: Callable[[], float]
) -> None:
    """Nothing was said, so another model answers in whole."""
    answer = timed_site.ask(f"quick/{script}", stream=True, fallbacks=["vllm/good"])
    assert answer.headers["x-fingerpost-model"] == "vllm/good"
    assert answer.body.endswith(b"[DONE]\n\n")
    assert 0.4 <= timed() < 1


@pytest.mark.parametrize("script", ["silent", "comments"])
@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (CHAT, b'data: {"error":'),
        (MESSAGES, b"event: error"),
        (RESPONSES, b'"type":"response.failed"'),
    ],
)
def test_committed_stream_without_content_ends_with_an_error_event(
    path: str,
    expected: bytes,
    script: str,
    timed_site: Site,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A stream that was passed on for its keep-alives' sake ends in the client's dialect."""
    monkeypatch.setattr(commit, "HOLD_S", 0.1)
    body = {"model": f"quick/{script}", "stream": True, "max_tokens": 9, "input": "hi"}
    body |= {"messages": [{"role": "user", "content": "hi"}]}
    answer = timed_site.send(json.dumps(body).encode(), path=path)
    assert answer.status == 200
    assert expected in answer.body.replace(b'": ', b'":')
    assert b"quick sent no content within 0.4 s" in answer.body


@pytest.mark.parametrize("script", ["pings-after-content", "empty-after-content"])
def test_keep_alives_do_not_prolong_a_stalled_stream(
    script: str, timed_site: Site, timed: Callable[[], float]
) -> None:
    """``idle_s`` counts content: comments and empty deltas do not reset it."""
    answer = timed_site.ask(f"quick/{script}", stream=True)
    assert answer.status == 200
    assert b"half" in answer.body
    told = b"quick stopped sending: no content for 0.3 s in the middle of its answer"
    assert told in answer.body
    assert 0.3 <= timed() < 1


@pytest.mark.parametrize("script", ["slow", "slow-with-pings"])
def test_slow_content_is_not_a_stalled_stream(script: str, timed_site: Site) -> None:
    """Each piece of content begins the wait anew, also together with a comment."""
    answer = timed_site.ask(f"quick/{script}", stream=True)
    assert answer.body.count(b"word ") == 5
    assert answer.body.endswith(b"[DONE]\n\n")


def test_stream_ends_with_the_total(timed_site: Site, timed: Callable[[], float]) -> None:
    """``total_s`` ends a stream that still has content, with an error that says so."""
    answer = timed_site.ask("vllm/endless", stream=True)
    assert b"vllm did not complete its answer in time" in answer.body
    assert TOTAL_S <= timed() < TOTAL_S + 0.5
