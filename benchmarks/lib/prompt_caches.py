"""Agents' conversations through two replicas of a gateway, and providers that cache prompts.

All in this process, over sockets on loopback, without Serve. No figure depends on the clock; which
endpoint a conversation begins at depends on the ports, which are free ones.
"""

import asyncio
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any, Final

import uvicorn

from benchmarks.lib.in_process import NullMeter
from serve_app.affinity.memory import MemoryStore
from serve_app.api.app import create_api
from serve_app.api.dependencies import ApiDependencies
from serve_app.domain import Binding, ModelRef, Question, Scores
from serve_app.ports import AffinityStore
from serve_app.providers.transport import Transport, fixed
from serve_app.requests.assembly import Ports, assemble
from serve_app.snapshot import compile_snapshot
from serve_app.telemetry.metrics import MetricsObserver
from tests.scripted_provider import ScriptedProvider
from tests.scripts import Headers, Line, Script, completion

CONVERSATIONS: Final = 20
TURNS: Final = 8
ELIGIBLE: Final = CONVERSATIONS * (TURNS - 1)
"""Turns whose beginning was sent before."""

MakeStore = Callable[[], AffinityStore]
_ROUTES: Final = ("code", "verse")
_SYSTEM: Final = {"role": "system", "content": "You are an agent. " * 200}
"""The same in all conversations, as it is with agents."""

_OK: Final = 200


@dataclass
class CachingProvider:
    """A provider that remembers, for each model, the prompts that it has read."""

    read: set[str] = field(default_factory=set)
    turns: int = 0
    """Turns with a beginning that was sent before, to whichever provider."""
    hits: int = 0
    """Those whose whole beginning this provider has read."""
    conversations: set[str] = field(default_factory=set)

    def script(self, model: str) -> Script:
        """The script that answers a request and notes it; for ``ScriptedProvider``."""

        async def answer(line: Line, exchange: Headers, request: dict[str, Any]) -> None:
            del exchange
            messages = request["messages"]
            before = messages[:-2]  # what the last turn of this conversation sent
            if len(before) > 1:
                self.turns += 1
                self.hits += _digest(model, before) in self.read
            self.read.add(_digest(model, messages))
            self.conversations.add(messages[1]["content"])
            line.whole(completion("I have done that.", model))

        return answer


def _digest(model: str, messages: Sequence[Any]) -> str:
    return sha256(json.dumps([model, *messages]).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Way:
    """How the requests of a run are sent, and what the replicas share."""

    name: str
    model: str
    """What the requests name: ``auto`` or one model."""
    header: str | None
    """The header that names the session; None: none does."""
    is_off: bool = False
    """Requests turn sessions off, so that endpoints take turns."""


WAYS: Final = (
    Way("one model, the session is named", "main/code", "x-claude-code-session-id"),
    Way("one model, without a name", "main/code", None),
    Way("two models by content, the session is named", "auto", "x-claude-code-session-id"),
    Way("one model, in turn", "main/code", None, is_off=True),
    Way("two models by content, in turn", "auto", None, is_off=True),
)


@dataclass(frozen=True, slots=True)
class Hits:
    """What the providers of one run counted."""

    hits: int
    eligible: int
    conversations: tuple[int, ...]
    """How many conversations each endpoint has seen."""


class SharedMemory:
    """The Affinity deployment without Serve: one memory for all replicas."""

    def __init__(self) -> None:
        self._store = MemoryStore(max_entries=10_000, ttl_s=600, clock=time.monotonic)

    async def get(self, key: str) -> Binding | None:
        """Returns the binding of a session; None if there is none."""
        return self._store.get(key)

    async def bind(self, key: str, binding: Binding, *, instead_of: ModelRef | None) -> bool:
        """Stores a binding; returns whether it is stored."""
        return self._store.bind(key, binding, instead_of=instead_of)


class _ByWord:
    """An orchestrator that finds the route whose name the last turn has."""

    async def score(self, question: Question) -> Scores:
        said = question.turns[-1].text
        winner = next(name for name in _ROUTES if name in said)
        return Scores({name: float(name == winner) for name in _ROUTES}, 0.5, winner)


def run(way: Way, folder: Path, stores: Sequence[AffinityStore]) -> Hits:
    """Sends all turns of all conversations through one replica for each store, and counts hits.

    Each turn of all conversations is sent before the next one, in another order, and any replica
    may get it; both are the same in every run.
    """
    chance = Random(20)  # noqa: S311 - not for secrets
    providers = [CachingProvider() for _ in range(2)]
    with ExitStack() as stack:
        urls = [
            stack.enter_context(ScriptedProvider(find=provider.script)).url
            for provider in providers
        ]
        config = _write_config(folder, urls)
        lines = [stack.enter_context(_replica(config, store)) for store in stores]
        talks: list[list[dict[str, str]]] = [[_SYSTEM] for _ in range(CONVERSATIONS)]
        for turn in range(TURNS):
            for number in chance.sample(range(CONVERSATIONS), CONVERSATIONS):
                said = f"Task {number}, step {turn}: more {chance.choice(_ROUTES)}, please."
                talks[number].append({"role": "user", "content": said})
                answer = _ask(chance.choice(lines), way, number, talks[number])
                talks[number].append(answer)
    return Hits(
        sum(provider.hits for provider in providers),
        sum(provider.turns for provider in providers),
        tuple(len(provider.conversations) for provider in providers),
    )


def _ask(
    line: http.client.HTTPConnection, way: Way, number: int, messages: list[dict[str, str]]
) -> dict[str, str]:
    headers = {"content-type": "application/json"}
    if way.header is not None:
        headers[way.header] = f"session-{number}"
    if way.is_off:
        headers["x-fingerpost-affinity"] = "off"
    body = json.dumps({"model": way.model, "messages": messages})
    line.request("POST", "/v1/chat/completions", body, headers)
    answer = line.getresponse()
    content = answer.read()
    if answer.status != _OK:
        raise RuntimeError(content.decode("utf-8", "replace"))
    message = json.loads(content)["choices"][0]["message"]
    return {"role": "assistant", "content": message["content"]}


def _write_config(folder: Path, urls: Sequence[str]) -> Path:
    models = [
        {"model": f"main/{route}", "base_url": url, "provider_interface": "vllm"}
        for route in _ROUTES
        for url in urls
    ]
    routes = [
        {"name": route, "description": route, "models": [f"main/{route}"]} for route in _ROUTES
    ]
    config = {"version": "v0.4.0", "model_providers": models, "routing_preferences": routes}
    file = folder / "gateway.yaml"
    file.write_text(json.dumps(config))  # JSON is YAML
    return file


@contextmanager
def _replica(config: Path, store: AffinityStore) -> Iterator[http.client.HTTPConnection]:
    """Runs one gateway in a thread; yields a connection to it."""
    snapshot = compile_snapshot(config, {})
    transport = Transport(fixed(snapshot.providers, snapshot.config.timeouts), {})
    observer = MetricsObserver(NullMeter())
    ports = Ports(transport, _ByWord(), store, observer)

    async def health() -> dict[str, str]:
        return {"status": "ok"}

    assembly = assemble(lambda: snapshot, ports)
    api = create_api(
        ApiDependencies(
            gateway=assembly.gateway,
            stored=assembly.stored,
            snapshot=lambda: snapshot,
            observer=observer,
            health=health,
        )
    )
    server = uvicorn.Server(
        uvicorn.Config(api, log_level="warning", lifespan="off", http="httptools")
    )
    # With the protocol named, asyncio sets TCP_NODELAY on the connections that it accepts.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))

        async def serve() -> None:
            await server.serve(sockets=[listener])
            await transport.close()

        thread = threading.Thread(target=asyncio.run, args=(serve(),))
        thread.start()
        try:
            while not server.started:
                time.sleep(0.01)
            port = listener.getsockname()[1]
            with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as line:
                yield line
        finally:
            server.should_exit = True
            thread.join(10)
