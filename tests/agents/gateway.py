"""The gateway between agents and the scripted model, no Ray: plain, or as an agent's page says."""

import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import yaml

from tests.agents.pages import gateway_block
from tests.wire.conftest import serve_api

KEY: Final = "sk-agents-upstream-key"
SECOND_KEY: Final = "sk-agents-second-upstream-key"
CLIENT_KEY: Final = "sk-agents-client-key"

RULED: Final = "routed/model-of-rules"
"""Answers what a rule of a page sends to a model."""

_KEYS: Final = ("$FINGERPOST_TEST_KEY", "$FINGERPOST_SECOND_KEY")
_PROVIDER: Final = re.compile(r"\b(?:anthropic|openai)/(?=[a-z])")


class Row(NamedTuple):
    """A provider that speaks one dialect."""

    model: str
    interface: str
    operations: tuple[str, ...]


ROWS: Final = {
    "chat": Row("chatco/gpt-5.1", "openai", ("chat",)),
    "messages": Row("messagesco/claude-sonnet-4-5", "anthropic", ("messages", "count_tokens")),
    "responses": Row("responsesco/gpt-5.1", "openai", ("responses",)),
}
"""By the dialect that the provider speaks."""


class AccessLog(logging.Handler):
    """What clients got: ``POST /v1/messages 200``, in the order of the answers."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if isinstance(record.args, tuple):
            _, method, path, _, status = record.args
            self.lines.append(f"{method} {path} {status}")


def plain(upstream: str) -> dict[str, Any]:
    """The configuration with one model for each dialect, which clients name."""
    return {
        "version": "v0.4.0",
        "client_keys": ["$FINGERPOST_CLIENT_KEY"],
        "model_providers": [
            {"model": row.model, "access_key": _KEYS[0], **_place(row, upstream)}
            for row in ROWS.values()
        ],
        "timeouts": {"total_s": 60.0},
    }


def routed(page: str, dialect: str, upstream: str) -> dict[str, Any]:
    """The configuration of an agent's page, all of it at one upstream that speaks a dialect.

    Each model has two endpoints, which differ by their keys. Rules name a model of their own, so
    that what they decide differs from what content decides.
    """
    config: dict[str, Any] = yaml.safe_load(_PROVIDER.sub("routed/", gateway_block(page).text))
    place = _place(ROWS[dialect], upstream)
    config["model_providers"] = [
        {"model": entry["model"], "default": entry.get("default", False) and not number, **place}
        | {"access_key": key}
        for entry in [*config["model_providers"], {"model": RULED}]
        for number, key in enumerate(_KEYS)
    ]
    for rule in config["routing_rules"]:
        if "model" in rule:
            rule["model"] = RULED
    return {
        **config,
        "client_keys": ["$FINGERPOST_CLIENT_KEY"],
        "timeouts": {"total_s": 60.0},
        "orchestrator": {"deadline_ms": 5000},  # agents take all CPUs while they start
    }


def _place(row: Row, upstream: str) -> dict[str, Any]:
    return {
        "base_url": upstream,
        "provider_interface": row.interface,
        "operations": list(row.operations),
        "data_path": "inline",
    }


@contextmanager
def serve(folder: Path, config: dict[str, Any]) -> Iterator[tuple[str, AccessLog]]:
    """Serves the gateway; the address, and what clients got."""
    file = folder / "gateway.yaml"
    file.write_text(json.dumps(config, indent=1))  # JSON is YAML
    environ = {
        "FINGERPOST_TEST_KEY": KEY,
        "FINGERPOST_SECOND_KEY": SECOND_KEY,
        "FINGERPOST_CLIENT_KEY": CLIENT_KEY,
    }
    access = AccessLog()
    with serve_api(file, {}, environ) as site:
        logger = logging.getLogger("uvicorn.access")
        logger.handlers = [access]
        logger.setLevel(logging.INFO)
        yield site.url, access
