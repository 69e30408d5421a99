"""Where providers have the prompt of a conversation in their caches, for each request that goes on with it."""

from dataclasses import replace
from functools import cached_property
from typing import Final

from serve_app.affinity.identify import Session, beginning_of, is_off, session_of
from serve_app.affinity.sessions import SessionState
from serve_app.dialects.json_edits import Quirk
from serve_app.exchange import Operation
from serve_app.providers.endpoints import Endpoint
from serve_app.requests.call import ClientRequest

_CACHE_KEY: Final = "prompt_cache_key"


class CacheHome:
    """The conversation of a request, by which its endpoint is chosen; each property is read once.

    Requests that name their model belong to their session, too, although they bind nothing.
    """

    def __init__(self, request: ClientRequest, state: SessionState | None) -> None:
        """``state`` None: the request is decided without its session."""
        self._request = request
        self._state = state

    @cached_property
    def session(self) -> Session | None:
        """The session of the request; None for a request that does not continue a conversation."""
        if self._state is not None:
            return self._state.session
        request = self._request
        if not request.dialect.holds_conversations:
            return None
        conversation = request.dialect.read_conversation(request.document)
        config, tenant = request.snapshot.config, request.client.tenant
        return session_of(config, request.deciding_headers, "", conversation, tenant)

    @cached_property
    def name(self) -> str | None:
        """The name of the conversation, or how it begins; None if any endpoint will do."""
        if self.session is not None:
            return self.session.conversation
        request = self._request
        if not request.dialect.holds_conversations or is_off(request.deciding_headers):
            return None
        return beginning_of(request.dialect.read_conversation(request.document))

    def with_cache_key(self, quirk: Quirk, endpoint: Endpoint, operation: Operation) -> Quirk:
        """The quirk, with the provider's name of the conversation where an endpoint takes one."""
        if operation not in endpoint.cache_key_in or self.session is None:
            return quirk
        return replace(quirk, add={**quirk.add, _CACHE_KEY: self.session.cache_key})
