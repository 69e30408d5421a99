"""What limits count, and the counters in the memory of one ingress replica.

A limit per minute holds for every 60 s, not for minutes of the clock: amounts are kept in BUCKETS
parts of the window, and a part counts until all of it is older than the window. So a limit is never
exceeded, and what was used becomes free up to a BUCKETS-th of the window later than it might. A
budget has a counter for each calendar window.
"""

import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol

from serve_app.access_errors import LimitKind

BUCKETS: Final = 12
MAX_COUNTERS: Final = 20_000
"""Counters in memory; only values of headers that clients choose can be as many."""


class Charge(NamedTuple):
    """What a request takes of one counter."""

    counter: str
    kind: LimitKind
    limit: int
    amount: int
    span_s: float
    """Of a window its length; of a budget the time until it ends; of a slot its longest life."""


class Standing(NamedTuple):
    """A counter after a charge."""

    used: int
    reset_s: float
    """Seconds until nothing is used, if nothing more is charged."""
    mark: int
    """The part of the window that the charge is in."""


class LimitRefusal(NamedTuple):
    """A charge that is over its limit; none of the request's charges was made."""

    at: int
    """Which of the charges, by its index."""
    used: int
    retry_s: float


class Settlement(NamedTuple):
    """The difference between a charge and what the request took in the end."""

    charge: Charge
    delta: int
    mark: int


class StoreAwayError(Exception):
    """Raised by a store that did not answer; the text has no key and no password."""


class CounterStore(Protocol):
    """Where requests, tokens and money are counted."""

    @property
    def trouble(self) -> str | None:
        """The fault of the last operation; None if it was answered."""
        ...

    async def reserve(
        self, charges: Sequence[Charge], holder: str
    ) -> list[Standing] | LimitRefusal:
        """Makes all charges, or none of them. Raises StoreAwayError.

        ``holder``: a unique name of the request, which has its slot among those at once.
        """
        ...

    def settle(self, settlements: Sequence[Settlement], holder: str) -> None:
        """Corrects charges, and frees slots; returns at once."""
        ...

    async def aclose(self) -> None:
        """Waits a moment for what is still to be settled, and closes connections."""
        ...


class _Window:
    """Amounts of the last window, by the part in which they were charged."""

    __slots__ = ("buckets", "used")

    def __init__(self) -> None:
        self.buckets: deque[list[int]] = deque()
        self.used = 0

    def forget(self, bucket: int) -> None:
        """Drops the parts that are older than the window."""
        buckets = self.buckets
        while buckets and buckets[0][0] < bucket - BUCKETS:
            self.used -= buckets.popleft()[1]

    def add(self, bucket: int, amount: int) -> None:
        """Adds to the newest part."""
        self.used += amount
        if self.buckets and self.buckets[-1][0] >= bucket:
            self.buckets[-1][1] += amount
        else:
            self.buckets.append([bucket, amount])

    def correct(self, mark: int, delta: int) -> None:
        """Gives back what a charge took too much, if its part still counts."""
        for part in self.buckets:
            if part[0] == mark:
                part[1] += delta
                self.used += delta
                return

    def free_at(self, limit: int, amount: int) -> int:
        """The number of the part in which an amount will fit."""
        left = self.used
        for part in self.buckets:
            left -= part[1]
            if left + amount <= limit:
                return part[0] + BUCKETS + 1
        return self.buckets[-1][0] + BUCKETS + 1 if self.buckets else 0


class _Budget:
    """Money of one calendar window."""

    __slots__ = ("ends_at", "used")

    def __init__(self, ends_at: float) -> None:
        self.used = 0
        self.ends_at = ends_at


class _Slots:
    """Requests under way at once."""

    __slots__ = ("used",)

    def __init__(self) -> None:
        self.used = 0


class MemoryCounters:
    """Counters of one ingress replica; they begin again with it."""

    trouble: str | None = None

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._counters: dict[str, _Window | _Budget | _Slots] = {}

    def __repr__(self) -> str:
        return f"<MemoryCounters {len(self._counters)}>"

    async def reserve(
        self, charges: Sequence[Charge], holder: str
    ) -> list[Standing] | LimitRefusal:
        """Makes all charges, or none of them."""
        del holder  # this replica itself knows when a request ends
        now = self._clock()
        counters = [self._counter(charge, now) for charge in charges]
        for index, (charge, counter) in enumerate(zip(charges, counters, strict=True)):
            refusal = _refusal(index, charge, counter, now)
            if refusal is not None:
                return refusal
        return [
            _charge(charge, counter, now) for charge, counter in zip(charges, counters, strict=True)
        ]

    def settle(self, settlements: Sequence[Settlement], holder: str) -> None:
        """Corrects charges, and frees slots."""
        del holder
        now = self._clock()
        for charge, delta, mark in settlements:
            counter = self._counters.get(charge.counter)
            if isinstance(counter, _Slots | _Budget):
                counter.used = max(0, counter.used + delta)
            elif delta < 0 and counter is not None:
                counter.correct(mark, delta)
            elif delta > 0:
                window = self._counter(charge, now)
                if isinstance(window, _Window):
                    window.add(_bucket(charge.span_s, now), delta)

    async def aclose(self) -> None:
        """Does nothing."""

    def _counter(self, charge: Charge, now: float) -> _Window | _Budget | _Slots:
        counter = self._counters.get(charge.counter)
        if counter is None:
            if len(self._counters) >= MAX_COUNTERS:
                self._make_room(now)
            counter = self._counters[charge.counter] = _new(charge, now)
        if isinstance(counter, _Window):
            counter.forget(_bucket(charge.span_s, now))
        return counter

    def _make_room(self, now: float) -> None:
        """Drops what is over; if nothing is, the oldest tenth of the windows."""
        for name, counter in list(self._counters.items()):
            if (counter.ends_at <= now) if isinstance(counter, _Budget) else not counter.used:
                del self._counters[name]
        if len(self._counters) >= MAX_COUNTERS:
            windows = [name for name, kept in self._counters.items() if isinstance(kept, _Window)]
            for name in windows[: MAX_COUNTERS // 10]:
                del self._counters[name]


class NoCounters:
    """A store whose address is not usable."""

    def __init__(self, trouble: str) -> None:
        self.trouble: str | None = trouble

    async def reserve(
        self, charges: Sequence[Charge], holder: str
    ) -> list[Standing] | LimitRefusal:
        """Raises StoreAwayError."""
        del charges, holder
        raise StoreAwayError(self.trouble)

    def settle(self, settlements: Sequence[Settlement], holder: str) -> None:
        """Does nothing."""

    async def aclose(self) -> None:
        """Does nothing."""


def _new(charge: Charge, now: float) -> _Window | _Budget | _Slots:
    if charge.kind is LimitKind.USD:
        return _Budget(now + charge.span_s)
    return _Slots() if charge.kind is LimitKind.CONCURRENT else _Window()


def _bucket(span_s: float, now: float) -> int:
    return int(now * BUCKETS / span_s)


def _refusal(
    index: int, charge: Charge, counter: _Window | _Budget | _Slots, now: float
) -> LimitRefusal | None:
    """Why a charge can't be made; None if it can.

    A budget refuses once it is spent, whatever the request may cost: so all of it can be used, and
    it is exceeded at most by what was under way.
    """
    used = counter.used
    if isinstance(counter, _Window):
        if used + charge.amount <= charge.limit:
            return None
        width_s = charge.span_s / BUCKETS
        free_at = counter.free_at(charge.limit, charge.amount) * width_s
        return LimitRefusal(index, used, max(width_s, free_at - now))
    if used < charge.limit:
        return None
    return LimitRefusal(index, used, charge.span_s if isinstance(counter, _Budget) else 1.0)


def _charge(charge: Charge, counter: _Window | _Budget | _Slots, now: float) -> Standing:
    if isinstance(counter, _Window):
        bucket = _bucket(charge.span_s, now)
        counter.add(bucket, charge.amount)
        reset_s = (bucket + BUCKETS + 1) * charge.span_s / BUCKETS - now
        return Standing(counter.used, reset_s, bucket)
    counter.used += charge.amount
    return Standing(counter.used, charge.span_s, 0)


def whole_seconds(seconds: float) -> int:
    """Seconds for ``retry-after``: whole ones, at least 1."""
    return max(1, math.ceil(seconds))
