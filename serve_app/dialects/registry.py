"""The tables of dialects; the only place that knows them by name.

A new dialect is a package beside ``openai_chat``, its rows here, and its tests.
"""

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Final

from serve_app.dialects.anthropic_messages.errors import MessagesErrors
from serve_app.dialects.openai_chat.conversation import read_turns
from serve_app.dialects.openai_chat.dialect import ChatClient, ChatUpstream
from serve_app.dialects.pipe import SameDialect
from serve_app.dialects.protocol import ClientDialect, DialectPair, ErrorDialect, UpstreamDialect
from serve_app.domain import Json, Turn
from serve_app.exchange import Operation

CLIENT_DIALECTS: Final[tuple[ClientDialect, ...]] = (ChatClient(),)
"""What clients may speak; each has its surfaces below ``/v1`` and ``/routing/v1``."""

DEFAULT_DIALECT: Final = CLIENT_DIALECTS[0]
"""For surfaces without a dialect of their own."""

UPSTREAM_DIALECTS: Final[Mapping[str, UpstreamDialect]] = MappingProxyType(
    {DEFAULT_DIALECT.name: ChatUpstream()}
)
"""What a provider is asked in when the client speaks the dialect of that name."""

_PAIRS: Final[Mapping[str, DialectPair]] = MappingProxyType(
    {client.name: SameDialect(client, UPSTREAM_DIALECTS[client.name]) for client in CLIENT_DIALECTS}
)

_ERROR_DIALECTS: Final[tuple[tuple[str, bytes, ErrorDialect], ...]] = (
    ("/messages", b"anthropic-version", MessagesErrors()),
)
"""Clients that read errors of another shape: the path they call, or a header they send."""

_PREFIXES: Final = ("/v1", "/routing/v1")


def pair(client: ClientDialect, operations: Collection[Operation]) -> DialectPair:
    """The dialects of an exchange with an endpoint that has these operations.

    An endpoint that lacks the client's own operation is asked in it all the same: the provider
    client answers with a fault that names the path.
    """
    del operations  # every client dialect has one upstream dialect so far, its own
    return _PAIRS[client.name]


def error_dialect(path: str, headers: Collection[bytes]) -> ErrorDialect:
    """How errors are rendered for a client that calls ``path`` with headers of these names."""
    for own_path, header, dialect in _ERROR_DIALECTS:
        if header in headers or path.startswith(tuple(p + own_path for p in _PREFIXES)):
            return dialect
    return DEFAULT_DIALECT


def turns_of_messages(messages: Json) -> tuple[Turn, ...]:
    """The turns of a JSON list of messages with ``role`` and ``content``.

    Raises InvalidRequest that names the place if ``messages`` is not such a list.
    """
    return read_turns(messages)
