"""Client keys."""

import hashlib
import hmac
import math
import time
from collections.abc import Callable, Mapping

from serve_app.access.exposure import _is_local, _is_own_page
from serve_app.api.headers import (
    HeaderFacts,
    Scope,
)
from serve_app.config.references import REFRESH_S, MissingEnvironmentError, expand, is_file
from serve_app.config.schema.gateway import GatewayConfig
from serve_app.errors import (
    AnonymousRefused,
    InvalidClientKey,
)


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
