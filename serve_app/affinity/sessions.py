"""The life of a binding: found before a decision, kept or made when an answer is committed."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from serve_app.affinity.key import Session
from serve_app.domain import Binding, ModelRef
from serve_app.ports import AffinityStore, Meter, Metric


class Event(StrEnum):
    """What happens to sessions; the label of ``fingerpost_session_events_total``."""

    HIT = "hit"
    MISS = "miss"
    VOID = "void"
    """There was a binding, to a model that may no longer answer."""
    STORE = "store"
    REBIND = "rebind"
    LOST = "lost"
    """Another request of the same session was quicker."""


@dataclass(frozen=True, slots=True)
class Place:
    """A request's session, and what was found of it."""

    session: Session
    found: Binding | None
    """The binding that the store holds, also where it is void."""
    live: bool = False
    """The binding holds for this request."""

    @property
    def state(self) -> str:
        """``hit``, ``miss`` or ``void``, as ``x-fingerpost-affinity`` says it."""
        if self.found is None:
            return Event.MISS
        return Event.HIT if self.live else Event.VOID


class Sessions:
    """Finds and makes bindings. Nothing here fails a request: the store may be anything."""

    def __init__(
        self, store: AffinityStore, meter: Meter, wall_clock: Callable[[], float] = time.time
    ) -> None:
        self._store = store
        self._meter = meter
        self._wall_clock = wall_clock

    async def find(self, session: Session, may_answer: Callable[[ModelRef], bool]) -> Place:
        """What is known of a session; live where its model may answer this request."""
        found = await self._store.get(session.key)
        if found is None or found.lane != session.lane:
            self._count(Event.MISS)
            return Place(session, None)
        live = may_answer(found.model)
        self._count(Event.HIT if live else Event.VOID)
        return Place(session, found, live)

    async def settle(self, place: Place, model: ModelRef, route: str | None) -> None:
        """Binds the session to the model that has answered.

        Put if absent where nothing was found, compare and set where another model was: who comes
        too late keeps its answer, not its binding.
        """
        before = None if place.found is None else place.found.model
        if before == model:
            return
        binding = Binding(model, route, lane=place.session.lane, last_used=self._wall_clock())
        stored = await self._store.bind(place.session.key, binding, instead_of=before)
        self._count((Event.STORE if before is None else Event.REBIND) if stored else Event.LOST)

    def _count(self, event: Event) -> None:
        self._meter.count(Metric.SESSIONS, (event,))


class NoStore:
    """A store that can't be made; says why to whoever asks it."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    async def get(self, key: str) -> Binding | None:
        """Raises ConnectionError."""
        del key
        raise ConnectionError(self._reason)

    async def bind(self, key: str, binding: Binding, *, instead_of: ModelRef | None) -> bool:
        """Raises ConnectionError."""
        del key, binding, instead_of
        raise ConnectionError(self._reason)
