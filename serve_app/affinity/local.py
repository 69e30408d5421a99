"""What an ingress remembers of sessions, in front of the store that all ingresses share."""

from collections import OrderedDict
from typing import Final

from serve_app.domain import Binding, ModelRef
from serve_app.ports import AffinityStore, Clock

FRESH_S: Final = 5.0
"""A remembered binding answers for so long; then the store is asked again."""


class LocalStore:
    """A store in front of another one. Hits are remembered for a while, misses never.

    What the other one has forgotten although it was used within its time to live, because it
    was started anew, is put back from here.
    """

    def __init__(
        self, inner: AffinityStore, *, max_entries: int, ttl_s: float, clock: Clock
    ) -> None:
        self._inner = inner
        self._max_entries = max_entries
        self._ttl_s = ttl_s
        self._fresh_s = min(FRESH_S, ttl_s / 4)
        self._clock = clock
        self._known: OrderedDict[str, tuple[Binding, float]] = OrderedDict()

    def __repr__(self) -> str:
        return f"<LocalStore {len(self._known)}/{self._max_entries} bindings>"

    async def get(self, key: str) -> Binding | None:
        """The binding, at most FRESH_S old."""
        remembered = self._known.get(key)
        now = self._clock()
        if remembered is not None and now - remembered[1] < self._fresh_s:
            self._known.move_to_end(key)
            return remembered[0]
        found = await self._inner.get(key)
        if found is None and remembered is not None:
            found = await self._put_back(key, *remembered)
        if found is None:
            self._known.pop(key, None)
        else:
            self._remember(key, found)
        return found

    async def bind(self, key: str, binding: Binding, *, instead_of: ModelRef | None) -> bool:
        """Binds in the store, and remembers what is bound there now."""
        stored = await self._inner.bind(key, binding, instead_of=instead_of)
        if stored:
            self._remember(key, binding)
        else:
            self._known.pop(key, None)
        return stored

    async def _put_back(self, key: str, binding: Binding, asked_at: float) -> Binding | None:
        """A binding that the store should still have; None where its time is up."""
        if self._clock() - asked_at >= self._ttl_s:
            return None
        if await self._inner.bind(key, binding, instead_of=None):
            return binding
        return await self._inner.get(key) or binding  # another was quicker, or it can't be asked

    def _remember(self, key: str, binding: Binding) -> None:
        self._known[key] = (binding, self._clock())
        self._known.move_to_end(key)
        if len(self._known) > self._max_entries:
            self._known.popitem(last=False)
