"""What a request asks for, and which of the fields that list models are for its provider.

Some providers have fields of the same names as the gateway's lists of fallbacks. Where the request
names a model of such a provider, and the list has names that the gateway does not know, it is the
provider's: it goes on as it came.
"""

from collections.abc import Mapping
from typing import Final

from serve_app.dialects.fields import FALLBACK_KEYS, Intent, is_list_of_names, read_fallbacks
from serve_app.domain import FALLBACK_HEADER, Json
from serve_app.errors import InvalidRequest
from serve_app.exchange import Operation
from serve_app.providers.endpoints import Endpoint
from serve_app.providers.table import ANTHROPIC_OPERATIONS
from serve_app.requests.call import ClientRequest

_ANTHROPIC_FIELDS: Final = frozenset({"fallbacks"})
"""Source: Anthropic API reference, "Messages" (beta): models that are asked after a refusal."""


def is_fallback_off(headers: Mapping[str, str]) -> bool:
    """True if a header of the request turns fallbacks off."""
    return headers.get(FALLBACK_HEADER, "").strip().lower() == "off"


def read_intent(request: ClientRequest) -> Intent:
    """What a request asks for. Raises InvalidRequest."""
    document = request.document
    intent = request.dialect.read_intent(document)
    if document.get("fallbacks") == [] or is_fallback_off(request.deciding_headers):
        intent = intent._replace(falls_back=False)
    lists = {key: value for key in FALLBACK_KEYS if (value := document.get(key))}
    if not lists:
        return intent
    owned = _own_fields(request, intent)
    kept = frozenset(key for key in lists if _is_providers(request, key, lists[key], owned))
    if not kept:
        return intent
    return intent._replace(kept=kept, fallbacks=read_fallbacks(document, kept))


def intent_at(intent: Intent, endpoint: Endpoint, operation: Operation) -> Intent:
    """The intent for one endpoint, which gets only the fields that are its own."""
    if not intent.kept:
        return intent
    owned = endpoint.own_fields
    if operation in ANTHROPIC_OPERATIONS:
        owned |= _ANTHROPIC_FIELDS
    return intent._replace(kept=intent.kept & owned)


def _own_fields(request: ClientRequest, intent: Intent) -> frozenset[str]:
    """The fields that the provider of the named model reads itself."""
    policy = request.snapshot.policy
    name = request.hint or intent.model or ""
    if policy.leaves_open(name):
        return frozenset()
    model = policy.resolve_hint(name)
    endpoints = () if model is None else request.snapshot.providers.endpoints_of(model)
    return frozenset[str]().union(*(endpoint.own_fields for endpoint in endpoints))


def _is_providers(request: ClientRequest, key: str, value: Json, owned: frozenset[str]) -> bool:
    """True for a list that is not meant for the gateway. Raises InvalidRequest if no one reads it."""
    if is_list_of_names(value):
        return key in owned and not all(map(request.snapshot.policy.knows, value))
    if key in owned or (request.dialect.name in ANTHROPIC_OPERATIONS and key in _ANTHROPIC_FIELDS):
        return True
    raise InvalidRequest(f"{key} must be a list of model names", key)
