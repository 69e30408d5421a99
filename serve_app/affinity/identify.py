"""Which session a request belongs to: a header that says so, or a key made of what stays the same.

The implicit key and the tenant's prefix are Plano's, byte for byte, so that both find the other's
bindings.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b, sha256
from typing import Final

from serve_app.config.schema.gateway import GatewayConfig
from serve_app.domain import AUTO_NAMES, Conversation

EXPLICIT_HEADER: Final = "x-model-affinity"
OFF_HEADERS: Final = ("x-plano-cache", "x-fingerpost-affinity")
"""``off`` in one of them leaves a request without a session."""

BUDGET_HEADER: Final = "x-plano-max-switch-spend-pct"
"""The share of what staying would have cost that switches of a session may cost."""

IMPLICIT_SALT: Final = "plano-affinity-v1"

_LONGEST: Final = 256
_FNV_OFFSET: Final = 0xCBF29CE484222325
_FNV_PRIME: Final = 0x100000001B3
_END_OF_CHUNK: Final = b"\x1f"
_MAX_KNOWN: Final = 4096

LONGEST_IMPLICIT: Final = 64 << 10


@dataclass(frozen=True, slots=True)
class Session:
    """A session, as a request names it."""

    id: str
    """What the client said, or the implicit key."""
    tenant: str = ""
    lane: str = ""
    """The name that was asked for: empty for none, or an alias. Lanes do not meet."""

    @property
    def key(self) -> str:
        """Under which the binding is kept."""
        text = f"{self.tenant}:{self.id}" if self.tenant else self.id
        return f"{text}:lane:{self.lane}" if self.lane else text


def wanted_headers(client_headers: Iterable[str], tenant_header: str | None) -> frozenset[bytes]:
    """The names of all headers that decide about sessions, in lower case."""
    names = [EXPLICIT_HEADER, *OFF_HEADERS, BUDGET_HEADER, *client_headers]
    names += [] if tenant_header is None else [tenant_header]
    return frozenset(name.lower().encode() for name in names)


def is_off(headers: Mapping[str, str]) -> bool:
    """True when the request asks to be left without a session."""
    return any(headers.get(name, "").strip().lower() == "off" for name in OFF_HEADERS)


def named_session(headers: Mapping[str, str], client_headers: Sequence[str]) -> str | None:
    """What the client calls its session; None when it does not say."""
    for name in (EXPLICIT_HEADER, *client_headers):
        value = headers.get(name.lower(), "").strip()
        if value:
            return _short(value)
    return None


def tenant_of(headers: Mapping[str, str], tenant_header: str | None) -> str:
    """The tenant, empty where there is none."""
    return "" if tenant_header is None else _short(headers.get(tenant_header.lower(), "").strip())


def session_of(
    config: GatewayConfig, headers: Mapping[str, str], name: str, conversation: Conversation
) -> Session | None:
    """The session of a request, by its headers or by how its conversation begins.

    ``headers`` are those that ``wanted_headers`` names, ``name`` is the model that the request
    asks for. Returns None for a request without a session.
    """
    if is_off(headers):
        return None
    tenant = tenant_of(headers, config.routing.session_cache.tenant_header)
    lane = "" if name.lower() in AUTO_NAMES else name
    own = named_session(headers, config.routing.session_headers)
    first = conversation.first_user_text if own is None and _is_implicit(config) else None
    if first is not None:
        tools = ",".join(conversation.tool_names)
        own = implicit_session(tenant, conversation.system_text, tools, first)
    return None if own is None else Session(own, tenant, lane)


def _is_implicit(config: GatewayConfig) -> bool:
    """Plano's rule for when a conversation without a session header is a session all the same."""
    caching = config.prompt_caching
    by_caching = caching.enabled if caching.session_affinity is None else caching.session_affinity
    routing = config.routing
    by_routing = routing.route_on_user_only and bool(config.routing_preferences)
    return by_caching or by_routing or routing.routing_budget is not None


def implicit_session(tenant: str, system: str, tools: str, first_user: str) -> str:
    """The key of a conversation that nobody named: its beginning stays the same over its turns.

    ``system`` holds the system and developer texts joined by newlines, ``tools`` the names of the
    tools joined by commas. Source: Plano 0.4, FNV-1a with 64 bits over salt and parts, each of
    them ended by the byte 0x1f. Of more than LONGEST_IMPLICIT bytes it is another hash, because
    FNV takes 0.2 us a byte here; with Plano such a session is not shared.
    """
    return f"implicit:{_hashed(tenant, system, tools, first_user)}"


def prefix_hash(tenant: str, system: str, tools: str) -> str:
    """What stands for a conversation's system prompt and tools: 16 hex digits, as above."""
    return _hashed(tenant, system, tools)


def _hashed(*parts: str) -> str:
    salted = (IMPLICIT_SALT, *parts)
    content = b"".join(part.encode("utf-8", "replace") + _END_OF_CHUNK for part in salted)
    digest = blake2b(content, digest_size=8).digest()
    if len(content) > LONGEST_IMPLICIT:
        return digest.hex()
    known = _hashes.get(digest)
    if known is None:
        known = f"{_fnv1a(content):016x}"
        _hashes[digest] = known
        if len(_hashes) > _MAX_KNOWN:
            del _hashes[next(iter(_hashes))]
    return known


_hashes: dict[bytes, str] = {}
"""Computed hashes by a quick one of the same bytes; every turn of a session asks again."""


def _fnv1a(content: bytes) -> int:
    value = _FNV_OFFSET
    for byte in content:
        value = ((value ^ byte) * _FNV_PRIME) & 0xFFFFFFFFFFFFFFFF
    return value


def _short(value: str) -> str:
    """A value as part of a key: what is long, or no plain text, goes in by its hash."""
    if len(value) <= _LONGEST and value.isprintable():
        return value
    return "sha256:" + sha256(value.encode("utf-8", "replace")).hexdigest()
