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

# KEYS[1]: the session. ARGV: the model that must be bound ('' for none), the new value, its
# seconds. A value without a model counts as no binding, as in plano_format.read_binding; SET
# replaces any type.
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

    It connects at the first operation, and does not retry operations. A failure raises StoreError,
    which contains neither the user and password of the address nor the cause.
    """

    def __init__(self, url: str, *, ttl_s: float) -> None:
        pool = _pool(url)
        self._client = Redis.from_pool(pool)
        # The pool itself raises if all connections are in use; here operations wait for one.
        self._free_connections = asyncio.Semaphore(pool.max_connections)
        self._ttl_s = max(1, math.ceil(ttl_s))
        self.address = _address(pool.connection_kwargs)
        """Host and port, or the path of a socket."""

    def __repr__(self) -> str:
        return f"<RedisStore at {self.address}>"

    async def get(self, key: str) -> Binding | None:
        """The live binding of a session; reading it extends its life."""
        value = await self._call(lambda: self._get(_name(key)))
        return None if value is None else plano_format.read_binding(value)

    async def bind(self, key: str, binding: Binding, *, instead_of: ModelRef | None) -> bool:
        """Put if absent, or, with ``instead_of``, swap if that model is bound; True if stored."""
        name, value = _name(key), plano_format.write_binding(binding)
        if instead_of is not None:
            return await self._call(lambda: self._swap(name, value, str(instead_of)))
        return await self._call(lambda: self._put(name, value))

    async def aclose(self) -> None:
        """Closes all connections; more than once does no harm."""
        await self._call(self._client.aclose)

    async def _get(self, name: bytes) -> bytes | None:
        try:
            value: Any = await self._client.getex(name, ex=self._ttl_s)
        except ResponseError as error:
            if str(error).startswith("WRONGTYPE"):
                return None  # not a binding, and not a fault of the store
            raise
        return value if isinstance(value, bytes) else None

    async def _put(self, name: bytes, value: bytes) -> bool:
        if await self._client.set(name, value, nx=True, ex=self._ttl_s):
            return True
        # There is a value. If it is not a binding, it would block this session forever.
        return await self._swap(name, value, "")

    async def _swap(self, name: bytes, value: bytes, bound: str) -> bool:
        arguments = (1, name, bound.encode("utf-8", "replace"), value, str(self._ttl_s).encode())
        try:
            stored = await _run(self._client.evalsha(_SWAP_SHA, *arguments))
        except NoScriptError:
            # The first time on this server, or since it was restarted; EVAL also caches the script.
            stored = await _run(self._client.eval(_SWAP, *arguments))
        return bool(stored == 1)

    async def _call(self, operation: Callable[[], Awaitable[_T]]) -> _T:
        try:
            async with self._free_connections:
                return await operation()
        except Exception as error:  # noqa: BLE001 - its text may contain the address
            fault = StoreError(f"{type(error).__name__} at {self.address}")
        raise fault  # outside of `except`: else the cause would be attached, and logged


def _name(key: str) -> bytes:
    return f"{KEY_PREFIX}{key}".encode("utf-8", "surrogatepass")


async def _run(script: Any) -> Any:  # noqa: ANN401 - redis-py types commands as sync or async
    return await script


def _pool(url: str) -> ConnectionPool:
    pool = _parsed(url)
    if pool is None:
        message = (
            "the address of the affinity store is invalid; write redis://, rediss:// or unix:// as "
            "for redis-py, with / ? # and @ in a password as %2F %3F %23 and %40, and only files of "
            "certificates that are readable"
        )
        raise ValueError(message)
    return pool


def _parsed(url: str) -> ConnectionPool | None:
    try:
        parts = urlsplit(url)
        # A password with an unescaped "/", "?" or "#" would be parsed as another part, and shown.
        if parts.scheme != "unix" and any("@" in part for part in parts[2:]):
            return None
        pool = ConnectionPool.from_url(
            url,
            max_connections=MAX_CONNECTIONS,
            socket_timeout=SOCKET_TIMEOUT_S,
            socket_connect_timeout=SOCKET_TIMEOUT_S,
            # TCP_NODELAY and keepalive (dead after 45 s) are redis-py's own defaults. A PING
            # before a command would only add a round trip.
            health_check_interval=0,
            retry=Retry(NoBackoff(), 0),
            # Connecting takes as few round trips as possible.
            protocol=2,
            driver_info=None,
        )
        # A connection is made here, without connecting it, to find unknown options.
        first = pool.connection_class(**pool.connection_kwargs)
        if isinstance(first, SSLConnection):
            pool.connection_class = _sharing(first)
    except Exception:  # noqa: BLE001 - its text may contain the address
        return None
    return pool


def _sharing(first: SSLConnection) -> type[SSLConnection]:
    """A class of connections that share one TLS context.

    Reading the certificates blocks the event loop for tens of milliseconds, and redis-py does it
    for every connection; many new connections would block the gateway for a second.
    """
    first.ssl_context.get()

    class Sharing(SSLConnection):
        def __init__(self, **options: Any) -> None:  # noqa: ANN401 - any options of the address
            super().__init__(**options)
            self.ssl_context = first.ssl_context

    return Sharing


def _address(options: dict[str, Any]) -> str:
    path = options.get("path")
    return str(path) if path else f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"
