"""What a provider returns: read within limits, and without the gateway's own keys."""

import asyncio
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Self

import aiohttp

from serve_app.dialects.protocol import StreamState, StreamWatch
from serve_app.dialects.sse import EVENT_ENDS, MAX_HELD_BYTES, iterate_events
from serve_app.domain import Headers
from serve_app.exchange import FaultKind, StreamBrokenError, UpstreamFault, UpstreamReply

_REDIRECTS: Final = range(300, 400)
_SUCCESS: Final = range(200, 300)
_FINAL_STATUSES: Final = range(200, 600)
_STREAM_TYPE: Final = "text/event-stream"
_STREAM_BEGINS: Final = (b"data:", b"event:", b"id:", b"retry:", b":")
"""How the first line of an event stream may begin."""
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_PEEK_BYTES: Final = 64 << 10
_ERROR: Final = re.compile(
    rb'"error"\s*:\s*[{\["]|"base_resp"|"choices"\s*:\s*(?:null|\[\s*\])|^event:\s*error',
    re.MULTILINE,
)
_EVENT_ENDS: Final = (*EVENT_ENDS, b"\n\r\n")
_REDACTED: Final = b"***"
_KEEP_ALIVE_NAMES: Final = frozenset({"ping", "keepalive", "keep-alive", "heartbeat"})
_KEEP_ALIVE_DATA: Final = tuple(
    f'{{"type":{gap}"{name}"'.encode() for name in sorted(_KEEP_ALIVE_NAMES) for gap in ("", " ")
)
_KEEP_ALIVES: Final = (
    *(b":", b"\n", b"\r"),
    *(f"event:{gap}{name}".encode() for name in sorted(_KEEP_ALIVE_NAMES) for gap in ("", " ")),
    *(b"data:" + gap + data for data in _KEEP_ALIVE_DATA for gap in (b"", b" ")),
)
"""How a chunk begins that may be a keep-alive."""
_SHORT_BYTES: Final = 512
_LOOK_BYTES: Final = 1 << 10
"""A few events: how much of a chunk is read at once in search of its first content."""
_DELTA: Final = b'"delta"'
_EMPTY: Final = re.compile(
    rb'\s*:\s*\{\s*(?:"role"\s*:\s*"assistant"\s*,?\s*)?(?:"content"\s*:\s*(?:""|null)\s*)?\}'
)


async def is_stream(response: aiohttp.ClientResponse) -> tuple[bool, bytes]:
    """Whether a successful answer is an event stream, and what was read of its body to know.

    Servers send streams under any type, and under none. Where the type does not say that it is a
    stream, its first bytes do.
    """
    first = b""
    if response.status not in _SUCCESS or response.content_type == _STREAM_TYPE:
        return response.status in _SUCCESS, first
    while len(first) < _PEEK_BYTES:
        begin = first.removeprefix(_BYTE_ORDER_MARK).lstrip()
        if begin.startswith(_STREAM_BEGINS):
            return True, first
        may_be_stream = any(field.startswith(begin) for field in _STREAM_BEGINS)
        chunk = await response.content.readany() if may_be_stream else b""
        if not chunk:
            break
        first += chunk
    return False, first


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """The limits of a streamed answer; moments are on the loop's clock."""

    idle_s: float
    """Between two pieces of content, seconds."""
    first_s: float
    """The limit of the first content, seconds, for messages."""
    first_by: float
    """The moment by which the first content must have come."""
    ends_at: float


class StreamBody:
    """Chunks of an answer as they arrive; those that are ready together come together.

    Where there are secrets, an event that has not come whole waits for its rest, because a network
    may cut a key in two. One timer serves the whole stream. Only time spent waiting for the provider counts as idle: a
    client that reads slowly is not a fault of the provider. A keep-alive ends no wait.
    """

    def __init__(
        self,
        response: aiohttp.ClientResponse,
        provider: str,
        secrets: tuple[bytes, ...],
        limits: StreamLimits,
        watch: StreamWatch,
        first: bytes = b"",
    ) -> None:
        """``watch`` tells where the content begins; ``first`` has been read already."""
        self._response = response
        self._first = first
        self._read = self._read_first if first else response.content.readany
        self._provider = provider
        self._secrets = secrets
        self._held = b""
        """The beginning of an event whose end has not come."""
        self._limits = limits
        self._preamble: StreamWatch | None = watch
        self._loop = asyncio.get_running_loop()
        self._waiting_since: float | None = None
        self._waited_s = 0.0
        """Spent on waits that keep-alives ended, since the last content."""
        self._timer = self._loop.call_at(self._due(), self._check_time)

    def _due(self) -> float:
        limits = self._limits
        if self._preamble is not None:
            return min(limits.first_by, limits.ends_at)
        since = self._loop.time() if self._waiting_since is None else self._waiting_since
        return min(since + limits.idle_s - self._waited_s, limits.ends_at)

    def _check_time(self) -> None:
        due = self._due()
        if due > self._loop.time():
            self._timer = self._loop.call_at(due, self._check_time)
        else:
            self._response.content.set_exception(TimeoutError())

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        while True:
            try:
                chunk = await self._receive()
            except StreamBrokenError:
                if not self._held:
                    raise
                chunk = b""  # what is held comes first; the next call raises again
            whole = self._whole(chunk)
            if whole:
                return _redact_errors(whole, self._secrets)
            if not chunk:
                raise StopAsyncIteration

    async def _receive(self) -> bytes:
        """The next chunk as it comes; empty at the end. Raises StreamBrokenError."""
        since = self._waiting_since = self._loop.time()
        try:
            chunk = await self._read()
        except TimeoutError as error:
            raise StreamBrokenError(UpstreamFault(FaultKind.TIMEOUT, self._lateness())) from error
        except (aiohttp.ClientError, OSError) as error:
            detail = f"{self._provider} closed the connection in the middle of its answer"
            raise StreamBrokenError(UpstreamFault(FaultKind.BROKEN, detail)) from error
        self._waiting_since = None
        if not chunk:
            self._timer.cancel()
        elif self._preamble is not None:
            self._look_for_content(self._preamble, chunk)
        elif is_keep_alive(chunk):
            self._waited_s += self._loop.time() - since
        else:
            self._waited_s = 0.0
        return chunk

    def _whole(self, chunk: bytes) -> bytes:
        """The events that are now whole; all that is left for an empty chunk, which is the end.

        An event that is too large to wait for comes in pieces.
        """
        if not self._secrets:
            return chunk
        at_end = not chunk
        if self._held:
            chunk, self._held = self._held + chunk, b""
        if at_end or chunk.endswith(_EVENT_ENDS) or len(chunk) > MAX_HELD_BYTES:
            return chunk
        cut = max((chunk.rfind(end) + len(end) for end in _EVENT_ENDS if end in chunk), default=0)
        self._held = chunk[cut:]
        return chunk[:cut]

    async def _read_first(self) -> bytes:
        self._read = self._response.content.readany
        return self._first

    def _look_for_content(self, watch: StreamWatch, chunk: bytes) -> None:
        """Reads no further than to the first content, because a chunk may be a whole answer."""
        at = 0
        while at < len(chunk) and watch.state is StreamState.PREAMBLE:
            watch.feed(chunk[at : at + _LOOK_BYTES])
            at += _LOOK_BYTES
        if watch.state is not StreamState.PREAMBLE:
            self._preamble = None
            self._timer.cancel()
            self._timer = self._loop.call_at(self._due(), self._check_time)

    def _lateness(self) -> str:
        limits = self._limits
        if self._loop.time() >= limits.ends_at:
            return f"{self._provider} did not complete its answer in time"
        if self._preamble is not None:
            return f"{self._provider} sent no content within {limits.first_s:.3g} s"
        return f"{self._provider} stopped sending: no content for {limits.idle_s:.3g} s in the middle of its answer"

    async def aclose(self) -> None:
        """Gives the exchange up and closes its connection."""
        self._timer.cancel()
        close_response(self._response)


def is_keep_alive(chunk: bytes) -> bool:
    """True for a chunk of a stream that only shows that the provider is there.

    That is comments, blank lines, events that are called so, and one chat event with an empty
    delta. Nearly every chunk is content, which two cheap searches tell.
    """
    if chunk.startswith(_KEEP_ALIVES):
        return all(
            event.data is None
            or event.name in _KEEP_ALIVE_NAMES
            or event.data.startswith(_KEEP_ALIVE_DATA)
            for event in iterate_events(chunk)
        )
    if len(chunk) > _SHORT_BYTES:
        return False
    at = chunk.find(_DELTA)  # faster than a regex here
    if at < 0 or _EMPTY.match(chunk, at + len(_DELTA)) is None:
        return False
    return chunk.count(b"data:") == 1


async def read_complete(
    response: aiohttp.ClientResponse,
    provider: str,
    secrets: tuple[bytes, ...],
    max_bytes: int,
    first: bytes = b"",
) -> UpstreamReply | UpstreamFault:
    """The whole answer, or a fault if it cannot be passed on; ``first`` has been read already."""
    if response.status not in _FINAL_STATUSES:
        response.close()
        detail = f"{provider} returned status {response.status}, which is not between 200 and 599"
        return UpstreamFault(FaultKind.BAD_ANSWER, detail)
    body = await _read_at_most(response, max_bytes, first)
    if body is None:
        detail = f"the answer of {provider} is larger than {max_bytes} bytes"
        return UpstreamFault(FaultKind.BAD_ANSWER, detail)
    if response.status in _REDIRECTS:
        detail = f"{provider} redirects ({response.status}); set base_url to the new address"
        return UpstreamFault(FaultKind.BAD_ANSWER, detail)
    redact = _redact_errors if response.status in _SUCCESS else _redact
    return UpstreamReply(response.status, read_headers(response, secrets), redact(body, secrets))


async def _read_at_most(response: aiohttp.ClientResponse, limit: int, first: bytes) -> bytes | None:
    """The body. Returns None if it is larger, and closes the connection."""
    announced = response.content_length
    compressed = "content-encoding" in response.headers  # content-length counts compressed bytes
    if announced is not None and announced <= limit and not compressed:
        return first + await response.read()
    chunks = [first]
    size = len(first)
    async for chunk in response.content.iter_any():
        chunks.append(chunk)
        size += len(chunk)
        if size > limit:
            response.close()
            return None
    return b"".join(chunks)


def read_headers(response: aiohttp.ClientResponse, secrets: tuple[bytes, ...]) -> Headers:
    """The answer's headers, names in lower case, without those that repeat a secret."""
    headers = tuple([(name.lower(), value) for name, value in response.headers.items()])
    values = b"\n".join([value for _, value in response.raw_headers])
    if not _holds_secret(values, secrets):
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
    if _holds_secret(content, secrets) and _ERROR.search(content):
        return _redact(content, secrets)
    return content


def _holds_secret(content: bytes, secrets: tuple[bytes, ...]) -> bool:
    for secret in secrets:  # noqa: SIM110 - for every chunk: a generator costs more than its searches
        if secret in content:
            return True
    return False


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
