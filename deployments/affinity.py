"""The affinity store's deployment: exactly one replica holds all bindings and answers in memory."""

import time
from uuid import uuid4

from serve_app.affinity.memory import MemoryStore
from serve_app.affinity.rests import MemoryRests
from serve_app.config.load import load
from serve_app.conversations.memory import MemoryConversations
from serve_app.domain import Binding, ModelRef
from serve_app.exchange import RestReport


class Affinity:
    """Bindings of sessions to models, one at a time: put if absent, compare and set.

    Also the answers that later requests may name, if their provider does not keep them.
    """

    def __init__(self, config: str | None) -> None:
        settings = load(config).config  # compiling it takes modules that are of no use here
        section = settings.routing
        self._store = MemoryStore(
            max_entries=section.session_max_entries,
            ttl_s=section.session_ttl_seconds,
            clock=time.monotonic,
        )
        self._answers = MemoryConversations(
            max_bytes=settings.state_storage.max_megabytes << 20,
            ttl_s=settings.state_storage.ttl_seconds,
            clock=time.monotonic,
        )
        self._rests = MemoryRests(time.monotonic)
        self._life = uuid4().hex
        self._began = time.monotonic()

    async def get(self, key: str) -> Binding | None:
        """The live binding of a session."""
        return self._store.get(key)

    async def bind(self, key: str, binding: Binding, instead_of: ModelRef | None) -> bool:
        """Put if absent, or, with ``instead_of``, swap if that model is bound; True if stored."""
        return self._store.bind(key, binding, instead_of=instead_of)

    async def load_values(self, keys: list[str]) -> list[bytes | None]:
        """The kept values of these keys, None where there is none."""
        return self._answers.load(keys)

    async def save_values(self, values: dict[str, bytes]) -> None:
        """Keeps values, in place of earlier ones."""
        for key, value in values.items():
            self._answers.save(key, value)

    async def restore_value(self, key: str, value: bytes) -> None:
        """As ``save_values``, unless there is a longer value: what a restart has lost."""
        self._answers.restore(key, value)

    async def delete_values(self, keys: list[str]) -> int:
        """Forgets the values of these keys. Returns how many there were."""
        return self._answers.delete(keys)

    async def share_rests(self, own: list[RestReport]) -> list[RestReport]:
        """Puts up endpoints that rest. Returns all that are known to."""
        return self._rests.share(own)

    async def claim_probe(self, endpoint: str, for_s: float) -> bool:
        """True if no replica has claimed the endpoint; then it is the caller's for that long."""
        return self._rests.claim(endpoint, for_s)

    async def life(self) -> tuple[str, float]:
        """The name of this process, and its age in seconds."""
        return self._life, time.monotonic() - self._began
