"""The affinity store's deployment: exactly one replica holds all bindings in memory."""

import time

from serve_app.affinity.memory import MemoryStore
from serve_app.domain import Binding, ModelRef
from serve_app.snapshot import compile_snapshot


class Affinity:
    """Bindings of sessions to models, one at a time: put if absent, compare and set."""

    def __init__(self, config: str | None) -> None:
        section = compile_snapshot(config).config.routing
        self._store = MemoryStore(
            max_entries=section.session_max_entries,
            ttl_s=section.session_ttl_seconds,
            clock=time.monotonic,
        )

    async def get(self, key: str) -> Binding | None:
        """The live binding of a session."""
        return self._store.get(key)

    async def bind(self, key: str, binding: Binding, instead_of: ModelRef | None) -> bool:
        """Put if absent, or, with ``instead_of``, swap if that model is bound; True if stored."""
        return self._store.bind(key, binding, instead_of=instead_of)
