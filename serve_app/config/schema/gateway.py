"""The schema of ``gateway.yaml``. It is strict: unknown keys and wrong types are problems.

The format is that of Plano's ``plano_config.yaml`` v0.4.0, plus keys that Plano does not have.
upgrade.py converts older formats first. Checks that need more than one value (duplicates, unknown names) are made where the values
are used: load.py, providers/checks.py and routing/policy.py.

Editors show the description of a field alone, so each names its thing and its unit.
"""

from typing import Annotated, Final, Literal, Self

from pydantic import Field, PrivateAttr

from serve_app.config.schema.access import (
    ClientKey,
    ClientKeyEntry,
    LimitStorage,
    RateLimit,
    RequestLimits,
    Team,
)
from serve_app.config.schema.cors import Cors
from serve_app.config.schema.durations import Duration
from serve_app.config.schema.entry_limits import Queue
from serve_app.config.schema.inert import (
    Listener,
    Loose,
    MetricsSource,
    PlanoEndpoint,
    PromptGuards,
    Tracing,
)
from serve_app.config.schema.logs import Logs
from serve_app.config.schema.orchestrator import OrchestratorSection
from serve_app.config.schema.page import PageSection
from serve_app.config.schema.prices import PriceOverride, Savings
from serve_app.config.schema.probes import ProbesSection
from serve_app.config.schema.providers import Alias, ModelProvider
from serve_app.config.schema.routes import MAX_EXAMPLES, ConfiguredRoute
from serve_app.config.schema.rules import RoutingRule
from serve_app.config.schema.section import Section, Text
from serve_app.config.schema.sessions import PromptCaching, Routing, StateStorage
from serve_app.config.schema.telemetry import Telemetry
from serve_app.config.schema.timeouts import Timeouts

MEBIBYTE = 1 << 20

NEWEST: Final = "v0.4.0"


class Overrides(Section):
    """Plano's switches, and the certificates to trust."""

    always_route: bool = Field(
        default=False, description="whether to route by content even if the request names a model"
    )
    upstream_connect_timeout: Duration | None = Field(
        default=None,
        description="connection timeout with its unit, such as `5s`; used if `timeouts.connect_s` is left out",
    )
    upstream_tls_ca_path: Text | None = Field(
        default=None,
        description="bundle of trusted certificates, PEM; a relative path starts at this file",
    )
    llm_routing_model: Text | None = Field(
        default=None,
        description="entry of `model_providers` with a `base_url` that matches routes, by the engine "
        "`http`; used if `orchestrator` sets neither `engine` nor `model`",
    )
    orchestrator_model_context_length: int | None = Field(
        default=None,
        ge=1,
        description="context of `llm_routing_model`, tokens; used if `orchestrator.max_model_len` is left out",
    )
    agent_orchestration_model: Text | None = Field(
        default=None, description="model that chooses agents; ignored"
    )
    disable_signals: bool = Field(
        default=False, description="whether conversations are not analysed; ignored, they never are"
    )
    prompt_target_intent_matching_threshold: float | None = Field(
        default=None, description="minimum score of a prompt target; ignored"
    )
    optimize_context_window: bool = Field(
        default=False,
        description="whether long conversations are shortened; ignored, they never are",
    )
    use_agent_orchestrator: bool = Field(
        default=False, description="whether a model chooses agents; ignored"
    )


class Limits(Section):
    """Maximum sizes of a request."""

    body_bytes: int = Field(
        default=32 * MEBIBYTE,
        ge=1,
        le=112 * MEBIBYTE,
        description="maximum request body, bytes; a larger one gets status 413",
    )
    header_bytes: int = Field(
        default=64 * 1024,
        ge=1024,
        le=192 * 1024,
        description="maximum size of all request headers, bytes; larger ones get status 431",
    )


class GatewayConfig(Section):
    """Configuration of the gateway."""

    version: Literal["v0.1", "v0.1.0", "0.1-beta", "0.2.0", "v0.3.0", "v0.4.0"] = Field(
        description="version of Plano's format; older formats are converted when the file is read"
    )
    listeners: list[Listener] = Field(
        default=[], description="addresses to listen on; ignored, serve.yaml sets them"
    )
    model_providers: list[ModelProvider] = Field(
        default=[], description="models that the gateway serves, with their providers"
    )
    model_aliases: dict[str, Alias] = Field(
        default={}, description="alternative names that clients may use, each with its model"
    )
    routing_preferences: list[ConfiguredRoute] = Field(
        default=[], description="routes by which requests are matched to models by content"
    )
    no_route_examples: Annotated[list[Text], Field(max_length=MAX_EXAMPLES)] = Field(
        default=[], description="example prompts of users that match no route, such as greetings"
    )
    routing_rules: list[RoutingRule] = Field(
        default=[],
        description="rules by which requests that leave the model open are matched before their content "
        "is read; the first match decides",
    )
    orchestrator: OrchestratorSection = OrchestratorSection()
    overrides: Overrides = Overrides()
    routing: Routing = Routing()
    prompt_caching: PromptCaching = PromptCaching()
    prices: dict[str, PriceOverride] = Field(
        default={}, description="prices by `provider/name`, instead of the published ones"
    )
    client_keys: Annotated[list[ClientKeyEntry], Field(min_length=1)] | None = Field(
        default=None,
        description="keys of which each client must send one, best as `$NAME` or with a name; null: no key is "
        "needed",
        repr=False,
    )
    key_secret: Text = Field(
        default="$FINGERPOST_KEY_SECRET",
        description="secret of the server with which client keys are hashed, as `$NAME` or `file:PATH`",
        repr=False,
    )
    teams: dict[Text, Team] = Field(
        default={}, description="teams by name, with the limits and budgets that their keys share"
    )
    model_limits: dict[Text, RequestLimits] = Field(
        default={},
        description="limits of models by `provider/name` or `provider/*`, for all clients together",
    )
    limit_storage: LimitStorage = LimitStorage()
    savings: Savings | None = None
    cost_header: bool = Field(
        default=False,
        description="whether complete answers have the header `x-fingerpost-cost-usd`",
    )
    allow_anonymous: bool = Field(
        default=False, description="whether to serve other machines without `client_keys`"
    )
    cors: Cors = Cors()
    limits: Limits = Limits()
    queue: Queue = Queue()
    probes: ProbesSection = ProbesSection()
    timeouts: Timeouts = Timeouts()
    logs: Logs = Logs()
    ui: PageSection = PageSection()
    ignore_unsupported: bool = Field(
        default=False,
        description="whether to start although `prompt_guards` is ignored",
    )
    model_metrics_sources: list[MetricsSource] = Field(
        default=[], description="sources of prices and latencies; ignored, see `prices`"
    )
    ratelimits: list[RateLimit] = Field(
        default=[],
        description="limits of the tokens of a model, by a header of the requests",
    )
    prompt_guards: PromptGuards | None = None
    telemetry: Telemetry = Telemetry()
    tracing: Tracing | None = None
    state_storage: StateStorage = StateStorage()
    endpoints: dict[str, PlanoEndpoint] = Field(
        default={}, description="servers of prompt targets by name; ignored"
    )
    agents: list[Loose] = Field(
        default=[], repr=False, description="agents that Plano runs; ignored"
    )
    filters: list[Loose] = Field(
        default=[], repr=False, description="filters of requests and answers in Plano; ignored"
    )
    prompt_targets: list[Loose] = Field(
        default=[], repr=False, description="functions that Plano calls for prompts; ignored"
    )
    system_prompt: str | None = Field(
        default=None, repr=False, description="system prompt of Plano's prompt targets; ignored"
    )
    mode: Literal["llm", "prompt"] | None = Field(
        default=None, description="operating mode of Plano; ignored"
    )

    _forms: tuple[str, ...] = PrivateAttr(default=())

    @property
    def keyed_clients(self) -> list[ClientKey]:
        """The client keys that have a name."""
        return [key for key in self.client_keys or () if isinstance(key, ClientKey)]

    @property
    def counts_in(self) -> Literal["memory", "redis"]:
        """Where limits and budgets are counted."""
        return self.limit_storage.type or self.routing.session_cache.type

    @property
    def counts_url(self) -> str | None:
        """The address of Redis for these counts, as configured; None if there is none."""
        return self.limit_storage.url or self.routing.session_cache.url

    @property
    def has_shared_limits(self) -> bool:
        """True if something is limited that all replicas of the ingress have to count together."""
        keyed: list[ClientKey | Team] = [*self.keyed_clients, *self.teams.values()]
        limited = any(one.limits is not None or one.budget is not None for one in keyed)
        return limited or bool(self.model_limits) or bool(self.ratelimits)

    @property
    def keeps_state_in(self) -> Literal["memory", "redis", "none"]:
        """Where answers are kept whose provider does not keep them."""
        kind = self.state_storage.type
        return self.routing.session_cache.type if kind is None or kind == "postgres" else kind

    @property
    def state_url(self) -> str | None:
        """The address of Redis for these answers, as configured; None if there is none."""
        return self.state_storage.url or self.routing.session_cache.url

    @property
    def sessions_tls_ca(self) -> str | None:
        """The certificates that the Redis of sessions is verified by, besides the system's."""
        return self.routing.session_cache.tls_ca_path or self.overrides.upstream_tls_ca_path

    @property
    def state_tls_ca(self) -> str | None:
        """The certificates that the Redis of answers is verified by, besides the system's."""
        return self.state_storage.tls_ca_path or self.sessions_tls_ca

    @property
    def page_keeps_texts(self) -> bool:
        """True if the page at ``/ui`` keeps what users wrote."""
        keep = self.ui.keep_texts
        return self.client_keys is None and not self.allow_anonymous if keep is None else keep

    @property
    def forms(self) -> tuple[str, ...]:
        """What was converted to the format of v0.4.0 when the file was read; one line each."""
        return self._forms

    def __eq__(self, other: object) -> bool:
        """Compares what is configured; the format of the file does not matter."""
        return type(self) is type(other) and self.__dict__ == other.__dict__

    __hash__ = None  # type: ignore[assignment]  # lists have none

    def read_from(self, forms: tuple[str, ...]) -> Self:
        """The same configuration, with warnings about the format of its file."""
        copy = self.model_copy()
        copy._forms = forms  # noqa: SLF001 - our own
        return copy
