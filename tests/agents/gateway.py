"""The gateway between agents and the scripted model: one provider for each dialect, no Ray."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from tests.wire.conftest import serve_api

KEY: Final = "sk-agents-upstream-key"
CLIENT_KEY: Final = "sk-agents-client-key"


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


@contextmanager
def serve(folder: Path, upstream: str) -> Iterator[tuple[str, AccessLog]]:
    """Serves the gateway; the address, and what clients got."""
    config = {
        "version": "v0.4.0",
        "client_keys": ["$FINGERPOST_CLIENT_KEY"],
        "model_providers": [
            {
                "model": row.model,
                "base_url": upstream,
                "provider_interface": row.interface,
                "operations": list(row.operations),
                "access_key": "$FINGERPOST_TEST_KEY",
                "data_path": "inline",
            }
            for row in ROWS.values()
        ],
        "timeouts": {"total_s": 60.0},
    }
    file = folder / "gateway.yaml"
    file.write_text(json.dumps(config, indent=1))  # JSON is YAML
    environ = {"FINGERPOST_TEST_KEY": KEY, "FINGERPOST_CLIENT_KEY": CLIENT_KEY}
    access = AccessLog()
    with serve_api(file, {}, environ) as site:
        logger = logging.getLogger("uvicorn.access")
        logger.handlers = [access]
        logger.setLevel(logging.INFO)
        yield site.url, access
