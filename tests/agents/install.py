"""Installs the agents into a folder: npm packages without their scripts, and Python packages."""

import subprocess
import sys
from pathlib import Path
from typing import Final, NamedTuple


class Package(NamedTuple):
    """What is installed for an agent."""

    registry: str
    """``npm`` or ``pip``."""
    name: str
    version: str
    program: str
    """The program's path in the folder of the installation."""


PACKAGES: Final = {
    "claude": Package(
        "npm",
        "@anthropic-ai/claude-code-linux-x64",
        "2.1.332",
        "node_modules/@anthropic-ai/claude-code-linux-x64/claude",
    ),
    "codex": Package("npm", "@openai/codex", "0.171.0", "node_modules/.bin/codex"),
    "opencode": Package(
        "npm", "opencode-linux-x64", "1.18.34", "node_modules/opencode-linux-x64/bin/opencode"
    ),
    "cline": Package("npm", "cline", "3.0.65", "node_modules/.bin/cline"),
    "continue": Package("npm", "@continuedev/cli", "1.5.47", "node_modules/.bin/cn"),
    "aider": Package("pip", "aider-chat", "0.86.2", "bin/aider"),
    "llm": Package("pip", "llm", "0.36", "bin/llm"),
}


def install(agent: str, tools: Path) -> Path:
    """The agent's program, installed below ``tools`` unless it is there. Raises OSError."""
    package = PACKAGES[agent]
    folder = tools / agent
    program = folder / package.program
    if not program.exists():
        folder.mkdir(parents=True, exist_ok=True)
        for command in _commands(package, folder):
            done = subprocess.run(
                ["nice", "-n", "19", *command], capture_output=True, text=True, check=False
            )
            if done.returncode:
                raise OSError(f"{' '.join(command)}: {done.stderr[-500:]}")
    return program


def _commands(package: Package, folder: Path) -> list[list[str]]:
    if package.registry == "pip":
        wanted = f"{package.name}=={package.version}"
        return [
            [sys.executable, "-m", "venv", str(folder)],
            [f"{folder}/bin/python", "-m", "pip", "install", "--quiet", wanted],
        ]
    options = ["--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
    wanted = f"{package.name}@{package.version}"
    return [["npm", "install", "--prefix", str(folder), *options, wanted]]
