"""What may stand in ``gateway.yaml``; strict: unknown keys and wrong types are problems.

The shape is that of Plano's ``plano_config.yaml``, plus keys of our own: ``client_keys``,
``allow_anonymous``, ``limits``, ``timeouts``, ``orchestrator``, ``examples`` and ``data_path``.
What one value alone can't show (duplicates, names that point nowhere) is checked where the values
are used: providers/spec.py and routing/policy.py.
"""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from serve_app.domain import DataPath, Prefer

MEBIBYTE = 1 << 20

MAX_EXAMPLES = 64

CLIENT_HEADERS = (
    "x-session-affinity",
    "x-session-id",
    "x-claude-code-session-id",
    "session-id",
    "session_id",
    "thread-id",
)
"""By which coding agents name their sessions of their own accord; the first one counts."""

Text = Annotated[str, Field(min_length=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)


class Listener(_Strict):
    """Where Plano listens. Accepted and not in force: Ray Serve owns the address and the port."""

    type: Literal["model"]
    name: Text
    port: int | None = None
    address: str | None = None
    timeout: str | None = None


class ModelProvider(_Strict):
    """One model, or with ``provider/*`` all models, of one provider."""

    model: Text = Field(description="`provider/name`, or `provider/*` for every name")
    name: Text | None = Field(default=None, description="another name for the provider hint header")
    access_key: Text | None = Field(
        default=None, description="the key, best as `$NAME` of an environment variable", repr=False
    )
    default: bool = Field(default=False, description="answers when nobody names a model")
    base_url: Text | None = Field(default=None, description="scheme, host, port and optional path")
    provider_interface: Text | None = Field(
        default=None, description="the dialect row of a provider that we have no row for"
    )
    passthrough_auth: bool = Field(
        default=False, description="clients' own keys go to the provider, in place of access_key"
    )
    headers: dict[Text, Text] = Field(
        default={}, description="more headers for the provider; values may be `$NAME`", repr=False
    )
    http_host: Text | None = Field(default=None, description="the Host header, where it differs")
    data_path: DataPath | None = Field(
        None,
        description="dedicated (default), shared (default of wildcards) or inline",
        strict=False,
    )


class Alias(_Strict):
    """A name that clients may use for a model, or for the choice among the routes."""

    target: Text = Field(description="a model, or `auto` for the choice by content")


class SelectionPolicy(_Strict):
    """How the models of a route are ordered."""

    prefer: Prefer = Field(strict=False)


class RoutingPreference(_Strict):
    """A route: what belongs there, in plain words, and which models answer it, best first."""

    name: Text
    description: Text
    models: Annotated[list[Text], Field(min_length=1)]
    selection_policy: SelectionPolicy | None = None
    examples: Annotated[list[Text], Field(max_length=MAX_EXAMPLES)] = Field(
        default=[], description="what users say when they mean this route; three or more are best"
    )


class Orchestrator(_Strict):
    """What matches conversations to routes."""

    engine: Literal["embedding", "vllm", "http"] = Field(
        default="embedding", description="what it runs on"
    )
    model: Text | None = Field(
        default=None,
        description="embedding: an ONNX file with other weights; vllm: a folder with safetensors; "
        "http: what the server calls it; a relative path is the file's",
    )
    min_confidence: float = Field(
        default=0.12, ge=0, le=1, description="a route must score so much to win"
    )
    min_margin: float = Field(
        default=0.0, ge=0, le=1, description="and must be so much ahead of the second"
    )
    max_query_tokens: int = Field(
        default=64, ge=8, le=512, description="of a longer text head and tail are looked at"
    )
    threads: int = Field(default=1, ge=1, le=64, description="of the engine, in each replica")
    deadline_ms: int | None = Field(
        default=None,
        ge=10,
        le=60_000,
        description="after which a request goes on without it; None: 300 for embedding, 500 for "
        "vllm with `device: cuda`, else 5000",
    )
    fallback: Literal["embedding", "none"] = Field(
        default="embedding", description="what answers while vllm or http can't"
    )
    task: Literal["generate", "embed"] = Field(
        default="generate", description="vllm: a routing or chat model, or an embedding model"
    )
    family: Literal[
        "auto", "arch-router", "plano-orchestrator", "plano-orchestrator-card", "generic"
    ] = Field(default="auto", description="how the model is asked; auto goes by its name")
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="vllm: where it runs; auto is what the installed vLLM is for"
    )
    mode: Literal["auto", "trie", "trie_lazy", "choice", "json"] = Field(
        default="auto", description="vllm: how an answer is read; auto goes by the load"
    )
    download: bool = Field(
        default=False, description="vllm: `model` is a hub's id, and may be fetched from there"
    )
    max_model_len: int | None = Field(
        default=None, ge=256, le=1 << 20, description="vllm: tokens of a prompt with its answer"
    )
    kv_cache_mb: int | None = Field(
        default=None, ge=16, description="vllm: memory for what is remembered of prompts"
    )
    gpu_memory_gb: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="vllm: at most so much of the GPU"
    )
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field(
        default="auto", description="vllm: of the weights in memory"
    )
    quantization: Text | None = Field(
        default=None, description="vllm: a scheme of vLLM's, where the checkpoint names none"
    )
    max_num_seqs: int = Field(
        default=64, ge=1, le=1024, description="vllm: sequences in one step of the model"
    )
    base_url: Text | None = Field(
        default=None, description="http: of an OpenAI-compatible server", repr=False
    )
    access_key: Text | None = Field(
        default=None, description="http: the server's key, best as `$NAME`", repr=False
    )

    @property
    def deadline_s(self) -> float:
        """Seconds after which nobody waits for a decision any longer."""
        if self.deadline_ms is not None:
            return self.deadline_ms / 1e3
        if self.engine == "embedding":
            return 0.3
        return 0.5 if self.engine == "vllm" and self.device == "cuda" else 5.0

    @property
    def generates(self) -> bool:
        """A language model decides, which reads conversations; else sentences are compared."""
        return self.engine == "http" or (self.engine == "vllm" and self.task == "generate")

    @model_validator(mode="after")
    def _has_what_its_engine_needs(self) -> Self:
        needed = {"embedding": (), "vllm": ("model",), "http": ("base_url", "model")}[self.engine]
        for name in needed:
            if getattr(self, name) is None:
                raise PydanticCustomError("engine", f"engine {self.engine} needs `{name}:`")
        return self


class SessionCache(_Strict):
    """Where bindings of sessions are kept."""

    type: Literal["memory", "redis"] = "memory"
    url: Text | None = Field(
        default=None, description="of Redis: redis://, rediss:// or unix://", repr=False
    )
    tenant_header: Text | None = Field(
        default=None, description="a header whose value keeps the sessions of tenants apart"
    )


class RoutingBudget(_Strict):
    """What switching models may cost a session, against what staying would have cost."""

    max_switch_spend_pct: float = Field(
        ge=0, le=100, allow_inf_nan=False, description="of the costs of staying"
    )
    replenish_on_rebind: bool = Field(
        default=True, description="a session that starts anew has its whole budget again"
    )
    cache_read_discount: float = Field(
        default=0.1, ge=0, le=1, description="of the input price, where no cached price is known"
    )
    record_counterfactual: bool = False


class Price(_Strict):
    """What a model costs, in US dollars for a million tokens."""

    input: float = Field(ge=0, allow_inf_nan=False)
    output: float = Field(ge=0, allow_inf_nan=False)
    cached_input: float | None = Field(default=None, ge=0, allow_inf_nan=False)


class Routing(_Strict):
    """Sessions that stay on their model."""

    session_ttl_seconds: int = Field(default=600, ge=1, description="after the last use")
    session_max_entries: int = Field(
        default=10_000, ge=1, le=10_000, description="in memory; the least recently used go"
    )
    session_cache: SessionCache = SessionCache()
    session_headers: list[Text] = Field(
        default=list(CLIENT_HEADERS), description="headers of clients that name a session, too"
    )
    routing_budget: RoutingBudget | None = Field(
        default=None, description="sessions may switch within it; None: they stay"
    )
    route_on_user_only: bool = Field(
        default=False, description="decide anew when the user speaks, and only then"
    )


class PromptCaching(_Strict):
    """Plano's section, as far as it is in force: sessions by the beginning of a conversation."""

    enabled: bool = False
    session_affinity: bool | None = Field(default=None, description="true when enabled")


class Overrides(_Strict):
    """Plano's switches, as far as they are in force."""

    always_route: bool = Field(
        default=False, description="decide by content also where the client names a model"
    )


class Limits(_Strict):
    """What a request may weigh."""

    body_bytes: int = Field(default=32 * MEBIBYTE, ge=1, le=112 * MEBIBYTE)
    header_bytes: int = Field(default=64 * 1024, ge=1024, le=192 * 1024)


class Timeouts(_Strict):
    """How long a provider may take, in seconds."""

    connect_s: float = Field(
        default=5.0, gt=0, allow_inf_nan=False, description="until the connection stands"
    )
    first_byte_s: float = Field(
        default=60.0, gt=0, allow_inf_nan=False, description="until a stream's head"
    )
    idle_s: float = Field(
        default=120.0, gt=0, allow_inf_nan=False, description="between two chunks of a stream"
    )
    total_s: float = Field(
        default=600.0, gt=0, allow_inf_nan=False, description="for the whole exchange, all attempts"
    )


class GatewayConfig(_Strict):
    """The whole file."""

    version: Literal["v0.1", "v0.1.0", "0.1-beta", "0.2.0", "v0.3.0", "v0.4.0"]
    listeners: list[Listener] = []
    model_providers: list[ModelProvider] = []
    model_aliases: dict[str, Alias] = {}
    routing_preferences: list[RoutingPreference] = []
    orchestrator: Orchestrator = Orchestrator()
    overrides: Overrides = Overrides()
    routing: Routing = Routing()
    prompt_caching: PromptCaching = PromptCaching()
    prices: dict[str, Price] = Field(
        default={}, description="by `provider/name`, in place of the published ones"
    )
    client_keys: Annotated[list[Text], Field(min_length=1)] | None = Field(
        default=None,
        description="keys that clients must show, best as `$NAME`; None: no key",
        repr=False,
    )
    allow_anonymous: bool = Field(
        default=False, description="serve other machines although there are no client_keys"
    )
    limits: Limits = Limits()
    timeouts: Timeouts = Timeouts()
