"""Bindings in Redis, under the keys and in the format of Plano, so that gateways can share them."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from hashlib import sha1
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from redis.asyncio import ConnectionPool, Redis, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, ResponseError

from serve_app.affinity import plano_format
from serve_app.affinity.guarded import StoreError
from serve_app.domain import Binding, ModelRef

KEY_PREFIX: Final = "plano:affinity:"
MAX_CONNECTIONS: Final = 32
SOCKET_TIMEOUT_S: Final = 0.25

_T = TypeVar("_T")

# KEYS[1]: the session. ARGV: the model that has to be bound ('' for none), the new value, its
# seconds. What names no model counts as nothing, as in plano_format.read_binding; SET replaces any type.
_SWAP = """
local value = redis.pcall('GET', KEYS[1])
local bound = ''
if type(value) == 'string' then
  local is_json, found = pcall(cjson.decode, value)
  if is_json and type(found) == 'table' and type(found.anchor_model) == 'string'
      and string.find(found.anchor_model, '^[^/]+/.') then
    bound = found.anchor_model
  end
end
if bound ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
return 1
"""
_SWAP_SHA = sha1(_SWAP.encode(), usedforsecurity=False).hexdigest()


class RedisStore:
    """Bindings of sessions, each for ``ttl_s`` seconds after its last use.

    Nothing is connected before the first operation, and no operation is tried twice. A failure
    raises StoreError, which holds neither the address's user and password nor the cause.
    """

    def __init__(self, url: str, *, ttl_s: float) -> None:
        pool = _pool(url)
        self._client = Redis.from_pool(pool)
        # The pool itself refuses what is beyond its bound; here that waits for its turn.
        self._turns = asyncio.Semaphore(pool.max_connections)
        self._ttl_s = max(1, math.ceil(ttl_s))
        self.address = _address(pool.connection_kwargs)
        """Where it is: host and port, or the path of a socket."""

    def __repr__(self) -> str:
        return f"<RedisStore at {self.address}>"

    async def get(self, key: str) -> Binding | None:
        """The live binding of a session; using it keeps it alive."""
        value = await self._ask(lambda: self._get(_name(key)))
        return None if value is None else plano_format.read_binding(value)

    async def bind(self, key: str, binding: Binding, *, instead_of: ModelRef | None) -> bool:
        """Put if absent, or, with ``instead_of``, swap if that model is bound; True if stored."""
        name, value = _name(key), plano_format.write_binding(binding)
        if instead_of is not None:
            return await self._ask(lambda: self._swap(name, value, str(instead_of)))
        return await self._ask(lambda: self._put(name, value))

    async def aclose(self) -> None:
        """Closes all connections; more than once does no harm."""
        await self._ask(self._client.aclose)

    async def _get(self, name: bytes) -> bytes | None:
        try:
            value: Any = await self._client.getex(name, ex=self._ttl_s)
        except ResponseError as error:
            if str(error).startswith("WRONGTYPE"):
                return None  # no binding, and no sign of a store in trouble
            raise
        return value if isinstance(value, bytes) else None

    async def _put(self, name: bytes, value: bytes) -> bool:
        if await self._client.set(name, value, nx=True, ex=self._ttl_s):
            return True
        # Something is there. When it is no binding, nobody could bind this session ever again.
        return await self._swap(name, value, "")

    async def _swap(self, name: bytes, value: bytes, bound: str) -> bool:
        given = (1, name, bound.encode("utf-8", "replace"), value, str(self._ttl_s).encode())
        try:
            stored = await _run(self._client.evalsha(_SWAP_SHA, *given))
        except NoScriptError:
            # The first time on this server, or since it was restarted; EVAL also remembers it.
            stored = await _run(self._client.eval(_SWAP, *given))
        return bool(stored == 1)

    async def _ask(self, ask: Callable[[], Awaitable[_T]]) -> _T:
        try:
            async with self._turns:
                return await ask()
        except Exception as error:  # noqa: BLE001 - whatever it is, it may hold the address
            fault = StoreError(f"{type(error).__name__} at {self.address}")
        raise fault  # not from inside: then the cause would hang on to it, and end in a log


def _name(key: str) -> bytes:
    return f"{KEY_PREFIX}{key}".encode("utf-8", "surrogatepass")


async def _run(script: Any) -> Any:  # noqa: ANN401 - redis-py types commands as sync or async
    return await script


def _pool(url: str) -> ConnectionPool:
    pool = _parsed(url)
    if pool is None:
        message = (
            "the affinity store's address can't be used; write redis://, rediss:// or unix:// as "
            "redis-py takes it, with / ? # and @ in a password as %2F %3F %23 and %40, and name only "
            "files of certificates that can be read"
        )
        raise ValueError(message)
    return pool


def _parsed(url: str) -> ConnectionPool | None:
    try:
        parts = urlsplit(url)
        # A password with a bare "/", "?" or "#" would be read as something else, and be shown.
        if parts.scheme != "unix" and any("@" in part for part in parts[2:]):
            return None
        pool = ConnectionPool.from_url(
            url,
            max_connections=MAX_CONNECTIONS,
            socket_timeout=SOCKET_TIMEOUT_S,
            socket_connect_timeout=SOCKET_TIMEOUT_S,
            # TCP_NODELAY and keepalive (dead after 45 s) are redis-py's own defaults. A PING
            # before a command would tell nothing that the command does not, and cost a round trip.
            health_check_interval=0,
            retry=Retry(NoBackoff(), 0),
            # Connecting takes as few round trips as can be, and no commands that are not needed.
            protocol=2,
            driver_info=None,
        )
        # One is made here, which connects nothing, to find options that don't exist.
        first = pool.connection_class(**pool.connection_kwargs)
        if isinstance(first, SSLConnection):
            pool.connection_class = _sharing(first)
    except Exception:  # noqa: BLE001 - its text may quote the address
        return None
    return pool


def _sharing(first: SSLConnection) -> type[SSLConnection]:
    """Connections with one TLS context.

    Reading the certificates takes tens of milliseconds in which the event loop stands still, and
    redis-py does it for every connection; a burst of them would stop the gateway for a second.
    """
    first.ssl_context.get()

    class Sharing(SSLConnection):
        def __init__(self, **options: Any) -> None:  # noqa: ANN401 - whatever the address says
            super().__init__(**options)
            self.ssl_context = first.ssl_context

    return Sharing


def _address(options: dict[str, Any]) -> str:
    path = options.get("path")
    return str(path) if path else f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"
