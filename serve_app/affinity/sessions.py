"""The life of a binding: found before a decision, kept or made when an answer is committed."""

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
    """A store that never raises, and that can bind without the one behind it."""

    async def find(self, key: str) -> tuple[Binding | None, bool]:
        """As ``get``, and True where the one behind it was asked in vain."""
        ...

    def hold(self, key: str, binding: Binding, *, instead_of: ModelRef | None) -> bool:
        """As ``bind``, at once and here alone."""
        ...


class SessionEvent(StrEnum):
    """What happens to sessions; the label of ``fingerpost_session_events_total``."""

    HIT = "hit"
    MISS = "miss"
    VOID = "void"
    """There was a binding, to a model that may no longer answer."""
    STORE = "store"
    REBIND = "rebind"
    LOST = "lost"
    """Nothing was bound: another request of the same session was quicker."""


@dataclass(frozen=True, slots=True)
class SessionState:
    """A request's session, and what was found of it."""

    session: Session
    found: Binding | None
    """The binding that the store holds, also where it is void."""
    live: bool = False
    """The binding holds for this request."""
    away: bool = False
    """The store gave this request no answer, so it waits for it no second time."""

    @property
    def state(self) -> str:
        """``hit``, ``miss`` or ``void``, as ``x-fingerpost-affinity`` says it."""
        if self.found is None:
            return SessionEvent.MISS
        return SessionEvent.HIT if self.live else SessionEvent.VOID


@dataclass(frozen=True, slots=True)
class BudgetState:
    """What a session with a budget writes down at every turn."""

    default_model: str
    prefix_hash: str
    spend: Spend


class Sessions:
    """Finds and makes bindings. Nothing here fails a request: the store may be anything."""

    def __init__(
        self,
        store: HoldingStore,
        observer: Observer,
        prices: Callable[[], PriceTable],
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """``prices`` is called whenever a budget needs them."""
        self._store = store
        self._make_prices = prices
        self._observer = observer
        self._wall_clock = wall_clock

    async def find(self, session: Session, may_answer: Callable[[ModelRef], bool]) -> SessionState:
        """What is known of a session; live where its model may answer this request."""
        found, away = await self._store.find(session.key)
        if found is None:
            self._count(SessionEvent.MISS)
            return SessionState(session, None, away=away)
        live = may_answer(found.model)
        self._count(SessionEvent.HIT if live else SessionEvent.VOID)
        return SessionState(session, found, live, away)

    async def settle(
        self,
        place: SessionState,
        model: ModelRef,
        route: str | None,
        books: BudgetState | None = None,
    ) -> None:
        """Binds the session to the model that has answered.

        Put if absent where nothing was found, compare and set where another model was: who comes
        too late keeps its answer, not its binding. With ``books`` the same model is set anew.
        """
        before = None if place.found is None else place.found.model
        moved = place.found is None or (route is not None and place.found.route != route)
        if before == model and books is None and not moved:
            return
        binding = Binding(model, route, lane=place.session.lane, last_used=self.now())
        if books is not None:
            binding = replace(
                binding,
                default_model=books.default_model,
                prefix_hash=books.prefix_hash,
                spend=books.spend,
            )
        if place.away:
            stored = self._store.hold(place.session.key, binding, instead_of=before)
        else:
            stored = await self._store.bind(place.session.key, binding, instead_of=before)
        if not stored:
            self._count(SessionEvent.LOST)
        elif before != model:
            self._count(SessionEvent.STORE if before is None else SessionEvent.REBIND)

    @property
    def prices(self) -> PriceTable:
        """What models cost, for sessions with a budget."""
        return self._make_prices()

    def now(self) -> float:
        """Seconds since the epoch."""
        return self._wall_clock()

    def _count(self, event: SessionEvent) -> None:
        self._observer.session_changed(event)
