"""Values in Redis, each for some time after its last use."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar

from redis.asyncio import Redis

from serve_app.affinity.guarded import StoreError
from serve_app.affinity.redis import address_of, connection_pool

KEY_PREFIX: Final = "fingerpost:state:"
SOCKET_TIMEOUT_S: Final = 2.0
"""A conversation may be megabytes."""

_T = TypeVar("_T")


class RedisConversations:
    """Values for ``ttl_s`` seconds after their last use.

    It connects at the first operation. A failure raises StoreError, which contains neither the
    user and password of the address nor the cause.
    """

    def __init__(self, url: str, *, ttl_s: float, tls_ca: str | None = None) -> None:
        pool = connection_pool(url, SOCKET_TIMEOUT_S, tls_ca)
        self._client = Redis.from_pool(pool)
        self._free_connections = asyncio.Semaphore(pool.max_connections)
        self._ttl_s = max(1, math.ceil(ttl_s))
        self.address = address_of(pool.connection_kwargs)
        """Host and port, or the path of a socket."""

    def __repr__(self) -> str:
        return f"<RedisConversations at {self.address}>"

    async def load(self, keys: Sequence[str]) -> list[bytes | None]:
        """The values of these keys, None where there is none; reading extends their lives."""
        return await self._call(lambda: self._load(keys))

    async def save(self, key: str, value: bytes) -> None:
        """Keeps a value."""
        await self._call(lambda: self._client.set(_name(key), value, ex=self._ttl_s))

    async def delete(self, keys: Sequence[str]) -> int:
        """Forgets the values of these keys. Returns how many there were."""
        return int(await self._call(lambda: self._client.delete(*map(_name, keys))))

    async def aclose(self) -> None:
        """Closes all connections; more than once does no harm."""
        await self._call(self._client.aclose)

    async def _load(self, keys: Sequence[str]) -> list[bytes | None]:
        async with self._client.pipeline(transaction=False) as pipe:  # one round trip
            for key in keys:
                pipe.getex(_name(key), ex=self._ttl_s)
            values = await pipe.execute(raise_on_error=True)
        return [value if isinstance(value, bytes) else None for value in values]

    async def _call(self, operation: Callable[[], Awaitable[_T]]) -> _T:
        try:
            async with self._free_connections:
                return await operation()
        except Exception as error:  # noqa: BLE001 - its text may contain the address
            fault = StoreError(f"{type(error).__name__} at {self.address}")
        raise fault  # outside of `except`: else the cause would be attached, and logged


def _name(key: str) -> Any:  # noqa: ANN401 - redis-py's own type of keys
    return f"{KEY_PREFIX}{key}".encode("utf-8", "surrogatepass")
