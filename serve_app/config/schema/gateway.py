"""What may stand in ``gateway.yaml``; strict: unknown keys and wrong types are problems.

The shape is that of Plano's ``plano_config.yaml`` v0.4.0, plus keys of our own: ``client_keys``,
``allow_anonymous``, ``ignore_unsupported``, ``limits``, ``timeouts``, ``orchestrator``, ``prices``,
``examples`` and ``data_path``. Older forms are brought into this one first, by forms.py.
What one value alone can't show (duplicates, names that point nowhere) is checked where the values
are used: checks.py, providers/spec.py and routing/policy.py.
"""

from typing import Annotated, Final, Literal, Self

from pydantic import Field, PrivateAttr, field_validator

from serve_app.config.schema.durations import Duration
from serve_app.config.schema.inert import (
    InlinePreference,
    Listener,
    Loose,
    MetricsSource,
    PlanoEndpoint,
    PromptGuards,
    RateLimit,
    StateStorage,
    Tracing,
)
from serve_app.config.schema.orchestrator import OrchestratorSection
from serve_app.config.schema.section import Section, Text
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

NEWEST: Final = "v0.4.0"


class ModelProvider(Section):
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
    routing_preferences: list[InlinePreference] = Field(
        default=[], description="routes before v0.4.0; not in force from there on"
    )


class Alias(Section):
    """A name that clients may use for a model, or for the choice among the routes."""

    target: Text = Field(description="a model, or `auto` for the choice by content")


class SelectionPolicy(Section):
    """How the models of a route are ordered."""

    prefer: Prefer = Field(strict=False)

    @field_validator("prefer", mode="before")
    @classmethod
    def _of_nothing(cls, value: object) -> object:
        """Nothing, and an empty text, are ``none``, as Plano's runtime has it."""
        return Prefer.NONE if value is None or value == "" else value


class RoutingPreference(Section):
    """A route: what belongs there, in plain words, and which models answer it, best first."""

    name: Text = Field(description="of the route; unique")
    description: Text = Field(description="what belongs there, in plain words")
    models: Annotated[list[Text], Field(min_length=1)] = Field(
        description="which answer it, the best first; names as clients may use them, but no alias"
    )
    selection_policy: SelectionPolicy | None = None
    examples: Annotated[list[Text], Field(max_length=MAX_EXAMPLES)] = Field(
        default=[], description="what users say when they mean this route; three or more are best"
    )


class ConfiguredRoute(RoutingPreference):
    """A route of a file. Older ones had routes without a description; then the name has to do."""

    description: str = Field(description="what belongs there; empty, the name has to do")


class SessionCache(Section):
    """Where bindings of sessions are kept."""

    type: Literal["memory", "redis"] = Field(
        default="memory", description="`memory` of the gateway, or a `redis` that needs `url`"
    )
    url: Text | None = Field(
        default=None, description="of Redis: redis://, rediss:// or unix://", repr=False
    )
    tenant_header: Text | None = Field(
        default=None, description="a header whose value keeps the sessions of tenants apart"
    )


class RoutingBudget(Section):
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
    record_counterfactual: bool = Field(default=False, description="read, not in force")


class PriceOverride(Section):
    """What a model costs, in US dollars for a million tokens."""

    input: float = Field(ge=0, allow_inf_nan=False, description="of a million tokens sent")
    output: float = Field(ge=0, allow_inf_nan=False, description="of a million tokens answered")
    cached_input: float | None = Field(
        default=None,
        ge=0,
        allow_inf_nan=False,
        description="of a million tokens sent that the provider had cached; None: not known",
    )


class Routing(Section):
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
    llm_provider: str | None = Field(default=None, description="not in force, nor in Plano")
    model: str | None = Field(default=None, description="not in force, nor in Plano")


class PromptCaching(Section):
    """Plano's section; in force are sessions by the beginning of a conversation."""

    enabled: bool = Field(default=False, description="sessions of conversations that nobody names")
    session_affinity: bool | None = Field(default=None, description="true when enabled")
    inject_cache_control: bool | None = Field(default=None, description="not in force")
    min_prefix_tokens: int = Field(default=1024, ge=1, description="not in force")
    session_ttl_seconds: int | None = Field(default=None, ge=1, description="not in force")


class Overrides(Section):
    """Plano's switches, and one of our own."""

    always_route: bool = Field(
        default=False, description="decide by content also where the client names a model"
    )
    upstream_connect_timeout: Duration | None = Field(
        default=None, description="timeouts.connect_s, where that is not given"
    )
    upstream_tls_ca_path: Text | None = Field(
        default=None, description="a bundle of certificates; a relative path is the file's"
    )
    llm_routing_model: Text | None = Field(
        default=None,
        description="an entry of `model_providers` with a `base_url`: it is the `orchestrator` "
        "with engine http, where that names neither engine nor model",
    )
    orchestrator_model_context_length: int | None = Field(
        default=None,
        ge=1,
        description="orchestrator.max_model_len of `llm_routing_model`, where that is not given",
    )
    agent_orchestration_model: Text | None = Field(default=None, description="not in force")
    disable_signals: bool = Field(default=False, description="not in force")
    prompt_target_intent_matching_threshold: float | None = Field(
        default=None, description="not in force"
    )
    optimize_context_window: bool = Field(default=False, description="not in force")
    use_agent_orchestrator: bool = Field(default=False, description="not in force")


class Limits(Section):
    """What a request may weigh."""

    body_bytes: int = Field(
        default=32 * MEBIBYTE, ge=1, le=112 * MEBIBYTE, description="of a request; more is a 413"
    )
    header_bytes: int = Field(
        default=64 * 1024,
        ge=1024,
        le=192 * 1024,
        description="of all headers together; more is a 431",
    )


class Timeouts(Section):
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


class GatewayConfig(Section):
    """The whole file."""

    version: Literal["v0.1", "v0.1.0", "0.1-beta", "0.2.0", "v0.3.0", "v0.4.0"] = Field(
        description="Plano's version of the format; older forms are read as what they became"
    )
    listeners: list[Listener] = Field(default=[])
    model_providers: list[ModelProvider] = Field(default=[])
    model_aliases: dict[str, Alias] = Field(default={})
    routing_preferences: list[ConfiguredRoute] = Field(default=[])
    orchestrator: OrchestratorSection = OrchestratorSection()
    overrides: Overrides = Overrides()
    routing: Routing = Routing()
    prompt_caching: PromptCaching = PromptCaching()
    prices: dict[str, PriceOverride] = Field(
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
    ignore_unsupported: bool = Field(
        default=False, description="start although ratelimits and prompt_guards are not in force"
    )
    model_metrics_sources: list[MetricsSource] = Field(default=[])
    ratelimits: list[RateLimit] = Field(default=[])
    prompt_guards: PromptGuards | None = None
    tracing: Tracing | None = None
    state_storage: StateStorage | None = None
    endpoints: dict[str, PlanoEndpoint] = Field(default={})
    agents: list[Loose] = Field(
        default=[], repr=False, description="another product of Plano: read, not in force"
    )
    filters: list[Loose] = Field(
        default=[], repr=False, description="another product of Plano: read, not in force"
    )
    prompt_targets: list[Loose] = Field(
        default=[], repr=False, description="another product of Plano: read, not in force"
    )
    system_prompt: str | None = Field(
        default=None, repr=False, description="another product of Plano: read, not in force"
    )
    mode: Literal["llm", "prompt"] | None = Field(
        default=None, description="another product of Plano: read, not in force"
    )

    _forms: tuple[str, ...] = PrivateAttr(default=())

    @property
    def forms(self) -> tuple[str, ...]:
        """What was brought into the form of v0.4.0 when the file was read, one line each."""
        return self._forms

    def __eq__(self, other: object) -> bool:
        """By what is configured; in which form a file said it makes no difference."""
        return type(self) is type(other) and self.__dict__ == other.__dict__

    __hash__ = None  # type: ignore[assignment]  # lists have none

    def read_from(self, forms: tuple[str, ...]) -> Self:
        """The same configuration, with what was said about the form of its file."""
        copy = self.model_copy()
        copy._forms = forms  # noqa: SLF001 - our own
        return copy
