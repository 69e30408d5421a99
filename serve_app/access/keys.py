"""Client keys: who may ask."""

import hashlib
import hmac
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from serve_app.access.client import ANONYMOUS, Client
from serve_app.access.clients import client_of, nameless_client
from serve_app.access.exposure import is_local, is_own_host
from serve_app.access.origins import AllowedOrigins
from serve_app.access_errors import AnonymousRefused, InvalidClientKey
from serve_app.config.references import REFRESH_S, MissingEnvironmentError, expand, is_file
from serve_app.config.schema.access import HASHED, ClientKey
from serve_app.config.schema.gateway import GatewayConfig

_PEPPER_BYTES: Final = 32


@dataclass(slots=True)
class Caller:
    """What a request shows of who sends it."""

    peer: str | None
    """The address that the connection comes from; None for a Unix socket."""
    server: str | None
    """The address that the connection goes to."""
    origin: str | None
    """The web page that a browser sends the request for."""
    keys: tuple[bytes, ...] = field(default=(), repr=False)
    host: str | None = None
    """The host that the request is for, by its header."""


@dataclass(frozen=True, slots=True)
class _Holder:
    """Who has a key, and until when the key is valid (seconds since the epoch)."""

    client: Client
    digest: bytes = field(repr=False)
    until: float = math.inf


class Access:
    """Admits holders of a client key, or, without client keys, this machine.

    Keys in files are read again at most every REFRESH_S seconds of ``clock``. A key is looked up by
    a keyed hash, so that the time of that says nothing about the keys that are right.
    """

    def __init__(
        self,
        config: GatewayConfig,
        environ: Mapping[str, str],
        clock: Callable[[], float] = time.monotonic,
        clients: Sequence[Client | None] | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """``clients``: the holder of each of ``client_keys``, as compiled; None without names."""
        self.origins = AllowedOrigins(config)
        """Which web pages may call the gateway."""
        self._anonymous = config.allow_anonymous
        self._entries = config.client_keys
        self._secret_text = config.key_secret
        self._clients = clients or [
            client_of(config, entry, None) if isinstance(entry, ClientKey) else None
            for entry in config.client_keys or ()
        ]
        self._environ = environ
        self._clock = clock
        self._wall_clock = wall_clock
        self._pepper = os.urandom(_PEPPER_BYTES)
        self._secret = b""
        self._holders: dict[bytes, _Holder] = {}
        self._stale_at = math.inf
        self._read_keys()

    def __repr__(self) -> str:
        kind = "anonymous" if self._entries is None else f"{len(self._holders)} keys"
        return f"<Access {kind}>"

    def _read_keys(self) -> None:
        self._holders, self._secret = {}, b""
        texts: list[tuple[str, Client | None, float]] = []
        for entry, client in zip(self._entries or (), self._clients, strict=True):
            if not isinstance(entry, ClientKey):
                texts.append((entry, client, math.inf))
                continue
            if entry.previous is not None:
                texts.append((entry.previous.key, client, entry.previous.expires_at))
            texts.append((entry.key, client, math.inf))
        if any(text.startswith(HASHED) for text, _, _ in texts):
            with suppress(MissingEnvironmentError):  # fail closed, as below
                secret = expand(self._secret_text, self._environ)
                self._secret = secret.encode(errors="surrogateescape")
        for text, client, until in texts:
            with suppress(MissingEnvironmentError):  # fail closed: no client has this key
                self._add(text, client, until)
        if any(is_file(text) for text, _, _ in texts) or is_file(self._secret_text):
            self._stale_at = self._clock() + REFRESH_S

    def _add(self, text: str, client: Client | None, until: float) -> None:
        if text.startswith(HASHED):
            if not self._secret:
                return
            digest = bytes.fromhex(text.removeprefix(HASHED))
            holder = client or nameless_client(digest)
        else:
            key = expand(text, self._environ).encode(errors="surrogateescape")
            digest, holder = self._peppered(key), client or nameless_client(key)
        self._holders[digest] = _Holder(holder, digest, until)

    @property
    def clients(self) -> tuple[Client, ...]:
        """The holders of all keys that are set, each once."""
        return tuple(dict.fromkeys(holder.client for holder in self._holders.values()))

    def check(self, caller: Caller) -> Client:
        """Which client it is. Raises InvalidClientKey or AnonymousRefused."""
        if self._entries is None:
            if not self._anonymous and not self._is_own(caller):
                raise AnonymousRefused
            return ANONYMOUS
        if self._clock() >= self._stale_at:
            self._read_keys()
        found = [self._holder(key) for key in caller.keys]  # all: it takes equal time
        for holder in found:
            if holder is not None:
                return holder.client
        raise InvalidClientKey

    def _is_own(self, caller: Caller) -> bool:
        """True for programs on this machine, and for pages that may call it."""
        return (
            is_local(caller.peer, caller.server)
            and is_own_host(caller.host, caller.server)
            and (caller.origin is None or self.origins.allow(caller.origin))
        )

    def knows(self, key: bytes) -> bool:
        """True for one of the client keys."""
        return self._holder(key) is not None

    def _holder(self, key: bytes) -> _Holder | None:
        digest = self._peppered(key)
        found = self._holders.get(digest)
        if self._secret:
            digest_of_hashed = hashed_key(key, self._secret)
            hashed = self._holders.get(digest_of_hashed)
            if hashed is not None and hmac.compare_digest(hashed.digest, digest_of_hashed):
                found = hashed
        if found is None or (found.until < math.inf and self._wall_clock() >= found.until):
            return None
        return found

    def _peppered(self, key: bytes) -> bytes:
        return hashlib.blake2b(key, digest_size=32, key=self._pepper).digest()


def hashed_key(key: bytes, secret: bytes) -> bytes:
    """The keyed hash under which a client key is stored: HMAC-SHA256."""
    return hmac.digest(secret, key, "sha256")
