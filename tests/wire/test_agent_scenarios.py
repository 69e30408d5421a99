"""The parts of tests/agents/routing.py together: a page's gateway, the relay, the scripted model."""

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest

from tests.agents.attempt import faults_of_keys
from tests.agents.gateway import CLIENT_KEY, ROWS, routed, serve
from tests.agents.plan import MAIN, READ, Plan, Told
from tests.agents.routing import SCENARIOS
from tests.agents.tap import Tap
from tests.agents.turns import cache_view, faults_of, turns_of
from tests.agents.upstream import Upstream
from tests.unit.agents.test_plan import READER

SESSION: Final = {"x-claude-code-session-id": "s-1", "x-claude-code-request-class": "main"}
COMPACTION: Final = {**SESSION, "x-claude-code-request-class": "compaction"}
TOOL: Final = {"name": READER.name, "input_schema": {"type": "object", **READER.schema}}


def send(url: str, messages: list[dict[str, Any]], headers: dict[str, str], stream: bool) -> bytes:
    """Asks as Claude Code does, and returns the body of a good answer."""
    line = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    body = {"model": "claude-auto", "max_tokens": 99, "messages": messages, "tools": [TOOL]}
    own = {"authorization": f"Bearer {CLIENT_KEY}", "anthropic-version": "2023-06-01", **headers}
    line.request("POST", "/v1/messages", json.dumps({**body, "stream": stream}), own)
    answer = line.getresponse()
    content = answer.read()
    line.close()
    assert answer.status == 200, content
    return content


def loop(url: str, prompt: str) -> Iterator[str]:
    """A conversation of three requests and a streamed compaction, as an agent leads it."""
    messages: list[dict[str, Any]] = [{"role": "user", "content": prompt}]
    for _ in range(3):
        content = json.loads(send(url, messages, SESSION, stream=False))["content"]
        yield next(block["text"] for block in content if block["type"] == "text")
        calls = [block["id"] for block in content if block["type"] == "tool_use"]
        results = [
            {"type": "tool_result", "tool_use_id": id_, "content": "secret-1"} for id_ in calls
        ]
        messages += [
            {"role": "assistant", "content": content},
            {"role": "user", "content": results},
        ]
    messages[-1]["content"] = "Write a detailed summary of the conversation"
    yield send(url, messages, COMPACTION, stream=True).decode()


@pytest.mark.parametrize("dialect", ROWS)
def test_scenario_of_claude_code_holds_without_claude_code(dialect: str, tmp_path: Path) -> None:
    """Its page's routes and rules decide, for providers of every dialect."""
    scenario = SCENARIOS["claude-compaction"]
    plan = Plan(tmp_path, {MAIN: Told(scenario.told[MAIN].topic, [READ, READ])})
    with (
        Upstream() as upstream,
        serve(tmp_path, routed(scenario.page, dialect, upstream.url)) as (url, _),
        Tap(url) as tap,
    ):
        upstream.begin(is_strict=dialect != "messages", script=plan.decide)
        said = list(loop(tap.url, plan.prompt(MAIN)))
        turns, received = turns_of(tap.passed, upstream.received), upstream.received
    assert said[:3] == ["I go on.", "I go on.", "The note of main says: secret-1"]
    assert "event: message_stop" in said[3]
    assert faults_of(turns, scenario.wanted) == faults_of_keys(received) == []
    assert cache_view(turns) == (2, 2)
    assert [one.violations for one in received] == [[]] * 4


def test_relay_passes_every_method_on(tmp_path: Path) -> None:
    """The probe of Claude Code, lists of models, and errors come back as the gateway answers."""
    with (
        Upstream() as upstream,
        serve(tmp_path, routed("codex", "responses", upstream.url)) as (url, _),
        Tap(url) as tap,
    ):
        line = http.client.HTTPConnection(urlsplit(tap.url).netloc, timeout=30)
        own = {"authorization": f"Bearer {CLIENT_KEY}"}
        for method, path in (("HEAD", "/"), ("GET", "/v1/models"), ("POST", "/v1/nothing")):
            line.request(method, path, b"{}" if method == "POST" else None, own)
            line.getresponse().read()
        line.close()
        assert [str(one) for one in tap.passed] == [
            "HEAD / 200",
            "GET /v1/models 200",
            "POST /v1/nothing 404",
        ]
