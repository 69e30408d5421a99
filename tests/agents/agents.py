"""The agents: what each speaks, and how it is told to do its task."""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.agents.gateway import CLIENT_KEY


@dataclass(frozen=True)
class Task:
    """One run of an agent, in a folder of its own."""

    program: Path
    url: str
    """The gateway's, without ``/v1``."""
    model: str
    prompt: str
    home: Path


@dataclass(frozen=True)
class Prepared:
    """The command of a run, what the environment has beside the rest, and files of its HOME."""

    command: list[str]
    environ: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    before: list[str] = field(default_factory=list)
    """A command that sets the agent up."""


@dataclass(frozen=True)
class Agent:
    """A coding agent that speaks one dialect."""

    tool: str
    """Its name in ``install.PACKAGES``."""
    dialect: str
    upstreams: tuple[str, ...]
    """The dialects of the providers that it is tried with."""
    prepare: Callable[[Task], Prepared]
    has_tools: bool = True
    resumes: bool = True
    """It asks again after half an answer; else it has to report the error."""


def environ_of(home: Path) -> dict[str, str]:
    """All that an agent sees: nothing of ours, and nothing that calls home."""
    return {
        "HOME": str(home),
        "PATH": os.environ["PATH"],
        "LANG": "C.UTF-8",
        "TERM": "dumb",
        "CI": "1",
        "NO_COLOR": "1",
        "DO_NOT_TRACK": "1",
        "NO_PROXY": "127.0.0.1,localhost",
        "HTTPS_PROXY": "http://127.0.0.1:9",  # all but loopback is refused at once
    }


def _claude(task: Task) -> Prepared:
    return Prepared(
        [str(task.program), "-p", task.prompt, "--model", task.model, "--allowedTools", "Read"],
        {
            "ANTHROPIC_BASE_URL": task.url,
            "ANTHROPIC_AUTH_TOKEN": CLIENT_KEY,
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "DISABLE_AUTOUPDATER": "1",
            "DISABLE_TELEMETRY": "1",
        },
    )


def _codex(task: Task) -> Prepared:
    config = f"""
model = "{task.model}"
model_provider = "gateway"
model_reasoning_effort = "medium"
check_for_update_on_startup = false
[model_providers.gateway]
name = "gateway"
base_url = "{task.url}/v1"
wire_api = "responses"
env_key = "GATEWAY_KEY"
[analytics]
enabled = false
"""
    options = ["--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox"]
    return Prepared(
        [str(task.program), "exec", *options, task.prompt],
        {"GATEWAY_KEY": CLIENT_KEY},
        {".codex/config.toml": config},
    )


def _opencode(package: str) -> Callable[[Task], Prepared]:
    def prepare(task: Task) -> Prepared:
        small = f"gateway/{task.model}"
        config = {
            "provider": {
                "gateway": {
                    "npm": package,
                    "options": {"baseURL": f"{task.url}/v1", "apiKey": CLIENT_KEY},
                    "models": {task.model: {"reasoning": True, "tool_call": True}},
                }
            },
            "model": small,
            "small_model": small,
            "autoupdate": False,
            "share": "disabled",
            "permission": "allow",
        }
        return Prepared(
            [str(task.program), "run", "--model", small, task.prompt],
            {"OPENCODE_DISABLE_AUTOUPDATE": "1", "OPENCODE_DISABLE_MODELS_FETCH": "1"},
            {".config/opencode/opencode.json": json.dumps(config)},
        )

    return prepare


def _cline(task: Task) -> Prepared:
    kind = "openai-compatible"
    return Prepared(
        [str(task.program), "-P", kind, "-m", task.model, "--timeout", "100", task.prompt],
        {"CLINE_TELEMETRY_DISABLED": "1", "CLINE_NO_AUTO_UPDATE": "1"},
        before=[
            *(str(task.program), "auth", "-p", kind, "-k", CLIENT_KEY),
            *("-m", task.model, "-b", f"{task.url}/v1"),
        ],
    )


def _continue(task: Task) -> Prepared:
    config = {
        "name": "gateway",
        "version": "1.0.0",
        "schema": "v1",
        "models": [
            {
                "name": "gateway",
                "provider": "openai",
                "model": task.model,
                "apiBase": f"{task.url}/v1",
                "apiKey": CLIENT_KEY,
                "roles": ["chat"],
                "capabilities": ["tool_use"],
                "useResponsesApi": False,
            }
        ],
    }
    file = task.home / "continue.yaml"
    return Prepared(
        [str(task.program), "--config", str(file), "--auto", "-p", task.prompt],
        {"CONTINUE_TELEMETRY_ENABLED": "0", "CONTINUE_ALLOW_ANONYMOUS_TELEMETRY": "0"},
        {"continue.yaml": json.dumps(config)},
    )


def _aider(task: Task) -> Prepared:
    quiet = "--no-check-update --no-show-release-notes --no-show-model-warnings --no-git"
    rest = "--analytics-disable --yes-always --no-pretty --no-gitignore --no-detect-urls"
    return Prepared(
        [
            *(str(task.program), *quiet.split(), *rest.split()),
            *("--model", f"openai/{task.model}", "--message", task.prompt),
        ],
        {"OPENAI_API_BASE": f"{task.url}/v1", "OPENAI_API_KEY": CLIENT_KEY},
    )


_NOTE_TOOL: Final = """
def read_note(path: str) -> str:
    "Reads the note at a path."
    with open(path) as file:
        return file.read()
"""


def _llm(task: Task) -> Prepared:
    models = [
        {
            "model_id": "gateway",
            "model_name": task.model,
            "api_base": f"{task.url}/v1",
            "api_key_name": "gateway",  # a key on the command line is ignored
            "supports_tools": True,
        }
    ]
    user = task.home / "llm"
    return Prepared(
        [
            *(str(task.program), "-m", "gateway", "--functions", _NOTE_TOOL),
            *("--td", task.prompt),
        ],
        {"LLM_USER_PATH": str(user)},
        {
            "llm/extra-openai-models.yaml": json.dumps(models),
            "llm/keys.json": json.dumps({"gateway": CLIENT_KEY}),
        },
    )


AGENTS: Final[Mapping[str, Agent]] = {
    "claude": Agent("claude", "messages", ("messages", "chat", "responses"), _claude),
    "codex": Agent("codex", "responses", ("responses", "chat", "messages"), _codex),
    "opencode-chat": Agent(
        "opencode",
        "chat",
        ("chat", "messages", "responses"),
        _opencode("@ai-sdk/openai-compatible"),
    ),
    "opencode-messages": Agent(
        "opencode", "messages", ("messages", "chat", "responses"), _opencode("@ai-sdk/anthropic")
    ),
    "opencode-responses": Agent(
        "opencode", "responses", ("responses", "chat", "messages"), _opencode("@ai-sdk/openai")
    ),
    "cline": Agent("cline", "chat", ("chat", "messages", "responses"), _cline, resumes=False),
    "continue": Agent("continue", "chat", ("chat", "messages", "responses"), _continue),
    "aider": Agent("aider", "chat", ("chat", "messages", "responses"), _aider, has_tools=False),
    "llm": Agent("llm", "chat", ("chat", "messages", "responses"), _llm, resumes=False),
}
