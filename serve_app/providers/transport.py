"""Exchanges with providers over pooled HTTP connections.

One transport serves all providers of a configuration: it owns the connections, also those through
proxies, and expands the keys. It follows no redirect, returns no key, closes the connection of an
exchange that is given up at once, and limits every wait.
"""

import asyncio
import io
import ssl
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Final, TypeAlias

import aiohttp

from serve_app.config.schema.timeouts import Timeouts
from serve_app.dialects import registry
from serve_app.dialects.fields import Intent
from serve_app.exchange import (
    PATHS,
    FaultKind,
    Operation,
    UpstreamFault,
    UpstreamReply,
    UpstreamRequest,
)
from serve_app.providers.endpoints import Endpoint, ProviderTable
from serve_app.providers.incoming import (
    StreamBody,
    StreamLimits,
    close_response,
    end_with_connection,
    is_stream,
    read_complete,
    read_headers,
)
from serve_app.providers.limits import limits_of
from serve_app.providers.outgoing import NoTargetError, Target, target_of
from serve_app.providers.resolver import ForbiddenAddressError, SafeResolver
from serve_app.providers.tls import NoCertificatesError, Trust

MAX_ANSWER_BYTES: Final = 112 << 20
"""Limit of an answer that is not streamed; a hop carries 128 MiB."""

_HEADER_BLOCK_BYTES: Final = 256 << 10
_MAX_HEADERS: Final = 4096
"""More than a block of that size contains in practice."""
_LARGE_BODY_BYTES: Final = 1 << 20
_KEEPALIVE_S: Final = 30.0
_OMITTED_HEADERS: Final = frozenset({"User-Agent", "Accept", "Content-Type"})
_NO_CREDENTIAL: Final = (
    "requires the client's own key, and the request has none; send it as "
    "`Authorization: Bearer ...` or `x-api-key: ...` (and a client key of this gateway as "
    "`x-fingerpost-key: ...`), or configure access_key in place of passthrough_auth"
)
_MAX_TARGETS: Final = 1024
_PROXY_AUTHENTICATION: Final = 407
_METADATA_ADDRESS: Final = (
    "is a link-local address, or one of a cloud's metadata, which is not called by a name; correct "
    "base_url, or write the address itself there"
)


Source: TypeAlias = Callable[[str], tuple[ProviderTable, Timeouts]]
"""The table and the timeouts of a version of the configuration, by default of the newest."""


def fixed(table: ProviderTable, timeouts: Timeouts) -> Source:
    """A source that never changes."""
    return lambda _: (table, timeouts)


class Transport:
    """Opens exchanges with the providers of a table. Not shared between event loops.

    ``environ`` is read when a request first needs it: an unused key may be missing.
    ``tls_ca`` is a file with certificates that are trusted in addition to the system's.
    """

    def __init__(
        self,
        source: Source,
        environ: Mapping[str, str],
        tls_ca: str | None = None,
        *,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
    ) -> None:
        self._source = source
        self._environ = environ
        self._trust = Trust(tls_ca, "overrides.upstream_tls_ca_path")
        self._own_trust: dict[str, Trust] = {}
        """By the files of endpoints that have one of their own."""
        self._max_answer_bytes = max_answer_bytes
        self._targets: dict[tuple[Endpoint, Operation, str], Target] = {}
        self._sessions: dict[bool, aiohttp.ClientSession] = {}
        """By whether each exchange opens a new connection; otherwise connections are kept."""

    def __repr__(self) -> str:
        counts = [_count_connections(session) for session in self._sessions.values()]
        used, idle = map(sum, zip((0, 0), *counts, strict=True))
        connections = f"connections: {used} in use, {idle} idle"
        return f"<Transport targets: {len(self._targets)}, {connections}>"

    async def open(self, request: UpstreamRequest) -> UpstreamReply | UpstreamFault:
        """Exchanges with the endpoint of the request's model."""
        table, timeouts = self._source(request.policy)
        endpoint = table.endpoint(request.model, request.endpoint)
        if endpoint is None:
            detail = f"the provider client has no endpoint for {str(request.model)!r}"
            return UpstreamFault(FaultKind.STALE_POLICY, detail)
        if endpoint.passthrough_auth and request.credential is None:
            return UpstreamFault(FaultKind.NO_KEY, f"{endpoint.slug} {_NO_CREDENTIAL}")
        return await self._exchange(endpoint, request, timeouts)

    async def _exchange(
        self, endpoint: Endpoint, request: UpstreamRequest, timeouts: Timeouts
    ) -> UpstreamReply | UpstreamFault:
        """The head of the answer with its body, or a fault, which names the model's provider.

        A 2xx event stream, whatever its type, is returned as chunks if ``request.stream`` is set;
        everything else is read completely first.
        """
        provider, limits = request.model.provider, limits_of(endpoint.timeouts, timeouts)
        started = asyncio.get_running_loop().time()
        total_s = min(request.deadline_s, timeouts.total_s)
        limit_s = total_s if request.attempt_s is None else min(total_s, request.attempt_s)
        wait_s = min(limit_s, limits.first_byte_s) if request.stream else limit_s
        response: aiohttp.ClientResponse | None = None
        try:
            target = self._target(endpoint, request)
        except NoTargetError as error:
            return error.fault
        name = provider if target.proxy is None else f"{provider} (through its proxy)"
        try:
            async with asyncio.timeout(wait_s) as timeout:
                response = await self._send(endpoint, target, request, limits.connect_s)
                end_with_connection(response)
                streams, first = await is_stream(response) if request.stream else (False, b"")
                if streams:
                    first_s = min(limit_s, limits.first_token_s)
                    moments = StreamLimits(
                        limits.idle_s, first_s, started + first_s, started + total_s
                    )
                    watch = registry.UPSTREAM_DIALECTS[request.operation].watch(Intent())
                    headers = read_headers(response, target.secrets)
                    body = StreamBody(response, provider, target.secrets, moments, watch, first)
                    return UpstreamReply(response.status, headers, body)
                if request.stream:
                    wait_s = limit_s
                    timeout.reschedule(started + limit_s)
                return await self._read_complete(response, provider, target, first)
        except TimeoutError as error:
            close_response(response)
            return _timeout_fault(error, name, wait_s, limits.connect_s)
        except NoTargetError as error:
            return error.fault
        except (aiohttp.ClientError, OSError, ValueError) as error:
            close_response(response)
            return _fault_of(error, provider, name)
        except BaseException:  # given up: close the connection now, not at garbage collection
            close_response(response)
            raise

    async def _read_complete(
        self, response: aiohttp.ClientResponse, provider: str, target: Target, first: bytes
    ) -> UpstreamReply | UpstreamFault:
        """The whole answer; that of a proxy that wants credentials is not the provider's."""
        if response.status == _PROXY_AUTHENTICATION and target.proxy is not None:
            response.close()
            return _proxy_refusal(provider, response.status)
        return await read_complete(
            response, provider, target.secrets, self._max_answer_bytes, first
        )

    async def close(self) -> None:
        """Closes every connection."""
        while self._sessions:
            await self._sessions.popitem()[1].close()

    def _target(self, endpoint: Endpoint, request: UpstreamRequest) -> Target:
        """The target of a request. Cached until a key file may have changed.

        A path below that of its operation names one answer, and is not cached.

        Raises NoTargetError.
        """
        operation, path = request.operation, request.path
        now = asyncio.get_running_loop().time()
        if path.startswith(f"{PATHS[operation]}/"):
            return target_of(endpoint, operation, path, self._environ, now)
        target = self._targets.get((endpoint, operation, path))
        if target is None or target.good_until <= now:
            target = target_of(endpoint, operation, path, self._environ, now)
            if len(self._targets) >= _MAX_TARGETS:
                self._targets.clear()
            self._targets[endpoint, operation, path] = target
        return target

    async def _send(
        self, endpoint: Endpoint, target: Target, request: UpstreamRequest, connect_s: float
    ) -> aiohttp.ClientResponse:
        url, proxy = target.url_for(endpoint, request), target.proxy
        large = len(request.body) > _LARGE_BODY_BYTES
        is_tls = url.scheme == "https" or (proxy is not None and proxy.url.scheme == "https")
        headers, proxy_headers = target.headers_for(request), None
        if proxy is not None and proxy.authorization is not None:
            authorization = {"Proxy-Authorization": proxy.authorization}
            if url.scheme == "https":  # only CONNECT is for the proxy
                proxy_headers = authorization
            else:
                headers.update(authorization)
        return await self._session(fresh=request.fresh).request(
            request.method,
            url,
            data=io.BytesIO(request.body) if large else request.body or None,
            headers=headers,
            allow_redirects=False,
            proxy=None if proxy is None else proxy.url,
            proxy_headers=proxy_headers,
            ssl=self._tls_context(endpoint) if is_tls else True,
            timeout=_connect_timeout(connect_s),
        )

    def _tls_context(self, endpoint: Endpoint) -> ssl.SSLContext | bool:
        """The context for https, True for the system's. Raises NoTargetError."""
        trust, file = self._trust, endpoint.tls_ca
        if file is not None:
            if len(self._own_trust) >= _MAX_TARGETS and file not in self._own_trust:
                self._own_trust.clear()
            trust = self._own_trust.setdefault(file, Trust(file, "tls_ca_path"))
        try:
            return trust.context()
        except NoCertificatesError as error:
            raise NoTargetError(UpstreamFault(FaultKind.CONNECT, str(error))) from error

    def _session(self, *, fresh: bool) -> aiohttp.ClientSession:
        if fresh not in self._sessions:
            self._sessions[fresh] = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=0,
                    force_close=fresh,
                    keepalive_timeout=None if fresh else _KEEPALIVE_S,
                    ttl_dns_cache=60,
                    resolver=SafeResolver(),
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                skip_auto_headers=_OMITTED_HEADERS,
                max_line_size=_HEADER_BLOCK_BYTES,
                max_field_size=_HEADER_BLOCK_BYTES,
                max_headers=_MAX_HEADERS,
            )
        return self._sessions[fresh]


def _count_connections(session: aiohttp.ClientSession) -> tuple[int, int]:
    """How many connections of a session are in use, and how many are idle."""
    connector = session.connector
    if connector is None:  # closed
        return 0, 0
    idle = sum(map(len, connector._conns.values()))  # noqa: SLF001 - aiohttp has no public count
    return len(connector._acquired), idle  # noqa: SLF001 - as above


@lru_cache(maxsize=16)
def _connect_timeout(connect_s: float) -> aiohttp.ClientTimeout:
    """Limits connecting only, including DNS; ``Transport`` limits the exchange itself."""
    return aiohttp.ClientTimeout(total=None, connect=connect_s, sock_connect=connect_s)


def _timeout_fault(
    error: TimeoutError, name: str, wait_s: float, connect_s: float
) -> UpstreamFault:
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        detail = f"connecting to {name} timed out after {connect_s:.3g} s"
        return UpstreamFault(FaultKind.CONNECT, detail)
    return UpstreamFault(FaultKind.TIMEOUT, f"{name} timed out after {wait_s:.3g} s")


def _proxy_refusal(provider: str, status: int) -> UpstreamFault:
    fix = "check the user and the password in its URL"
    if status != _PROXY_AUTHENTICATION:
        fix = "allow the address there, or name it in NO_PROXY"
    detail = f"the proxy of {provider} refused the connection (status {status}); {fix}"
    return UpstreamFault(FaultKind.CONNECT, detail)


_FAULTS: Final[tuple[tuple[type[Exception], FaultKind, str], ...]] = (
    (
        aiohttp.ClientConnectorCertificateError,
        FaultKind.CONNECT,
        "{} presents an untrusted certificate; add its CA to overrides.upstream_tls_ca_path",
    ),
    (
        aiohttp.ClientConnectorSSLError,
        FaultKind.CONNECT,
        "{} does not speak TLS; change https to http in its base_url",
    ),
    (
        aiohttp.ClientConnectorDNSError,
        FaultKind.CONNECT,
        "cannot resolve the host name of {}; check its base_url",
    ),
    (UnicodeError, FaultKind.CONNECT, "cannot resolve the host name of {}; check its base_url"),
    (aiohttp.ClientConnectorError, FaultKind.CONNECT, "cannot connect to {}"),
    (
        aiohttp.ServerDisconnectedError,
        FaultKind.RESET,
        "{} closed the connection without an answer",
    ),
    (
        aiohttp.ClientPayloadError,
        FaultKind.BROKEN,
        "{} closed the connection in the middle of its answer",
    ),
    (aiohttp.ClientResponseError, FaultKind.BAD_ANSWER, "{} sent an answer that is not HTTP"),
    (OSError, FaultKind.RESET, "{} closed the connection without an answer"),
    (Exception, FaultKind.BAD_ANSWER, "the request to {} failed"),
)
"""The fault of each type of error: the first row that matches counts, the last matches all."""


def _fault_of(error: Exception, provider: str, name: str) -> UpstreamFault:
    """The fault of an error; ``name`` says, too, whether there is a proxy."""
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return _proxy_refusal(provider, error.status)
    if isinstance(getattr(error, "os_error", None), ForbiddenAddressError):
        return UpstreamFault(FaultKind.CONNECT, f"the host of {provider} {_METADATA_ADDRESS}")
    is_proxys = name != provider and isinstance(error, aiohttp.ClientConnectorDNSError)
    if is_proxys or isinstance(error, aiohttp.ClientProxyConnectionError):
        detail = f"cannot connect to the proxy of {provider}; check its URL"
        return UpstreamFault(FaultKind.CONNECT, detail)
    kind, text = next((kind, text) for type_, kind, text in _FAULTS if isinstance(error, type_))
    return UpstreamFault(kind, text.format(name))
