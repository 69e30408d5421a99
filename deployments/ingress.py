"""The ingress: the application's HTTP surface on Serve."""

import logging
import os
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from ray import serve
from ray.serve.handle import DeploymentHandle

from deployments.environment import hop_bytes, unmet
from deployments.handles import DataPaths, HandleOrchestrator, HandleStore, HandleUpstream
from deployments.meter import ServeMeter
from deployments.reload import needs_restart, transport, watch
from serve_app.access.exposure import exposure_problem
from serve_app.access.keys import Access
from serve_app.affinity.cached import CachedStore
from serve_app.affinity.guarded import GuardedStore, NoStore
from serve_app.affinity.redis import RedisStore
from serve_app.affinity.sessions import Sessions
from serve_app.api.app import ApiDependencies, create_api
from serve_app.breaker import Breaker
from serve_app.config.locations import ConfigError, Problem
from serve_app.config.references import MissingEnvironmentError, expand
from serve_app.config.warnings import config_warnings, unset_provider_keys
from serve_app.domain import Json, Question, Route, Turn
from serve_app.engines.guard import Guard, breaker
from serve_app.ports import AffinityStore, PriceTable
from serve_app.providers.prices import price_table
from serve_app.requests.gateway import Gateway
from serve_app.snapshot import Snapshot, compile_snapshot
from serve_app.telemetry.metrics import Metric

_STORE_PAUSE_S = 2.0  # asking a store that is gone costs little; missing one that is back, more
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
        self._priced: tuple[Snapshot, PriceTable] | None = None
        self._meter = ServeMeter()
        self._watch = watch(config, self._meter, compile_=self._compile, adopt=self._adopt)
        self._started = self._watch.current
        self._adopt(self._started)
        max_bytes = hop_bytes(os.environ)
        deadline_s = self._started.config.orchestrator.deadline_s
        self._guard = Guard(
            HandleOrchestrator(orchestrator),
            deadline_s=deadline_s,
            clock=time.monotonic,
            meter=self._meter,
            breaker=breaker(deadline_s, time.monotonic),
        )
        paths = {slug: HandleUpstream(handle, max_bytes) for slug, handle in providers.items()}
        self._gateway = Gateway(
            upstream=DataPaths(paths, HandleUpstream(shared, max_bytes), transport(self._watch)),
            orchestrator=self._guard,
            sessions=self._sessions(affinity),
            meter=self._meter,
            clock=time.monotonic,
        )
        self._watch.start()

    def _compile(self) -> Snapshot:
        snapshot = compile_snapshot(self._config)
        problem = None if self._host is None else exposure_problem(self._host, snapshot.config)
        if problem is not None:
            raise ConfigError(str(self._config), (Problem(0, "client_keys", problem),))
        return snapshot

    def _adopt(self, snapshot: Snapshot) -> None:
        """What hangs on a configuration, made anew for it; in the watch's thread, all at once."""
        access = Access(snapshot.config, os.environ)
        warnings = [
            *unmet(os.environ),
            *config_warnings(snapshot.config, os.environ),
            *unset_provider_keys(snapshot.providers.endpoints(), os.environ),
            *needs_restart(self._started, snapshot, self._own),
        ]
        for warning in warnings:
            _log.warning(warning)
        self._access, self._warnings = access, warnings
        self._loaded_at = datetime.now(UTC).isoformat(timespec="seconds")

    def _prices(self) -> PriceTable:
        """Those of the configuration in force."""
        snapshot = self._watch.current
        if self._priced is None or self._priced[0] is not snapshot:
            self._priced = snapshot, price_table(snapshot.config)
        return self._priced[1]

    def _sessions(self, affinity: DeploymentHandle | None) -> Sessions:
        section = self._started.config.routing
        store: AffinityStore
        if affinity is not None:
            store = HandleStore(affinity)
        else:
            url = section.session_cache.url or ""
            try:
                store = RedisStore(expand(url, os.environ), ttl_s=section.session_ttl_seconds)
            except (MissingEnvironmentError, ValueError) as error:
                store = NoStore(f"routing.session_cache.url: {error}")
        self._steady = GuardedStore(
            store,
            clock=time.monotonic,
            breaker=Breaker(time.monotonic, longest_pause_s=_STORE_PAUSE_S),
            report=lambda event: self._meter.count(Metric.SESSIONS, (event,)),
        )
        local = CachedStore(
            self._steady,
            max_entries=section.session_max_entries,
            ttl_s=section.session_ttl_seconds,
            clock=time.monotonic,
        )
        sessions = Sessions(local, self._meter, self._prices)
        if section.routing_budget is not None:
            _ = sessions.prices  # now, not while somebody waits
        return sessions

    def __serve_build_asgi_app__(self) -> Callable[..., Any]:
        """Serve calls this after the constructor."""
        return create_api(
            ApiDependencies(
                gateway=self._gateway,
                snapshot=lambda: self._watch.current,
                access=lambda: self._access,
                meter=self._meter,
                health=self._health,
                watched_by_server=True,
            )
        )

    async def _health(self) -> Json:
        snapshot = self._watch.current
        return {
            "status": "ok",
            "policy": snapshot.version,
            "reload": {"loaded_at": self._loaded_at, "error": self._watch.error},
            "providers": snapshot.providers.data_paths(),
            "orchestrator": await self._orchestrator_health(),
            "sessions": {
                "store": self._started.config.routing.session_cache.type,
                "trouble": self._steady.trouble,
            },
            "warnings": self._warnings,
        }

    async def _orchestrator_health(self) -> Json:
        """As this replica of the ingress last saw it; asked only where nothing good is known.

        A question would wake an orchestrator that is scaled to zero.
        """
        if self._guard.asked == 0 or self._guard.last_fault is not None:
            turn = Turn("user", f"hello {self._guard.asked}")  # a new one each time: never cached
            await self._guard.score(Question((turn,), _PROBED, "probe"))
        fault = self._guard.last_fault
        return {
            "engine": self._started.config.orchestrator.engine,
            "routes": len(self._watch.current.policy.routes),
            "state": "ok" if fault is None else fault.reason,
            "detail": None if fault is None else fault.detail,
            "stand_in": self._guard.stand_in or None,
            "breaker": self._guard.breaker_state,
            "asked": self._guard.asked,
        }
