"""The ingress: the application's HTTP surface on Serve."""

import asyncio
import logging
import os
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final
from uuid import uuid4

from ray import serve
from ray.serve.context import _get_serve_request_context
from ray.serve.handle import DeploymentHandle

from deployments.collector import calm_collector
from deployments.environment import hop_bytes, splicing_warnings, unmet
from deployments.exchanges import transport
from deployments.handles import (
    DataPaths,
    HandleConversations,
    HandleOrchestrator,
    HandleRests,
    HandleStore,
    HandleUpstream,
)
from deployments.meter import ServeMeter
from deployments.reload import needs_restart, watch
from deployments.replicas import most_replicas
from serve_app.access.counters import CounterStore, NoCounters
from serve_app.access.enforcement import limits_problem
from serve_app.access.exposure import exposure_problem
from serve_app.access.limiter import Limiter
from serve_app.access.spending_warnings import spending_warnings
from serve_app.affinity.guarded import NoStore
from serve_app.api.app import create_api
from serve_app.api.dependencies import ApiDependencies
from serve_app.api.playground.page import Page
from serve_app.config.locations import ConfigError, Problem
from serve_app.config.plano_tracing import telemetry_of
from serve_app.config.references import MissingEnvironmentError, expand
from serve_app.config.warnings import config_warnings, unset_provider_keys
from serve_app.conversations.memory import MemoryConversations
from serve_app.conversations.shared import SharedConversations
from serve_app.domain import Json, Question, Route, Turn
from serve_app.engines.embedding.tuned import configured_tuning
from serve_app.ports import AffinityStore, RestBoard
from serve_app.providers.endpoints import SHARED_SLUG
from serve_app.requests.assembly import Ports, assemble
from serve_app.requests.health import Health
from serve_app.snapshot import Snapshot, compile_snapshot
from serve_app.telemetry.export import start_exports
from serve_app.telemetry.logs import OpenLogs
from serve_app.telemetry.metric_store import MetricStore
from serve_app.telemetry.metrics import Meters, MetricsObserver
from serve_app.telemetry.prometheus_text import prometheus_text
from serve_app.telemetry.recent import RecentDecisions
from serve_app.telemetry.record import Observers

_START_S: Final = 60.0
"""A provider client that has not answered after this time does not delay the start any more."""
_PROBE_S: Final = 0.5
_LONGEST_END_S: Final = 60.0
"""Added to the total timeout: the longest time that a request counts as under way."""
_PROBED = (Route("greeting", "greetings", ()),)
_log = logging.getLogger("fingerpost")


@serve.ingress()
class Ingress:
    """Reads the configuration, wires the ports to handles, and serves the API."""

    def __init__(
        self,
        config: str | None,
        providers: Mapping[str, DeploymentHandle],
        shared: DeploymentHandle,
        orchestrator: DeploymentHandle,
        affinity: DeploymentHandle | None,
        host: str | None,
    ) -> None:
        """``affinity`` is None where the bindings are in Redis.

        ``host`` is where Serve listens; a configuration that must not be served there is refused.
        None where that was not known.
        """
        self._config = config
        self._host = host
        self._own = frozenset(providers)
        store, replica = MetricStore(), _replica_id()
        self._metrics = partial(prometheus_text, store, replica)
        meter = Meters(ServeMeter(), store)
        self._replicas = most_replicas()
        self._counted_in: str | None = None
        self._watch = watch(config, meter, compile_=self._compile, adopt=self._adopt)
        self._started = self._watch.current
        self._counted_in = self._started.config.counts_in
        telemetry = telemetry_of(self._started.config)
        self._exports = start_exports(telemetry, os.environ, store, replica)
        self._adopt(self._started)
        max_bytes = hop_bytes(os.environ)
        paths = {slug: HandleUpstream(handle, max_bytes) for slug, handle in providers.items()}
        self._clients = {**paths, SHARED_SLUG: HandleUpstream(shared, max_bytes)}
        self._starts_until = time.monotonic() + _START_S
        self._logs = OpenLogs(self._started.config.logs, meter, replica)
        self._recent = RecentDecisions(lambda: self._watch.current.config)
        self._observer = Observers(
            MetricsObserver(meter), self._recent, *self._logs.observers, *self._exports.observers
        )
        self._limiter = _limiter(self._started, self._replicas)
        self._assembly = assemble(
            lambda: self._watch.current,
            Ports(
                DataPaths(paths, self._clients[SHARED_SLUG], transport(self._watch)),
                HandleOrchestrator(orchestrator),
                _store(self._started, affinity),
                self._observer,
                _conversations(self._started, affinity),
                _rests(self._started, affinity),
                self._limiter,
            ),
        )
        self._watch.start()
        calm_collector()

    def _compile(self) -> Snapshot:
        snapshot = compile_snapshot(self._config)
        problem = None if self._host is None else exposure_problem(self._host, snapshot.config)
        if problem is not None:
            raise ConfigError(str(self._config), (Problem(0, "client_keys", problem),))
        problem = limits_problem(snapshot.config, self._replicas, self._counted_in)
        if problem is not None:
            raise ConfigError(str(self._config), (Problem(0, "limit_storage", problem),))
        return snapshot

    def _adopt(self, snapshot: Snapshot) -> None:
        """Logs what is ignored or unset in a configuration; runs in the watch's thread."""
        warnings = [
            *unmet(os.environ),
            *splicing_warnings(os.environ),
            *config_warnings(snapshot.config, os.environ),
            *self._exports.warnings,
            *snapshot.threshold.warnings,
            *spending_warnings(snapshot.config, snapshot.policy, snapshot.baseline),
            *_tuning_warnings(snapshot),
            *unset_provider_keys(snapshot.providers.endpoints(), os.environ),
            *needs_restart(self._started, snapshot, self._own),
        ]
        for warning in warnings:
            _log.warning(warning)
        self._warnings = warnings
        self._loaded_at = datetime.now(UTC).isoformat(timespec="seconds")

    def __serve_build_asgi_app__(self) -> Callable[..., Any]:
        """Serve calls this after the constructor."""
        return create_api(
            ApiDependencies(
                gateway=self._assembly.gateway,
                stored=self._assembly.stored,
                snapshot=lambda: self._watch.current,
                observer=self._observer,
                health=self._health,
                new_id=_request_id,
                tracing=self._exports.tracing,
                metrics=self._metrics,
                watched_by_server=True,
                page=Page(self._recent, self._assembly.trials),
            )
        )

    async def __del__(self) -> None:
        """Writes, exports and counts what is left; Serve calls this after the last request."""
        if hasattr(self, "_limiter"):  # the constructor may have failed
            await self._limiter.aclose()
        for name in ("_logs", "_exports"):
            if hasattr(self, name):
                await asyncio.to_thread(getattr(self, name).close)

    async def _health(self) -> Json:
        snapshot = self._watch.current
        missing = await self._missing_clients()
        starts = bool(missing) and time.monotonic() < self._starts_until
        return {
            "status": "starting" if starts else "ok",
            "policy": snapshot.version,
            "reload": {"loaded_at": self._loaded_at, "error": self._watch.error},
            "providers": snapshot.providers.data_paths(),
            "missing_clients": missing,
            "orchestrator": await self._orchestrator_health(),
            "sessions": {
                "store": self._started.config.routing.session_cache.type,
                "trouble": self._assembly.store.trouble,
            },
            "resting": _resting(self._assembly.gateway.health, snapshot),
            "answers": {
                "store": self._started.config.keeps_state_in,
                "trouble": self._assembly.answers_trouble,
            },
            "limits": {
                "store": self._started.config.counts_in,
                "trouble": self._limiter.trouble,
            },
            "warnings": self._warnings,
        }

    async def _missing_clients(self) -> list[str]:
        """The provider clients that have not answered this replica yet."""
        waited = [name for name, client in self._clients.items() if not client.has_answered]
        await asyncio.gather(*(self._clients[name].wait_for_replica(_PROBE_S) for name in waited))
        return [name for name in waited if not self._clients[name].has_answered]

    async def _orchestrator_health(self) -> Json:
        """Its state as this replica last saw it; probed only if it has not answered yet, or failed.

        A probe would wake an orchestrator that is scaled to zero.
        """
        guard = self._assembly.guard
        if guard.asked == 0 or guard.last_fault is not None:
            turn = Turn("user", f"hello {guard.asked}")  # a new text each time: never cached
            await guard.score(Question((turn,), _PROBED, "probe"))
        fault = guard.last_fault
        return {
            "engine": self._started.config.orchestrator.engine,
            "routes": len(self._watch.current.policy.routes),
            "state": "ok" if fault is None else fault.reason,
            "detail": None if fault is None else fault.detail,
            "stand_in": guard.stand_in or None,
            "fell_back": guard.fell_back or None,
            "breaker": guard.breaker_state,
            "asked": guard.asked,
        }


def _replica_id() -> str:
    """The id of this replica, as Serve's own metrics have it."""
    return str(serve.get_replica_context().replica_id.unique_id)


def _request_id() -> str:
    """The id that Serve has given to the request of this task."""
    return _get_serve_request_context().request_id or uuid4().hex


def _resting(health: Health, snapshot: Snapshot) -> Json:
    """The endpoints that rest after failures, as this replica knows them."""
    names = {endpoint.fingerprint: endpoint.slug for endpoint in snapshot.providers.endpoints()}
    return [
        {
            "provider": names[report.endpoint],
            "endpoint": report.endpoint,
            "model": report.model or None,
            "seconds": round(report.left_s, 1),
            "why": report.why,
        }
        for report in health.rests()
        if report.endpoint in names
    ]


def _tuning_warnings(snapshot: Snapshot) -> tuple[str, ...]:
    """Of a file of ``fingerpost tune``: why it is ignored, or for which routes."""
    policy = snapshot.policy
    section = snapshot.config.orchestrator
    return configured_tuning(section, policy.routes, policy.no_route_examples).warnings


def _conversations(
    started: Snapshot, affinity: DeploymentHandle | None
) -> SharedConversations | None:
    """Where answers are kept whose provider does not keep them; None if nowhere."""
    config, clock = started.config, time.monotonic
    section = config.state_storage
    if config.keeps_state_in == "memory" and affinity is not None:
        copies = MemoryConversations(
            max_bytes=section.max_megabytes << 20, ttl_s=section.ttl_seconds, clock=clock
        )
        return SharedConversations(HandleConversations(affinity), clock=clock, copies=copies)
    if config.keeps_state_in != "redis":
        return None
    from serve_app.conversations.redis import (  # noqa: PLC0415 - redis is optional, and large
        RedisConversations,
    )

    try:
        url = expand(config.state_url or "", os.environ)
        inner = RedisConversations(url, ttl_s=section.ttl_seconds, tls_ca=config.state_tls_ca)
    except (MissingEnvironmentError, ValueError) as error:
        _log.warning("answers are not kept: address of state_storage: %s", error)
        return None
    return SharedConversations(inner, clock=clock)


def _limiter(started: Snapshot, replicas: int) -> Limiter:
    """What counts limits and budgets: Redis, or the memory of this replica."""
    config = started.config
    longest_s = config.timeouts.total_s + _LONGEST_END_S
    if config.counts_in == "memory" or config.counts_url is None:
        return Limiter(longest_s=longest_s)
    from serve_app.access.redis_counters import (  # noqa: PLC0415 - redis is optional, and large
        RedisCounters,
    )

    store: CounterStore
    try:
        url = expand(config.counts_url, os.environ)
        store = RedisCounters(url, tls_ca=config.sessions_tls_ca)
    except (MissingEnvironmentError, ValueError) as error:
        store = NoCounters(f"limit_storage.url: {error}")
    return Limiter(store, replicas=replicas, longest_s=longest_s)


def _rests(started: Snapshot, affinity: DeploymentHandle | None) -> RestBoard | None:
    """Where ingress replicas share which endpoints rest; None if the address is not usable."""
    if affinity is not None:
        return HandleRests(affinity)
    from serve_app.affinity.redis_rests import (  # noqa: PLC0415 - redis is optional, and large
        RedisRests,
    )

    config = started.config
    try:
        url = expand(config.routing.session_cache.url or "", os.environ)
        return RedisRests(url, tls_ca=config.sessions_tls_ca)
    except (MissingEnvironmentError, ValueError):  # the store of sessions has the same address
        return None


def _store(started: Snapshot, affinity: DeploymentHandle | None) -> AffinityStore:
    """Where bindings are kept: the Affinity deployment, or Redis if there is none."""
    if affinity is not None and started.config.routing.session_cache.type == "memory":
        return HandleStore(affinity)
    from serve_app.affinity.redis import RedisStore  # noqa: PLC0415 - redis is optional, and large

    section = started.config.routing
    cache, ttl_s = section.session_cache, section.session_ttl_seconds
    try:
        url = expand(cache.url or "", os.environ)
        return RedisStore(url, ttl_s=ttl_s, tls_ca=started.config.sessions_tls_ca)
    except (MissingEnvironmentError, ValueError) as error:
        return NoStore(f"routing.session_cache.url: {error}")
