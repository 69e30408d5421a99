"""Reads the body of a request, and unpacks it (RFC 9110, section 8.4)."""

import asyncio
import zlib
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from serve_app.errors import (
    BodyTimeout,
    BodyTooLarge,
    InvalidJson,
    InvalidRequest,
    UnsupportedEncoding,
)

BODY_IDLE_S: Final = 30.0
"""How long a client may pause while it sends its body."""

BODY_TOTAL_S: Final = 600.0
"""How long a client may take for its whole body, so that one that trickles does not stay for ever."""

_MAX_ENCODINGS: Final = 4
"""One after the other: each costs a pass over the body."""
_MAX_MEMBERS: Final = 16
"""Parts of a gzip body (RFC 1952, section 2.2): each costs a copy of what follows it."""

_GZIP: Final = 16 + zlib.MAX_WBITS
_ZLIB: Final = zlib.MAX_WBITS
_RAW: Final = -zlib.MAX_WBITS


class ClientGoneError(Exception):
    """The client left before its request was read."""


async def read_body(
    receive: Any,  # noqa: ANN401 - ASGI
    length: int | None,
    limit: int,
    encodings: Sequence[str] = (),
) -> bytes:
    """The whole body of a request, unpacked.

    ``encodings`` are the values of ``content-encoding``, in the order in which they were applied.
    ``limit`` counts the bytes that are sent, and those that they unpack to.

    Raises UnsupportedEncoding or InvalidRequest before it is read, BodyTooLarge as soon as it is known to be
    (before it is read when the length is announced), BodyTimeout when the client pauses for longer
    than BODY_IDLE_S or takes longer than BODY_TOTAL_S, ClientGoneError when it leaves, InvalidJson for data that is not what
    ``encodings`` say.
    """
    unpackers = _unpackers(encodings)
    if length is not None and length > limit:
        raise BodyTooLarge(limit)
    body = await _read(receive, limit)
    if body:  # an empty one is reported as such
        for unpack in unpackers:
            body = unpack(body, limit)
    return body


async def _read(receive: Any, limit: int) -> bytes:  # noqa: ANN401 - ASGI
    chunks: list[bytes] = []
    size = 0
    more = True
    loop = asyncio.get_running_loop()
    latest = loop.time() + BODY_TOTAL_S
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
                    patience.reschedule(min(latest, loop.time() + BODY_IDLE_S))
    except TimeoutError as error:
        raise BodyTimeout from error
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _unpackers(encodings: Sequence[str]) -> list[Callable[[bytes, int], bytes]]:
    """What unpacks a body, the last encoding first.

    Raises UnsupportedEncoding, or InvalidRequest for more than _MAX_ENCODINGS.
    """
    named = [name for name in encodings if name not in {"", "identity"}]
    for name in named:
        if name not in _UNPACKERS:
            raise UnsupportedEncoding(name, SUPPORTED_ENCODINGS)
    if len(named) > _MAX_ENCODINGS:
        raise InvalidRequest(f"content-encoding names over {_MAX_ENCODINGS} encodings; use one")
    return [_UNPACKERS[name] for name in reversed(named)]


def _gunzip(body: bytes, limit: int) -> bytes:
    parts: list[bytes] = []
    left, rest = limit, body
    try:
        while rest and len(parts) < _MAX_MEMBERS:
            part, rest = _inflate(rest, _GZIP, left)
            parts.append(part)
            left -= len(part)
    except BodyTooLarge:
        raise BodyTooLarge(limit) from None
    except zlib.error as error:
        raise _corrupt("gzip") from error
    if rest:
        raise _corrupt("gzip", f"it has more than {_MAX_MEMBERS} parts")
    return b"".join(parts)


def _undeflate(body: bytes, limit: int) -> bytes:
    """Unpacks the zlib format, which ``deflate`` means, and bare deflate data, which many send."""
    for window in (_ZLIB, _RAW):
        try:
            unpacked, rest = _inflate(body, window, limit)
        except zlib.error:
            continue
        if not rest:
            return unpacked
    raise _corrupt("deflate")


def _inflate(body: bytes, window: int, limit: int) -> tuple[bytes, bytes]:
    """The data of one stream, and what follows it. Raises zlib.error or BodyTooLarge.

    It stops at the limit, so a small body that unpacks to a huge one does not fill the memory.
    """
    inflater = zlib.decompressobj(window)
    unpacked = inflater.decompress(body, limit + 1)
    if len(unpacked) > limit:
        raise BodyTooLarge(limit)
    if not inflater.eof:
        message = "incomplete"
        raise zlib.error(message)
    return unpacked, inflater.unused_data


def _corrupt(encoding: str, why: str = "it is corrupt or incomplete") -> InvalidJson:
    return InvalidJson(
        f"the body is not {encoding} data, which content-encoding names: {why}; "
        "compress it again, or send it as it is, without content-encoding"
    )


_UNPACKERS: Final[Mapping[str, Callable[[bytes, int], bytes]]] = MappingProxyType(
    {"gzip": _gunzip, "x-gzip": _gunzip, "deflate": _undeflate}
)
SUPPORTED_ENCODINGS: Final = ("gzip", "deflate")
"""What ``content-encoding`` may name, apart from ``identity``."""
