"""What is settled about a request before anything is decided: who asks, and how much it weighs."""

import asyncio
import hashlib
import hmac
import ipaddress
import math
import time
from collections.abc import Callable, Container, Iterable, Mapping, MutableMapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

from serve_app.config.references import REFRESH_S, MissingEnvironmentError, expand, is_file
from serve_app.config.schema.gateway import GatewayConfig
from serve_app.domain import Headers
from serve_app.errors import (
    AnonymousRefused,
    BodyTimeout,
    BodyTooLarge,
    HeadersTooLarge,
    InvalidClientKey,
)

Scope: TypeAlias = MutableMapping[str, Any]

HINT_HEADER: Final = b"x-arch-llm-provider-hint"
BODY_IDLE_S: Final = 30.0
"""How long a client may pause while it sends its body."""

_LENGTH_DIGITS: Final = 20
"""More of a length says nothing more: it is over every limit."""

_KEY_HEADERS = frozenset({b"authorization", b"x-api-key"})
_FORWARDED = frozenset(
    {
        b"accept",
        b"idempotency-key",
        b"openai-beta",
        b"traceparent",
        b"tracestate",
        b"user-agent",
        b"x-client-request-id",
    }
)


class ClientGoneError(Exception):
    """The client left before its request was read."""


@dataclass(frozen=True, slots=True)
class HeaderFacts:
    """What we read of a request's headers, in one pass."""

    forwarded: Headers
    """For the provider: an allow-list, so nothing of the client's leaks by accident."""
    hint: str | None
    content_length: int | None
    keys: tuple[bytes, ...] = field(repr=False)
    """What the client shows as its key, in either way; bearer tokens come first."""
    watch_off: bool
    """The client switched Serve's own watch for clients that leave off."""
    origin: str | None
    """The web page that a browser sends the request for."""
    named: Mapping[str, str]
    """Those that the configuration asks for, by their lower-case names."""

    @property
    def credential(self) -> str | None:
        """The client's own key, for a provider that takes that one."""
        return next((key.decode("utf-8", "replace") for key in self.keys if key), None)


def read_headers(
    headers: Iterable[tuple[bytes, bytes]], limit: int, wanted: Container[bytes] = ()
) -> HeaderFacts:
    """The facts. Raises HeadersTooLarge when all headers together are over ``limit`` bytes."""
    size = 0
    forwarded: list[tuple[str, str]] = []
    keys: list[bytes] = []
    hint: str | None = None
    length: int | None = None
    watch_off = False
    origin: str | None = None
    named: dict[str, str] = {}
    for name, value in headers:
        size += len(name) + len(value) + 4  # ": " and the line's end
        if name in wanted:
            named[name.decode("latin-1")] = value.decode("utf-8", "replace")
        if name in _FORWARDED:
            forwarded.append((name.decode("latin-1"), value.decode("latin-1")))
        elif name in _KEY_HEADERS:
            _add_key(keys, name, value)
        elif name == b"content-length" and value.isdigit():
            length = int(value[:_LENGTH_DIGITS])
        elif name == HINT_HEADER:
            hint = value.decode("utf-8", "replace")
        elif name == b"x-request-disconnect-disabled":
            watch_off = True
        elif name == b"origin":
            origin = value.decode("latin-1")
    if size > limit:
        raise HeadersTooLarge(limit)
    return HeaderFacts(tuple(forwarded), hint, length, tuple(keys), watch_off, origin, named)


def _add_key(keys: list[bytes], name: bytes, value: bytes) -> None:
    if name == b"x-api-key":
        keys.append(value.strip())
    elif value[:7].lower() == b"bearer ":
        keys.insert(0, value[7:].strip())


class Access:
    """Who may ask: holders of a client key, or, without client keys, this machine.

    Keys that are in files are read again at most every REFRESH_S seconds of ``clock``.
    """

    def __init__(
        self,
        config: GatewayConfig,
        environ: Mapping[str, str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.warnings: list[str] = []
        self._anonymous = config.allow_anonymous
        self._keys = config.client_keys
        self._environ = environ
        self._clock = clock
        self._digests: tuple[bytes, ...] = ()
        self._stale_at = math.inf
        self._read_keys(self.warnings)

    def _read_keys(self, warnings: list[str]) -> None:
        digests = []
        for key in self._keys or ():
            try:
                digests.append(hashlib.sha256(expand(key, self._environ).encode()).digest())
            except MissingEnvironmentError as error:  # fail closed: nobody has this key
                warnings.append(f"client_keys: {error}; nobody can use this key")
        self._digests = tuple(digests)
        if any(map(is_file, self._keys or ())):
            self._stale_at = self._clock() + REFRESH_S

    def check(self, scope: Scope, facts: HeaderFacts) -> None:
        """Raises InvalidClientKey or AnonymousRefused."""
        if self._keys is None:
            if not self._anonymous and not (_is_local(scope) and _is_own_page(facts.origin)):
                raise AnonymousRefused
            return
        if self._clock() >= self._stale_at:
            self._read_keys([])
        known = False
        for key in facts.keys:
            digest = hashlib.sha256(key).digest()
            for right in self._digests:  # all of them, whichever it is: equal time
                known |= hmac.compare_digest(digest, right)
        if not known:
            raise InvalidClientKey


def _is_local(scope: Scope) -> bool:
    """True when the peer is this machine: loopback, or our own address on both ends.

    Serve's proxy reaches a replica by the node's address, and a replica's port is open on all
    interfaces, so the address alone that Serve's proxy listens on would not keep others out.
    """
    client, server = scope.get("client"), scope.get("server")
    if not client or not client[0]:
        return True  # a Unix socket
    return bool(server and client[0] == server[0]) or _is_loopback(client[0])


def _is_own_page(origin: str | None) -> bool:
    """False for a request that a web page from elsewhere has the user's browser send.

    Browsers let any page post to loopback; it can't read the answer, but the user would pay.
    """
    if origin is None:
        return True
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    if parts.scheme not in {"http", "https"}:
        return bool(parts.scheme)  # programs with a browser inside; "null" has no scheme
    return _is_loopback(parts.hostname or "")


def exposure_problem(host: str, config: GatewayConfig) -> str | None:
    """What is wrong with listening on ``host``: without client keys nothing but this machine
    may be served, unless the configuration says so.
    """
    if config.client_keys is not None or config.allow_anonymous or _is_loopback(host):
        return None
    return (
        f"Serve listens on {host}, where other machines reach it, and there are no client_keys; "
        "add client_keys, or allow_anonymous: true, or set http_options.host to 127.0.0.1"
    )


@lru_cache(maxsize=1024)
def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


async def read_body(receive: Any, length: int | None, limit: int) -> bytes:  # noqa: ANN401 - ASGI
    """The whole body of a request.

    Raises BodyTooLarge as soon as it is known to be (before it is read when the length is
    announced), BodyTimeout when the client pauses for longer than BODY_IDLE_S, ClientGoneError
    when it leaves.
    """
    if length is not None and length > limit:
        raise BodyTooLarge(limit)
    chunks: list[bytes] = []
    size = 0
    more = True
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(BODY_IDLE_S) as patience:
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGoneError
                chunk = message.get("body", b"")
                size += len(chunk)
                if size > limit:
                    raise BodyTooLarge(limit)
                chunks.append(chunk)
                more = message.get("more_body", False)
                if more:
                    patience.reschedule(loop.time() + BODY_IDLE_S)
    except TimeoutError as error:
        raise BodyTimeout from error
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)
