"""What the gateway reads of a request's headers, in one pass."""

from collections.abc import Callable, Container, Iterable, Mapping
from typing import Final, NamedTuple

from serve_app.domain import HINT_HEADER, Headers
from serve_app.errors import (
    HeadersTooLarge,
)

KEY_HEADER: Final = "x-fingerpost-key"
"""The client's key of this gateway, where the other headers hold one for a provider."""

_HINT: Final = HINT_HEADER.encode()
_OWN_KEY: Final = KEY_HEADER.encode()
_WATCH_OFF: Final = b"x-request-disconnect-disabled"
_LENGTH_DIGITS: Final = 20
"""A longer length is over every limit anyway."""

_KEY_HEADERS = frozenset({b"authorization", b"x-api-key"})
_FORWARDED = frozenset(
    {
        b"accept",
        b"anthropic-beta",
        b"anthropic-version",
        b"idempotency-key",
        b"openai-beta",
        b"traceparent",
        b"tracestate",
        b"user-agent",
        b"x-app",
        b"x-client-request-id",
    }
)
_FORWARDED_PREFIX: Final = b"x-stainless-"
"""How the official SDKs describe themselves."""

_READ = frozenset({_HINT, _OWN_KEY, _WATCH_OFF, b"content-length", b"host", b"origin"})
"""Headers that the gateway reads itself; of several the last one counts."""


class HeaderFacts(NamedTuple):
    """The headers that the gateway itself reads.

    A named tuple, because making one is part of every request.
    """

    forwarded: Headers
    """For the provider: an allow-list, so that none of the client's leaks by accident."""
    hint: str | None
    content_length: int | None
    encodings: tuple[str, ...]
    """The values of ``content-encoding`` in lower case, in the order in which they were applied."""
    keys: tuple[bytes, ...]
    """All keys that admit the client: that of ``x-fingerpost-key``, then ``other_keys``."""
    other_keys: tuple[bytes, ...]
    """From ``authorization`` and ``x-api-key``; bearer tokens come first."""
    watch_off: bool
    """The client disabled Serve's own watch for clients that leave."""
    host: str | None
    """The host that the request is for."""
    origin: str | None
    """The web page that a browser sends the request for."""
    deciding: Mapping[str, str]
    """Headers that decide about the session or match rules, by their lower-case names."""

    def __repr__(self) -> str:
        return f"<HeaderFacts for {self.host}, {len(self.keys)} keys>"

    def credential(self, is_ours: Callable[[bytes], bool]) -> str | None:
        """The client's own key for providers with ``passthrough_auth``.

        It is never that of ``x-fingerpost-key``, nor one of which ``is_ours`` says that it is a
        client key of this gateway.
        """
        own = self.keys[: len(self.keys) - len(self.other_keys)]
        for key in self.other_keys:
            if key and key not in own and not is_ours(key):
                return key.decode("utf-8", "replace")
        return None


def text_of(value: bytes) -> str:
    """The text of a header: UTF-8, as most clients write it, else Latin-1, as RFC 9110 has it."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def read_headers(
    headers: Iterable[tuple[bytes, bytes]], limit: int, wanted: Container[bytes] = ()
) -> HeaderFacts:
    """Reads the headers; ``wanted`` are those of ``deciding``.

    Raises HeadersTooLarge if all headers together are over ``limit`` bytes.
    """
    size = 0
    forwarded: list[tuple[str, str]] = []
    keys: list[bytes] = []
    encodings: list[str] = []
    read: dict[bytes, bytes] = {}
    deciding: dict[str, str] = {}
    for name, value in headers:
        size += len(name) + len(value) + 4  # ": " and the line's end
        if name in wanted:
            deciding[name.decode("latin-1")] = text_of(value)
        if name in _FORWARDED or name.startswith(_FORWARDED_PREFIX):
            forwarded.append((name.decode("latin-1"), text_of(value)))
        elif name in _KEY_HEADERS:
            _add_key(keys, name, value)
        elif name in _READ:
            read[name] = value
        elif name == b"content-encoding":
            encodings += [part.strip().lower() for part in value.decode("latin-1").split(",")]
    if size > limit:
        raise HeadersTooLarge(limit)
    own_key = read.get(_OWN_KEY, b"").strip()
    hint, host, origin = read.get(_HINT), read.get(b"host"), read.get(b"origin")
    length = read.get(b"content-length", b"")
    return HeaderFacts(
        forwarded=tuple(forwarded),
        hint=None if hint is None else text_of(hint),
        content_length=int(length[:_LENGTH_DIGITS]) if length.isdigit() else None,
        encodings=tuple(encodings),
        keys=(own_key, *keys) if own_key else tuple(keys),
        other_keys=tuple(keys),
        watch_off=_WATCH_OFF in read,
        host=None if host is None else host.decode("latin-1").lower(),
        origin=None if origin is None else origin.decode("latin-1"),
        deciding=deciding,
    )


def _add_key(keys: list[bytes], name: bytes, value: bytes) -> None:
    if name == b"x-api-key":
        keys.append(value.strip())
    elif value[:7].lower() == b"bearer ":
        keys.insert(0, value[7:].strip())
