"""The affinity store's deployment: exactly one replica holds all bindings in memory."""

import time

from serve_app.affinity.memory import MemoryStore
from serve_app.domain import Binding, ModelRef

_MAX_ENTRIES = 10_000
_TTL_S = 600.0


class Affinity:
    """Bindings of sessions to models, one at a time: put if absent, compare and set."""

    def __init__(self) -> None:
        self._store = MemoryStore(max_entries=_MAX_ENTRIES, ttl_s=_TTL_S, clock=time.monotonic)

    async def get(self, key: str) -> Binding | None:
        """The live binding of a session."""
        return self._store.get(key)

    async def bind(self, key: str, binding: Binding, instead_of: ModelRef | None) -> bool:
        """Put if absent, or, with ``instead_of``, swap if that model is bound; True if stored."""
        return self._store.bind(key, binding, instead_of=instead_of)
