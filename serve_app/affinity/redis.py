"""Bindings in Redis, under the keys and in the format of Plano, so that gateways can share them."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import replace
from hashlib import sha1
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from redis.asyncio import ConnectionPool, Redis, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError

from serve_app.affinity import plano_format
from serve_app.affinity.guarded import StoreError
from serve_app.domain import Binding, ModelRef

KEY_PREFIX: Final = "plano:affinity:"
MAX_CONNECTIONS: Final = 32
SOCKET_TIMEOUT_S: Final = 0.25

_T = TypeVar("_T")

# In all scripts, KEYS[1] is the session, and KEYS[2] holds the seconds of a binding that is kept for
# longer than others; it has its life. Plano's JSON has no place for them.

# ARGV: the seconds of other bindings. Returns the value and its own seconds.
_READ = """
local value = redis.pcall('GET', KEYS[1])
if type(value) ~= 'string' then return false end
local own = tonumber(redis.call('GET', KEYS[2]) or 0) or 0
local seconds = math.max(own, tonumber(ARGV[1]))
redis.call('EXPIRE', KEYS[1], seconds)
if own > 0 then redis.call('EXPIRE', KEYS[2], seconds) end
return {value, own}
"""

# ARGV: the model that must be bound ('' for none), the new value, its seconds, and whether these are
# its own. A value without a model counts as no binding, as in plano_format.read_binding; SET replaces
# any type.
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
if ARGV[4] == '1' then redis.call('SET', KEYS[2], ARGV[3], 'EX', ARGV[3])
else redis.call('DEL', KEYS[2]) end
return 1
"""
_SHA: Final = {
    script: sha1(script.encode(), usedforsecurity=False).hexdigest() for script in (_READ, _SWAP)
}


class RedisStore:
    """Bindings of sessions, each for ``ttl_s`` seconds after its last use.

    A binding with a longer time of its own is kept for that.
    It connects at the first operation, and does not retry operations. A failure raises StoreError,
    which contains neither the user and password of the address nor the cause.
    """

    def __init__(self, url: str, *, ttl_s: float, tls_ca: str | None = None) -> None:
        pool = connection_pool(url, SOCKET_TIMEOUT_S, tls_ca)
        self._client = Redis.from_pool(pool)
        # The pool itself raises if all connections are in use; here operations wait for one.
        self._free_connections = asyncio.Semaphore(pool.max_connections)
        self._ttl_s = max(1, math.ceil(ttl_s))
        self.address = address_of(pool.connection_kwargs)
        """Host and port, or the path of a socket."""

    def __repr__(self) -> str:
        return f"<RedisStore at {self.address}>"

    async def get(self, key: str) -> Binding | None:
        """The live binding of a session; reading it extends its life."""
        found = await self._call(lambda: self._script(_READ, key, str(self._ttl_s).encode()))
        binding = plano_format.read_binding(found[0]) if isinstance(found, list) else None
        return None if binding is None else replace(binding, ttl_s=float(found[1]))

    async def bind(self, key: str, binding: Binding, *, instead_of: ModelRef | None) -> bool:
        """Put if absent, or, with ``instead_of``, swap if that model is bound; True if stored."""
        bound = "" if instead_of is None else str(instead_of)
        return await self._call(lambda: self._swap(key, binding, bound))

    async def aclose(self) -> None:
        """Closes all connections; more than once does no harm."""
        await self._call(self._client.aclose)

    async def _swap(self, key: str, binding: Binding, bound: str) -> bool:
        own = binding.ttl_s > self._ttl_s
        stored = await self._script(
            _SWAP,
            key,
            bound.encode("utf-8", "replace"),
            plano_format.write_binding(binding),
            str(math.ceil(max(self._ttl_s, binding.ttl_s))).encode(),
            b"1" if own else b"0",
        )
        return bool(stored == 1)

    async def _script(self, script: str, key: str, *arguments: bytes) -> Any:  # noqa: ANN401 - of any type
        name = _name(key)
        sent = (name, _seconds_name(name), *arguments)
        try:
            return await _run(self._client.evalsha(_SHA[script], 2, *sent))
        except NoScriptError:
            # The first time on this server, or since it was restarted; EVAL also caches the script.
            return await _run(self._client.eval(script, 2, *sent))

    async def _call(self, operation: Callable[[], Awaitable[_T]]) -> _T:
        try:
            async with self._free_connections:
                return await operation()
        except Exception as error:  # noqa: BLE001 - its text may contain the address
            fault = StoreError(f"{type(error).__name__} at {self.address}")
        raise fault  # outside of `except`: else the cause would be attached, and logged


def _name(key: str) -> bytes:
    return f"{KEY_PREFIX}{key}".encode("utf-8", "surrogatepass")


def _seconds_name(name: bytes) -> bytes:
    """The key of a binding's own seconds, on the same node of a cluster as its name.

    No session's name has a zero byte, because names are printable.
    """
    if b"{" in name:
        return name + b"\x00ttl"
    return KEY_PREFIX.encode() + b"\x00ttl{" + name + b"}"


async def _run(script: Any) -> Any:  # noqa: ANN401 - redis-py types commands as sync or async
    return await script


def connection_pool(url: str, timeout_s: float, tls_ca: str | None = None) -> ConnectionPool:
    """Connections to Redis, each operation limited to ``timeout_s`` seconds.

    ``tls_ca`` is a file with certificates that a server at a rediss:// address is verified by, besides
    the system's; the address may name another one. Raises ValueError for an invalid address.
    """
    pool = _parsed(url, timeout_s, tls_ca)
    if pool is None:
        message = (
            "the address of the affinity store is invalid; write redis://, rediss:// or unix:// as "
            "for redis-py, with / ? # and @ in a password as %2F %3F %23 and %40, and only files of "
            "certificates that are readable"
        )
        raise ValueError(message)
    return pool


def _parsed(url: str, timeout_s: float, tls_ca: str | None) -> ConnectionPool | None:
    try:
        parts = urlsplit(url)
        is_trusting = tls_ca is not None and parts.scheme == "rediss"
        trust = {"ssl_ca_certs": tls_ca} if is_trusting else {}
        # A password with an unescaped "/", "?" or "#" would be parsed as another part, and shown.
        if parts.scheme != "unix" and any("@" in part for part in parts[2:]):
            return None
        pool = ConnectionPool.from_url(
            url,
            max_connections=MAX_CONNECTIONS,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            # TCP_NODELAY and keepalive (dead after 45 s) are redis-py's own defaults. A PING
            # before a command would only add a round trip.
            health_check_interval=0,
            retry=Retry(NoBackoff(), 0),
            # Connecting takes as few round trips as possible.
            protocol=2,
            driver_info=None,
            **trust,
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


def address_of(options: dict[str, Any]) -> str:
    """Host and port of a pool's connections, or the path of a socket."""
    path = options.get("path")
    return str(path) if path else f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"
