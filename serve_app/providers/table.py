"""Providers as rows: addresses, operations, authentication and quirks.

Adding a provider is one row here and one transcript in the tests; see CONTRIBUTING.md. What a row
cannot express becomes a field of ProviderSpec, not a class.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from types import MappingProxyType
from typing import Final
from urllib.parse import urlsplit

from serve_app.dialects.json_edits import Quirk
from serve_app.domain import Headers
from serve_app.exchange import Operation as Op
from serve_app.providers.model_facts import KIMI_K3, OPENAI_REASONING, ModelQuirk, quirk_by_name

ANTHROPIC_OPERATIONS: Final = frozenset({Op.MESSAGES, Op.COUNT_TOKENS})
CACHE_KEY_OPERATIONS: Final = frozenset({Op.CHAT, Op.RESPONSES})
"""Those of OpenAI's that have ``prompt_cache_key``; source: OpenAI API reference."""

ANTHROPIC_VERSION: Final = ("anthropic-version", "2023-06-01")
"""Sent if the client sends none: Anthropic's API refuses requests without it."""

_MAX_CACHED: Final = 1024


class Auth(Enum):
    """How a key is sent: the header, and the prefix of the key in it."""

    BEARER = ("authorization", "Bearer ")
    X_API_KEY = ("x-api-key", "")
    API_KEY = ("api-key", "")


SIGN_IN_PREFIX: Final = "sk-ant-oat"
"""How Anthropic's tokens of a sign-in begin, which it takes as bearer tokens only."""

AUTH_HEADERS: Final = frozenset(auth.value[0] for auth in Auth)


@dataclass(frozen=True, slots=True)
class ProviderSpec:
    """The facts about a vendor or a kind of server."""

    base_url: str | None
    """None if there is no public address, so ``base_url`` must be configured."""
    operations: frozenset[Op] = frozenset({Op.CHAT})
    """The operations of its API; others are refused."""
    default_path: str = "/v1"
    """Prefix of every path if the base URL has no path of its own."""
    elsewhere: Mapping[Op, str] = field(default_factory=dict)
    """Operations below another prefix of the same host. A base URL with a path hides them."""
    auth: Auth = Auth.BEARER
    key_needed: bool = True
    """True if a request without a key cannot succeed."""
    any_interface: bool = False
    """True if ``provider_interface`` is allowed despite this row."""
    api_version: str | None = None
    """Azure's version; set if each model has its own address below ``/deployments``."""
    quirks: tuple[ModelQuirk, ...] = ()
    own_fields: frozenset[str] = frozenset()
    """Top-level fields of its own API that may have the name of one of the gateway's."""
    cache_key_in: frozenset[Op] = frozenset()
    """Operations that take ``prompt_cache_key``, at its own address."""
    keeps_answers: bool = False
    """True if it keeps responses unless a request says otherwise, so that requests may name them."""
    example: str = "http://host:8000/v1"
    """An example of a base URL, for messages."""
    key_hint: str = ""
    """An addition to the message about a missing key."""
    refused: str | None = None
    """Why the provider is not supported, and what to use instead; None if it is supported."""


_ANTHROPIC: Final = MappingProxyType({Op.MESSAGES: "/anthropic/v1"})

PROVIDERS: Mapping[str, ProviderSpec] = MappingProxyType(
    {
        "openai": ProviderSpec(
            "https://api.openai.com/v1",
            frozenset({Op.CHAT, Op.RESPONSES, Op.EMBEDDINGS, Op.COMPLETIONS, Op.DECISIONS}),
            quirks=OPENAI_REASONING,
            cache_key_in=CACHE_KEY_OPERATIONS,
            keeps_answers=True,
        ),
        "anthropic": ProviderSpec(
            "https://api.anthropic.com/v1",
            ANTHROPIC_OPERATIONS,
            auth=Auth.X_API_KEY,
        ),
        "azure_openai": ProviderSpec(
            None,
            frozenset({Op.CHAT, Op.RESPONSES, Op.EMBEDDINGS, Op.COMPLETIONS}),
            "/openai",
            auth=Auth.API_KEY,
            api_version="2025-01-01-preview",
            quirks=OPENAI_REASONING,
            keeps_answers=True,
            example="https://NAME.openai.azure.com",
        ),
        "amazon_bedrock": ProviderSpec(
            None,
            default_path="/openai/v1",
            example="https://bedrock-runtime.us-east-1.amazonaws.com",
            key_hint=" (a Bedrock API key: requests are not signed with SigV4)",
        ),
        "astraflow": ProviderSpec(
            "https://api-us-ca.umodelverse.ai/v1",
            frozenset({Op.CHAT, Op.EMBEDDINGS}),
            any_interface=True,
        ),
        "astraflow_cn": ProviderSpec(
            "https://api.modelverse.cn/v1", frozenset({Op.CHAT, Op.EMBEDDINGS}), any_interface=True
        ),
        "chatgpt": ProviderSpec(
            "https://chatgpt.com/backend-api/codex",
            frozenset({Op.RESPONSES}),
            "/backend-api/codex",
            refused="requires a subscription sign-in (OAuth), which is not supported; "
            "use openai/ with an API key",
        ),
        "deepseek": ProviderSpec(
            "https://api.deepseek.com/v1", frozenset({Op.CHAT, Op.MESSAGES}), elsewhere=_ANTHROPIC
        ),
        "digitalocean": ProviderSpec(
            "https://inference.do-ai.run/v1",
            frozenset({Op.CHAT, Op.RESPONSES, Op.MESSAGES, Op.EMBEDDINGS}),
        ),
        "edenai": ProviderSpec(
            "https://api.edenai.run/v3",
            frozenset({Op.CHAT, Op.EMBEDDINGS}),
            "/v3",
            own_fields=frozenset({"fallbacks"}),
        ),
        "gemini": ProviderSpec(
            "https://generativelanguage.googleapis.com/v1beta/openai",
            frozenset({Op.CHAT, Op.EMBEDDINGS}),
            "/v1beta/openai",
        ),
        "github": ProviderSpec(
            "https://models.github.ai/inference",
            frozenset({Op.CHAT, Op.EMBEDDINGS}),
            "/inference",
            any_interface=True,
            quirks=OPENAI_REASONING,
        ),
        "groq": ProviderSpec(
            "https://api.groq.com/openai/v1", frozenset({Op.CHAT, Op.RESPONSES}), "/openai/v1"
        ),
        "meta": ProviderSpec(
            "https://api.meta.ai/v1",
            frozenset({Op.CHAT, Op.RESPONSES, Op.MESSAGES}),
            any_interface=True,
        ),
        "minimax": ProviderSpec(
            "https://api.minimax.io/v1",
            frozenset({Op.CHAT, Op.MESSAGES}),
            elsewhere=_ANTHROPIC,
            any_interface=True,
        ),
        "mistral": ProviderSpec(
            "https://api.mistral.ai/v1",
            frozenset({Op.CHAT, Op.EMBEDDINGS}),
            quirks=(ModelQuirk(".*", Quirk(rename={"max_completion_tokens": "max_tokens"})),),
        ),
        "moonshotai": ProviderSpec(
            "https://api.moonshot.ai/v1",
            frozenset({Op.CHAT, Op.MESSAGES}),
            elsewhere=_ANTHROPIC,
            quirks=(KIMI_K3,),
        ),
        "ollama": ProviderSpec(
            None,
            frozenset({Op.CHAT, Op.EMBEDDINGS, Op.COMPLETIONS}),
            key_needed=False,
            example="http://host:11434",
        ),
        "openrouter": ProviderSpec(
            "https://openrouter.ai/api/v1",
            frozenset({Op.CHAT, Op.RESPONSES, Op.MESSAGES, Op.EMBEDDINGS, Op.COMPLETIONS}),
            "/api/v1",
            own_fields=frozenset({"models", "provider", "route"}),
        ),
        "perplexity": ProviderSpec(
            "https://api.perplexity.ai", default_path="", any_interface=True
        ),
        "plano": ProviderSpec(None, key_needed=False),
        "qwen": ProviderSpec(
            None,
            frozenset({Op.CHAT, Op.MESSAGES, Op.EMBEDDINGS}),
            "/compatible-mode/v1",
            elsewhere={Op.MESSAGES: "/apps/anthropic/v1"},
            example="https://dashscope-intl.aliyuncs.com",
        ),
        "together_ai": ProviderSpec(
            "https://api.together.xyz/v1", frozenset({Op.CHAT, Op.EMBEDDINGS, Op.COMPLETIONS})
        ),
        "vercel": ProviderSpec(
            "https://ai-gateway.vercel.sh/v1",
            frozenset({Op.CHAT, Op.RESPONSES, Op.MESSAGES, Op.EMBEDDINGS}),
        ),
        "vllm": ProviderSpec(
            None,
            frozenset({Op.CHAT, Op.EMBEDDINGS, Op.COMPLETIONS}),
            key_needed=False,
            any_interface=True,
        ),
        "xai": ProviderSpec(
            "https://api.x.ai/v1",
            frozenset({Op.CHAT, Op.RESPONSES}),
            quirks=(ModelQuirk(".*", Quirk(drop=frozenset({"web_search_options"}))),),
            keeps_answers=True,
        ),
        "xiaomi": ProviderSpec(
            "https://api.xiaomimimo.com/v1", frozenset({Op.CHAT, Op.MESSAGES}), elsewhere=_ANTHROPIC
        ),
        "zhipu": ProviderSpec(
            "https://open.bigmodel.cn/api/paas/v4",
            frozenset({Op.CHAT, Op.MESSAGES, Op.EMBEDDINGS}),
            "/api/paas/v4",
            elsewhere={Op.MESSAGES: "/api/anthropic/v1"},
        ),
    }
)
INTERFACES: Final = tuple(name for name, spec in PROVIDERS.items() if spec.refused is None)
"""The allowed values of ``provider_interface``."""

_HOST_PATHS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "api.kimi.com": ("/coding/v1",),
        **{
            str(urlsplit(spec.base_url).hostname): (spec.default_path, *spec.elsewhere.values())
            for spec in PROVIDERS.values()
            if spec.base_url is not None
        },
    }
)
_HOST_HEADERS: Mapping[str, Headers] = MappingProxyType(
    {"api.kimi.com": (("user-agent", "KimiCLI/1.3"),)}
)
"""Headers that a host requires, for any row."""


def host_headers(host: str) -> Headers:
    """The headers that a host requires."""
    return _HOST_HEADERS.get(host, ())


def whole_path(host: str, path: str, spec: ProviderSpec) -> str:
    """The path of a base URL. Without one it is the path of a known host, else of the row.

    For a known host, the beginning of its path is enough: ``/openai`` for ``/openai/v1``.

    >>> whole_path("api.groq.com", "/openai", PROVIDERS["groq"])
    '/openai/v1'
    """
    path = path.rstrip("/")
    for known in _HOST_PATHS.get(host, ()):
        if f"{known}/".startswith(f"{path}/"):
            return known
    return path or spec.default_path


@lru_cache(maxsize=_MAX_CACHED)
def quirk_of(interface: str, name: str, operation: Op) -> Quirk:
    """The quirk of a model in an operation: those of its provider's row and its own."""
    return quirk_by_name(PROVIDERS[interface].quirks, name, operation)
