"""Assembles a gateway from its ports, the same way on Ray Serve, in tests and in benchmarks."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from serve_app.affinity.cached import CachedStore
from serve_app.affinity.guarded import GuardedStore
from serve_app.affinity.sessions import Sessions
from serve_app.breaker import Breaker
from serve_app.conversations.shared import SharedConversations
from serve_app.engines.guard import Guard, breaker
from serve_app.ports import AffinityStore, Clock, Orchestrator, RestBoard, Upstream
from serve_app.providers.prices import CurrentPrices
from serve_app.requests.gateway import Gateway
from serve_app.requests.probes import Probes
from serve_app.requests.state import EarlierAnswers
from serve_app.requests.stored import ClientConversations, Stored, StoredAnswers
from serve_app.requests.trial import Trials
from serve_app.snapshot import Snapshot
from serve_app.telemetry.record import Observer

_LONGEST_STORE_PAUSE_S: Final = 2.0
"""Asking a store that is gone costs little; not asking one that is back costs sessions."""


@dataclass(frozen=True, slots=True)
class Ports:
    """What a gateway asks of the world."""

    upstream: Upstream
    orchestrator: Orchestrator
    store: AffinityStore
    observer: Observer
    conversations: SharedConversations | None = None
    """Where answers are kept whose provider does not keep them; None: nowhere."""
    rests: RestBoard | None = None
    """Where replicas share which endpoints rest; None: this one goes by its own."""


@dataclass(frozen=True, slots=True)
class Assembly:
    """A gateway, and the parts of it that health reports ask."""

    gateway: Gateway
    guard: Guard
    store: GuardedStore
    conversations: SharedConversations | None
    stored: Stored
    trials: Trials
    """What edited routes would do, for the page."""

    @property
    def answers_trouble(self) -> str | None:
        """Why earlier answers are unavailable, as last seen; None if they are not."""
        return None if self.conversations is None else self.conversations.trouble


def assemble(
    current: Callable[[], Snapshot], ports: Ports, clock: Clock = time.monotonic
) -> Assembly:
    """A gateway over these ports; ``current`` returns the configuration of the moment.

    The engine's deadline and the settings of sessions are those of the first configuration.
    """
    config = current().config
    deadline_s = config.orchestrator.deadline_s
    guard = Guard(
        ports.orchestrator,
        deadline_s=deadline_s,
        clock=clock,
        observer=ports.observer,
        breaker=breaker(deadline_s, clock),
    )
    store = GuardedStore(
        ports.store,
        clock=clock,
        breaker=Breaker(clock, longest_pause_s=_LONGEST_STORE_PAUSE_S),
        report=ports.observer.session_changed,
    )
    cached = CachedStore(
        store,
        max_entries=config.routing.session_max_entries,
        ttl_s=config.routing.session_ttl_seconds,
        clock=clock,
    )
    prices = CurrentPrices(lambda: current().config)
    prices()  # reads the catalog now, not while a request waits
    sessions = Sessions(cached, ports.observer, prices)
    gateway = Gateway(
        upstream=ports.upstream,
        orchestrator=guard,
        sessions=sessions,
        observer=ports.observer,
        clock=clock,
        earlier=EarlierAnswers(ports.conversations),
    )
    gateway.price = prices.cost_usd
    if ports.rests is not None:
        gateway.share_health(ports.rests)
    gateway.probe(Probes(ports.upstream, gateway.health, clock, current))
    return Assembly(
        gateway,
        guard,
        store,
        ports.conversations,
        Stored(
            StoredAnswers(ports.conversations, ports.upstream),
            ClientConversations(ports.conversations),
        ),
        Trials(
            Guard(ports.orchestrator, deadline_s=deadline_s, clock=clock),
            gateway.selection,
            prices,
            clock,
        ),
    )
