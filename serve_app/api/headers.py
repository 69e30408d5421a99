"""What is settled about a request before anything is decided: who asks, and how much it weighs."""

from collections.abc import Container, Iterable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from serve_app.domain import Headers
from serve_app.errors import (
    HeadersTooLarge,
)

Scope: TypeAlias = MutableMapping[str, Any]

HINT_HEADER: Final = b"x-arch-llm-provider-hint"

_LENGTH_DIGITS: Final = 20
"""More of a length says nothing more: it is over every limit."""

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
    """What we read of a request's headers, in one pass."""

    forwarded: Headers
    """For the provider: an allow-list, so nothing of the client's leaks by accident."""
    hint: str | None
    content_length: int | None
    keys: tuple[bytes, ...] = field(repr=False)
    """What the client shows as its key, in either way; bearer tokens come first."""
    watch_off: bool
    """The client switched Serve's own watch for clients that leave off."""
    origin: str | None
    """The web page that a browser sends the request for."""
    named: Mapping[str, str]
    """Those that the configuration asks for, by their lower-case names."""

    @property
    def credential(self) -> str | None:
        """The client's own key, for a provider that takes that one."""
        return next((key.decode("utf-8", "replace") for key in self.keys if key), None)


def read_headers(
    headers: Iterable[tuple[bytes, bytes]], limit: int, wanted: Container[bytes] = ()
) -> HeaderFacts:
    """The facts. Raises HeadersTooLarge when all headers together are over ``limit`` bytes."""
    size = 0
    forwarded: list[tuple[str, str]] = []
    keys: list[bytes] = []
    hint: str | None = None
    length: int | None = None
    watch_off = False
    origin: str | None = None
    named: dict[str, str] = {}
    for name, value in headers:
        size += len(name) + len(value) + 4  # ": " and the line's end
        if name in wanted:
            named[name.decode("latin-1")] = value.decode("utf-8", "replace")
        if name in _FORWARDED:
            forwarded.append((name.decode("latin-1"), value.decode("latin-1")))
        elif name in _KEY_HEADERS:
            _add_key(keys, name, value)
        elif name == b"content-length" and value.isdigit():
            length = int(value[:_LENGTH_DIGITS])
        elif name == HINT_HEADER:
            hint = value.decode("utf-8", "replace")
        elif name == b"x-request-disconnect-disabled":
            watch_off = True
        elif name == b"origin":
            origin = value.decode("latin-1")
    if size > limit:
        raise HeadersTooLarge(limit)
    return HeaderFacts(tuple(forwarded), hint, length, tuple(keys), watch_off, origin, named)


def _add_key(keys: list[bytes], name: bytes, value: bytes) -> None:
    if name == b"x-api-key":
        keys.append(value.strip())
    elif value[:7].lower() == b"bearer ":
        keys.insert(0, value[7:].strip())
