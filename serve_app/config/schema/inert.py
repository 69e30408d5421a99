"""Sections of Plano's file that are accepted and ignored; warnings.py has a warning for each key.

``tracing`` is used in part: see plano_tracing.py.

Sections of a known form are checked as strictly as the rest. Agents, filters and prompt targets
belong to another product and are not checked.
"""

from typing import Annotated, Any, Literal, TypeAlias
from urllib.parse import urlsplit

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from serve_app.config.schema.section import Section, Text

Loose: TypeAlias = dict[str, Any]


class Listener(Section):
    """Address on which Plano listens; ignored, Ray Serve listens at the one in serve.yaml."""

    type: Literal["model", "prompt", "agent"] = Field(
        description="kind of listener; at most one is of type `model`, which serves models"
    )
    name: Text = Field(description="name of the listener, freely chosen")
    port: int | None = Field(
        default=None,
        description="port to listen on; ignored, `http_options.port` of serve.yaml is used",
    )
    address: str | None = Field(
        default=None,
        description="host to listen on; ignored, `http_options.host` of serve.yaml is used",
    )
    timeout: str | None = Field(
        default=None, description="timeout of requests; ignored, `timeouts.total_s` is used"
    )
    router: Literal["plano_orchestrator_v1"] | None = Field(
        default=None, description="router of Plano's agents; ignored"
    )
    max_retries: int | None = Field(
        default=None,
        description="maximum retries of a request; ignored, a request makes up to 4 attempts",
    )
    agents: list[Loose] = Field(default=[], description="agents behind this listener; ignored")
    input_filters: list[Text] = Field(
        default=[], description="filters that change requests; ignored"
    )
    output_filters: list[Text] = Field(
        default=[], description="filters that change answers; ignored"
    )


class LegacyListener(Section):
    """One of the two listeners in Plano's first formats."""

    address: str | None = None
    port: int | None = None
    message_format: Literal["openai"] | None = None
    timeout: str | None = None


class LegacyListeners(Section):
    """The old format of ``listeners``, a mapping."""

    egress_traffic: LegacyListener | None = None
    ingress_traffic: LegacyListener | None = None


class InlinePreference(Section):
    """A route under a model, as in formats before v0.4.0."""

    name: str | None = Field(default=None, description="name of the route to this model")
    description: str = Field(
        default="", description="requests that belong to the route, in plain words"
    )


class PlanoEndpoint(Section):
    """Server of Plano's prompt targets."""

    endpoint: Text = Field(description="host and port of the server")
    connect_timeout: str | None = Field(
        default=None, description="timeout of connecting, with its unit"
    )
    protocol: Literal["http", "https"] | None = Field(
        default=None, description="protocol that the server speaks"
    )
    http_host: str | None = Field(default=None, description="value of the Host header")
    prefix_affinity: bool = Field(
        default=False, description="whether Plano chooses the server by the beginning of the prompt"
    )


class Selector(Section):
    """Requests that a limit counts, by one of their headers."""

    key: Text = Field(description="name of the request header")
    value: str = Field(description="value of the request header")


class TokenLimit(Section):
    """Number of tokens that are allowed in a unit of time."""

    tokens: int = Field(ge=0, description="maximum number of tokens per `unit`")
    unit: Literal["second", "minute", "hour", "day"] = Field(
        description="length of the window in which tokens are counted"
    )


class RateLimit(Section):
    """Limit of the tokens that are sent to a model."""

    model: Text = Field(description="model whose tokens are limited")
    selector: Selector
    limit: TokenLimit


class OnException(Section):
    """Answer to a prompt that a guard refuses."""

    message: str = Field(description="text of the answer to the client")


class Jailbreak(Section):
    """Guard against prompts that override a model's instructions."""

    on_exception: OnException


class InputGuards(Section):
    """Guards that check the prompts of clients."""

    jailbreak: Jailbreak


class PromptGuards(Section):
    """Guards of Plano; refused unless `ignore_unsupported` is set, then ignored."""

    input_guards: InputGuards | None = None


class SpanAttributes(Section):
    """Attributes that Plano adds to every span."""

    header_prefixes: list[Text] = Field(
        default=[], description="prefixes of the request headers to copy; ignored"
    )
    static: dict[str, str] = Field(default={}, description="attributes by name, with fixed values")


class Exporter(Section):
    """Service that receives spans besides the collector."""

    type: Literal["posthog"] = Field(description="kind of service that receives spans")
    url: Text = Field(repr=False, description="address of the service that receives spans")
    api_key: Text = Field(repr=False, description="key of the service, best as `$NAME`")
    distinct_id_header: str | None = Field(
        default=None, description="request header that identifies the user"
    )
    capture_messages: bool = Field(default=False, description="whether messages are sent, too")


class Tracing(Section):
    """Tracing of Plano; used in part if `telemetry.traces` is left out."""

    random_sampling: int | None = Field(
        default=None,
        description="share of the requests that are traced, percent; null or 0: no spans are sent",
    )
    trace_arch_internal: bool = Field(
        default=False, description="whether Plano's internal steps are traced, too; ignored"
    )
    opentracing_grpc_endpoint: str | None = Field(
        default=None,
        repr=False,
        description="address of the collector, `http://HOST:4317` without a path; spans are sent over HTTP, to "
        "port 4318 of the same host; another port is ignored",
    )
    span_attributes: SpanAttributes | None = None
    exporters: list[Exporter] = Field(
        default=[], description="services that receive spans besides the collector; ignored"
    )

    @field_validator("opentracing_grpc_endpoint")
    @classmethod
    def _is_plain(cls, endpoint: str | None) -> str | None:
        if not endpoint or "$" in endpoint:
            return endpoint
        try:
            parts = urlsplit(endpoint)
            plain = bool(parts.scheme == "http" and parts.hostname and parts.path in {"", "/"})
        except ValueError:
            plain = False
        if not plain:
            raise PydanticCustomError(
                "collector", "must be an http URL without a path, such as http://localhost:4317"
            )
        return endpoint


class CostSource(Section):
    """Catalog of prices; ignored, see `prices`."""

    type: Literal["cost"] = Field(description="kind of source: prices of models")
    provider: Literal["digitalocean", "models.dev"] = Field(
        description="publisher of the price catalog"
    )
    url: Text | None = Field(
        default=None, repr=False, description="address of the catalog, if it is not the usual one"
    )
    refresh_interval: int | None = Field(
        default=None, ge=1, description="interval between two readings, seconds; null: read once"
    )
    model_aliases: dict[str, str] = Field(
        default={}, description="names in the catalog, each with the model it means"
    )


class LatencySource(Section):
    """Query for latencies; ignored."""

    type: Literal["latency"] = Field(description="kind of source: latencies of models")
    provider: Literal["prometheus"] = Field(description="kind of server that is queried")
    url: Text = Field(repr=False, description="address of the server that is queried")
    query: Text = Field(description="query in the language of the server")
    refresh_interval: int | None = Field(
        default=None, ge=1, description="interval between two queries, seconds; null: query once"
    )


MetricsSource = Annotated[CostSource | LatencySource, Field(discriminator="type")]
