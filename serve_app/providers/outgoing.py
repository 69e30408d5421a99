"""What an exchange needs to know of an endpoint once its references are expanded."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from multidict import CIMultiDict
from yarl import URL

from serve_app.config.references import (
    CONTROL_CHARACTER,
    REFRESH_S,
    MissingEnvironmentError,
    expand,
    is_file,
    secrets,
)
from serve_app.domain import Headers
from serve_app.exchange import PATHS, FaultKind, Operation, UpstreamFault, UpstreamRequest
from serve_app.providers.address import target_url, url_fault
from serve_app.providers.endpoints import Endpoint
from serve_app.providers.table import (
    ANTHROPIC_OPERATIONS,
    ANTHROPIC_VERSION,
    AUTH_HEADERS,
    PROVIDERS,
    Auth,
)

_SHORTEST_SECRET: Final = 6


class NoTargetError(Exception):
    """An endpoint that can't be asked as things are; carries the fault."""

    def __init__(self, fault: UpstreamFault) -> None:
        super().__init__(fault)
        self.fault = fault


@dataclass(frozen=True, slots=True)
class Target:
    """Where exchanges on one path of an endpoint go, and what they show there."""

    base_url: str = field(repr=False)
    url: URL | None = field(repr=False)
    """None where each model has an address of its own."""
    usual: Headers
    """Where the request itself has no such header."""
    headers: Headers = field(repr=False)
    """In place of what the request has."""
    auth: Auth | None
    """How a client's own key is shown; None where it has no business there."""
    secrets: tuple[bytes, ...] = field(repr=False)
    """What no answer may repeat, the longest first."""
    good_until: float
    """On the loop's clock; what came from a file is read again then."""

    def url_for(self, endpoint: Endpoint, request: UpstreamRequest) -> URL:
        """The address for a request."""
        if self.url is not None:
            return self.url
        name = request.model.name
        return _url(
            target_url(self.base_url, endpoint.interface, request.operation, name, request.path)
        )

    def headers_for(self, request: UpstreamRequest) -> CIMultiDict[str]:
        """What goes out with a request: the configuration's headers win over the client's."""
        headers = CIMultiDict(request.headers)
        headers["content-type"] = "application/json"
        headers["accept-encoding"] = "identity"  # so that streams can be read as they pass
        for name, value in self.usual:
            headers.setdefault(name, value)
        for name, value in self.headers:
            headers[name] = value
        if self.auth is not None and request.credential is not None:
            name, before = self.auth.value
            headers[name] = f"{before}{request.credential}"
        return headers


def target_of(
    endpoint: Endpoint, operation: Operation, path: str, environ: Mapping[str, str], now: float
) -> Target:
    """Where an operation of an endpoint goes. Raises NoTargetError, which holds no secret value."""
    if operation not in endpoint.operations:
        detail = f"{endpoint.slug} has no {PATHS[operation]}"
        raise NoTargetError(UpstreamFault(FaultKind.UNSUPPORTED, detail))
    spec = PROVIDERS[endpoint.interface]
    if endpoint.lacks_key:
        detail = f"{endpoint.slug} needs a key; add access_key to its model_providers entry"
        raise NoTargetError(UpstreamFault(FaultKind.NO_KEY, f"{detail}{spec.key_hint}"))
    auth = spec.auth_of.get(operation, spec.auth)
    try:
        base_url = expand(endpoint.base_url, environ)
        headers, hidden = _shown(endpoint, auth, environ)
    except MissingEnvironmentError as error:
        detail = f"{error} where the gateway runs"
        raise NoTargetError(UpstreamFault(FaultKind.NO_KEY, detail)) from error
    if url_fault(base_url) is not None:  # it may be a key that was put there by mistake
        detail = f"base_url of {endpoint.slug} is no base URL once its references are expanded"
        raise NoTargetError(UpstreamFault(FaultKind.CONNECT, detail))
    files = any(map(is_file, (endpoint.access_key or "", *dict(endpoint.headers).values())))
    own = spec.api_version is not None
    return Target(
        base_url=base_url,
        url=None if own else _url(target_url(base_url, endpoint.interface, operation, path=path)),
        usual=(ANTHROPIC_VERSION,) if operation in ANTHROPIC_OPERATIONS else (),
        headers=headers,
        auth=auth if endpoint.passthrough_auth else None,
        secrets=_sorted(hidden),
        good_until=now + REFRESH_S if files else math.inf,
    )


def _shown(endpoint: Endpoint, auth: Auth, environ: Mapping[str, str]) -> tuple[Headers, list[str]]:
    """The headers that an endpoint asks for, its key among them, and what of them is secret."""
    headers: dict[str, str] = {}
    hidden: list[str] = []
    if endpoint.http_host is not None:
        headers["host"] = endpoint.http_host
    if endpoint.access_key is not None:
        key = expand(endpoint.access_key, environ)
        hidden.append(key)
        if not endpoint.shows_key:
            name, before = auth.value
            headers[name] = _line(f"{before}{key}", "access_key", endpoint)
    for name, value in endpoint.headers:
        headers[name] = _line(expand(value, environ), f"headers.{name}", endpoint)
        found = secrets(value, environ)
        if name in AUTH_HEADERS:  # a key, however it is written
            found = (headers[name].rpartition(" ")[2], *found)
        hidden += [headers[name], *found] if found else []
    return tuple(headers.items()), hidden


def _line(value: str, what: str, endpoint: Endpoint) -> str:
    """A value that can stand in a header. Raises NoTargetError that names where it is from."""
    if CONTROL_CHARACTER.search(value):
        detail = f"{what} of {endpoint.slug} holds a line break or another control sign"
        raise NoTargetError(UpstreamFault(FaultKind.NO_KEY, detail))
    return value


def _sorted(hidden: list[str]) -> tuple[bytes, ...]:
    long_enough = {secret for secret in hidden if len(secret) >= _SHORTEST_SECRET}
    return tuple(
        secret.encode(errors="surrogateescape")
        for secret in sorted(long_enough, key=len, reverse=True)
    )


def _url(text: str) -> URL:
    return URL(text, encoded=True)
