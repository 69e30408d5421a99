"""Answers that later requests may refer to: found before a decision, kept with an answer's end.

A provider that keeps its answers gets the references as they are, and only its endpoint can go
on. For all others the gateway keeps what was said, and puts it into the request.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from serve_app.conversations.shared import SharedConversations
from serve_app.conversations.turns import (
    StoredConversation,
    StoredTurn,
    key_of,
    read_conversation,
    read_turn,
    write_conversation,
    write_turn,
)
from serve_app.dialects.earlier_answers import KeptAnswer, Reference, StateDialect, StateWish
from serve_app.dialects.json_edits import Document
from serve_app.domain import Json, ModelRef
from serve_app.errors import StateUnavailable
from serve_app.providers.endpoints import Endpoint
from serve_app.requests.call import ClientRequest
from serve_app.requests.earlier import Earlier
from serve_app.requests.failures import Failure
from serve_app.requests.progress import RequestProgress

HEALED_THOUGHTS: Final = "thoughts"
HEALED_HISTORY: Final = "history"
"""Values of ``x-fingerpost-healed``: what was left out of the request, or put into it."""

_log = logging.getLogger("fingerpost")

_LOST_THOUGHTS: Final = frozenset({"invalid_encrypted_content"})
_LOST_ANSWERS: Final = frozenset({"previous_response_not_found", "conversation_not_found"})
_NOT_FOUND: Final = 404


class EarlierAnswers:
    """Finds and keeps answers, each for the client that got it."""

    def __init__(self, store: SharedConversations | None) -> None:
        """``store`` None: the gateway keeps nothing itself."""
        self._store = store

    @property
    def keeps(self) -> bool:
        """True if the gateway keeps answers itself."""
        return self._store is not None

    async def resume(self, request: ClientRequest) -> ClientRequest:
        """The request with what it continues. Raises InvalidRequest."""
        state = request.dialect.state
        if state is None:
            return request
        wish = state.read_wish(request.document)
        if wish.reference is None:
            return replace(request, wish=wish) if wish.keeps else request
        earlier = await self._find(request.scope, wish.reference, state)
        return replace(request, wish=wish, earlier=earlier)

    def tap(self, progress: RequestProgress) -> "Tap | None":
        """What keeps the answer of a stream; None if no later request may refer to it."""
        wish, state = progress.request.wish, progress.request.dialect.state
        if self._store is None or wish is None or state is None or not _is_kept(wish):
            return None
        return Tap(self, state, progress)

    async def keep_body(self, progress: RequestProgress, body: bytes) -> None:
        """Keeps a complete answer, if a later request may refer to it."""
        tap = self.tap(progress)
        if tap is not None:
            await tap.take(tap.state.read_answer(body))

    async def keep(self, progress: RequestProgress, kept: KeptAnswer) -> None:
        """Keeps an answer; a store that fails loses it, and not the answer itself."""
        request, endpoint = progress.request, progress.endpoint
        wish, state = request.wish, request.dialect.state
        if self._store is None or wish is None or state is None or endpoint is None:
            return
        by_provider = progress.is_native and _keeps(endpoint, kept)
        is_certain = by_provider and kept.is_stored is True
        earlier = request.earlier
        items = _kept_items(request, state, is_certain=is_certain)
        turn = StoredTurn(
            progress.candidate,
            progress.decision.route,
            endpoint.fingerprint,
            by_provider,
            () if earlier is None or items is None else earlier.ids,
            items,
            None if items is None else kept.answer,
        )
        if not by_provider and items is None:
            return
        await self._store.save(key_of(request.scope, kept.id), write_turn(turn))
        if earlier is not None and earlier.reference.is_conversation:
            conversation = earlier.conversation or StoredConversation()
            conversation = replace(
                conversation,
                chain=conversation.chain if items is None else (*conversation.chain, kept.id),
                items=conversation.items if items is None else (),
                model=turn.model,
                route=turn.route,
                endpoint=turn.endpoint,
                is_at_provider=items is None,
            )
            key = key_of(request.scope, earlier.reference.name)
            await self._store.save(key, write_conversation(conversation))

    async def _find(self, scope: str, reference: Reference, state: StateDialect) -> Earlier:
        if self._store is None:
            return Earlier(reference)
        values = await self._store.load([key_of(scope, reference.name)])
        if values is None:
            return Earlier(reference, is_unavailable=True)
        value = values[0]
        if value is None:
            return Earlier(reference)
        if reference.is_conversation:
            conversation = read_conversation(value)
            if conversation is None:
                return Earlier(reference)
            return await self._in_conversation(scope, reference, conversation, state)
        turn = read_turn(value)
        if turn is None:
            return Earlier(reference)
        before = None if turn.items is None else await self._history(scope, turn.chain, state)
        if before is _UNAVAILABLE:
            return Earlier(reference, is_unavailable=True)
        history = None if before is None else (*before, *_items_of(turn, state))
        return Earlier(
            reference,
            turn.model,
            turn.route,
            turn.endpoint,
            turn.is_at_provider,
            (*turn.chain, reference.name),
            history,
        )

    async def _in_conversation(
        self, scope: str, reference: Reference, stored: StoredConversation, state: StateDialect
    ) -> Earlier:
        history: tuple[Json, ...] | None = None
        if not stored.is_at_provider:
            before = await self._history(scope, stored.chain, state)
            if before is _UNAVAILABLE:
                return Earlier(reference, is_unavailable=True)
            history = None if before is None else (*stored.items, *before)
        return Earlier(
            reference,
            stored.model,
            stored.route,
            stored.endpoint,
            stored.is_at_provider,
            stored.chain,
            history,
            stored,
        )

    async def _history(
        self, scope: str, chain: Sequence[str], state: StateDialect
    ) -> tuple[Json, ...] | None:
        """The items of these turns; None if one is missing, _UNAVAILABLE if that is not known."""
        values = [] if self._store is None else await self._store.load(_keys(scope, chain))
        if values is None:
            return _UNAVAILABLE
        items: list[Json] = []
        for value in values:
            turn = None if value is None else read_turn(value)
            if turn is None or turn.items is None:
                return None
            items += _items_of(turn, state)
        return tuple(items)


_UNAVAILABLE: Final[tuple[Json, ...]] = ("unavailable",)
"""Compared by identity."""


class Tap:
    """Keeps the answer of one stream before the client gets its last event."""

    def __init__(
        self, answers: EarlierAnswers, state: StateDialect, progress: RequestProgress
    ) -> None:
        self.state = state
        self._answers = answers
        self._progress = progress
        self._watch = state.watch()

    async def look(self, events: bytes) -> None:
        """Looks at events that go to the client next."""
        await self.take(self._watch.feed(events))

    async def take(self, kept: KeptAnswer | None) -> None:
        """Keeps an answer; whatever goes wrong with that, the client gets it."""
        if kept is None:
            return
        try:
            await self._answers.keep(self._progress, kept)
        except Exception:  # noqa: BLE001 - logged, and the answer goes on
            _log.exception("an answer could not be kept for later requests")


def document_at(progress: RequestProgress, endpoint: Endpoint, *, is_native: bool) -> Document:
    """The request as an endpoint gets it: with its history, unless the provider has that.

    Raises the error of the dialect, or StateUnavailable, if it can't be continued there.
    """
    earlier, state = progress.request.earlier, progress.request.dialect.state
    if earlier is None or state is None:
        return progress.document
    if earlier.is_at(endpoint.fingerprint, is_native=is_native) and not progress.is_lost:
        return progress.document
    if earlier.history is not None:
        return state.with_history(progress.document, earlier.history, keeps_reference=not is_native)
    if earlier.is_unavailable:
        raise StateUnavailable
    if not earlier.is_known:
        raise state.not_found(earlier.reference, "it is not kept here, or no longer")
    why = "it is not kept here as a whole any more"
    if earlier.is_at_provider:
        why = f"only the provider of {earlier.model} has it, as it is configured here"
    raise state.not_found(earlier.reference, why)


def preferred_endpoints(
    request: ClientRequest, candidate: ModelRef, order: Sequence[int]
) -> Sequence[int]:
    """The order of a candidate's endpoints, first the one that gave the earlier answer.

    It alone if its provider alone has that answer: the others could only refuse.
    """
    earlier = request.earlier
    if earlier is None or not earlier.endpoint:
        return order
    endpoints = request.snapshot.providers.endpoints_of(candidate)
    own = [place for place in order if endpoints[place].fingerprint == earlier.endpoint]
    if own and earlier.is_locked:
        return own
    return [*own, *(place for place in order if place not in own)]


def may_be_elsewhere(progress: RequestProgress, failure: Failure) -> bool:
    """True if a provider does not know a reference that nothing is known of here.

    Another endpoint of the model may: its key may be the one that the answer was made with.
    """
    earlier, reported = progress.request.earlier, failure.reported
    if earlier is None or earlier.is_known or reported is None:
        return False
    return reported.code in _LOST_ANSWERS


def heal(progress: RequestProgress, failure: Failure) -> bool:
    """True if the same exchange may succeed, once, without what its provider could not read.

    That are thoughts that another account has encrypted, or an answer that it has lost and the
    gateway still has.
    """
    state, earlier = progress.request.dialect.state, progress.request.earlier
    code = None if failure.reported is None else failure.reported.code
    if state is None or progress.healed or not progress.is_native or code is None:
        return False
    if code in _LOST_THOUGHTS:
        healed = state.without_thoughts(progress.document)
        if healed is not None:
            progress.document, progress.healed = healed, HEALED_THOUGHTS
        return healed is not None
    is_lost = code in _LOST_ANSWERS or failure.status == _NOT_FOUND
    if is_lost and earlier is not None and earlier.history is not None and earlier.is_at_provider:
        progress.is_lost, progress.healed = True, HEALED_HISTORY
        return True
    return False


def _is_kept(wish: StateWish) -> bool:
    return wish.keeps or (wish.reference is not None and wish.reference.is_conversation)


def _keeps(endpoint: Endpoint, kept: KeptAnswer) -> bool:
    return endpoint.keeps_answers if kept.is_stored is None else kept.is_stored


def _kept_items(
    request: ClientRequest, state: StateDialect, *, is_certain: bool
) -> tuple[Json, ...] | None:
    """What of a request is kept here; None if its provider alone has the conversation.

    ``is_certain``: the provider has said that it keeps the answer.
    """
    earlier = request.earlier
    if earlier is not None and earlier.history is None:
        return None
    own = None if earlier is None else earlier.conversation
    if own is None:
        return None if is_certain else state.items(request.document)
    items = state.items(request.document)
    if items is None or own.chain:
        return items
    return (*own.items, *items)  # so that its first answer can be continued without it, too


def _keys(scope: str, names: Sequence[str]) -> list[str]:
    return [key_of(scope, name) for name in names]


def _items_of(turn: StoredTurn, state: StateDialect) -> tuple[Json, ...]:
    """What a turn adds to its conversation: the request's items, and the answer's."""
    return (*(turn.items or ()), *state.answer_items(turn.answer or {}))
