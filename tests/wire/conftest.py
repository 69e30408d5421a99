"""A site without Ray: the API under uvicorn, with every data path as on a cluster except Serve."""

import asyncio
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from deployments.frame import decode_chunk, decode_reply, encode_request
from deployments.provider import ProviderClient
from serve_app.affinity.memory import MemoryStore
from serve_app.api.app import create_api
from serve_app.api.dependencies import ApiDependencies
from serve_app.api.playground.page import Page
from serve_app.config.plano_tracing import telemetry_of
from serve_app.conversations.memory import MemoryConversations
from serve_app.conversations.shared import SharedConversations
from serve_app.domain import Binding, ModelRef, Question, Scores, Unavailable
from serve_app.engines.embedding.engine import (
    EmbeddingEngine,
    EmbeddingModel,
    EmbeddingSettings,
)
from serve_app.engines.thread import EngineThread
from serve_app.exchange import UpstreamFault, UpstreamReply, UpstreamRequest
from serve_app.ports import Orchestrator
from serve_app.providers.transport import Transport, fixed
from serve_app.requests.assembly import Ports, assemble
from serve_app.snapshot import Snapshot, compile_snapshot
from serve_app.telemetry.export import Exports, start_exports
from serve_app.telemetry.logs import OpenLogs
from serve_app.telemetry.metric_store import MetricStore
from serve_app.telemetry.metrics import METRICS, Meter, Metric, MetricsObserver
from serve_app.telemetry.prometheus_text import prometheus_text
from serve_app.telemetry.recent import RecentDecisions
from serve_app.telemetry.record import Observer, Observers
from tests.scripted_provider import ScriptedProvider
from tests.site import SECRET, Site, write_config, write_routing_config


class FakeMeter:
    """Counts every sample and fails if its labels do not fit the table."""

    def __init__(self) -> None:
        self.counts: dict[tuple[Metric, tuple[str, ...]], float] = {}

    def count(self, metric: Metric, labels: tuple[str, ...], amount: float = 1) -> None:
        assert len(labels) == len(METRICS[metric].labels)
        key = (metric, labels)
        self.counts[key] = self.counts.get(key, 0) + amount

    def observe(self, metric: Metric, value: float, labels: tuple[str, ...]) -> None:
        assert value >= 0, metric
        self.count(metric, labels)

    def set(self, metric: Metric, value: float, labels: tuple[str, ...]) -> None:
        assert value >= 0, metric
        assert len(labels) == len(METRICS[metric].labels)
        self.counts[metric, labels] = value


@lru_cache(maxsize=1)
def _model() -> EmbeddingModel:
    return EmbeddingModel(EmbeddingSettings())


class Named:
    """Names the engine that decided, as the Orchestrator's deployment does."""

    def __init__(self, engine: EngineThread) -> None:
        self._engine = engine

    async def score(self, question: Question) -> Scores | Unavailable:
        result = await self._engine.score(question)
        return replace(result, tier="embedding") if isinstance(result, Scores) else result


def orchestrator_of(snapshot: Snapshot) -> Named:
    """Runs the embedded engine in this process as the Orchestrator does."""
    engine = EmbeddingEngine(EmbeddingSettings.from_section(snapshot.config.orchestrator), _model())
    deadline_s = snapshot.config.orchestrator.deadline_s
    return Named(EngineThread(engine, deadline_s=deadline_s, clock=time.monotonic))


class _Memory:
    """The Affinity deployment without Serve."""

    def __init__(self, snapshot: Snapshot) -> None:
        section = snapshot.config.routing
        self._store = MemoryStore(
            max_entries=section.session_max_entries,
            ttl_s=section.session_ttl_seconds,
            clock=time.monotonic,
        )

    async def get(self, key: str) -> Binding | None:
        return self._store.get(key)

    async def bind(self, key: str, binding: Binding, *, instead_of: ModelRef | None) -> bool:
        return self._store.bind(key, binding, instead_of=instead_of)


class _Answers:
    """The answers of the Affinity deployment without Serve."""

    def __init__(self, snapshot: Snapshot) -> None:
        section = snapshot.config.state_storage
        self._values = MemoryConversations(
            max_bytes=section.max_megabytes << 20,
            ttl_s=section.ttl_seconds,
            clock=time.monotonic,
        )

    async def load(self, keys: Sequence[str]) -> list[bytes | None]:
        return self._values.load(keys)

    async def save(self, key: str, value: bytes) -> None:
        self._values.save(key, value)

    async def delete(self, keys: Sequence[str]) -> int:
        return self._values.delete(keys)


def conversations_of(snapshot: Snapshot) -> SharedConversations | None:
    """Where a gateway in this process keeps answers."""
    if snapshot.config.keeps_state_in == "none":
        return None
    return SharedConversations(_Answers(snapshot), clock=time.monotonic)


class FramedUpstream:
    """The hop without Serve: sends frames to a provider client in this process."""

    def __init__(self, client: ProviderClient) -> None:
        self._client = client

    async def open(self, request: UpstreamRequest) -> UpstreamReply | UpstreamFault:
        frame = encode_request(request)
        if not request.stream:
            return decode_reply(await self._client.unary(frame))[0]
        items = self._client.stream(frame)
        reply, streamed = decode_reply(await anext(items))
        if isinstance(reply, UpstreamFault) or not streamed:
            return reply
        return UpstreamReply(reply.status, reply.headers, _Items(items))


class _Items:
    def __init__(self, items: Any) -> None:
        self._items = items

    def __aiter__(self) -> "_Items":
        return self

    async def __anext__(self) -> bytes:
        return decode_chunk(await anext(self._items))

    async def aclose(self) -> None:
        await self._items.aclose()


class _Paths:
    def __init__(self, inline: Transport, framed: FramedUpstream) -> None:
        self._inline, self._framed = inline, framed

    async def open(self, request: UpstreamRequest) -> UpstreamReply | UpstreamFault:
        path = self._inline if request.model.provider == "inline" else self._framed
        return await path.open(request)


def telemetry_in(
    snapshot: Snapshot, environ: Mapping[str, str], meter: Meter
) -> tuple[MetricStore, Exports, Observer]:
    """What an ingress records into, with a meter of the test's own."""
    store = MetricStore()
    exports = start_exports(telemetry_of(snapshot.config), environ, store, "replica-1")
    assert not exports.warnings
    own = MetricsObserver(store)
    return store, exports, Observers(MetricsObserver(meter), own, *exports.observers)


@contextmanager
def serve_api(
    config: Path,
    providers: dict[str, ScriptedProvider],
    environ: Mapping[str, str],
    meter: FakeMeter | None = None,
    peer: str | None = None,
    orchestrator: Orchestrator | None = None,
) -> Iterator[Site]:
    """Serves the API of a configuration on loopback; ``peer`` replaces the clients' address.

    Without an orchestrator it is the embedded engine.
    """
    snapshot = compile_snapshot(config, environ)
    transport = Transport(fixed(snapshot.providers, snapshot.config.timeouts), environ)
    client = ProviderClient(str(config))
    client._transport._environ = environ
    meter = meter or FakeMeter()
    logs, recent = (
        OpenLogs(snapshot.config.logs, meter, "wire"),
        RecentDecisions(lambda: snapshot.config),
    )
    store, exports, observer = telemetry_in(snapshot, environ, meter)
    observer = Observers(observer, recent, *logs.observers)
    paths = _Paths(transport, FramedUpstream(client))
    asked = orchestrator or orchestrator_of(snapshot)
    ports = Ports(paths, asked, _Memory(snapshot), observer, conversations_of(snapshot))

    async def health() -> Any:
        return {"status": "ok", "providers": snapshot.providers.data_paths()}

    assembly = assemble(lambda: snapshot, ports)
    parts = ApiDependencies(assembly.gateway, assembly.stored, lambda: snapshot, observer, health)
    text = partial(prometheus_text, store, "replica-1")
    page = Page(recent, assembly.trials)
    parts = replace(parts, tracing=exports.tracing, metrics=text, page=page)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if peer is not None:
            scope["client"] = (peer, 1)
        if scope["path"].startswith("/prefix/"):
            scope["root_path"] = "/prefix"  # as Serve does for an application's route_prefix
        await create(scope, receive, send)

    create = create_api(parts)

    async def close() -> None:
        await transport.close()
        await client._transport.close()

    try:
        with serving(app, close) as port:
            yield Site("127.0.0.1", port, providers)
    finally:
        logs.close()
        exports.close()


@contextmanager
def serving(app: Any, close: Callable[[], Awaitable[None]]) -> Iterator[int]:
    """Runs an application in a thread of its own; yields its port, and calls ``close`` at the end."""
    with socket.socket(proto=socket.IPPROTO_TCP) as listener:  # else asyncio leaves Nagle on
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(
            uvicorn.Config(app, log_level="warning", lifespan="off", http="httptools")
        )

        async def run() -> None:
            await server.serve(sockets=[listener])
            await close()
            await asyncio.sleep(0.05)  # the closed sockets' last callbacks

        thread = threading.Thread(target=asyncio.run, args=(run(),))
        thread.start()
        while not server.started:
            time.sleep(0.01)
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(10)


@pytest.fixture(scope="module")
def environ() -> dict[str, str]:
    """The environment that references in keys are resolved from."""
    return {"FINGERPOST_TEST_KEY": SECRET}


@pytest.fixture(scope="module")
def site(
    tmp_path_factory: pytest.TempPathFactory,
    providers: dict[str, ScriptedProvider],
    environ: dict[str, str],
) -> Iterator[Site]:
    """The contract's gateway, without Ray."""
    config = write_config(tmp_path_factory.mktemp("wire"), providers)
    with serve_api(config, providers, environ) as running:
        yield running


@pytest.fixture(scope="module")
def routing_site(
    tmp_path_factory: pytest.TempPathFactory,
    providers: dict[str, ScriptedProvider],
    environ: dict[str, str],
) -> Iterator[Site]:
    """A gateway that always routes and has no default model."""
    config = write_routing_config(tmp_path_factory.mktemp("routing"), providers)
    with serve_api(config, providers, environ) as running:
        yield running
