"""The guide's pages for coding agents: both configurations of each, and what its rules decide."""

import json
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from serve_app.snapshot import compile_snapshot
from tests.agents.pages import (
    ADDRESS,
    BLOCKS,
    FOLDER,
    agent_block,
    filled,
    gateway_block,
    lines_of,
)
from tests.docs.commands import ROOT
from tests.site import MESSAGES, RESPONSES, Site, question
from tests.wire.conftest import serve_api

KEYS: Final = dict.fromkeys(("GATEWAY_KEY", "ANTHROPIC_API_KEY", "OPENAI_API_KEY"), "key-1")
PARSERS: Final[Mapping[str, Callable[[str], Any]]] = {
    "toml": tomllib.loads,
    "json": json.loads,
    "yaml": yaml.safe_load,
    "sh": lines_of,
}
TURN: Final = '{"session_id":"s-1","request_kind":"turn","model":"codex-auto"}'
COMPACTION: Final = '{"session_id":"s-1","request_kind":"compaction","compaction":{}}'
"""What Codex 0.171.0 sends in ``x-codex-turn-metadata``, without most of its keys."""

HARD, EASY = "Plan the move of our sessions from memory to Redis", "Where is the retry limit set?"
OPUS, HAIKU = "anthropic/claude-opus-5-5", "anthropic/claude-haiku-5-5"
SOL, TERRA, LUNA = "openai/gpt-6.1-sol", "openai/gpt-6.1-terra", "openai/gpt-6-luna"


@contextmanager
def gateway(page: str, folder: Path) -> Iterator[Site]:
    """The gateway that a page configures."""
    file = folder / "gateway.yaml"
    file.write_text(gateway_block(page).text)
    with serve_api(file, {}, KEYS) as site:
        site.key = KEYS["GATEWAY_KEY"]
        yield site


def explained(site: Site, path: str, model: str, text: str, headers: dict[str, str]) -> Any:
    """What the gateway would do with an agent's request."""
    body = {"model": model, **question(path, text)}
    own = {"anthropic-version": "2023-06-01"} if path == MESSAGES else {}
    answer = site.send(json.dumps(body).encode(), path="/v1/route", headers={**own, **headers})
    assert answer.status == 200, answer.body
    return answer.json


def test_each_page_is_one_that_runs_use() -> None:
    """A page that no run takes its configuration from may go stale."""
    assert {file.stem for file in FOLDER.glob("*.md")} == set(BLOCKS)
    guide = (ROOT / "docs/guides/clients.md").read_text("utf-8")
    for page in BLOCKS:
        assert f"(agents/{page}.md)" in guide


@pytest.mark.parametrize("page", BLOCKS)
def test_gateway_of_a_page_compiles(page: str, tmp_path: Path) -> None:
    """It has rules, a default, and every model that the agent's configuration names."""
    file = tmp_path / "gateway.yaml"
    file.write_text(gateway_block(page).text)
    snapshot = compile_snapshot(file, KEYS)
    names = set(re.findall(r"\b[a-z]+-(?:auto|small)\b", agent_block(page).text))
    assert names
    assert all(snapshot.policy.knows(name) for name in names)
    assert snapshot.policy.rules
    assert snapshot.policy.default is not None


@pytest.mark.parametrize("page", BLOCKS)
def test_configuration_of_an_agent_parses(page: str) -> None:
    """It does so as it is shown, and with other values, which replace all that is shown."""
    parse = PARSERS[agent_block(page).language]
    parse(agent_block(page).text)
    text = filled(page, url="http://127.0.0.1:1", key="sk-1", model="openai/gpt-5")
    parse(text)
    assert "openai/gpt-5" in text
    assert not re.search(rf"{ADDRESS}|\bKEY\b|-auto\b|-small\b", text)
    assert "sk-1" in text or page == "codex"  # which reads its key from the environment


def test_page_without_its_block_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says which page, and what it looked for."""
    monkeypatch.setitem(BLOCKS, "codex", ("toml", "[nothing]"))
    with pytest.raises(LookupError, match=r"codex.md: 0 blocks `toml` hold '\[nothing\]'"):
        agent_block("codex")


CLAUDE: Final = {"x-claude-code-session-id": "c-1"}
CODEX: Final = {"session-id": "s-1", "thread-id": "s-1"}


@pytest.mark.parametrize(
    ("text", "headers", "model", "rule"),
    [
        (HARD, {"x-claude-code-request-class": "main"}, OPUS, None),
        (EASY, {"x-claude-code-request-class": "main"}, HAIKU, None),
        (HARD, {"x-claude-code-request-class": "compaction"}, HAIKU, "compaction"),
        (HARD, {"x-claude-code-request-class": "auxiliary"}, HAIKU, "side-calls"),
        (HARD, {"x-claude-code-request-class": "subagent", "x-claude-code-agent-id": "a1", "x-claude-code-agent-type": "Explore"}, HAIKU, "explorers"),
        (HARD, {"x-claude-code-request-class": "subagent", "x-claude-code-agent-id": "a1", "x-claude-code-agent-type": "general-purpose"}, OPUS, None),
    ],
)  # fmt: skip
def test_claude_code_is_routed_as_its_page_says(
    claude_code: Site, text: str, headers: dict[str, str], model: str, rule: str | None
) -> None:
    """Side calls and explorers go by rules, conversations by content."""
    found = explained(claude_code, MESSAGES, "claude-auto", text, {**CLAUDE, **headers})
    assert found["candidates"][0]["model"] == model
    assert found.get("rule", {}).get("name") == rule


def test_claude_code_lists_the_alias(claude_code: Site) -> None:
    """The list has the name and the description that /model shows."""
    headers = {"anthropic-version": "2023-06-01"}
    answer = claude_code.send(method="GET", path="/v1/models?limit=1000", headers=headers)
    (entry,) = [one for one in answer.json["data"] if one["id"] == "claude-auto"]
    assert entry["display_name"] == "Auto"
    assert entry["description"].startswith("Opus for hard problems")


@pytest.mark.parametrize(
    ("text", "headers", "model", "rule"),
    [
        (HARD, {"x-codex-turn-metadata": TURN}, SOL, None),
        (EASY, {"x-codex-turn-metadata": TURN}, LUNA, None),
        (HARD, {"x-codex-turn-metadata": COMPACTION}, LUNA, "compaction"),
        (EASY, {"x-codex-turn-metadata": TURN, "x-openai-subagent": "review", "thread-id": "t-2"}, SOL, "reviews"),
        (HARD, {"x-codex-turn-metadata": TURN, "x-openai-subagent": "collab_spawn", "thread-id": "t-2"}, TERRA, "subagents"),
    ],
)  # fmt: skip
def test_codex_is_routed_as_its_page_says(
    codex: Site, text: str, headers: dict[str, str], model: str, rule: str | None
) -> None:
    """Compaction is known by a part of a header that holds JSON."""
    found = explained(codex, RESPONSES, "codex-auto", text, {**CODEX, **headers})
    assert found["candidates"][0]["model"] == model
    assert found.get("rule", {}).get("name") == rule


@pytest.fixture(scope="module")
def claude_code(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The gateway of the page on Claude Code."""
    with gateway("claude-code", tmp_path_factory.mktemp("claude-code")) as site:
        yield site


@pytest.fixture(scope="module")
def codex(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The gateway of the page on Codex."""
    with gateway("codex", tmp_path_factory.mktemp("codex")) as site:
        yield site
