"""The whole API between fakes, called without a socket, for the tests of keys and limits."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from serve_app.access.limiter import Limiter
from serve_app.api.app import create_api
from serve_app.api.dependencies import ApiDependencies
from serve_app.domain import Reason, Scores, Unavailable
from serve_app.ports import Upstream
from serve_app.requests.assembly import Assembly, Ports, assemble
from serve_app.snapshot import Snapshot, compile_snapshot
from serve_app.telemetry.record import NoObserver, RequestRecord
from tests.unit.config.broken import V
from tests.unit.fakes import FakeOrchestrator, FakeStore

SECRET = "the-server-secret"
ENVIRON = {"FINGERPOST_KEY_SECRET": SECRET, "IDE": "fp-ide", "BATCH": "fp-batch", "K": "sk-test"}
MODELS = """
model_providers:
  - {model: openai/gpt-4o, access_key: $K, default: true}
  - {model: openai/gpt-4o-mini, access_key: $K}
  - {model: anthropic/claude-sonnet-4-20250514, access_key: $K}
  - {model: vllm/own, base_url: "http://h:1"}
model_aliases:
  fast: {target: openai/gpt-4o-mini}
  smart: {target: auto}
routing_preferences:
  - {name: code, description: code, models: [openai/gpt-4o-mini, anthropic/claude-sonnet-4-20250514]}
"""
DOWN = Unavailable(Reason.ORCHESTRATOR_TIMEOUT, "no answer")
CHAT, MESSAGES, RESPONSES = "/v1/chat/completions", "/v1/messages", "/v1/responses"


class Records(NoObserver):
    """Keeps the records of finished requests."""

    def __init__(self) -> None:
        self.ended_requests: list[RequestRecord] = []

    def ended(self, request: RequestRecord) -> None:
        self.ended_requests.append(request)


@dataclass
class Got:
    """What the API sent."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class ApiRig:
    """One gateway, and one method that sends it a request."""

    snapshot: Snapshot
    upstream: Upstream
    limiter: Limiter | None = None
    scores: Scores | Unavailable = DOWN
    records: Records = field(default_factory=Records)

    def __post_init__(self) -> None:
        self.store = FakeStore()
        ports = Ports(
            self.upstream,
            FakeOrchestrator(self.scores),
            self.store,
            self.records,
            limiter=self.limiter,
        )
        self.assembly: Assembly = assemble(lambda: self.snapshot, ports)

        async def health() -> Any:
            return {"status": "ok"}

        gateway, stored = self.assembly.gateway, self.assembly.stored
        self.api = create_api(
            ApiDependencies(gateway, stored, lambda: self.snapshot, self.records, health)
        )

    async def ask(
        self,
        body: Mapping[str, Any] | None = None,
        *,
        key: str = "fp-ide",
        path: str = CHAT,
        headers: Mapping[str, str] | None = None,
        leave_after: int = -1,
    ) -> Got:
        """Sends a request and reads its answer; leaves after so many parts of it."""
        method = "GET" if body is None else "POST"
        sent = json.dumps(body).encode() if body is not None else b""
        pairs = {"x-fingerpost-key": key, "content-type": "application/json", **(headers or {})}
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [(name.encode(), value.encode()) for name, value in pairs.items()],
            "client": ("203.0.113.9", 1),
            "server": ("10.0.0.1", 8000),
        }
        got = Got(0, {}, b"")
        gone = asyncio.Event()
        incoming = [{"type": "http.request", "body": sent}]
        parts = 0

        async def receive() -> Any:
            if incoming:
                return incoming.pop()
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            nonlocal parts
            if message["type"] == "http.response.start":
                got.status = message["status"]
                got.headers = {name.decode(): value.decode() for name, value in message["headers"]}
                return
            got.body += message.get("body", b"")
            parts += 1
            if parts == leave_after:
                gone.set()
                await asyncio.sleep(0)

        await self.api(scope, receive, send)
        return got


def rig_of(
    folder: Path,
    more: str,
    upstream: Upstream,
    limiter: Limiter | None = None,
    scores: Scores | Unavailable = DOWN,
) -> ApiRig:
    """The rig of a configuration with MODELS and these keys."""
    file = folder / "gateway.yaml"
    file.write_text(V + MODELS + more, "utf-8")
    return ApiRig(compile_snapshot(file, ENVIRON), upstream, limiter, scores)


def ask_chat(model: str | None = "openai/gpt-4o", **fields: Any) -> dict[str, Any]:
    """The body of a chat completion."""
    named = {} if model is None else {"model": model}
    return {**named, "messages": [{"role": "user", "content": "hi"}], **fields}
