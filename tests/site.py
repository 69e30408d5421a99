"""A gateway under test as its clients see it: its address and the providers behind it.

The same checks (tests/contract/) run against the API alone on a loopback port (tests/wire/) and
against the whole graph on a Serve cluster (tests/serve/).
"""

import contextlib
import http.client
import json
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import openai

from tests.scripted_provider import Exchange, ScriptedProvider

SECRET = "sk-scripted-secret-0123456789"
TIMEOUTS = {"connect_s": 1.0, "first_byte_s": 2.0, "idle_s": 2.0, "total_s": 4.0}
ROUTES = [
    {
        "name": "code",
        "description": "writing, explaining and debugging code",
        "models": ["dedicated/coder", "inline/parrot"],
    },
    {
        "name": "poems and songs",
        "description": "poems, song lyrics and other verse",
        "models": ["inline/poet"],
    },
    {
        "name": "translation",
        "description": "translating texts from one language into another",
        "models": ["shared/polyglot"],
    },
]
PROMPTS = {
    "code": "Debug this python function, it raises an IndexError",
    "poems and songs": "Write a poem about the sea at night",
    "translation": "Translate this sentence into French please",
}
"""One unambiguous prompt for each route."""

CHAT, MESSAGES, RESPONSES = "/v1/chat/completions", "/v1/messages", "/v1/responses"
"""The surfaces of conversations."""

SESSION_TTL_S, SESSION_ENTRIES = 6, 200
"""The limits of the gateways for sessions, small enough for tests to reach them."""

DATA_PATHS = ("dedicated", "shared", "inline")
"""Each data path has its own provider; its models are named ``<data path>/<script>``."""


@dataclass
class Answered:
    """A response that was read to its end."""

    status: int
    headers: dict[str, str]
    body: bytes
    names: list[str] = field(default_factory=list)
    """The names of all headers, including repeated ones."""

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        error = self.json["error"]
        assert isinstance(error, dict)
        assert set(error) == {"message", "type", "param", "code"}, error
        return error


@dataclass
class Site:
    """The gateway's address, and its providers by data path."""

    host: str
    port: int
    providers: dict[str, ScriptedProvider]
    prefix: str = ""
    """The application's route prefix; empty at the root."""
    key: str = ""
    """The gateway's own key, sent with each raw request; empty where it has none."""

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}{self.prefix}"

    def client(self, **options: Any) -> Any:
        """The official SDK; untyped, because tests also pass invalid arguments."""
        settings = {"max_retries": 0, "timeout": 30.0, "api_key": "client-key", **options}
        return openai.OpenAI(base_url=f"{self.url}/v1", **settings)

    def send(
        self,
        body: bytes | Iterator[bytes] | None = None,
        *,
        method: str = "POST",
        path: str = CHAT,
        headers: dict[str, str] | None = None,
    ) -> Answered:
        """Sends one raw request on a new connection."""
        line = http.client.HTTPConnection(self.host, self.port, timeout=60)
        with contextlib.closing(line):
            own = {"x-fingerpost-key": self.key} if self.key else {}
            shown = {"content-type": "application/json", **own, **(headers or {})}
            chunked = body is not None and not isinstance(body, bytes)
            line.request(method, self.prefix + path, body, shown, encode_chunked=chunked)
            answer = line.getresponse()
            pairs = [(name.lower(), value) for name, value in answer.getheaders()]
            return Answered(answer.status, dict(pairs), answer.read(), [name for name, _ in pairs])

    def ask(self, model: str | None, *, path: str = CHAT, **fields: Any) -> Answered:
        """Requests an answer by raw HTTP, by default a chat completion."""
        body = {**question(path, "hi"), **fields}
        if model is not None:
            body = {"model": model, **body}
        return self.send(json.dumps(body).encode(), path=path)

    def exchange(self, data_path: str, index: int = -1) -> Exchange:
        """An exchange of a data path's provider, by default the last one."""
        return self.providers[data_path].ledger.exchanges[index]

    def alive(self) -> None:
        """Fails unless the gateway still answers an ordinary request."""
        assert self.ask("dedicated/parrot").status == 200

    def explain(self, text: str, **fields: Any) -> Any:
        """The gateway's explanation of its decision for a text."""
        body = {"messages": [{"role": "user", "content": text}], **fields}
        return self.send(json.dumps(body).encode(), path="/v1/route").json


def question(path: str, content: Any) -> dict[str, Any]:
    """One message of the user, in the fields of a surface."""
    said = [{"role": "user", "content": content}]
    if path == RESPONSES:
        return {"input": said}
    return {"messages": said, "max_tokens": 100} if path == MESSAGES else {"messages": said}


def eventually(check: Callable[[], bool], within_s: float) -> float:
    """Waits until ``check`` holds and returns the seconds; fails after ``within_s``."""
    started = time.monotonic()
    while time.monotonic() - started < within_s:
        if check():
            return time.monotonic() - started
        time.sleep(0.01)
    message = f"not within {within_s} s"
    raise AssertionError(message)


def closed_port() -> int:
    """A port on which no process listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def write_config(
    folder: Path, providers: dict[str, ScriptedProvider], more: Sequence[dict[str, Any]] = ()
) -> Path:
    """Writes a configuration with named models and a wildcard per data path, and broken entries.

    ``more`` entries come after them.
    """
    entries = [
        {
            "model": f"{data_path}/{name}",
            "base_url": provider.url,
            "provider_interface": "vllm",
            "access_key": "$FINGERPOST_TEST_KEY",
            "data_path": data_path,
        }
        for data_path, provider in providers.items()
        for name in ("parrot", f"only-{data_path}", "*")
    ]
    entries[0]["default"] = True  # type: ignore[assignment]
    entries += [
        {
            "model": "dead/gone",
            "base_url": f"http://127.0.0.1:{closed_port()}",
            "data_path": "shared",
        },
        {"model": "keyless/any", "base_url": providers["shared"].url, "data_path": "shared"},
    ]
    entries[-2]["provider_interface"] = entries[-1]["provider_interface"] = "vllm"
    entries[-1]["access_key"] = "$FINGERPOST_TEST_UNSET"
    entries += more
    config = {
        "version": "v0.4.0",
        "model_providers": entries,
        "model_aliases": {"fast": {"target": "dedicated/parrot"}, "smart": {"target": "auto"}},
        "routing_preferences": ROUTES,
        "orchestrator": {"min_confidence": 0.2, "deadline_ms": 2000},
        "routing": {"session_cache": {"tenant_header": "X-Tenant"}},
        "timeouts": TIMEOUTS,
    }
    file = folder / "gateway.yaml"
    file.write_text(json.dumps(config, indent=1))  # JSON is YAML
    return file


def write_routing_config(folder: Path, providers: dict[str, ScriptedProvider], **more: Any) -> Path:
    """Writes a configuration that always routes, without a default model; providers are inline.

    ``more`` entries of ``model_providers`` come after them, and more sections.
    """
    others = more.pop("model_providers", [])
    config = {
        "version": "v0.4.0",
        "model_providers": [
            {
                "model": f"{data_path}/*",
                "base_url": provider.url,
                "provider_interface": "vllm",
                "data_path": "inline",
            }
            for data_path, provider in providers.items()
        ]
        + others,
        "model_aliases": {"plain": {"target": "shared/parrot"}},
        "routing_preferences": ROUTES,
        "overrides": {"always_route": True},
        "orchestrator": {"min_confidence": 0.2, "deadline_ms": 2000},
        **more,
    }
    file = folder / "routing.yaml"
    file.write_text(json.dumps(config, indent=1))
    return file


def write_sessions_config(
    folder: Path,
    providers: dict[str, ScriptedProvider],
    redis: str | None = None,
    others: Sequence[dict[str, Any]] = (),
) -> Path:
    """Writes a configuration with sessions in memory or in Redis; providers are inline.

    ``others`` are further entries of model_providers.
    """
    cache = {"type": "memory"} if redis is None else {"type": "redis", "url": redis}
    entries: list[dict[str, Any]] = [
        {
            "model": f"{data_path}/*",
            "base_url": provider.url,
            "provider_interface": "vllm",
            "data_path": "inline",
        }
        for data_path, provider in providers.items()
    ]
    entries.append({**entries[0], "model": "dedicated/parrot", "default": True})
    config = {
        "version": "v0.4.0",
        "model_providers": [*entries, *others],
        "routing_preferences": ROUTES,
        "model_aliases": {"smart": {"target": "auto"}},
        "orchestrator": {"min_confidence": 0.2, "deadline_ms": 2000},
        "routing": {
            "session_cache": {**cache, "tenant_header": "x-tenant"},
            "session_ttl_seconds": SESSION_TTL_S,
            "session_max_entries": SESSION_ENTRIES,
        },
        "logs": {"access": {"to": f"{cache['type']}-access.jsonl"}},
    }
    file = folder / f"sessions-{cache['type']}.yaml"
    file.write_text(json.dumps(config, indent=1))
    return file
