"""The session of a request: named by a header, or identified by the beginning of its conversation.

The implicit key and the tenant's prefix are the same as Plano's, byte for byte, so that both find
the bindings of the other.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b, sha256
from typing import Final

from serve_app.config.schema.gateway import GatewayConfig
from serve_app.domain import AUTO_NAMES, Conversation

EXPLICIT_HEADER: Final = "x-model-affinity"
OFF_HEADERS: Final = ("x-plano-cache", "x-fingerpost-affinity")
"""``off`` in one of them means that the request has no session."""

BUDGET_HEADER: Final = "x-plano-max-switch-spend-pct"
"""Maximum cost of switches of a session, in percent of its cost without switches."""

AGENT_HEADER: Final = "x-claude-code-agent-id"
"""Names a subagent of Claude Code, whose conversation is not that of its session."""

CLASS_HEADER: Final = "x-claude-code-request-class"
"""What Claude Code sends a request for; source: its documentation of gateways, hint headers."""

SUBAGENT_HEADER: Final = "x-openai-subagent"
"""What a subagent of Codex is for."""

THREAD_HEADER: Final = "thread-id"
"""Names a conversation of Codex: a subagent has its own, and the session of the main one."""

_CONTINUING: Final = frozenset({"", "main", "compaction", "side_reply", "compact"})
"""Classes of requests that continue the conversation itself, and so read its cached prefix."""

_CACHE_KEY_SALT: Final = b"fingerpost prompt_cache_key"

IMPLICIT_SALT: Final = "plano-affinity-v1"

_MAX_NAME_CHARACTERS: Final = 256
_FNV_OFFSET: Final = 0xCBF29CE484222325
_FNV_PRIME: Final = 0x100000001B3
_END_OF_CHUNK: Final = b"\x1f"
_MAX_CACHED_HASHES: Final = 4096

MAX_FNV_BYTES: Final = 64 << 10


@dataclass(frozen=True, slots=True)
class Session:
    """The session of a request."""

    id: str
    """The client's name of it, or the implicit key."""
    tenant: str = ""
    lane: str = ""
    """The requested model: empty, or an alias. Each lane of a session has its own binding."""
    agent: str = ""
    """The client's name of a subagent; empty for the main one."""
    request_class: str = ""
    """What a request beside the conversation is for; empty for those that continue it."""

    @property
    def key(self) -> str:
        """The key of the binding in the store."""
        return f"{self.conversation}:lane:{self.lane}" if self.lane else self.conversation

    @property
    def conversation(self) -> str:
        """The name of the conversation, whichever model its requests name."""
        text = f"{self.tenant}:{self.id}" if self.tenant else self.id
        text = f"{text}:agent:{self.agent}" if self.agent else text
        return f"{text}:class:{self.request_class}" if self.request_class else text

    @property
    def cache_key(self) -> str:
        """A hash of the conversation's name that providers may see: 32 hex digits."""
        name = self.conversation.encode("utf-8", "replace")
        return blake2b(name, digest_size=16, key=_CACHE_KEY_SALT).hexdigest()


def wanted_headers(client_headers: Iterable[str], tenant_header: str | None) -> frozenset[bytes]:
    """The names of all headers that affect sessions, in lower case."""
    names = [EXPLICIT_HEADER, *OFF_HEADERS, BUDGET_HEADER, *client_headers]
    names += [AGENT_HEADER, CLASS_HEADER, SUBAGENT_HEADER, THREAD_HEADER]
    names += [] if tenant_header is None else [tenant_header]
    return frozenset(name.lower().encode() for name in names)


def is_off(headers: Mapping[str, str]) -> bool:
    """True if a header of the request turns sessions off."""
    return any(headers.get(name, "").strip().lower() == "off" for name in OFF_HEADERS)


def named_session(headers: Mapping[str, str], client_headers: Sequence[str]) -> str | None:
    """The client's name of its session. Returns None if no header sets one."""
    for name in (EXPLICIT_HEADER, *client_headers):
        value = headers.get(name.lower(), "").strip()
        if value:
            return _short(value)
    return None


def tenant_of(headers: Mapping[str, str], tenant_header: str | None, own: str = "") -> str:
    """The tenant of a request, ``own`` where no header says otherwise; empty if there is none."""
    if tenant_header is None:
        return own
    return _short(headers.get(tenant_header.lower(), "").strip()) or own


def session_of(
    config: GatewayConfig,
    headers: Mapping[str, str],
    name: str,
    conversation: Conversation,
    own_tenant: str = "",
) -> Session | None:
    """The session of a request, by its headers or by how its conversation begins.

    ``headers`` are those that ``wanted_headers`` names, ``name`` is the model that the request
    asks for, ``own_tenant`` the tenant unless a header names one. Returns None for a request
    without a session.
    """
    if is_off(headers) or (not headers and not _is_implicit(config)):
        return None
    tenant = tenant_of(headers, config.routing.session_cache.tenant_header, own_tenant)
    lane = "" if name.lower() in AUTO_NAMES else name
    own = named_session(headers, config.routing.session_headers)
    first = conversation.first_user_text if own is None and _is_implicit(config) else None
    if first is not None:
        tools = ",".join(conversation.tool_names)
        own = implicit_session(tenant, conversation.system_text, tools, first)
    return None if own is None else Session(own, tenant, lane, *_beside_main(headers))


def _beside_main(headers: Mapping[str, str]) -> tuple[str, str]:
    """The subagent and the class of a request; both are empty for one of the main conversation."""
    agent = headers.get(AGENT_HEADER, "").strip()
    subagent = _class_in(headers, SUBAGENT_HEADER)
    kind = _class_in(headers, CLASS_HEADER) or subagent
    if agent and kind == "subagent":  # the class of any subagent says less than its name
        kind = ""
    if subagent and not agent:
        agent = headers.get(THREAD_HEADER, "").strip()
    return _short(agent), _short(kind)


def _class_in(headers: Mapping[str, str], name: str) -> str:
    """The class that a header names; empty for one that continues the conversation."""
    kind = headers.get(name, "").strip().lower()
    return "" if kind in _CONTINUING else kind


def beginning_of(conversation: Conversation) -> str | None:
    """A hash of how a conversation begins, for one without a session. Returns None if it is empty.

    Conversations that begin alike have the same: they share the beginning of a prompt cache.
    """
    parts = (
        conversation.system_text,
        ",".join(conversation.tool_names),
        conversation.first_user_text or "",
    )
    if not any(parts):
        return None
    content = b"".join(part.encode("utf-8", "replace") + _END_OF_CHUNK for part in parts)
    return blake2b(content, digest_size=16).hexdigest()


def _is_implicit(config: GatewayConfig) -> bool:
    """Plano's rule for when a conversation without a session header is a session all the same."""
    caching = config.prompt_caching
    by_caching = caching.enabled if caching.session_affinity is None else caching.session_affinity
    routing = config.routing
    by_routing = routing.route_on_user_only and bool(config.routing_preferences)
    return by_caching or by_routing or routing.routing_budget is not None


def implicit_session(tenant: str, system: str, tools: str, first_user: str) -> str:
    """The key of a conversation without a name, from its beginning, which no later turn changes.

    ``system`` holds the system and developer texts joined by newlines, ``tools`` the names of the
    tools joined by commas. Source: Plano 0.4, FNV-1a with 64 bits over salt and parts, each of
    them followed by the byte 0x1f. For more than MAX_FNV_BYTES it is another hash, because FNV
    takes 0.2 us per byte here; such a session is not shared with Plano.
    """
    return f"implicit:{_hashed(tenant, system, tools, first_user)}"


def prefix_hash(tenant: str, system: str, tools: str) -> str:
    """The hash of a conversation's system prompt and tools: 16 hex digits, computed as above."""
    return _hashed(tenant, system, tools)


def _hashed(*parts: str) -> str:
    salted = (IMPLICIT_SALT, *parts)
    content = b"".join(part.encode("utf-8", "replace") + _END_OF_CHUNK for part in salted)
    digest = blake2b(content, digest_size=8).digest()
    if len(content) > MAX_FNV_BYTES:
        return digest.hex()
    cached = _hashes.get(digest)
    if cached is None:
        cached = f"{_fnv1a(content):016x}"
        _hashes[digest] = cached
        if len(_hashes) > _MAX_CACHED_HASHES:
            del _hashes[next(iter(_hashes))]
    return cached


_hashes: dict[bytes, str] = {}
"""Cache of hashes, by a faster hash of the same bytes; every turn of a session needs its own."""


def _fnv1a(content: bytes) -> int:
    value = _FNV_OFFSET
    for byte in content:
        value = ((value ^ byte) * _FNV_PRIME) & 0xFFFFFFFFFFFFFFFF
    return value


def _short(value: str) -> str:
    """A value as part of a key; replaced by its hash if it is long or not printable."""
    if len(value) <= _MAX_NAME_CHARACTERS and value.isprintable():
        return value
    return "sha256:" + sha256(value.encode("utf-8", "replace")).hexdigest()
