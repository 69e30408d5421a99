"""The sections about sessions and conversations: ``routing``, ``prompt_caching``, ``state_storage``."""

from typing import Final, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from serve_app.config.schema.section import Section, Text

CLIENT_HEADERS: Final = (
    "x-session-affinity",
    "x-session-id",
    "x-claude-code-session-id",
    "session-id",
    "session_id",
    "thread-id",
)
"""Headers in which coding agents name their sessions; the first one that is present counts."""


class SessionCache(Section):
    """Storage of the models that sessions are bound to."""

    type: Literal["memory", "redis"] = Field(
        default="memory",
        description="storage of sessions: the `memory` of the gateway, or `redis` at `url`",
    )
    url: Text | None = Field(
        default=None,
        description="address of Redis, beginning with redis://, rediss:// or unix://",
        repr=False,
    )
    tls_ca_path: Text | None = Field(
        default=None,
        description="bundle of certificates, PEM, that the server at a rediss:// address is verified by, besides the "
        "system's; a relative path starts at this file; null: `overrides.upstream_tls_ca_path`",
    )
    tenant_header: Text | None = Field(
        default=None, description="request header whose value separates the sessions of tenants"
    )


class RoutingBudget(Section):
    """Budget for switching models within a session, relative to the cost of staying."""

    max_switch_spend_pct: float = Field(
        ge=0,
        le=100,
        allow_inf_nan=False,
        description="maximum extra cost of switching models, percent of the cost of staying",
    )
    replenish_on_rebind: bool = Field(
        default=True, description="whether a session that is bound again gets its whole budget back"
    )
    cache_read_discount: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="price of cached input as a share of the input price, for models without a known one",
    )
    record_counterfactual: bool = Field(
        default=False, description="whether the cost of staying is recorded; ignored"
    )


class Routing(Section):
    """Sessions: conversations that stay on one model."""

    session_ttl_seconds: int = Field(
        default=600, ge=1, description="lifetime of a session after its last request, seconds"
    )
    session_max_entries: int = Field(
        default=10_000,
        ge=1,
        le=10_000,
        description="maximum sessions in memory; the least recently used are dropped",
    )
    session_cache: SessionCache = SessionCache()
    session_headers: list[Text] = Field(
        default=list(CLIENT_HEADERS),
        description="request headers that name a session, besides `x-model-affinity`",
    )
    routing_budget: RoutingBudget | None = Field(
        default=None,
        description="budget within which sessions may switch models; null: sessions never switch",
    )
    route_on_user_only: bool = Field(
        default=False,
        description="whether to route again only when the last message is from the user",
    )
    llm_provider: str | None = Field(
        default=None, description="default provider; ignored, as in Plano"
    )
    model: str | None = Field(default=None, description="default model; ignored, as in Plano")


class PromptCaching(Section):
    """Plano's prompt caching; only its sessions by the beginning of a conversation are used."""

    enabled: bool = Field(
        default=False,
        description="whether conversations without a session name form sessions, by how they begin",
    )
    session_affinity: bool | None = Field(
        default=None, description="whether those sessions are formed; null: the value of `enabled`"
    )
    inject_cache_control: bool | None = Field(
        default=None,
        description="whether cache marks are added to requests; ignored, clients add them",
    )
    min_prefix_tokens: int = Field(
        default=1024, ge=1, description="minimum length of a cached beginning, tokens; ignored"
    )
    session_ttl_seconds: int | None = Field(
        default=None,
        ge=1,
        description="lifetime of those sessions, seconds; ignored, `routing.session_ttl_seconds` is used",
    )


class StateStorage(Section):
    """Storage of answers that later requests name by `previous_response_id` or `conversation`."""

    type: Literal["memory", "redis", "postgres", "none"] | None = Field(
        default=None,
        description="storage of answers whose provider does not keep them: the `memory` of the gateway, "
        "`redis`, or `none`; `postgres`, as Plano has it, means the default; null: as "
        "`routing.session_cache.type`",
    )
    url: Text | None = Field(
        default=None,
        description="address of Redis; null: `routing.session_cache.url`",
        repr=False,
    )
    tls_ca_path: Text | None = Field(
        default=None,
        description="bundle of certificates, PEM, that the server at a rediss:// address is verified by, besides the "
        "system's; a relative path starts at this file; null: `routing.session_cache.tls_ca_path`",
    )
    ttl_seconds: int = Field(
        default=86_400, ge=1, description="lifetime of an answer after its last use, seconds"
    )
    max_megabytes: int = Field(
        default=256,
        ge=1,
        le=65_536,
        description="maximum size of all answers in memory, MiB; the least recently used are dropped",
    )
    connection_string: Text | None = Field(
        default=None, repr=False, description="address of Plano's database; ignored"
    )

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        if self.type == "postgres" and self.connection_string is None:
            raise PydanticCustomError("state", "type postgres needs `connection_string:`; add it")
        return self
