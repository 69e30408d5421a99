"""The life of a binding: read before a decision, kept or written when an answer is committed."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol

from serve_app.affinity.identify import Session
from serve_app.domain import Binding, ModelRef, Spend
from serve_app.ports import AffinityStore, PriceTable
from serve_app.telemetry.record import Observer


class HoldingStore(AffinityStore, Protocol):
    """A store that never raises, and that can bind without the store behind it."""

    async def find(self, key: str) -> tuple[Binding | None, bool]:
        """As ``get``, and True if the store behind it is unavailable."""
        ...

    def hold(self, key: str, binding: Binding, *, instead_of: ModelRef | None) -> bool:
        """As ``bind``, at once and without the store behind it."""
        ...


class SessionEvent(StrEnum):
    """Events of sessions; the label of ``fingerpost_session_events_total``."""

    HIT = "hit"
    MISS = "miss"
    VOID = "void"
    """There was a binding, but to a model that may not answer this request."""
    STORE = "store"
    REBIND = "rebind"
    LOST = "lost"
    """Nothing was bound, because another request of the session was faster."""


@dataclass(frozen=True, slots=True)
class SessionState:
    """The session of a request, and its binding."""

    session: Session
    found: Binding | None
    """The binding in the store, even if it is void."""
    live: bool = False
    """True if the binding applies to this request."""
    away: bool = False
    """True if the store was unavailable, so the request does not wait for it again."""
    cache_lifetime_s: float = 0.0
    """How long the request asks its provider to cache the prompt, in seconds."""

    @property
    def state(self) -> str:
        """``hit``, ``miss`` or ``void``, the value of ``x-fingerpost-affinity``."""
        if self.found is None:
            return SessionEvent.MISS
        return SessionEvent.HIT if self.live else SessionEvent.VOID


@dataclass(frozen=True, slots=True)
class BudgetState:
    """The state of a session with a budget, written at every turn."""

    default_model: str
    prefix_hash: str
    spend: Spend


class Sessions:
    """Reads and writes bindings. Faults of the store never fail a request."""

    def __init__(
        self,
        store: HoldingStore,
        observer: Observer,
        prices: Callable[[], PriceTable],
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """``prices`` is called when a budget needs them."""
        self._store = store
        self._make_prices = prices
        self._observer = observer
        self._wall_clock = wall_clock

    async def find(
        self,
        session: Session,
        may_answer: Callable[[ModelRef], bool],
        cache_lifetime_s: float = 0.0,
    ) -> SessionState:
        """The state of a session; its binding is live if its model may answer this request.

        ``cache_lifetime_s``: as in the state.
        """
        binding, unavailable = await self._store.find(session.key)
        live = binding is not None and may_answer(binding.model)
        state = SessionState(session, binding, live, unavailable, cache_lifetime_s)
        self._count(SessionEvent(state.state))
        return state

    async def settle(
        self,
        state: SessionState,
        model: ModelRef,
        route: str | None,
        budget: BudgetState | None = None,
    ) -> None:
        """Binds the session to the model that has answered.

        Puts a binding if there was none, or swaps the one that was found. If another request was
        faster, the answer stays, but not its binding. With a ``budget``, a binding to the same
        model is written again. ``route`` None: no route matches, which makes a provisional
        binding, and leaves the route of a live one as it is. A binding lives at least as long as
        the request asks its provider to cache the prompt.
        """
        found = state.found
        before = None if found is None else found.model
        if route is None and found is not None and state.live:
            route = found.route
        ttl_s = state.cache_lifetime_s
        binding = Binding(model, route, state.session.lane, self.now(), ttl_s=ttl_s)
        if found is not None and (before, found.route) == (model, route) and budget is None:
            if found.ttl_s >= ttl_s:
                return
            binding = replace(found, ttl_s=ttl_s)
        if budget is not None:
            binding = replace(
                binding,
                default_model=budget.default_model,
                prefix_hash=budget.prefix_hash,
                spend=budget.spend,
            )
        if state.away:
            stored = self._store.hold(state.session.key, binding, instead_of=before)
        else:
            stored = await self._store.bind(state.session.key, binding, instead_of=before)
        if not stored:
            self._count(SessionEvent.LOST)
        elif before != model:
            self._count(SessionEvent.STORE if before is None else SessionEvent.REBIND)

    @property
    def prices(self) -> PriceTable:
        """The prices of models, for sessions with a budget."""
        return self._make_prices()

    def now(self) -> float:
        """Seconds since the epoch."""
        return self._wall_clock()

    def _count(self, event: SessionEvent) -> None:
        self._observer.session_changed(event)
