"""Client keys: who may ask."""

import hashlib
import hmac
import math
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from serve_app.access.client import ANONYMOUS, Client
from serve_app.access.exposure import is_local, is_own_host
from serve_app.access.origins import AllowedOrigins
from serve_app.config.references import REFRESH_S, MissingEnvironmentError, expand, is_file
from serve_app.config.schema.gateway import GatewayConfig
from serve_app.errors import AnonymousRefused, InvalidClientKey

_CLIENT_SALT: Final = b"fingerpost-client:"
_CLIENT_DIGITS: Final = 16
_SHOWN_DIGITS: Final = 8


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


class Access:
    """Admits holders of a client key, or, without client keys, this machine.

    Keys in files are read again at most every REFRESH_S seconds of ``clock``.
    """

    def __init__(
        self,
        config: GatewayConfig,
        environ: Mapping[str, str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.origins = AllowedOrigins(config)
        """Which web pages may call the gateway."""
        self._anonymous = config.allow_anonymous
        self._keys = config.client_keys
        self._environ = environ
        self._clock = clock
        self._digests: tuple[bytes, ...] = ()
        self._stale_at = math.inf
        self._read_keys()

    def __repr__(self) -> str:
        kind = "anonymous" if self._keys is None else f"{len(self._digests)} keys"
        return f"<Access {kind}>"

    def _read_keys(self) -> None:
        digests = []
        for key in self._keys or ():
            with suppress(MissingEnvironmentError):  # fail closed: no client has this key
                value = expand(key, self._environ).encode(errors="surrogateescape")
                digests.append(hashlib.sha256(value).digest())
        self._digests = tuple(digests)
        if any(map(is_file, self._keys or ())):
            self._stale_at = self._clock() + REFRESH_S

    def check(self, caller: Caller) -> Client:
        """Which client it is. Raises InvalidClientKey or AnonymousRefused."""
        if self._keys is None:
            if not self._anonymous and not self._is_own(caller):
                raise AnonymousRefused
            return ANONYMOUS
        if self._clock() >= self._stale_at:
            self._read_keys()
        known = [key for key in caller.keys if self.knows(key)]  # all: it takes equal time
        if not known:
            raise InvalidClientKey
        name = hashlib.sha256(_CLIENT_SALT + known[0]).hexdigest()[:_CLIENT_DIGITS]
        return Client(name, f"key-{name[:_SHOWN_DIGITS]}")

    def _is_own(self, caller: Caller) -> bool:
        """True for programs on this machine, and for pages that may call it."""
        return (
            is_local(caller.peer, caller.server)
            and is_own_host(caller.host, caller.server)
            and (caller.origin is None or self.origins.allow(caller.origin))
        )

    def knows(self, key: bytes) -> bool:
        """True for one of the client keys."""
        digest = hashlib.sha256(key).digest()
        known = False
        for right in self._digests:  # all of them, so that it takes equal time
            known |= hmac.compare_digest(digest, right)
        return known
