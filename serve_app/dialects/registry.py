"""The tables of dialects; the only place that knows them by name.

A new dialect is a package beside ``openai_chat``, its rows here, and its tests.
"""

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Final

from serve_app.dialects.anthropic_messages.codec import MessagesCodec
from serve_app.dialects.anthropic_messages.dialect import (
    CountTokensClient,
    CountTokensUpstream,
    MessagesClient,
    MessagesUpstream,
)
from serve_app.dialects.anthropic_messages.errors import MessagesErrors
from serve_app.dialects.anthropic_messages.model_facts import facts_of
from serve_app.dialects.json_edits import Document
from serve_app.dialects.message_list import read_turns
from serve_app.dialects.openai_chat.codec import ChatCodec
from serve_app.dialects.openai_chat.dialect import ChatClient, ChatUpstream
from serve_app.dialects.openai_completions import CompletionsClient, CompletionsUpstream
from serve_app.dialects.openai_decisions import DecisionsClient, DecisionsUpstream
from serve_app.dialects.openai_embeddings import EmbeddingsClient, EmbeddingsUpstream
from serve_app.dialects.openai_responses.codec import ResponsesCodec
from serve_app.dialects.openai_responses.dialect import ResponsesClient, ResponsesUpstream
from serve_app.dialects.pipe import SameDialect
from serve_app.dialects.protocol import (
    ClientDialect,
    Codec,
    DialectPair,
    ErrorDialect,
    UpstreamDialect,
)
from serve_app.dialects.system_one import SystemOneClient
from serve_app.dialects.translation import OtherDialect
from serve_app.dialects.typed_questions import QuestionDialect
from serve_app.domain import Json, Turn
from serve_app.exchange import Operation

CLIENT_DIALECTS: Final[tuple[ClientDialect, ...]] = (
    ChatClient(),
    MessagesClient(),
    CountTokensClient(),
    ResponsesClient(),
    EmbeddingsClient(),
    CompletionsClient(),
    DecisionsClient(),
)
"""What clients may speak; ``api/surfaces.py`` derives their paths."""

DEFAULT_DIALECT: Final = CLIENT_DIALECTS[0]
"""For surfaces without a dialect of their own."""

UPSTREAM_DIALECTS: Final[Mapping[str, UpstreamDialect]] = MappingProxyType(
    {
        "chat": ChatUpstream(),
        "messages": MessagesUpstream(),
        "count_tokens": CountTokensUpstream(),
        "responses": ResponsesUpstream(),
        "embeddings": EmbeddingsUpstream(),
        "completions": CompletionsUpstream(),
        "decisions": DecisionsUpstream(),
    }
)
"""What a provider is asked in when the client speaks the dialect of that name."""

_CLIENTS: Final[Mapping[str, ClientDialect]] = MappingProxyType(
    {client.name: client for client in CLIENT_DIALECTS}
)
_CODECS: Final[Mapping[str, Codec]] = MappingProxyType(
    {"chat": ChatCodec(), "messages": MessagesCodec(), "responses": ResponsesCodec()}
)
"""In the order in which providers that have several are asked: chat is what most do best."""

SYSTEM_ONE: Final = SystemOneClient()
"""TypeSafe's typed questions, which only the gateway's own orchestrator answers."""

QUESTION_DIALECTS: Final[Mapping[str, QuestionDialect]] = MappingProxyType(
    {"decisions": DecisionsClient(), SYSTEM_ONE.name: SYSTEM_ONE}
)
"""The client dialects that ask typed questions, by name."""

_PAIRS: Final[Mapping[str, DialectPair]] = MappingProxyType(
    {client.name: SameDialect(client, UPSTREAM_DIALECTS[client.name]) for client in CLIENT_DIALECTS}
)


def _translations(client: ClientDialect) -> Mapping[Operation, DialectPair]:
    """The pairs of a client with every other dialect that it can be translated to."""
    own = _CODECS.get(client.name)
    if own is None:
        return {}
    return {
        UPSTREAM_DIALECTS[name].operation: OtherDialect(client, own, UPSTREAM_DIALECTS[name], codec)
        for name, codec in _CODECS.items()
        if name != client.name
    }


_TRANSLATED: Final[Mapping[str, Mapping[Operation, DialectPair]]] = MappingProxyType(
    {client.name: _translations(client) for client in CLIENT_DIALECTS}
)

_ERROR_DIALECTS: Final[tuple[tuple[str, bytes, ErrorDialect], ...]] = (
    ("/messages", b"anthropic-version", MessagesErrors()),
)
"""Clients that read errors of another shape: the path they call, or a header they send."""

_PREFIXES: Final = ("/v1", "/routing/v1", "/v1/v1")
"""The last one is that of clients whose base URL has a ``/v1`` too many."""


def pair(client: ClientDialect, operations: Collection[Operation]) -> DialectPair:
    """The dialects of an exchange with an endpoint that has these operations.

    The client's own if the endpoint has it, else the first that it can be translated to. An
    endpoint that has neither is asked in the client's own all the same: the provider client
    answers with a fault that names the path.
    """
    own = _PAIRS[client.name]
    if own.upstream.operation in operations:
        return own
    for operation, other in _TRANSLATED[client.name].items():
        if operation in operations:
            return other
    return own


def client_dialect(name: str) -> ClientDialect:
    """The client dialect of this name. Raises KeyError if there is none."""
    return _CLIENTS[name]


def is_served(client: ClientDialect, operations: Collection[Operation]) -> bool:
    """True if an endpoint that has these operations can answer a client of this dialect."""
    return pair(client, operations).upstream.operation in operations


def dialect_of(document: Document, headers: Collection[str]) -> ClientDialect:
    """The dialect that a body is most likely written in; ``headers`` are names in lower case."""
    keys = document.members
    if "messages" in keys:
        anthropic = "anthropic-version" in headers or "system" in keys
        return _CLIENTS["messages" if anthropic else "chat"]
    if "prompt" in keys and "input" not in keys and isinstance(document.get("prompt"), str | list):
        return _CLIENTS["completions"]
    if "questions" in keys and "input" in keys:
        return _CLIENTS["decisions"]
    return _CLIENTS["responses" if "input" in keys else "chat"]


def max_output_tokens(model: str) -> int | None:
    """The most tokens that a model answers with. Returns None unless a dialect knows it by name."""
    return facts_of(model).max_output


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
