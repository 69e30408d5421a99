"""What a provider returns: read within limits, and without the gateway's own keys."""

import asyncio
import re
from contextlib import suppress
from typing import Final, Self

import aiohttp

from serve_app.domain import Headers
from serve_app.exchange import FaultKind, StreamBrokenError, UpstreamFault, UpstreamReply

_REDIRECTS: Final = range(300, 400)
_SUCCESS: Final = range(200, 300)
_FINAL_STATUSES: Final = range(200, 600)
_STREAM_TYPES: Final = frozenset({"text/event-stream", "text/plain", "application/octet-stream"})
"""The correct type of an event stream, and the types of servers that set another one or none."""
_ERROR: Final = re.compile(rb'"error"\s*:\s*[{\["]|^event:\s*error', re.MULTILINE)
_REDACTED: Final = b"***"


def is_stream(response: aiohttp.ClientResponse) -> bool:
    """True for a successful answer that may be an event stream."""
    return response.status in _SUCCESS and response.content_type in _STREAM_TYPES


class StreamBody:
    """Chunks of an answer as they arrive; those that are ready together come together.

    One timer serves the whole stream. Only time spent waiting for the provider counts as idle: a
    client that reads slowly is not a fault of the provider.
    """

    def __init__(
        self,
        response: aiohttp.ClientResponse,
        provider: str,
        secrets: tuple[bytes, ...],
        idle_s: float,
        ends_at: float,
    ) -> None:
        self._response = response
        self._provider = provider
        self._secrets = secrets
        self._idle_s = idle_s
        self._ends_at = ends_at
        self._loop = asyncio.get_running_loop()
        self._waiting_since: float | None = None
        self._timer = self._loop.call_at(self._due(), self._check_time)

    def _due(self) -> float:
        since = self._waiting_since
        return min((self._loop.time() if since is None else since) + self._idle_s, self._ends_at)

    def _check_time(self) -> None:
        due = self._due()
        if due > self._loop.time():
            self._timer = self._loop.call_at(due, self._check_time)
        else:
            self._response.content.set_exception(TimeoutError())

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        self._waiting_since = self._loop.time()
        try:
            chunk = await self._response.content.readany()
        except TimeoutError as error:
            detail = f"{self._provider} stopped sending in the middle of its answer"
            raise StreamBrokenError(UpstreamFault(FaultKind.TIMEOUT, detail)) from error
        except (aiohttp.ClientError, OSError) as error:
            detail = f"{self._provider} closed the connection in the middle of its answer"
            raise StreamBrokenError(UpstreamFault(FaultKind.BROKEN, detail)) from error
        self._waiting_since = None
        if not chunk:
            self._timer.cancel()
            raise StopAsyncIteration
        return _redact_errors(chunk, self._secrets)

    async def aclose(self) -> None:
        """Gives the exchange up and closes its connection."""
        self._timer.cancel()
        close_response(self._response)


async def read_complete(
    response: aiohttp.ClientResponse, provider: str, secrets: tuple[bytes, ...], max_bytes: int
) -> UpstreamReply | UpstreamFault:
    """The whole answer, or a fault if it cannot be passed on."""
    if response.status not in _FINAL_STATUSES:
        response.close()
        detail = f"{provider} returned status {response.status}, which is not between 200 and 599"
        return UpstreamFault(FaultKind.BAD_ANSWER, detail)
    body = await _read_at_most(response, max_bytes)
    if body is None:
        detail = f"the answer of {provider} is larger than {max_bytes} bytes"
        return UpstreamFault(FaultKind.BAD_ANSWER, detail)
    if response.status in _REDIRECTS:
        detail = f"{provider} redirects ({response.status}); set base_url to the new address"
        return UpstreamFault(FaultKind.BAD_ANSWER, detail)
    redact = _redact_errors if response.status in _SUCCESS else _redact
    return UpstreamReply(response.status, read_headers(response, secrets), redact(body, secrets))


async def _read_at_most(response: aiohttp.ClientResponse, limit: int) -> bytes | None:
    """The body. Returns None if it is larger, and closes the connection."""
    announced = response.content_length
    compressed = "content-encoding" in response.headers  # content-length counts compressed bytes
    if announced is not None and announced <= limit and not compressed:
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


def read_headers(response: aiohttp.ClientResponse, secrets: tuple[bytes, ...]) -> Headers:
    """The answer's headers, names in lower case, without those that repeat a secret."""
    headers = tuple((name.lower(), value) for name, value in response.headers.items())
    values = b"\n".join(value for _, value in response.raw_headers)
    if not any(secret in values for secret in secrets):
        return headers
    words = [secret.decode(errors="surrogateescape") for secret in secrets]
    return tuple(pair for pair in headers if not any(word in pair[1] for word in words))


def _redact(body: bytes, secrets: tuple[bytes, ...]) -> bytes:
    """The body of an error without secrets, which some servers repeat to the client."""
    for secret in secrets:
        body = body.replace(secret, _REDACTED)
    return body


def _redact_errors(content: bytes, secrets: tuple[bytes, ...]) -> bytes:
    """The content of a successful answer, without secrets if it contains an error.

    Otherwise it stays as it is, because a key here may be an ordinary word there.
    """
    if any(secret in content for secret in secrets) and _ERROR.search(content):
        return _redact(content, secrets)
    return content


def end_with_connection(response: aiohttp.ClientResponse) -> None:
    """Makes the reader of a body fail as soon as its connection is closed.

    After bytes that are not HTTP, aiohttp closes the connection without telling the reader.
    """
    protocol = None if response.connection is None else response.connection.protocol
    closed = None if protocol is None else protocol.closed
    if closed is None:  # usually because the whole answer has arrived
        return
    content = response.content

    def end(_: object) -> None:
        if not content.is_eof() and content.exception() is None:
            content.set_exception(aiohttp.ClientPayloadError())

    def forget(closed: asyncio.Future[None] = closed) -> None:
        closed.remove_done_callback(end)

    closed.remove_done_callback(_retrieve_exception)
    closed.add_done_callback(_retrieve_exception)
    closed.add_done_callback(end)
    content.on_eof(forget)


def _retrieve_exception(closed: asyncio.Future[None]) -> None:
    """Keeps asyncio from reporting a kept connection that ends with an error."""
    if not closed.cancelled():
        closed.exception()


def close_response(response: aiohttp.ClientResponse | None) -> None:
    """Closes the connection of an answer, if there is one."""
    if response is not None:
        with suppress(RuntimeError):  # the loop is closing
            response.close()
