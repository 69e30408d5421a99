"""One gateway without Ray, with a provider for each dialect; one client for each SDK."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import pytest

from tests.matrix import chat_client, messages_client, responses_client
from tests.matrix.cases import DIALECTS
from tests.matrix.sent import Sent, check, read
from tests.matrix.vendor import BROKEN, script
from tests.scripted_provider import Exchange, ScriptedProvider
from tests.site import CHAT, MESSAGES, RESPONSES, ROUTES, SECRET, TIMEOUTS, Site
from tests.wire.conftest import serve_api

CLIENTS: Final[dict[str, ModuleType]] = {
    "chat": chat_client,
    "messages": messages_client,
    "responses": responses_client,
}
PATHS: Final = {"chat": CHAT, "messages": MESSAGES, "responses": RESPONSES}
NAMES: Final = {"chat": "gpt-5.1", "messages": "claude-sonnet-4-5", "responses": "gpt-5.1"}
"""The vendor's model, before the case."""

_OPERATIONS: Final = {
    "chat": ["chat", "embeddings", "completions"],
    "messages": ["messages", "count_tokens"],
    "responses": ["responses"],
}


@dataclass
class Bench:
    """The gateway, the vendor behind it, and the clients before it."""

    site: Site
    vendor: ScriptedProvider
    clients: dict[str, Any]

    def ask(self, client: str, model: str, *, stream: bool, **asked: Any) -> Any:
        """An answer by the SDK of a client's dialect."""
        sdk = self.clients[client]
        return (sdk.stream if stream else sdk.whole)(model=model, **asked)

    def body(self, model: str, asked: dict[str, Any]) -> bytes:
        """A request without an SDK."""
        return json.dumps({"model": model, **asked}).encode()

    @property
    def last(self) -> Exchange:
        """The last exchange of the vendor."""
        return self.vendor.ledger.last()

    def sent(self, client: str, upstream: str) -> Sent:
        """What the vendor got last; its types are checked where the gateway wrote it."""
        body = self.last.json
        if client != upstream:
            check(upstream, body)
        return read(upstream, body)


def model_of(upstream: str, case: str) -> str:
    """The name by which a client asks for a case."""
    return f"up-{upstream}/{NAMES[upstream]}:{case}"


def entries_of(vendor: ScriptedProvider) -> list[dict[str, Any]]:
    """The vendor as three providers, one for each dialect."""
    return [
        {
            "model": f"up-{dialect}/*",
            "base_url": vendor.url,
            "provider_interface": "anthropic" if dialect == "messages" else "openai",
            "operations": _OPERATIONS[dialect],
            "access_key": "$FINGERPOST_TEST_KEY",
        }
        for dialect in DIALECTS
    ]


def _config(vendor: ScriptedProvider) -> dict[str, Any]:
    routes = [
        {**ROUTES[0], "models": [model_of("messages", BROKEN), model_of("chat", "text")]},
        {**ROUTES[1], "models": [model_of("responses", "text")]},
    ]
    return {
        "version": "v0.4.0",
        "model_providers": entries_of(vendor),
        "routing_preferences": routes,
        "model_aliases": {"smart": {"target": "auto"}},
        "orchestrator": {"min_confidence": 0.2, "deadline_ms": 2000},
        "timeouts": {**TIMEOUTS, "total_s": 30.0, "first_byte_s": 20.0, "idle_s": 20.0},
    }


@contextmanager
def bench_of(site: Site, vendor: ScriptedProvider) -> Iterator[Bench]:
    """The clients of a gateway that has the vendor behind it."""
    clients = {name: module.Client(site.url) for name, module in CLIENTS.items()}
    yield Bench(site, vendor, clients)
    for client in clients.values():
        client.close()


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """All of it, on loopback."""
    environ = {"FINGERPOST_TEST_KEY": SECRET}
    file: Path = tmp_path_factory.mktemp("matrix") / "gateway.yaml"
    with ScriptedProvider(find=script) as vendor:
        file.write_text(json.dumps(_config(vendor), indent=1))
        with (
            serve_api(file, {"vendor": vendor}, environ) as site,
            bench_of(site, vendor) as made,
        ):
            yield made
