"""What an ingress remembers of sessions, in front of the store that all ingresses share."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final, Protocol

from serve_app.domain import Binding, ModelRef
from serve_app.ports import AffinityStore, Clock

FRESH_S: Final = 5.0
"""A remembered binding answers for so long; then the store is asked again."""


class WatchedStore(AffinityStore, Protocol):
    """A store that never raises, and says when its answer is none."""

    @property
    def trouble(self) -> str | None:
        """Why the last operation had no answer; None where it had one."""
        ...


@dataclass(slots=True)
class _Remembered:
    binding: Binding
    asked_at: float
    """When the store said so."""
    used_at: float


class CachedStore:
    """A store in front of another one. Hits are remembered for a while, misses never.

    What the other one has forgotten although it was used within its time to live, because it
    was started anew, is put back from here. While it gives no answers, what is remembered holds.
    """

    def __init__(
        self, inner: WatchedStore, *, max_entries: int, ttl_s: float, clock: Clock
    ) -> None:
        self._inner = inner
        self._max_entries = max_entries
        self._ttl_s = ttl_s
        self._fresh_s = min(FRESH_S, ttl_s / 4)
        self._clock = clock
        self._known: OrderedDict[str, _Remembered] = OrderedDict()

    def __repr__(self) -> str:
        return f"<CachedStore {len(self._known)}/{self._max_entries} bindings>"

    async def get(self, key: str) -> Binding | None:
        """The binding, at most FRESH_S old unless the store gives no answers."""
        return (await self.find(key))[0]

    async def find(self, key: str) -> tuple[Binding | None, bool]:
        """As ``get``, and True where the store was asked and gave no answer."""
        remembered = self._live(key)
        if remembered is not None:
            remembered.used_at = self._clock()
            if remembered.used_at - remembered.asked_at < self._fresh_s:
                return remembered.binding, False
        found = await self._inner.get(key)
        away = self._inner.trouble is not None
        if found is None and remembered is not None:
            if away:
                return remembered.binding, True
            return await self._put_back(key, remembered.binding), False
        if found is not None:
            self._remember(key, found)
        return found, away

    async def bind(self, key: str, binding: Binding, *, instead_of: ModelRef | None) -> bool:
        """Binds in the store, and remembers what is bound there now.

        While the store gives no answers the binding holds here, and is put there later.
        """
        stored = await self._inner.bind(key, binding, instead_of=instead_of)
        if stored:
            self._remember(key, binding)
        elif self._inner.trouble is None:
            self._known.pop(key, None)
        else:
            return self.hold(key, binding, instead_of=instead_of)
        return stored

    def hold(self, key: str, binding: Binding, *, instead_of: ModelRef | None) -> bool:
        """Binds here alone, for a store that gives no answers; it is put there at its next use."""
        remembered = self._live(key)
        bound = None if remembered is None else remembered.binding.model
        if bound != instead_of:
            return False
        self._remember(key, binding)
        self._known[key].asked_at = float("-inf")
        return True

    async def _put_back(self, key: str, binding: Binding) -> Binding | None:
        """A binding that the store should still have, or what another put there first."""
        if await self._inner.bind(key, binding, instead_of=None):
            self._remember(key, binding)
            return binding
        found = None if self._inner.trouble is not None else await self._inner.get(key)
        if found is None:
            return binding
        self._remember(key, found)
        return found

    def _live(self, key: str) -> _Remembered | None:
        remembered = self._known.get(key)
        if remembered is None:
            return None
        if self._clock() - remembered.used_at >= self._ttl_s:
            del self._known[key]
            return None
        self._known.move_to_end(key)
        return remembered

    def _remember(self, key: str, binding: Binding) -> None:
        now = self._clock()
        self._known[key] = _Remembered(binding, now, now)
        self._known.move_to_end(key)
        if len(self._known) > self._max_entries:
            self._known.popitem(last=False)
