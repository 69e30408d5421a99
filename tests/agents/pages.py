"""The agents' configurations, taken from the guide's pages, so that users and runs have the same."""

import re
import shlex
from typing import Final

from tests.docs.commands import ROOT, Block, blocks

FOLDER: Final = ROOT / "docs/guides/agents"
ADDRESS: Final = "http://127.0.0.1:8000"
"""The gateway's on all pages."""

_KEY: Final = re.compile(r"\bKEY\b")
_NAME: Final = re.compile(r"\b(?:claude|codex|opencode|cline|continue)-(?:auto|small)\b")

BLOCKS: Final[dict[str, tuple[str, str]]] = {
    "claude-code": ("sh", "export ANTHROPIC_BASE_URL"),
    "codex": ("toml", "[model_providers."),
    "opencode": ("json", '"npm"'),
    "cline": ("sh", "cline auth"),
    "continue": ("yaml", "apiBase"),
}
"""Of each page the agent's own configuration: its language, and a text that only it holds."""


def gateway_block(page: str) -> Block:
    """Returns the gateway's configuration of a page. Raises LookupError unless it has one."""
    return _only(page, "yaml", "model_providers:")


def agent_block(page: str) -> Block:
    """Returns the agent's configuration of a page. Raises LookupError unless it has one."""
    return _only(page, *BLOCKS[page])


def filled(page: str, *, url: str, key: str, model: str | None) -> str:
    """Returns the agent's configuration with values for the address, the key and all models.

    ``model`` None leaves the models of the page.
    """
    text = _KEY.sub(key, agent_block(page).text.replace(ADDRESS, url))
    return text if model is None else _NAME.sub(model, text)


def lines_of(text: str) -> tuple[dict[str, str], list[list[str]]]:
    """Splits the text of a shell block into the variables that it exports, and its commands."""
    environ: dict[str, str] = {}
    typed: list[list[str]] = []
    for line in text.splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["export"]:
            name, _, value = words[1].partition("=")
            environ[name] = value
        elif words:
            typed.append(words)
    return environ, typed


def _only(page: str, language: str, holding: str) -> Block:
    found = [
        block
        for block in blocks(FOLDER / f"{page}.md")
        if block.language == language and holding in block.text
    ]
    if len(found) != 1:
        message = f"{page}.md: {len(found)} blocks `{language}` hold {holding!r}; keep one of them"
        raise LookupError(message)
    return found[0]
