"""Providers as rows: where they are, what they speak, how they take a key, what they refuse.

Adding a provider is one row here and one transcript in the tests; see CONTRIBUTING.md. What a row
can't say becomes a field of ProviderSpec, not a class.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from types import MappingProxyType
from typing import Final
from urllib.parse import urlsplit

from serve_app.dialects.json_edits import NO_QUIRK, Quirk
from serve_app.domain import Dialect, Headers

CHAT: Final = "/chat/completions"
COMPLETIONS: Final = "/completions"
COUNT_TOKENS: Final = "/messages/count_tokens"
EMBEDDINGS: Final = "/embeddings"
MESSAGES: Final = "/messages"
RESPONSES: Final = "/responses"
PATHS: Final = (CHAT, MESSAGES, COUNT_TOKENS, RESPONSES, EMBEDDINGS, COMPLETIONS)
"""Below a base URL; what a request says it is for."""

ANTHROPIC_PATHS: Final = frozenset({MESSAGES, COUNT_TOKENS})
ANTHROPIC_VERSION: Final = ("anthropic-version", "2023-06-01")
"""Where a client says none: those paths are nothing without one."""

_DIALECTS: Final = MappingProxyType(
    {
        CHAT: Dialect.OPENAI_CHAT,
        RESPONSES: Dialect.OPENAI_RESPONSES,
        MESSAGES: Dialect.ANTHROPIC_MESSAGES,
    }
)
_REMEMBERED: Final = 1024


class Auth(Enum):
    """How a key is shown: a header, and what stands in it before the key."""

    BEARER = ("authorization", "Bearer ")
    X_API_KEY = ("x-api-key", "")
    API_KEY = ("api-key", "")


AUTH_HEADERS: Final = frozenset(auth.value[0] for auth in Auth)


@dataclass(frozen=True, slots=True)
class ModelQuirk:
    """What some models of a provider ask for, on some paths."""

    names: str
    """A pattern for the whole of a model's name."""
    quirk: Quirk
    paths: frozenset[str] = frozenset({CHAT})


@dataclass(frozen=True, slots=True)
class ProviderSpec:
    """What we know of a vendor or server."""

    base_url: str | None
    """None: there is no public address, ``base_url`` must be configured."""
    paths: frozenset[str] = frozenset({CHAT})
    """What it speaks of its own; anything else has to be translated, or is not there."""
    default_path: str = "/v1"
    """Goes before a path when the base URL has no path of its own."""
    elsewhere: Mapping[str, str] = field(default_factory=dict)
    """Paths that lie below another one on the same host. A base URL with a path hides them."""
    auth: Auth = Auth.BEARER
    auth_of: Mapping[str, Auth] = field(default_factory=dict)
    """Paths that take the key in another way."""
    key_needed: bool = True
    """True where a request without a key can't succeed."""
    any_interface: bool = False
    """True where ``provider_interface`` may stand, although there is this row."""
    api_version: str | None = None
    """Set where each model has an address of its own, below ``/deployments``: Azure's version."""
    quirks: tuple[ModelQuirk, ...] = ()
    example: str = "http://host:8000/v1"
    """A base URL, for who has to write one."""
    key_hint: str = ""
    """What else there is to say where the key is missing."""
    refused: str | None = None
    """Why it can't be had, where that is so, and the way out."""

    @property
    def dialects(self) -> frozenset[Dialect]:
        """The dialects that it speaks of its own."""
        return frozenset(_DIALECTS[path] for path in self.paths if path in _DIALECTS)


def _set(*names: str) -> frozenset[str]:
    return frozenset(names)


_ANTHROPIC: Final = MappingProxyType({MESSAGES: "/anthropic/v1"})
_OPENAI_QUIRKS: Final = (
    ModelQuirk(
        r"(.*/)?(o[1-9]|gpt-[5-9])([.-].*)?",
        Quirk(rename={"max_tokens": "max_completion_tokens"}),
    ),
    ModelQuirk(
        r"(.*/)?(o[1-9](-(mini|pro|preview))?|gpt-5(-(mini|nano|pro))?)(-\d{4}-\d{2}-\d{2})?",
        Quirk(values={"temperature": {1: 1}}),
        _set(CHAT, RESPONSES),
    ),
)
"""Reasoning models take neither the old name of the limit nor another temperature than 1."""

_KIMI_K3: Final = ModelQuirk(
    "kimi-k3",
    Quirk(
        drop=_set("temperature", "top_p", "n", "presence_penalty", "frequency_penalty"),
        values={
            "reasoning_effort": {
                **dict.fromkeys(("none", "minimal", "low"), "low"),
                **dict.fromkeys(("medium", "high"), "high"),
                "max": "max",
            }
        },
    ),
)
_EVERYWHERE: Final = (
    ModelQuirk(
        "kimi-for-coding",
        Quirk(
            drop=_set(
                "reasoning_effort", "service_tier", "store", "stream_options", "thinking",
                "web_search_options",
            )
        ),
    ),
)  # fmt: skip
"""Quirks of models, whoever's row applies."""

PROVIDERS: Mapping[str, ProviderSpec] = MappingProxyType(
    {
        "openai": ProviderSpec(
            "https://api.openai.com/v1",
            _set(CHAT, RESPONSES, EMBEDDINGS, COMPLETIONS),
            quirks=_OPENAI_QUIRKS,
        ),
        "anthropic": ProviderSpec(
            "https://api.anthropic.com/v1",
            _set(CHAT, MESSAGES, COUNT_TOKENS),
            auth_of=dict.fromkeys(ANTHROPIC_PATHS, Auth.X_API_KEY),
        ),
        "azure_openai": ProviderSpec(
            None,
            _set(CHAT, RESPONSES, EMBEDDINGS, COMPLETIONS),
            "/openai",
            auth=Auth.API_KEY,
            api_version="2025-01-01-preview",
            quirks=_OPENAI_QUIRKS,
            example="https://NAME.openai.azure.com",
        ),
        "amazon_bedrock": ProviderSpec(
            None,
            default_path="/openai/v1",
            example="https://bedrock-runtime.us-east-1.amazonaws.com",
            key_hint=" (a Bedrock API key: requests are not signed with SigV4)",
        ),
        "astraflow": ProviderSpec(
            "https://api-us-ca.umodelverse.ai/v1", _set(CHAT, EMBEDDINGS), any_interface=True
        ),
        "astraflow_cn": ProviderSpec(
            "https://api.modelverse.cn/v1", _set(CHAT, EMBEDDINGS), any_interface=True
        ),
        "chatgpt": ProviderSpec(
            "https://chatgpt.com/backend-api/codex",
            _set(RESPONSES),
            "/backend-api/codex",
            refused="signs in with a subscription (OAuth), which is not supported; "
            "use openai/ with an API key",
        ),
        "deepseek": ProviderSpec(
            "https://api.deepseek.com/v1", _set(CHAT, MESSAGES), elsewhere=_ANTHROPIC
        ),
        "digitalocean": ProviderSpec(
            "https://inference.do-ai.run/v1", _set(CHAT, RESPONSES, MESSAGES, EMBEDDINGS)
        ),
        "edenai": ProviderSpec("https://api.edenai.run/v3", _set(CHAT, EMBEDDINGS), "/v3"),
        "gemini": ProviderSpec(
            "https://generativelanguage.googleapis.com/v1beta/openai",
            _set(CHAT, EMBEDDINGS),
            "/v1beta/openai",
        ),
        "github": ProviderSpec(
            "https://models.github.ai/inference",
            _set(CHAT, EMBEDDINGS),
            "/inference",
            any_interface=True,
            quirks=_OPENAI_QUIRKS,
        ),
        "groq": ProviderSpec("https://api.groq.com/openai/v1", _set(CHAT, RESPONSES), "/openai/v1"),
        "meta": ProviderSpec(
            "https://api.meta.ai/v1", _set(CHAT, RESPONSES, MESSAGES), any_interface=True
        ),
        "minimax": ProviderSpec(
            "https://api.minimax.io/v1",
            _set(CHAT, MESSAGES),
            elsewhere=_ANTHROPIC,
            any_interface=True,
        ),
        "mistral": ProviderSpec(
            "https://api.mistral.ai/v1",
            _set(CHAT, EMBEDDINGS),
            quirks=(ModelQuirk(".*", Quirk(rename={"max_completion_tokens": "max_tokens"})),),
        ),
        "moonshotai": ProviderSpec(
            "https://api.moonshot.ai/v1",
            _set(CHAT, MESSAGES),
            elsewhere=_ANTHROPIC,
            quirks=(_KIMI_K3,),
        ),
        "ollama": ProviderSpec(
            None,
            _set(CHAT, EMBEDDINGS, COMPLETIONS),
            key_needed=False,
            example="http://host:11434",
        ),
        "openrouter": ProviderSpec(
            "https://openrouter.ai/api/v1",
            _set(CHAT, RESPONSES, MESSAGES, EMBEDDINGS, COMPLETIONS),
            "/api/v1",
        ),
        "perplexity": ProviderSpec(
            "https://api.perplexity.ai", default_path="", any_interface=True
        ),
        "plano": ProviderSpec(None, key_needed=False),
        "qwen": ProviderSpec(
            None,
            _set(CHAT, MESSAGES, EMBEDDINGS),
            "/compatible-mode/v1",
            elsewhere={MESSAGES: "/apps/anthropic/v1"},
            example="https://dashscope-intl.aliyuncs.com",
        ),
        "together_ai": ProviderSpec(
            "https://api.together.xyz/v1", _set(CHAT, EMBEDDINGS, COMPLETIONS)
        ),
        "vercel": ProviderSpec(
            "https://ai-gateway.vercel.sh/v1", _set(CHAT, RESPONSES, MESSAGES, EMBEDDINGS)
        ),
        "vllm": ProviderSpec(
            None, _set(CHAT, EMBEDDINGS, COMPLETIONS), key_needed=False, any_interface=True
        ),
        "xai": ProviderSpec(
            "https://api.x.ai/v1",
            _set(CHAT, RESPONSES),
            quirks=(ModelQuirk(".*", Quirk(drop=_set("web_search_options"))),),
        ),
        "xiaomi": ProviderSpec(
            "https://api.xiaomimimo.com/v1", _set(CHAT, MESSAGES), elsewhere=_ANTHROPIC
        ),
        "zhipu": ProviderSpec(
            "https://open.bigmodel.cn/api/paas/v4",
            _set(CHAT, MESSAGES, EMBEDDINGS),
            "/api/paas/v4",
            elsewhere={MESSAGES: "/api/anthropic/v1"},
        ),
    }
)
INTERFACES: Final = tuple(name for name, spec in PROVIDERS.items() if spec.refused is None)
"""What ``provider_interface`` may say."""

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
"""What a host wants to hear, whoever's row applies."""


def host_headers(host: str) -> Headers:
    """Headers that a host does not answer without."""
    return _HOST_HEADERS.get(host, ())


def whole_path(host: str, path: str, spec: ProviderSpec) -> str:
    """The path of a base URL. Without one it is the row's, or, better, the host's own.

    On a host that we know, the beginning of its path is enough: ``/openai`` for
    ``/openai/v1``.

    >>> whole_path("api.groq.com", "/openai", PROVIDERS["groq"])
    '/openai/v1'
    """
    path = path.rstrip("/")
    for known in _HOST_PATHS.get(host, ()):
        if f"{known}/".startswith(f"{path}/"):
            return known
    return path or spec.default_path


@lru_cache(maxsize=_REMEMBERED)
def quirk_of(interface: str, name: str, path: str) -> Quirk:
    """What a model asks for on a path: the quirks of its row and of its own, as one."""
    quirks = [
        quirky.quirk
        for quirky in (*PROVIDERS[interface].quirks, *_EVERYWHERE)
        if path in quirky.paths and re.fullmatch(quirky.names, name)
    ]
    return _merged(quirks) if quirks else NO_QUIRK


def _merged(quirks: Iterable[Quirk]) -> Quirk:
    drop: frozenset[str] = frozenset()
    rename: dict[str, str] = {}
    values: dict[str, Mapping[str | float, str | float]] = {}
    for quirk in quirks:
        drop |= quirk.drop
        rename.update(quirk.rename)
        values.update(quirk.values)
    return Quirk(drop, rename, values)
