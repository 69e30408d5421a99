"""What the gateway reads of a request's headers, in one pass."""

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from serve_app.domain import HINT_HEADER, Headers
from serve_app.errors import (
    HeadersTooLarge,
)

_HINT: Final = HINT_HEADER.encode()
_LENGTH_DIGITS: Final = 20
"""A longer length is over every limit anyway."""

_KEY_HEADERS = frozenset({b"authorization", b"x-api-key"})
_FORWARDED = frozenset(
    {
        b"accept",
        b"idempotency-key",
        b"openai-beta",
        b"traceparent",
        b"tracestate",
        b"user-agent",
        b"x-client-request-id",
    }
)


@dataclass(frozen=True, slots=True)
class HeaderFacts:
    """The headers that the gateway itself reads."""

    forwarded: Headers
    """For the provider: an allow-list, so that none of the client's leaks by accident."""
    hint: str | None
    content_length: int | None
    keys: tuple[bytes, ...] = field(repr=False)
    """The client's keys from ``authorization`` and ``x-api-key``; bearer tokens come first."""
    watch_off: bool
    """The client disabled Serve's own watch for clients that leave."""
    origin: str | None
    """The web page that a browser sends the request for."""
    session: Mapping[str, str]
    """Headers that decide about the session, by their lower-case names."""

    @property
    def credential(self) -> str | None:
        """The client's own key, for providers with ``passthrough_auth``."""
        return next((key.decode("utf-8", "replace") for key in self.keys if key), None)


def read_headers(
    headers: Iterable[tuple[bytes, bytes]], limit: int, wanted: Container[bytes] = ()
) -> HeaderFacts:
    """Reads the headers; ``wanted`` are those that decide about the session.

    Raises HeadersTooLarge if all headers together are over ``limit`` bytes.
    """
    size = 0
    forwarded: list[tuple[str, str]] = []
    keys: list[bytes] = []
    hint: str | None = None
    length: int | None = None
    watch_off = False
    origin: str | None = None
    session: dict[str, str] = {}
    for name, value in headers:
        size += len(name) + len(value) + 4  # ": " and the line's end
        if name in wanted:
            session[name.decode("latin-1")] = value.decode("utf-8", "replace")
        if name in _FORWARDED:
            forwarded.append((name.decode("latin-1"), value.decode("latin-1")))
        elif name in _KEY_HEADERS:
            _add_key(keys, name, value)
        elif name == b"content-length" and value.isdigit():
            length = int(value[:_LENGTH_DIGITS])
        elif name == _HINT:
            hint = value.decode("utf-8", "replace")
        elif name == b"x-request-disconnect-disabled":
            watch_off = True
        elif name == b"origin":
            origin = value.decode("latin-1")
    if size > limit:
        raise HeadersTooLarge(limit)
    return HeaderFacts(tuple(forwarded), hint, length, tuple(keys), watch_off, origin, session)


def _add_key(keys: list[bytes], name: bytes, value: bytes) -> None:
    if name == b"x-api-key":
        keys.append(value.strip())
    elif value[:7].lower() == b"bearer ":
        keys.insert(0, value[7:].strip())
