"""Bindings in memory: each expires some time after its use, the least recently used are evicted."""

from collections import OrderedDict

from serve_app.domain import Binding, ModelRef
from serve_app.ports import Clock


class MemoryStore:
    """Bindings of at most ``max_entries`` sessions, each for ``ttl_s`` seconds after its last use.

    A binding with a longer time of its own is kept for that.
    Its methods do not await anything, so calls cannot interleave.
    """

    def __init__(self, *, max_entries: int, ttl_s: float, clock: Clock) -> None:
        self._max_entries = max_entries
        self._ttl_s = ttl_s
        self._clock = clock
        self._bindings: OrderedDict[str, tuple[Binding, float]] = OrderedDict()

    def __repr__(self) -> str:
        return f"<MemoryStore {len(self._bindings)}/{self._max_entries} bindings>"

    def get(self, key: str) -> Binding | None:
        """The live binding of a session; reading it extends its life."""
        entry = self._bindings.pop(key, None)
        if entry is None or entry[1] <= self._clock():
            return None
        self._put(key, entry[0])
        return entry[0]

    def bind(self, key: str, binding: Binding, *, instead_of: ModelRef | None) -> bool:
        """Put if absent, or, with ``instead_of``, swap if that model is bound; True if stored."""
        current = self.get(key)
        if (None if current is None else current.model) != instead_of:
            return False
        self._put(key, binding)
        while len(self._bindings) > self._max_entries:
            self._bindings.popitem(last=False)
        return True

    def _put(self, key: str, binding: Binding) -> None:
        self._bindings[key] = (binding, self._clock() + max(self._ttl_s, binding.ttl_s))
        self._bindings.move_to_end(key)
