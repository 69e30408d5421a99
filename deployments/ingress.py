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
from serve_app.affinity.local import LocalStore
from serve_app.affinity.sessions import Sessions
from serve_app.affinity.steady import NoStore, SteadyStore
from serve_app.api.app import Parts, create_api
from serve_app.api.context import Access, exposure_problem
from serve_app.breaker import Breaker
from serve_app.config.load import notices
from serve_app.config.references import MissingEnvironmentError, expand, missing, references
from serve_app.decision import Setup, compile_setup
from serve_app.domain import Json, Question, Route, Turn
from serve_app.engines.guard import Guard, breaker
from serve_app.errors import ConfigError, Problem
from serve_app.gateway import Gateway
from serve_app.ports import AffinityStore, Metric, PriceTable
from serve_app.providers.prices import price_table

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
        self._priced: tuple[Setup, PriceTable] | None = None
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

    def _compile(self) -> Setup:
        setup = compile_setup(self._config)
        problem = None if self._host is None else exposure_problem(self._host, setup.config)
        if problem is not None:
            raise ConfigError(str(self._config), (Problem(0, "client_keys", problem),))
        return setup

    def _adopt(self, setup: Setup) -> None:
        """What hangs on a configuration, made anew for it; in the watch's thread, all at once."""
        access = Access(setup.config, os.environ)
        warnings = [
            *unmet(os.environ),
            *notices(setup.config),
            *access.warnings,
            *_missing_keys(setup),
            *_missing_url(setup),
            *_missing_for_engine(setup),
            *needs_restart(self._started, setup, self._own),
        ]
        for warning in warnings:
            _log.warning(warning)
        self._access, self._warnings = access, warnings
        self._loaded_at = datetime.now(UTC).isoformat(timespec="seconds")

    def _prices(self) -> PriceTable:
        """Those of the configuration in force."""
        setup = self._watch.current
        if self._priced is None or self._priced[0] is not setup:
            self._priced = setup, price_table(setup.config)
        return self._priced[1]

    def _sessions(self, affinity: DeploymentHandle | None) -> Sessions:
        section = self._started.config.routing
        store: AffinityStore
        if affinity is not None:
            store = HandleStore(affinity)
        else:
            from serve_app.affinity.redis import RedisStore  # noqa: PLC0415 - its library is large

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
        sessions = Sessions(local, self._meter, self._prices)
        if section.routing_budget is not None:
            _ = sessions.prices  # now, not while somebody waits
        return sessions

    def __serve_build_asgi_app__(self) -> Callable[..., Any]:
        """Serve calls this after the constructor."""
        return create_api(
            Parts(
                gateway=self._gateway,
                setup=lambda: self._watch.current,
                access=lambda: self._access,
                meter=self._meter,
                health=self._health,
                watched_by_server=True,
            )
        )

    async def _health(self) -> Json:
        setup = self._watch.current
        return {
            "status": "ok",
            "policy": setup.version,
            "reload": {"loaded_at": self._loaded_at, "error": self._watch.error},
            "providers": setup.providers.data_paths(),
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


def _missing_keys(setup: Setup) -> list[str]:
    return [
        f"{name} is not set: provider {endpoint.slug} can't be asked"
        for endpoint in setup.providers.endpoints()
        for name in endpoint.missing(os.environ)
    ]


def _missing_url(setup: Setup) -> list[str]:
    url = setup.config.routing.session_cache.url or ""
    return [
        f"{name} is not set: routing.session_cache.url can't be used, and sessions are not kept"
        for name in references(url)
        if not os.environ.get(name)
    ]


def _missing_for_engine(setup: Setup) -> list[str]:
    section = setup.config.orchestrator
    texts = (section.base_url, section.access_key) if section.engine == "http" else ()
    return [
        f"{name} is not set: the orchestrator's server can't be asked"
        for text in texts
        for name in missing(text or "", os.environ)
    ]
