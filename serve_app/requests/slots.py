"""Counts what is under way at each endpoint with limits, and lets requests wait for their turn.

An endpoint is known by its fingerprint and its entry, so that the models of a wildcard share its
limits. Everything is counted per process. Endpoints without limits cost nothing here.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from serve_app.config.schema.entry_limits import EntryLimits, Queue
from serve_app.errors import GatewayBusy
from serve_app.ports import Clock
from serve_app.providers.endpoints import Endpoint

WINDOW_S: Final = 60.0
"""The time of ``requests_per_minute``, seconds."""
_NO_LIMITS: Final = EntryLimits()
_MAX_IDLE: Final = 1024
"""Endpoints that are counted before those without requests are forgotten."""


class Slot:
    """The right to ask an endpoint; its holder releases it when the answer is over."""

    def __init__(self, on_release: Callable[[], None] | None = None) -> None:
        """``on_release`` None: the endpoint has no limits."""
        self._on_release = on_release

    def release(self) -> None:
        """Gives the slot to the next request; more than once does no harm."""
        on_release, self._on_release = self._on_release, None
        if on_release is not None:
            on_release()


UNLIMITED: Final = Slot()


class Granted(NamedTuple):
    """A slot, and which of the wanted endpoints it is for."""

    place: int
    slot: Slot


@dataclass(slots=True)
class _Use:
    """What an endpoint has to do."""

    under_way: int = 0
    begun: deque[float] = field(default_factory=deque)
    """When the requests of the last minute began, where these are limited."""


@dataclass(eq=False, slots=True)
class _Waiter:
    endpoints: Sequence[Endpoint]
    turn: "asyncio.Future[Granted]"


class Slots:
    """The slots of all endpoints with limits, and the queue of the requests that wait for one."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._uses: dict[tuple[str, str], _Use] = {}
        self._waiting: dict[_Waiter, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<Slots of {len(self._uses)} endpoints, {len(self._waiting)} waiting>"

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return len(self._waiting)

    def is_full(self, endpoint: Endpoint) -> bool:
        """True for an endpoint whose limits allow no other request now."""
        if endpoint.limits is None:
            return False
        self._serve()
        return self._free_in_s(endpoint) > 0

    def take(self, endpoint: Endpoint) -> Slot | None:
        """A slot of the endpoint. Returns None if it is full; requests that wait come first."""
        if endpoint.limits is None:
            return UNLIMITED
        return None if self.is_full(endpoint) else self._begin(endpoint)

    async def wait(self, endpoints: Sequence[Endpoint], queue: Queue, left_s: float) -> Granted:
        """The first slot of one of these full endpoints that becomes free, in order of arrival.

        ``left_s``: how long the request can wait at most, seconds. Raises GatewayBusy if the queue
        is full, or if the wait ends without a slot.
        """
        wait_s = min(queue.wait_s, left_s)
        if self.waiting >= queue.max_waiting:
            raise self._busy(endpoints, queue, f"{self.waiting} requests wait already")
        waiter = _Waiter(endpoints, asyncio.get_running_loop().create_future())
        self._waiting[waiter] = None
        self._set_timer()
        granted: Granted | None = None
        try:
            await asyncio.wait({waiter.turn}, timeout=wait_s)
            granted = waiter.turn.result() if waiter.turn.done() else None
        finally:
            self._waiting.pop(waiter, None)
            if granted is None and waiter.turn.done():  # the client left at this moment
                waiter.turn.result().slot.release()
        if granted is None:
            raise self._busy(endpoints, queue, f"none was free within {wait_s:.3g} s")
        return granted

    def _begin(self, endpoint: Endpoint) -> Slot:
        use = self._use(endpoint)
        use.under_way += 1
        if endpoint.limits is not None and endpoint.limits.requests_per_minute is not None:
            use.begun.append(self._clock())

        def end() -> None:
            use.under_way -= 1
            self._serve()

        return Slot(end)

    def _use(self, endpoint: Endpoint) -> _Use:
        key = (endpoint.fingerprint, endpoint.entry)
        use = self._uses.get(key)
        if use is None:
            if len(self._uses) >= _MAX_IDLE:
                self._uses = {k: u for k, u in self._uses.items() if u.under_way or u.begun}
            use = self._uses[key] = _Use()
        return use

    def _free_in_s(self, endpoint: Endpoint) -> float:
        """Seconds until the limits allow a request; infinite until one ends; 0 for now."""
        limits, use = endpoint.limits or _NO_LIMITS, self._use(endpoint)
        if limits.concurrent is not None and use.under_way >= limits.concurrent:
            return math.inf
        if limits.requests_per_minute is None:
            return 0.0
        now = self._clock()
        while use.begun and use.begun[0] + WINDOW_S <= now:
            use.begun.popleft()
        over = len(use.begun) - limits.requests_per_minute
        return 0.0 if over < 0 else max(0.0, use.begun[over] + WINDOW_S - now)

    def _serve(self) -> None:
        """Gives free slots to the requests that have waited longest for them."""
        for waiter in list(self._waiting):
            for place, endpoint in enumerate(waiter.endpoints):
                if self._free_in_s(endpoint) <= 0:
                    del self._waiting[waiter]
                    waiter.turn.set_result(Granted(place, self._begin(endpoint)))
                    break
        self._set_timer()

    def _set_timer(self) -> None:
        """Serves the queue again when a rate allows the next request."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        waits = [self._free_in_s(e) for waiter in self._waiting for e in waiter.endpoints]
        free_in_s = min(waits, default=math.inf)
        if free_in_s < math.inf:
            self._timer = asyncio.get_running_loop().call_later(free_in_s, self._serve)

    def _busy(self, endpoints: Sequence[Endpoint], queue: Queue, detail: str) -> GatewayBusy:
        free_in_s = min(map(self._free_in_s, endpoints))
        after_s = queue.wait_s if math.isinf(free_in_s) else free_in_s
        return GatewayBusy(detail, max(1, math.ceil(after_s)))
