"""The agents: what each speaks, and how it is told to do its task.

Those that have a page in the guide are configured by it; what is added here only keeps runs quiet
and without questions.
"""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.agents.gateway import CLIENT_KEY
from tests.agents.pages import filled, lines_of


@dataclass(frozen=True)
class Task:
    """One run of an agent, in a folder of its own."""

    program: Path
    url: str
    """The gateway's, without ``/v1``."""
    model: str | None
    """None: those of the agent's page."""
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


def _configuration(page: str, task: Task) -> str:
    return filled(page, url=task.url, key=CLIENT_KEY, model=task.model)


def _claude(task: Task) -> Prepared:
    environ, [[_, *options]] = lines_of(_configuration("claude-code", task))
    return Prepared(
        [str(task.program), *options, "-p", task.prompt, "--allowedTools", "Read"],
        {
            **environ,
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "DISABLE_AUTOUPDATER": "1",
            "DISABLE_TELEMETRY": "1",
        },
    )


def _codex(task: Task) -> Prepared:
    quiet = ("check_for_update_on_startup=false", "analytics.enabled=false")
    options = ["--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox"]
    for setting in (*quiet, "model_reasoning_effort=medium"):
        options += ["-c", setting]
    return Prepared(
        [str(task.program), "exec", *options, task.prompt],
        {"GATEWAY_KEY": CLIENT_KEY},
        {".codex/config.toml": _configuration("codex", task)},
    )


def _opencode(package: str) -> Callable[[Task], Prepared]:
    def prepare(task: Task) -> Prepared:
        config = json.loads(_configuration("opencode", task))
        (provider,) = config["provider"].values()
        provider["npm"] = package
        config |= {"autoupdate": False, "share": "disabled", "permission": "allow"}
        return Prepared(
            [str(task.program), "run", "--model", config["model"], task.prompt],
            {"OPENCODE_DISABLE_AUTOUPDATE": "1", "OPENCODE_DISABLE_MODELS_FETCH": "1"},
            {".config/opencode/opencode.json": json.dumps(config)},
        )

    return prepare


def _cline(task: Task) -> Prepared:
    _, [before, command] = lines_of(_configuration("cline", task))
    options = [task.prompt if word == "TASK" else word for word in command[1:]]
    return Prepared(
        [str(task.program), "--timeout", "100", *options],
        {"CLINE_TELEMETRY_DISABLED": "1", "CLINE_NO_AUTO_UPDATE": "1"},
        before=[str(task.program), *before[1:]],
    )


def _continue(task: Task) -> Prepared:
    return Prepared(
        [str(task.program), "--auto", "-p", task.prompt],
        {"CONTINUE_TELEMETRY_ENABLED": "0", "CONTINUE_ALLOW_ANONYMOUS_TELEMETRY": "0"},
        {".continue/config.yaml": _configuration("continue", task)},
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
