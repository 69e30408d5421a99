"""What each provider is sent on each path that it speaks of its own: one line each.

The address is the vendor's own, or, where each customer has another, that of the example in
``base_url``. The target is what a server of one's own sees of the request's first line, when
``base_url`` names the server and no path.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from serve_app.exchange import Operation
from tests.site import SECRET

CHAT = Operation.CHAT
COMPLETIONS = Operation.COMPLETIONS
COUNT = Operation.COUNT_TOKENS
DECISIONS = Operation.DECISIONS
EMBEDDINGS = Operation.EMBEDDINGS
MESSAGES = Operation.MESSAGES
RESPONSES = Operation.RESPONSES

BEARER = {"authorization": f"Bearer {SECRET}"}
VERSION = {"anthropic-version": "2023-06-01"}
MODEL = "some/model-1"
"""As a path's part it is some%2Fmodel-1."""


@dataclass(frozen=True)
class Transcript:
    provider: str
    operation: Operation
    address: str
    target: str
    shown: Mapping[str, str] = field(default_factory=lambda: BEARER)
    """The headers beside those that every request has."""
    base: str = ""
    """The path that ``base_url`` must have for it."""
    base_url: str | None = None
    """Where the vendor has no address for everybody."""


def anthropic(provider: str, address: str, target: str, base_url: str | None = None) -> Transcript:
    """The messages of a provider that takes a bearer token there, too."""
    return Transcript(provider, MESSAGES, address, target, {**BEARER, **VERSION}, "", base_url)


AZURE = "https://me.openai.azure.com"
AZURE_KEY = {"api-key": SECRET}
AZURE_AT = "/openai/deployments/some%2Fmodel-1"
AZURE_VERSION = "?api-version=2025-01-01-preview"
ANTHROPIC = {"x-api-key": SECRET, **VERSION}
DASHSCOPE = "https://dashscope-intl.aliyuncs.com"
GEMINI = "https://generativelanguage.googleapis.com/v1beta/openai"
T = Transcript

# fmt: off
TRANSCRIPTS = [
    T("openai", CHAT, "https://api.openai.com/v1/chat/completions", "/v1/chat/completions"),
    T("openai", RESPONSES, "https://api.openai.com/v1/responses", "/v1/responses"),
    T("openai", EMBEDDINGS, "https://api.openai.com/v1/embeddings", "/v1/embeddings"),
    T("openai", COMPLETIONS, "https://api.openai.com/v1/completions", "/v1/completions"),
    T("openai", DECISIONS, "https://api.openai.com/v1/decisions", "/v1/decisions"),

    T("anthropic", MESSAGES, "https://api.anthropic.com/v1/messages", "/v1/messages", ANTHROPIC),
    T("anthropic", COUNT, "https://api.anthropic.com/v1/messages/count_tokens", "/v1/messages/count_tokens", ANTHROPIC),

    T("azure_openai", CHAT, f"{AZURE}{AZURE_AT}/chat/completions{AZURE_VERSION}", f"{AZURE_AT}/chat/completions{AZURE_VERSION}", AZURE_KEY, "", AZURE),
    T("azure_openai", EMBEDDINGS, f"{AZURE}{AZURE_AT}/embeddings{AZURE_VERSION}", f"{AZURE_AT}/embeddings{AZURE_VERSION}", AZURE_KEY, "", AZURE),
    T("azure_openai", COMPLETIONS, f"{AZURE}{AZURE_AT}/completions{AZURE_VERSION}", f"{AZURE_AT}/completions{AZURE_VERSION}", AZURE_KEY, "", AZURE),
    T("azure_openai", RESPONSES, f"{AZURE}/openai/v1/responses", "/openai/v1/responses", AZURE_KEY, "/openai/v1", AZURE),
    T("azure_openai", CHAT, f"{AZURE}/openai/v1/chat/completions", "/openai/v1/chat/completions", AZURE_KEY, "/openai/v1", AZURE),

    T("amazon_bedrock", CHAT, "https://bedrock-runtime.eu-west-1.amazonaws.com/openai/v1/chat/completions", "/openai/v1/chat/completions", BEARER, "", "https://bedrock-runtime.eu-west-1.amazonaws.com"),

    T("astraflow", CHAT, "https://api-us-ca.umodelverse.ai/v1/chat/completions", "/v1/chat/completions"),
    T("astraflow", EMBEDDINGS, "https://api-us-ca.umodelverse.ai/v1/embeddings", "/v1/embeddings"),
    T("astraflow_cn", CHAT, "https://api.modelverse.cn/v1/chat/completions", "/v1/chat/completions"),
    T("astraflow_cn", EMBEDDINGS, "https://api.modelverse.cn/v1/embeddings", "/v1/embeddings"),

    T("deepseek", CHAT, "https://api.deepseek.com/v1/chat/completions", "/v1/chat/completions"),
    anthropic("deepseek", "https://api.deepseek.com/anthropic/v1/messages", "/anthropic/v1/messages"),

    T("digitalocean", CHAT, "https://inference.do-ai.run/v1/chat/completions", "/v1/chat/completions"),
    T("digitalocean", RESPONSES, "https://inference.do-ai.run/v1/responses", "/v1/responses"),
    T("digitalocean", EMBEDDINGS, "https://inference.do-ai.run/v1/embeddings", "/v1/embeddings"),
    anthropic("digitalocean", "https://inference.do-ai.run/v1/messages", "/v1/messages"),

    T("edenai", CHAT, "https://api.edenai.run/v3/chat/completions", "/v3/chat/completions"),
    T("edenai", EMBEDDINGS, "https://api.edenai.run/v3/embeddings", "/v3/embeddings"),

    T("gemini", CHAT, f"{GEMINI}/chat/completions", "/v1beta/openai/chat/completions"),
    T("gemini", EMBEDDINGS, f"{GEMINI}/embeddings", "/v1beta/openai/embeddings"),

    T("github", CHAT, "https://models.github.ai/inference/chat/completions", "/inference/chat/completions"),
    T("github", EMBEDDINGS, "https://models.github.ai/inference/embeddings", "/inference/embeddings"),

    T("groq", CHAT, "https://api.groq.com/openai/v1/chat/completions", "/openai/v1/chat/completions"),
    T("groq", RESPONSES, "https://api.groq.com/openai/v1/responses", "/openai/v1/responses"),

    T("meta", CHAT, "https://api.meta.ai/v1/chat/completions", "/v1/chat/completions"),
    T("meta", RESPONSES, "https://api.meta.ai/v1/responses", "/v1/responses"),
    anthropic("meta", "https://api.meta.ai/v1/messages", "/v1/messages"),

    T("minimax", CHAT, "https://api.minimax.io/v1/chat/completions", "/v1/chat/completions"),
    anthropic("minimax", "https://api.minimax.io/anthropic/v1/messages", "/anthropic/v1/messages"),

    T("mistral", CHAT, "https://api.mistral.ai/v1/chat/completions", "/v1/chat/completions"),
    T("mistral", EMBEDDINGS, "https://api.mistral.ai/v1/embeddings", "/v1/embeddings"),

    T("moonshotai", CHAT, "https://api.moonshot.ai/v1/chat/completions", "/v1/chat/completions"),
    anthropic("moonshotai", "https://api.moonshot.ai/anthropic/v1/messages", "/anthropic/v1/messages"),

    T("ollama", CHAT, "http://gpu:11434/v1/chat/completions", "/v1/chat/completions", BEARER, "", "http://gpu:11434"),
    T("ollama", EMBEDDINGS, "http://gpu:11434/v1/embeddings", "/v1/embeddings", BEARER, "", "http://gpu:11434"),
    T("ollama", COMPLETIONS, "http://gpu:11434/v1/completions", "/v1/completions", BEARER, "", "http://gpu:11434"),

    T("openrouter", CHAT, "https://openrouter.ai/api/v1/chat/completions", "/api/v1/chat/completions"),
    T("openrouter", RESPONSES, "https://openrouter.ai/api/v1/responses", "/api/v1/responses"),
    T("openrouter", EMBEDDINGS, "https://openrouter.ai/api/v1/embeddings", "/api/v1/embeddings"),
    T("openrouter", COMPLETIONS, "https://openrouter.ai/api/v1/completions", "/api/v1/completions"),
    anthropic("openrouter", "https://openrouter.ai/api/v1/messages", "/api/v1/messages"),

    T("perplexity", CHAT, "https://api.perplexity.ai/chat/completions", "/chat/completions"),

    T("plano", CHAT, "http://router:10000/v1/chat/completions", "/v1/chat/completions", BEARER, "", "http://router:10000"),

    T("qwen", CHAT, f"{DASHSCOPE}/compatible-mode/v1/chat/completions", "/compatible-mode/v1/chat/completions", BEARER, "", DASHSCOPE),
    T("qwen", EMBEDDINGS, f"{DASHSCOPE}/compatible-mode/v1/embeddings", "/compatible-mode/v1/embeddings", BEARER, "", DASHSCOPE),
    anthropic("qwen", f"{DASHSCOPE}/apps/anthropic/v1/messages", "/apps/anthropic/v1/messages", DASHSCOPE),

    T("together_ai", CHAT, "https://api.together.xyz/v1/chat/completions", "/v1/chat/completions"),
    T("together_ai", EMBEDDINGS, "https://api.together.xyz/v1/embeddings", "/v1/embeddings"),
    T("together_ai", COMPLETIONS, "https://api.together.xyz/v1/completions", "/v1/completions"),

    T("vercel", CHAT, "https://ai-gateway.vercel.sh/v1/chat/completions", "/v1/chat/completions"),
    T("vercel", RESPONSES, "https://ai-gateway.vercel.sh/v1/responses", "/v1/responses"),
    T("vercel", EMBEDDINGS, "https://ai-gateway.vercel.sh/v1/embeddings", "/v1/embeddings"),
    anthropic("vercel", "https://ai-gateway.vercel.sh/v1/messages", "/v1/messages"),

    T("vllm", CHAT, "http://gpu:8000/v1/chat/completions", "/v1/chat/completions", BEARER, "", "http://gpu:8000"),
    T("vllm", EMBEDDINGS, "http://gpu:8000/v1/embeddings", "/v1/embeddings", BEARER, "", "http://gpu:8000"),
    T("vllm", COMPLETIONS, "http://gpu:8000/v1/completions", "/v1/completions", BEARER, "", "http://gpu:8000"),

    T("xai", CHAT, "https://api.x.ai/v1/chat/completions", "/v1/chat/completions"),
    T("xai", RESPONSES, "https://api.x.ai/v1/responses", "/v1/responses"),

    T("xiaomi", CHAT, "https://api.xiaomimimo.com/v1/chat/completions", "/v1/chat/completions"),
    anthropic("xiaomi", "https://api.xiaomimimo.com/anthropic/v1/messages", "/anthropic/v1/messages"),

    T("zhipu", CHAT, "https://open.bigmodel.cn/api/paas/v4/chat/completions", "/api/paas/v4/chat/completions"),
    T("zhipu", EMBEDDINGS, "https://open.bigmodel.cn/api/paas/v4/embeddings", "/api/paas/v4/embeddings"),
    anthropic("zhipu", "https://open.bigmodel.cn/api/anthropic/v1/messages", "/api/anthropic/v1/messages"),
]
# fmt: on
