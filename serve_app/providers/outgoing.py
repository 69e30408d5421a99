"""Address, headers and secrets of an endpoint, with its references expanded."""

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
from serve_app.config.schema.providers import NO_PROXY
from serve_app.domain import Headers
from serve_app.exchange import PATHS, FaultKind, Operation, UpstreamFault, UpstreamRequest
from serve_app.providers.address import target_url, url_fault
from serve_app.providers.endpoints import Endpoint
from serve_app.providers.proxies import Proxy, UnusableProxyError, proxy_at, proxy_of_environment
from serve_app.providers.table import (
    ANTHROPIC_OPERATIONS,
    ANTHROPIC_VERSION,
    AUTH_HEADERS,
    PROVIDERS,
    SIGN_IN_PREFIX,
    Auth,
)

_MIN_SECRET_LENGTH: Final = 6


class NoTargetError(Exception):
    """An endpoint that cannot be used as configured; carries the fault."""

    def __init__(self, fault: UpstreamFault) -> None:
        super().__init__(fault)
        self.fault = fault


@dataclass(frozen=True, slots=True)
class Target:
    """The address of exchanges on one path of an endpoint, and what they send."""

    base_url: str = field(repr=False)
    url: URL | None = field(repr=False)
    """None if each model has its own address."""
    default_headers: Headers
    """Sent unless the request has the same header."""
    headers: Headers = field(repr=False)
    """Sent in place of the request's."""
    auth: Auth | None
    """How the client's own key is sent; None if it must not be sent."""
    proxy: Proxy | None
    secrets: tuple[bytes, ...] = field(repr=False)
    """Values to remove from answers, the longest first."""
    good_until: float
    """On the loop's clock; files are read again then."""

    def url_for(self, endpoint: Endpoint, request: UpstreamRequest) -> URL:
        """The address for a request. Raises NoTargetError if the model's name has none."""
        if self.url is not None:
            return self.url
        name = request.model.name
        try:
            url = target_url(
                self.base_url, endpoint.interface, request.operation, name, request.path
            )
        except ValueError as error:
            detail = f"{name!r} is not a valid name of a deployment"
            raise NoTargetError(UpstreamFault(FaultKind.BAD_ANSWER, detail)) from error
        return _url(url)

    def headers_for(self, request: UpstreamRequest) -> CIMultiDict[str]:
        """The headers of a request: configured ones win over the client's.

        Headers of the other vendor's API stay here: Anthropic's choose its versions and betas.
        """
        foreign = "openai-" if request.operation in ANTHROPIC_OPERATIONS else "anthropic-"
        headers = CIMultiDict(
            [(name, value) for name, value in request.headers if not name.startswith(foreign)]
        )
        headers["content-type"] = "application/json"
        headers["accept-encoding"] = "identity"  # so that streams can be inspected
        for name, value in self.default_headers:
            headers.setdefault(name, value)
        for name, value in self.headers:
            headers[name] = value
        if self.auth is not None and request.credential is not None:
            auth = Auth.BEARER if request.credential.startswith(SIGN_IN_PREFIX) else self.auth
            name, prefix = auth.value
            headers[name] = f"{prefix}{request.credential}"
        return headers


def target_of(
    endpoint: Endpoint, operation: Operation, path: str, environ: Mapping[str, str], now: float
) -> Target:
    """The target of an operation. Raises NoTargetError, which contains no secret value."""
    if operation not in endpoint.operations:
        detail = (
            f"{endpoint.slug} does not support {PATHS[operation]}; name a model whose provider does"
        )
        raise NoTargetError(UpstreamFault(FaultKind.UNSUPPORTED, detail))
    spec = PROVIDERS[endpoint.interface]
    if endpoint.lacks_key:
        detail = f"{endpoint.slug} needs a key; add access_key to its model_providers entry"
        raise NoTargetError(UpstreamFault(FaultKind.NO_KEY, f"{detail}{spec.key_hint}"))
    auth = spec.auth
    try:
        base_url = expand(endpoint.base_url, environ)
        headers, secret_values = _headers(endpoint, auth, environ)
        configured = None if endpoint.proxy is None else expand(endpoint.proxy, environ)
    except MissingEnvironmentError as error:
        detail = f"{endpoint.slug}: {error} where the gateway runs"
        raise NoTargetError(UpstreamFault(FaultKind.NO_KEY, detail)) from error
    if url_fault(base_url) is not None:  # without the value, which may be a misplaced key
        detail = f"base_url of {endpoint.slug} is not a valid URL after expanding its variables"
        raise NoTargetError(UpstreamFault(FaultKind.CONNECT, detail))
    proxy = _proxy(endpoint, configured, base_url, environ)
    if proxy is not None:
        secret_values += proxy.secrets
    texts = (endpoint.access_key or "", endpoint.proxy or "", *dict(endpoint.headers).values())
    files = any(map(is_file, texts))
    url_per_model = spec.api_version is not None
    return Target(
        base_url=base_url,
        url=None
        if url_per_model
        else _url(target_url(base_url, endpoint.interface, operation, path=path)),
        default_headers=(ANTHROPIC_VERSION,) if operation in ANTHROPIC_OPERATIONS else (),
        headers=headers,
        auth=auth if endpoint.passthrough_auth else None,
        proxy=proxy,
        secrets=_longest_first(secret_values),
        good_until=now + REFRESH_S if files else math.inf,
    )


def _proxy(
    endpoint: Endpoint, configured: str | None, base_url: str, environ: Mapping[str, str]
) -> Proxy | None:
    """The proxy of an endpoint; None if it is reached directly. Raises NoTargetError."""
    try:
        if configured is None:
            return proxy_of_environment(base_url, environ)
        return None if configured == NO_PROXY else proxy_at(configured, "proxy")
    except UnusableProxyError as error:
        detail = f"cannot reach {endpoint.slug}: {error}, or set `proxy: {NO_PROXY}` in its entry"
        raise NoTargetError(UpstreamFault(FaultKind.CONNECT, detail)) from error


def _headers(
    endpoint: Endpoint, auth: Auth, environ: Mapping[str, str]
) -> tuple[Headers, list[str]]:
    """The headers of an endpoint, including its key, and the secret values in them."""
    headers: dict[str, str] = {}
    secret_values: list[str] = []
    if endpoint.http_host is not None:
        headers["host"] = endpoint.http_host
    if endpoint.access_key is not None:
        key = expand(endpoint.access_key, environ)
        secret_values.append(key)
        if not endpoint.has_key_header:
            name, prefix = auth.value
            headers[name] = _header_value(f"{prefix}{key}", "access_key", endpoint)
    for name, value in endpoint.headers:
        headers[name] = _header_value(expand(value, environ), f"headers.{name}", endpoint)
        inner = secrets(value, environ)
        if name in AUTH_HEADERS:  # a key, also without a reference
            inner = (headers[name].rpartition(" ")[2], *inner)
        secret_values += [headers[name], *inner] if inner else []
    return tuple(headers.items()), secret_values


def _header_value(value: str, key: str, endpoint: Endpoint) -> str:
    """The value. Raises NoTargetError that names its key if it cannot be sent in a header."""
    fault = ""
    if CONTROL_CHARACTER.search(value):
        fault = "a line break or another control character"
    elif any("\ud800" <= character <= "\udfff" for character in value):
        fault = "bytes that are not UTF-8"
    if fault:
        detail = f"{key} of {endpoint.slug} contains {fault}"
        raise NoTargetError(UpstreamFault(FaultKind.NO_KEY, detail))
    return value


def _longest_first(values: list[str]) -> tuple[bytes, ...]:
    long_enough = {secret for secret in values if len(secret) >= _MIN_SECRET_LENGTH}
    return tuple(
        secret.encode(errors="surrogateescape")
        for secret in sorted(long_enough, key=len, reverse=True)
    )


def _url(text: str) -> URL:
    return URL(text, encoded=True)
