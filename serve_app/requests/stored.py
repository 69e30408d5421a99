"""The API over kept answers and conversations: reads, deletes and lists them.

What only a provider keeps is asked of the endpoint that gave the answer; the provider's answer
goes back as it is.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final
from urllib.parse import parse_qsl, quote
from uuid import uuid4

from serve_app.conversations.shared import SharedConversations
from serve_app.conversations.turns import (
    StoredConversation,
    StoredTurn,
    key_of,
    read_conversation,
    read_turn,
    write_conversation,
)
from serve_app.dialects.json_edits import Document, read_document
from serve_app.dialects.json_values import json_bytes, objects_of, text_of
from serve_app.dialects.openai_items import ItemQuery, item_page
from serve_app.domain import DataPath, Headers, Json
from serve_app.errors import (
    AnswerNotFound,
    ConversationNotFound,
    InvalidRequest,
    NotSupported,
    StateUnavailable,
)
from serve_app.exchange import PATHS, Operation, UpstreamFault, UpstreamRequest
from serve_app.ports import Upstream
from serve_app.requests.answer import JSON_TYPE, Answer, returned_headers
from serve_app.requests.failures import error_of_fault
from serve_app.snapshot import Snapshot

_OK: Final = 200
_NOT_FOUND: Final = 404
_SUCCESS: Final = range(200, 300)
_UNFINISHED: Final = frozenset({"queued", "in_progress"})
"""The status of an answer that its provider still works on."""
_QUERY: Final = "!$&'()*+,;=:@/?%[]"
"""Characters of a query that stay as they are (RFC 3986, section 3.4, and brackets)."""

_MAX_ITEMS: Final = 20
_MAX_PAIRS: Final = 16
_MAX_NAME: Final = 64
_MAX_VALUE: Final = 512
"""Limits of a conversation; source: OpenAI API reference, "Create a conversation"."""
_FIELDS: Final = frozenset({"items", "metadata"})


@dataclass(frozen=True, slots=True)
class StoredCall:
    """A request about what is kept, as the API layer read it."""

    snapshot: Snapshot
    scope: str
    """Whose answers it may see."""
    method: str
    name: str = ""
    """The id of an answer or a conversation."""
    query: bytes = b""
    """As in the address."""
    body: bytes = b""
    headers: Headers = ()
    """Those that go on to a provider."""
    credential: str | None = field(default=None, repr=False)
    """The client's own key, for providers with ``passthrough_auth``."""

    @property
    def key(self) -> str:
        """The key of its answer or conversation."""
        return key_of(self.scope, self.name)

    @property
    def parameters(self) -> dict[str, str]:
        """The query's names and values."""
        return dict(parse_qsl(self.query.decode("utf-8", "replace"), keep_blank_values=True))

    @property
    def wants_stream(self) -> bool:
        """True if the client wants an answer as a stream."""
        return self.method == "GET" and self.parameters.get("stream") == "true"


class _Shelf:
    """Values of clients; a store that is unavailable raises StateUnavailable."""

    def __init__(self, store: SharedConversations | None) -> None:
        self.store = store

    async def load(self, keys: Sequence[str]) -> list[bytes | None]:
        """The values of these keys, None where there is none."""
        if self.store is None:
            return [None for _ in keys]
        values = await self.store.load(keys)
        if values is None:
            raise StateUnavailable
        return values

    async def save(self, key: str, value: bytes) -> None:
        if self.store is None or not await self.store.save(key, value):
            raise StateUnavailable

    async def delete(self, key: str) -> None:
        if self.store is None or await self.store.delete([key]) is None:
            raise StateUnavailable

    async def items_of(self, scope: str, chain: Sequence[str]) -> list[Json]:
        """The items of these turns, without those that a client has deleted."""
        items: list[Json] = []
        for value in await self.load([key_of(scope, name) for name in chain]):
            turn = None if value is None else read_turn(value)
            if turn is not None:
                items += [*(turn.items or ()), *objects_of((turn.answer or {}).get("output"))]
        return items


class StoredAnswers:
    """Answers that are kept here, or by the provider that gave them.

    Each method raises AnswerNotFound for an answer that is not the client's, StateUnavailable,
    InvalidRequest, and UpstreamFailed if the provider that keeps the answer is unavailable.
    """

    def __init__(self, store: SharedConversations | None, upstream: Upstream) -> None:
        """``store`` None: the gateway keeps nothing, so that no answer is found."""
        self._shelf = _Shelf(store)
        self._upstream = upstream

    async def retrieve(self, call: StoredCall) -> Answer:
        """An answer, as its client got it."""
        turn = await self._find(call)
        if turn.answer is None or _is_unfinished(turn):
            return await self._forward(call, turn)
        if call.wants_stream:
            message = "this response is kept as a whole; retrieve it without `stream`"
            raise InvalidRequest(message, "stream")
        return _json_answer(turn.answer)

    async def delete(self, call: StoredCall) -> Answer:
        """Deletes an answer here, and at its provider if that keeps it, too."""
        turn = await self._find(call)
        answer = _json_answer({"id": call.name, "object": "response", "deleted": True})
        if turn.is_at_provider and (turn.answer is None or _place_of(call, turn) is not None):
            forwarded = await self._forward(call, turn)
            if forwarded.status not in _SUCCESS and forwarded.status != _NOT_FOUND:
                return forwarded
            if turn.answer is None:
                answer = forwarded
        await self._shelf.delete(call.key)
        return answer

    async def list_input(self, call: StoredCall) -> Answer:
        """The items that an answer was given to: its conversation up to there, page by page."""
        turn = await self._find(call)
        if turn.items is None:
            return await self._forward(call, turn, "/input_items")
        query = ItemQuery.read(call.parameters)
        before = await self._shelf.items_of(call.scope, turn.chain)
        return _json_answer(item_page([*before, *turn.items], call.name, query))

    async def cancel(self, call: StoredCall) -> Answer:
        """Cancels an answer that its provider makes in the background."""
        turn = await self._find(call)
        if turn.is_at_provider:
            return await self._forward(call, turn, "/cancel")
        message = (
            f"Response with id {call.name!r} is complete; only one that a provider makes in the "
            "background can be cancelled"
        )
        raise InvalidRequest(message)

    async def _find(self, call: StoredCall) -> StoredTurn:
        value = (await self._shelf.load([call.key]))[0]
        turn = None if value is None else read_turn(value)
        if turn is None or (turn.answer is None and not turn.is_at_provider):
            raise _answer_not_found(call)
        return turn

    async def _forward(self, call: StoredCall, turn: StoredTurn, below: str = "") -> Answer:
        """What the provider of an answer says to the same request."""
        reply = await self._upstream.open(_forwarded(call, turn, below))
        if isinstance(reply, UpstreamFault):
            raise error_of_fault(reply, f"{turn.model}: {reply.detail}")
        return Answer(reply.status, returned_headers(reply.headers), reply.body)


def _answer_not_found(call: StoredCall) -> AnswerNotFound:
    return AnswerNotFound(
        f"Response with id {call.name!r} not found: it is not kept here for this key, or no "
        "longer; create it again"
    )


def _place_of(call: StoredCall, turn: StoredTurn) -> int | None:
    """Which endpoint of the model gave an answer.

    Returns None if the configuration no longer has it, or if the answer is not a response.
    """
    for place, endpoint in enumerate(call.snapshot.providers.endpoints_of(turn.model)):
        if endpoint.fingerprint == turn.endpoint and Operation.RESPONSES in endpoint.operations:
            return place
    return None


def _forwarded(call: StoredCall, turn: StoredTurn, below: str) -> UpstreamRequest:
    """The request for the endpoint that gave an answer. Raises AnswerNotFound without it."""
    place = _place_of(call, turn)
    if place is None:
        raise _answer_not_found(call)
    endpoint = call.snapshot.providers.endpoints_of(turn.model)[place]
    path = f"{PATHS[Operation.RESPONSES]}/{quote(call.name, safe='')}{below}"
    query = quote(call.query, safe=_QUERY)
    return UpstreamRequest(
        provider=endpoint.slug,
        model=turn.model,
        operation=Operation.RESPONSES,
        path=f"{path}?{query}" if query else path,
        headers=call.headers,
        body=call.body,
        stream=call.wants_stream,
        deadline_s=call.snapshot.config.timeouts.total_s,
        policy=call.snapshot.version,
        inline=endpoint.data_path is DataPath.INLINE,
        endpoint=place,
        credential=call.credential if endpoint.passthrough_auth else None,
        method=call.method,
    )


class ClientConversations:
    """Conversations that clients create, change and delete.

    Each method raises ConversationNotFound for one that the client has not created here,
    StateUnavailable, InvalidRequest, and NotSupported if the gateway keeps nothing.
    """

    def __init__(
        self, store: SharedConversations | None, wall_clock: Callable[[], float] = time.time
    ) -> None:
        """``store`` None: the gateway keeps nothing. ``wall_clock``: seconds since the epoch."""
        self._shelf = _Shelf(store)
        self._wall_clock = wall_clock

    async def create(self, call: StoredCall) -> Answer:
        """A new conversation, with the items and metadata of the body."""
        if self._shelf.store is None:
            raise NotSupported(
                "conversations are not kept here, because the type of state_storage is none; send "
                "the whole conversation with each request, or set the type to memory or redis"
            )
        document = _document(call.body)
        conversation = StoredConversation(
            items=_items(document),
            created_at=int(self._wall_clock()),
            metadata=_metadata(document),
        )
        call = replace(call, name=f"conv_{uuid4().hex}")
        return await self._save(call, conversation)

    async def retrieve(self, call: StoredCall) -> Answer:
        """A conversation, without its items."""
        return _json_answer(_rendered(call.name, await self._find(call)))

    async def update(self, call: StoredCall) -> Answer:
        """Replaces the metadata of a conversation."""
        conversation = await self._find(call)
        document = _document(call.body)
        if "metadata" not in document.members:
            raise InvalidRequest("metadata is missing; send an object, or null", "metadata")
        return await self._save(call, replace(conversation, metadata=_metadata(document)))

    async def delete(self, call: StoredCall) -> Answer:
        """Deletes a conversation; its answers stay."""
        await self._find(call)
        await self._shelf.delete(call.key)
        return _json_answer({"id": call.name, "object": "conversation.deleted", "deleted": True})

    async def list_items(self, call: StoredCall) -> Answer:
        """The items of a conversation with all its answers, page by page."""
        conversation = await self._find(call)
        query = ItemQuery.read(call.parameters)
        items = await self._shelf.items_of(call.scope, conversation.chain)
        return _json_answer(item_page([*conversation.items, *items], call.name, query))

    async def _find(self, call: StoredCall) -> StoredConversation:
        value = (await self._shelf.load([call.key]))[0]
        conversation = None if value is None else read_conversation(value)
        if conversation is None or conversation.is_at_provider:
            message = (
                f"Conversation with id {call.name!r} not found: it was not created here with this "
                "key, or is not kept any longer; create another one"
            )
            raise ConversationNotFound(message)
        return conversation

    async def _save(self, call: StoredCall, conversation: StoredConversation) -> Answer:
        await self._shelf.save(call.key, write_conversation(conversation))
        return _json_answer(_rendered(call.name, conversation))


@dataclass(frozen=True, slots=True)
class Stored:
    """What clients may do with what is kept."""

    answers: StoredAnswers
    conversations: ClientConversations


def _json_answer(value: Mapping[str, Json]) -> Answer:
    """A complete answer of the gateway's own."""
    return Answer(_OK, (JSON_TYPE,), json_bytes(value))


def _is_unfinished(turn: StoredTurn) -> bool:
    """True for an answer that its provider made in the background, after it was kept here."""
    return turn.is_at_provider and text_of((turn.answer or {}).get("status")) in _UNFINISHED


def _rendered(name: str, conversation: StoredConversation) -> dict[str, Json]:
    return {
        "id": name,
        "object": "conversation",
        "created_at": conversation.created_at,
        "metadata": conversation.metadata or {},
    }


def _document(body: bytes) -> Document:
    """The fields of a body, which may be empty. Raises InvalidRequest and its like."""
    return read_document(body or b"{}", unique=_FIELDS)


def _items(document: Document) -> tuple[Json, ...]:
    """The items that a conversation begins with. Raises InvalidRequest."""
    items = document.get("items")
    if items is None:
        return ()
    if not isinstance(items, list) or len(items) > _MAX_ITEMS:
        raise InvalidRequest(f"items must be a list of at most {_MAX_ITEMS} items", "items")
    for place, item in enumerate(items):
        if not isinstance(item, dict):
            raise InvalidRequest(f"items[{place}] must be an object", f"items[{place}]")
    return tuple(items)


def _metadata(document: Document) -> Mapping[str, Json] | None:
    """The pairs of a conversation. Raises InvalidRequest."""
    metadata = document.get("metadata")
    if metadata is None:
        return None
    if not isinstance(metadata, dict) or len(metadata) > _MAX_PAIRS:
        message = f"metadata must be an object with at most {_MAX_PAIRS} pairs"
        raise InvalidRequest(message, "metadata")
    for name, value in metadata.items():
        if len(name) > _MAX_NAME or not isinstance(value, str) or len(value) > _MAX_VALUE:
            message = (
                f"metadata must have names of at most {_MAX_NAME} characters, and strings of at "
                f"most {_MAX_VALUE} characters as values"
            )
            raise InvalidRequest(message, "metadata")
    return metadata
