"""Values in memory: each expires some time after its use, the least recently used are evicted."""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Final

from serve_app.ports import Clock

DELETED: Final = b"deleted"
"""In place of a value that a client has deleted: no copy of that may replace it."""


class MemoryConversations:
    """Values of at most ``max_bytes`` in all, each for ``ttl_s`` seconds after its last use.

    Its methods do not await anything, so calls cannot interleave.
    """

    def __init__(self, *, max_bytes: int, ttl_s: float, clock: Clock) -> None:
        self._max_bytes = max_bytes
        self._ttl_s = ttl_s
        self._clock = clock
        self._values: OrderedDict[str, tuple[bytes, float]] = OrderedDict()
        self._size = 0

    def __repr__(self) -> str:
        return f"<MemoryConversations {len(self._values)}: {self._size}/{self._max_bytes} bytes>"

    def __len__(self) -> int:
        return len(self._values)

    def load(self, keys: Sequence[str]) -> list[bytes | None]:
        """The values of these keys, None where there is none; reading extends their lives."""
        return [self._load(key) for key in keys]

    def save(self, key: str, value: bytes) -> bool:
        """Keeps a value. Returns False if it alone is over the limit."""
        self._remove(key)
        if len(value) > self._max_bytes:
            return False
        self._put(key, value)
        self.expire()
        while self._size > self._max_bytes:
            self._remove(next(iter(self._values)))
        return True

    def restore(self, key: str, value: bytes) -> None:
        """As ``save``, unless there is a longer value: a conversation only grows.

        DELETED is the last value that a key has.
        """
        known = self._load(key)
        is_newer = known is None or value == DELETED or len(known) < len(value)
        if is_newer and known != DELETED:
            self.save(key, value)

    def delete(self, keys: Iterable[str]) -> int:
        """Forgets the values of these keys. Returns how many there were."""
        return sum(self._remove(key) for key in keys)

    def items(self) -> list[tuple[str, bytes]]:
        """All live values with their keys, the least recently used first."""
        self.expire()
        return [(key, value) for key, (value, _) in self._values.items()]

    def expire(self) -> None:
        """Removes the values that have expired: those that were not used for the longest time."""
        now = self._clock()
        while self._values:
            key = next(iter(self._values))
            if self._values[key][1] > now:
                return
            self._remove(key)

    def _load(self, key: str) -> bytes | None:
        entry = self._values.get(key)
        if entry is None:
            return None
        self._remove(key)
        if entry[1] <= self._clock():
            return None
        self._put(key, entry[0])
        return entry[0]

    def _put(self, key: str, value: bytes) -> None:
        self._values[key] = (value, self._clock() + self._ttl_s)
        self._size += len(value)

    def _remove(self, key: str) -> bool:
        entry = self._values.pop(key, None)
        self._size -= 0 if entry is None else len(entry[0])
        return entry is not None
