"""Exchanges with providers over pooled HTTP connections.

One transport serves all providers of a configuration: it owns the connections and expands the
keys. What it promises: no redirect is followed, no key shows up in what it returns, an exchange
that is given up closes its connection at once, and every wait has a name and an end.
"""

import asyncio
import io
import re
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Final, Self, TypeAlias

import aiohttp

from serve_app.config.schema.gateway import Timeouts
from serve_app.exchange import (
    FaultKind,
    Operation,
    StreamBrokenError,
    UpstreamFault,
    UpstreamReply,
    UpstreamRequest,
)
from serve_app.providers.endpoints import Endpoint, ProviderTable
from serve_app.providers.outgoing import NoTargetError, Target, target_of
from serve_app.providers.tls import NoCertificatesError, Trust

MAX_ANSWER_BYTES: Final = 112 << 20
"""Of an answer that is not streamed; a hop carries 128 MiB."""

_HEADER_BLOCK_BYTES: Final = 256 << 10
_HEADERS: Final = 4096
"""More than go into a block of that size in practice."""
_LARGE_BODY_BYTES: Final = 1 << 20
_REDIRECTS: Final = range(300, 400)
_SUCCESS: Final = range(200, 300)
_STATUSES: Final = range(200, 600)
_STREAM_TYPES: Final = frozenset({"text/event-stream", "text/plain", "application/octet-stream"})
"""The right one, and what servers that say something else or nothing at all come to."""
_ERROR: Final = re.compile(rb'"error"\s*:\s*[{\["]|^event:\s*error', re.MULTILINE)
_KEEPALIVE_S: Final = 30.0
_SKIPPED = frozenset({"User-Agent", "Accept", "Content-Type"})
_NO_CREDENTIAL: Final = (
    "gets the client's own key, and there is none; send it as `Authorization: Bearer ...` or "
    "`x-api-key: ...`, or configure access_key in place of passthrough_auth"
)
_MAX_TARGETS: Final = 1024


Source: TypeAlias = Callable[[str], tuple[ProviderTable, Timeouts]]
"""The table and the timeouts of a version of the configuration, or the newest ones."""


def fixed(table: ProviderTable, timeouts: Timeouts) -> Source:
    """A source that never changes."""
    return lambda _: (table, timeouts)


class Transport:
    """Opens exchanges with the providers of a table. Not shared between event loops.

    ``environ`` is read when a request first needs it: a key that nobody uses may be missing.
    ``tls_ca`` is a file with certificates that are trusted besides the usual ones.
    """

    def __init__(
        self, source: Source, environ: Mapping[str, str], tls_ca: str | None = None
    ) -> None:
        self._source = source
        self._environ = environ
        self._trust = Trust(tls_ca)
        self._targets: dict[tuple[Endpoint, Operation, str], Target] = {}
        self._sessions: dict[bool, aiohttp.ClientSession] = {}
        """By whether each exchange has a connection of its own; else they are kept and shared."""

    async def open(self, request: UpstreamRequest) -> UpstreamReply | UpstreamFault:
        """The head of the answer with its body, or what went wrong.

        A 2xx event stream comes back as chunks when ``request.stream`` is set; everything else
        is read to its end first.
        """
        table, timeouts = self._source(request.policy)
        endpoint = table.endpoint(request.model, request.endpoint)
        if endpoint is None:
            detail = f"the provider client knows no model {str(request.model)!r}"
            return UpstreamFault(FaultKind.STALE_POLICY, detail)
        if endpoint.passthrough_auth and request.credential is None:
            return UpstreamFault(FaultKind.NO_KEY, f"{endpoint.slug} {_NO_CREDENTIAL}")
        who = request.model.provider
        limit_s = min(request.deadline_s, timeouts.total_s)
        ends_at = asyncio.get_running_loop().time() + limit_s
        head_s = min(limit_s, timeouts.first_byte_s) if request.stream else limit_s
        response: aiohttp.ClientResponse | None = None
        try:
            target = self._target(endpoint, request.operation, request.path)
            async with asyncio.timeout(head_s) as patience:
                response = await self._send(endpoint, target, request, timeouts.connect_s)
                _end_with_connection(response)
                if _is_stream(request, response):
                    body = _Body(response, who, target.secrets, timeouts.idle_s, ends_at)
                    return UpstreamReply(response.status, _headers(response, target.secrets), body)
                if request.stream:
                    patience.reschedule(ends_at)
                return await _read_whole(response, who, target.secrets)
        except TimeoutError as error:
            _close(response)
            return _timed_out(error, who, head_s)
        except NoTargetError as error:
            return error.fault
        except (aiohttp.ClientError, OSError, ValueError) as error:
            _close(response)
            return _meaning(error, who)
        except BaseException:  # given up: the connection goes now, not when it is collected
            _close(response)
            raise

    async def close(self) -> None:
        """Closes every connection."""
        while self._sessions:
            await self._sessions.popitem()[1].close()

    def _target(self, endpoint: Endpoint, operation: Operation, path: str) -> Target:
        """Where an operation goes. Cached until a key file may have changed.

        Raises NoTargetError.
        """
        now = asyncio.get_running_loop().time()
        known = self._targets.get((endpoint, operation, path))
        if known is None or known.good_until <= now:
            known = target_of(endpoint, operation, path, self._environ, now)
            if len(self._targets) >= _MAX_TARGETS:
                self._targets.clear()
            self._targets[endpoint, operation, path] = known
        return known

    async def _send(
        self, endpoint: Endpoint, target: Target, request: UpstreamRequest, connect_s: float
    ) -> aiohttp.ClientResponse:
        url = target.url_for(endpoint, request)
        large = len(request.body) > _LARGE_BODY_BYTES
        return await self._opened(fresh=request.fresh).post(
            url,
            data=io.BytesIO(request.body) if large else request.body,
            headers=target.headers_for(request),
            allow_redirects=False,
            ssl=self._trusted() if url.scheme == "https" else True,
            timeout=_patience(connect_s),
        )

    def _trusted(self) -> ssl.SSLContext | bool:
        """Whom to believe. Raises NoTargetError."""
        try:
            return self._trust.context()
        except NoCertificatesError as error:
            raise NoTargetError(UpstreamFault(FaultKind.CONNECT, str(error))) from error

    def _opened(self, *, fresh: bool) -> aiohttp.ClientSession:
        if fresh not in self._sessions:
            self._sessions[fresh] = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=0,
                    force_close=fresh,
                    keepalive_timeout=None if fresh else _KEEPALIVE_S,
                    ttl_dns_cache=60,
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                skip_auto_headers=_SKIPPED,
                max_line_size=_HEADER_BLOCK_BYTES,
                max_field_size=_HEADER_BLOCK_BYTES,
                max_headers=_HEADERS,
            )
        return self._sessions[fresh]


def _end_with_connection(response: aiohttp.ClientResponse) -> None:
    """Nobody waits for a body whose connection is gone.

    Of bytes that are no HTTP the library closes the connection, and says so to nobody who reads.
    """
    protocol = None if response.connection is None else response.connection.protocol
    closed = None if protocol is None else protocol.closed
    if closed is None:  # as a rule because all of it is here
        return
    content = response.content

    def end(_: object) -> None:
        if not content.is_eof() and content.exception() is None:
            content.set_exception(aiohttp.ClientPayloadError())

    def forget(closed: asyncio.Future[None] = closed) -> None:
        closed.remove_done_callback(end)

    closed.remove_done_callback(_seen)
    closed.add_done_callback(_seen)
    closed.add_done_callback(end)
    content.on_eof(forget)


def _seen(closed: asyncio.Future[None]) -> None:
    """Else a kept connection that ends with an error would be reported by asyncio."""
    if not closed.cancelled():
        closed.exception()


@lru_cache(maxsize=16)
def _patience(connect_s: float) -> aiohttp.ClientTimeout:
    """Only connecting has a limit here, looking the name up included; the exchange itself is
    watched by ``open``.
    """
    return aiohttp.ClientTimeout(total=None, connect=connect_s, sock_connect=connect_s)


def _is_stream(request: UpstreamRequest, response: aiohttp.ClientResponse) -> bool:
    return request.stream and response.status in _SUCCESS and response.content_type in _STREAM_TYPES


class _Body:
    """What has arrived, as it arrives: chunks that are ready together come together.

    One timer for the whole stream, not one a chunk. Only waiting for the provider counts as
    silence: a client that reads slowly is no fault of the provider.
    """

    def __init__(
        self,
        response: aiohttp.ClientResponse,
        who: str,
        secrets: tuple[bytes, ...],
        idle_s: float,
        ends_at: float,
    ) -> None:
        self._response = response
        self._who = who
        self._secrets = secrets
        self._idle_s = idle_s
        self._ends_at = ends_at
        self._loop = asyncio.get_running_loop()
        self._waiting_since: float | None = None
        self._timer = self._loop.call_at(self._due(), self._look)

    def _due(self) -> float:
        since = self._waiting_since
        return min((self._loop.time() if since is None else since) + self._idle_s, self._ends_at)

    def _look(self) -> None:
        due = self._due()
        if due > self._loop.time():
            self._timer = self._loop.call_at(due, self._look)
        else:
            self._response.content.set_exception(TimeoutError())

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        self._waiting_since = self._loop.time()
        try:
            chunk = await self._response.content.readany()
        except TimeoutError as error:
            detail = f"{self._who} stopped sending in the middle of its answer"
            raise StreamBrokenError(UpstreamFault(FaultKind.TIMEOUT, detail)) from error
        except (aiohttp.ClientError, OSError) as error:
            detail = f"{self._who} broke off in the middle of its answer"
            raise StreamBrokenError(UpstreamFault(FaultKind.BROKEN, detail)) from error
        self._waiting_since = None
        if not chunk:
            self._timer.cancel()
            raise StopAsyncIteration
        return _cleaned(chunk, self._secrets)

    async def aclose(self) -> None:
        self._timer.cancel()
        _close(self._response)


async def _read_whole(
    response: aiohttp.ClientResponse, who: str, secrets: tuple[bytes, ...]
) -> UpstreamReply | UpstreamFault:
    if response.status not in _STATUSES:
        response.close()
        detail = f"{who} answered with status {response.status}, which says nothing of the request"
        return UpstreamFault(FaultKind.BAD_ANSWER, detail)
    body = await _read_at_most(response, MAX_ANSWER_BYTES)
    if body is None:
        detail = f"the answer of {who} is larger than {MAX_ANSWER_BYTES} bytes"
        return UpstreamFault(FaultKind.BAD_ANSWER, detail)
    if response.status in _REDIRECTS:
        detail = f"{who} redirects ({response.status}); configure the address that it names"
        return UpstreamFault(FaultKind.BAD_ANSWER, detail)
    clean = _cleaned if response.status in _SUCCESS else _without
    body = clean(body, secrets)
    return UpstreamReply(response.status, _headers(response, secrets), body)


async def _read_at_most(response: aiohttp.ClientResponse, limit: int) -> bytes | None:
    """The body; None when it is larger, and then the connection is closed."""
    announced = response.content_length
    packed = "content-encoding" in response.headers  # the length is that of less than will come
    if announced is not None and announced <= limit and not packed:
        return await response.read()
    chunks: list[bytes] = []
    size = 0
    async for chunk in response.content.iter_any():
        chunks.append(chunk)
        size += len(chunk)
        if size > limit:
            response.close()
            return None
    return b"".join(chunks)


def _without(body: bytes, secrets: tuple[bytes, ...]) -> bytes:
    """An error's body without our keys, which some servers repeat to whoever reads the error."""
    for secret in secrets:
        body = body.replace(secret, b"***")
    return body


def _cleaned(passing: bytes, secrets: tuple[bytes, ...]) -> bytes:
    """What passes as good, without our keys where an error is inside; all else stays as it is,
    for what is a key here may be an ordinary word there.
    """
    if any(secret in passing for secret in secrets) and _ERROR.search(passing):
        return _without(passing, secrets)
    return passing


def _headers(
    response: aiohttp.ClientResponse, secrets: tuple[bytes, ...]
) -> tuple[tuple[str, str], ...]:
    """Its headers, names in lower case; one that repeats a key of ours is left out."""
    headers = tuple((name.lower(), value) for name, value in response.headers.items())
    everything = b"\n".join(value for _, value in response.raw_headers)
    if not any(secret in everything for secret in secrets):
        return headers
    words = [secret.decode(errors="surrogateescape") for secret in secrets]
    return tuple(pair for pair in headers if not any(word in pair[1] for word in words))


def _close(response: aiohttp.ClientResponse | None) -> None:
    if response is not None:
        with suppress(RuntimeError):  # the loop is closing
            response.close()


def _timed_out(error: TimeoutError, who: str, seconds: float) -> UpstreamFault:
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return UpstreamFault(FaultKind.CONNECT, f"{who} could not be connected to in time")
    return UpstreamFault(FaultKind.TIMEOUT, f"{who} did not answer within {seconds:.3g} s")


_MEANINGS: tuple[tuple[type[Exception], FaultKind, str], ...] = (
    (
        aiohttp.ClientConnectorCertificateError,
        FaultKind.CONNECT,
        "shows a certificate that is not trusted here; overrides.upstream_tls_ca_path names more",
    ),
    (aiohttp.ClientConnectorError, FaultKind.CONNECT, "could not be connected to"),
    (aiohttp.ServerDisconnectedError, FaultKind.RESET, "closed the connection without an answer"),
    (aiohttp.ClientPayloadError, FaultKind.BROKEN, "broke off in the middle of its answer"),
    (aiohttp.ClientResponseError, FaultKind.BAD_ANSWER, "did not answer in HTTP"),
    (OSError, FaultKind.RESET, "closed the connection without an answer"),
    (Exception, FaultKind.BAD_ANSWER, "could not be asked"),
)


def _meaning(error: Exception, who: str) -> UpstreamFault:
    for kind_of_error, kind, text in _MEANINGS:
        if isinstance(error, kind_of_error):
            return UpstreamFault(kind, f"{who} {text}")
    raise AssertionError  # pragma: no cover - the last row takes all
