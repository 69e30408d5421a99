"""The local cache of an ingress, in front of the affinity store that all ingresses share."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final, Protocol

from serve_app.domain import Binding, ModelRef
from serve_app.ports import AffinityStore, Clock

FRESH_S: Final = 5.0
"""Time for which a cached binding is used without reading the store."""


class WatchedStore(AffinityStore, Protocol):
    """A store that never raises, and reports its faults."""

    @property
    def trouble(self) -> str | None:
        """The fault of the last operation; None if it was answered."""
        ...


@dataclass(slots=True)
class _Entry:
    binding: Binding
    read_at: float
    """Time of the answer of the store."""
    used_at: float


class CachedStore:
    """A store in front of another one, with a cache of hits, but not of misses.

    A binding that the other store has lost within its time to live, because it was restarted, is
    written back from the cache. While the other store is unavailable, the cache is used alone.

    The least recently used bindings are evicted. Both stores count the same uses for that, so that
    they evict the same binding: a hit that the other store does not hear of moves nothing here.
    """

    def __init__(
        self, inner: WatchedStore, *, max_entries: int, ttl_s: float, clock: Clock
    ) -> None:
        self._inner = inner
        self._max_entries = max_entries
        self._ttl_s = ttl_s
        self._fresh_s = min(FRESH_S, ttl_s / 4)
        self._clock = clock
        self._entries: OrderedDict[str, _Entry] = OrderedDict()

    def __repr__(self) -> str:
        return f"<CachedStore {len(self._entries)}/{self._max_entries} bindings>"

    async def get(self, key: str) -> Binding | None:
        """The binding, at most FRESH_S old unless the store is unavailable."""
        return (await self.find(key))[0]

    async def find(self, key: str) -> tuple[Binding | None, bool]:
        """As ``get``, and True if the store was needed but is unavailable."""
        entry = self._live(key)
        if entry is not None:
            entry.used_at = self._clock()
            if entry.used_at - entry.read_at < self._fresh_s:
                return entry.binding, False
        binding = await self._inner.get(key)
        unavailable = self._inner.trouble is not None
        if binding is None and entry is not None:
            if unavailable:
                self._entries.move_to_end(key)  # uses count here alone now
                return entry.binding, True
            return await self._put_back(key, entry.binding), False
        if binding is not None:
            self._remember(key, binding)
        return binding, unavailable

    async def bind(self, key: str, binding: Binding, *, instead_of: ModelRef | None) -> bool:
        """Binds in the store and in the cache.

        While the store is unavailable, the binding is only cached, and written to it later.
        """
        stored = await self._inner.bind(key, binding, instead_of=instead_of)
        if stored:
            self._remember(key, binding)
        elif self._inner.trouble is not None:
            return self.hold(key, binding, instead_of=instead_of)
        elif (other := await self._inner.get(key)) is not None:
            self._remember(key, other)
        else:
            self._entries.pop(key, None)
        return stored

    def hold(self, key: str, binding: Binding, *, instead_of: ModelRef | None) -> bool:
        """Binds in the cache only; the binding is written to the store at its next use."""
        entry = self._live(key)
        bound = None if entry is None else entry.binding.model
        if bound != instead_of:
            return False
        self._remember(key, binding)
        self._entries[key].read_at = float("-inf")
        return True

    async def _put_back(self, key: str, binding: Binding) -> Binding | None:
        """Writes a binding back to the store. Returns it, or the one that is bound there meanwhile."""
        if await self._inner.bind(key, binding, instead_of=None):
            self._remember(key, binding)
            return binding
        other = None if self._inner.trouble is not None else await self._inner.get(key)
        if other is None:
            return binding
        self._remember(key, other)
        return other

    def _live(self, key: str) -> _Entry | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        if self._clock() - entry.used_at >= max(self._ttl_s, entry.binding.ttl_s):
            del self._entries[key]
            return None
        return entry

    def _remember(self, key: str, binding: Binding) -> None:
        now = self._clock()
        self._entries[key] = _Entry(binding, now, now)
        self._entries.move_to_end(key)
        if len(self._entries) > self._max_entries:
            self._entries.popitem(last=False)
