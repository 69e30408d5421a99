"""The ingress: the application's HTTP surface on Serve."""

import logging
import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from ray import serve
from ray.serve.handle import DeploymentHandle

from deployments.environment import hop_bytes, unmet
from deployments.handles import DataPaths, HandleOrchestrator, HandleStore, HandleUpstream
from deployments.meter import ServeMeter
from serve_app.affinity.local import LocalStore
from serve_app.affinity.redis import RedisStore
from serve_app.affinity.sessions import Sessions
from serve_app.affinity.steady import NoStore, SteadyStore
from serve_app.api.app import Parts, create_api
from serve_app.api.context import Access
from serve_app.breaker import Breaker
from serve_app.config.load import notices
from serve_app.config.references import MissingEnvironmentError, expand, references
from serve_app.decision import Setup, compile_setup
from serve_app.domain import DataPath, Json, Question, Route, Turn
from serve_app.engines.guard import Guard
from serve_app.gateway import Gateway
from serve_app.ports import AffinityStore, Metric, Upstream
from serve_app.providers.prices import price_table
from serve_app.providers.transport import Transport

_STORE_PAUSE_S = 2.0  # asking a store that is gone costs little; missing one that is back, more
_PROBED = (Route("greeting", "greetings", ()),)
_log = logging.getLogger("fingerpost")


@serve.ingress()
class Ingress:
    """Reads the configuration, wires the ports to handles, and serves the API."""

    def __init__(
        self,
        config: str,
        providers: Mapping[str, DeploymentHandle],
        shared: DeploymentHandle,
        orchestrator: DeploymentHandle,
        affinity: DeploymentHandle | None,
    ) -> None:
        """``affinity`` is None where the bindings are in Redis."""
        self._setup = compile_setup(config)
        self._transport = Transport(self._setup.providers, os.environ, self._setup.config.timeouts)
        self._access = Access(self._setup.config, os.environ)
        self._meter = ServeMeter()
        self._max_bytes = hop_bytes(os.environ)
        self._warnings = [
            *unmet(os.environ),
            *notices(self._setup.config),
            *self._access.warnings,
            *self._missing_keys(),
            *self._missing_url(),
        ]
        for warning in self._warnings:
            _log.warning(warning)
        self._guard = Guard(
            HandleOrchestrator(orchestrator),
            deadline_s=self._setup.config.orchestrator.deadline_s,
            clock=time.monotonic,
            meter=self._meter,
            breaker=Breaker(time.monotonic),
        )
        self._gateway = Gateway(
            upstream=DataPaths(self._paths(providers), HandleUpstream(shared, self._max_bytes)),
            orchestrator=self._guard,
            sessions=self._sessions(affinity),
            meter=self._meter,
            clock=time.monotonic,
        )

    def _sessions(self, affinity: DeploymentHandle | None) -> Sessions:
        section = self._setup.config.routing
        store: AffinityStore
        if affinity is not None:
            store = HandleStore(affinity)
        else:
            url = section.session_cache.url or ""
            try:
                store = RedisStore(expand(url, os.environ), ttl_s=section.session_ttl_seconds)
            except (MissingEnvironmentError, ValueError) as error:
                store = NoStore(f"routing.session_cache.url: {error}")
        self._steady = SteadyStore(
            store,
            clock=time.monotonic,
            breaker=Breaker(time.monotonic, longest_pause_s=_STORE_PAUSE_S),
            report=lambda event: self._meter.count(Metric.SESSIONS, (event,)),
        )
        local = LocalStore(
            self._steady,
            max_entries=section.session_max_entries,
            ttl_s=section.session_ttl_seconds,
            clock=time.monotonic,
        )
        sessions = Sessions(local, self._meter, partial(price_table, self._setup.config))
        if section.routing_budget is not None:
            _ = sessions.prices  # now, not while somebody waits
        return sessions

    def _missing_keys(self) -> list[str]:
        endpoints = self._setup.providers.endpoints()
        return [
            f"{name} is not set: provider {endpoint.slug} can't be asked"
            for endpoint in endpoints
            for name in endpoint.missing(os.environ)
        ]

    def _missing_url(self) -> list[str]:
        url = self._setup.config.routing.session_cache.url or ""
        return [
            f"{name} is not set: routing.session_cache.url can't be used, and sessions are not kept"
            for name in references(url)
            if not os.environ.get(name)
        ]

    def _paths(self, handles: Mapping[str, DeploymentHandle]) -> dict[str, Upstream]:
        paths: dict[str, Upstream] = {
            slug: HandleUpstream(handle, self._max_bytes) for slug, handle in handles.items()
        }
        for slug, data_path in self._setup.providers.data_paths().items():
            if data_path is DataPath.INLINE:
                paths[slug] = self._transport
        return paths

    def __serve_build_asgi_app__(self) -> Callable[..., Any]:
        """Serve calls this after the constructor."""
        return create_api(
            Parts(
                gateway=self._gateway,
                setup=self._current,
                access=self._access,
                meter=self._meter,
                health=self._health,
                watched_by_server=True,
            )
        )

    def _current(self) -> Setup:
        return self._setup

    async def _health(self) -> Json:
        return {
            "status": "ok",
            "policy": self._setup.policy.version,
            "providers": self._setup.providers.data_paths(),
            "orchestrator": await self._orchestrator_health(),
            "sessions": {
                "store": self._setup.config.routing.session_cache.type,
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
            "engine": self._setup.config.orchestrator.engine,
            "routes": len(self._setup.policy.routes),
            "state": "ok" if fault is None else fault.reason,
            "detail": None if fault is None else fault.detail,
            "stand_in": self._guard.stand_in or None,
            "breaker": self._guard.breaker_state,
            "asked": self._guard.asked,
        }
