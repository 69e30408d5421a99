"""Sections of Plano's file that are read and not in force; notices.py says so, key by key.

What has a plain form is checked as strictly as the rest. Agents, filters and prompt targets are
another product: they are taken as they are.
"""

from typing import Annotated, Any, Literal, Self, TypeAlias
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from serve_app.config.schema.section import Section, Text

Loose: TypeAlias = dict[str, Any]


class Listener(Section):
    """Where Plano listens. Ray Serve owns the address and the port here."""

    type: Literal["model", "prompt", "agent"] = Field(
        description="`model` is the one that serves models; at most one"
    )
    name: Text = Field(description="any")
    port: int | None = Field(
        default=None, description="not in force: `http_options.port` of serve.yaml is"
    )
    address: str | None = Field(
        default=None, description="not in force: `http_options.host` of serve.yaml is"
    )
    timeout: str | None = Field(default=None, description="not in force: `timeouts` is")
    router: Literal["plano_orchestrator_v1"] | None = Field(
        default=None, description="not in force"
    )
    max_retries: int | None = Field(
        default=None, description="not in force: candidates are tried in turn"
    )
    agents: list[Loose] = Field(default=[], description="not in force")
    input_filters: list[Text] = Field(default=[], description="not in force")
    output_filters: list[Text] = Field(default=[], description="not in force")


class LegacyListener(Section):
    """One of the two listeners of Plano's first versions."""

    address: str | None = None
    port: int | None = None
    message_format: Literal["openai"] | None = None
    timeout: str | None = None


class LegacyListeners(Section):
    """The older form of ``listeners``, a mapping."""

    egress_traffic: LegacyListener | None = None
    ingress_traffic: LegacyListener | None = None


class InlinePreference(Section):
    """A route under a model, as it was written before v0.4.0."""

    name: str | None = Field(default=None, description="of the route")
    description: str = Field(default="", description="what belongs there")


class PlanoEndpoint(Section):
    """A server of prompt targets."""

    endpoint: Text = Field(description="host and port")
    connect_timeout: str | None = Field(default=None, description="until the connection stands")
    protocol: Literal["http", "https"] | None = Field(default=None, description="of the server")
    http_host: str | None = Field(default=None, description="the Host header")
    prefix_affinity: bool = Field(default=False, description="Plano's choice among several servers")


class Selector(Section):
    """Whose tokens are counted: those of requests with this header."""

    key: Text = Field(description="the header")
    value: str = Field(description="what it holds")


class TokenLimit(Section):
    """How many tokens there may be in a unit of time."""

    tokens: int = Field(ge=0, description="so many")
    unit: Literal["second", "minute", "hour", "day"] = Field(description="in this time")


class RateLimit(Section):
    """A bound of the tokens that a model is sent."""

    model: Text = Field(description="which is limited")
    selector: Selector
    limit: TokenLimit


class OnException(Section):
    """What a client is told."""

    message: str = Field(description="in place of an answer")


class Jailbreak(Section):
    """A guard against prompts that talk a model out of its instructions."""

    on_exception: OnException


class InputGuards(Section):
    """Guards of prompts."""

    jailbreak: Jailbreak


class PromptGuards(Section):
    """Guards."""

    input_guards: InputGuards | None = None


class SpanAttributes(Section):
    """What is put into every span."""

    header_prefixes: list[Text] = Field(default=[], description="request headers that begin so")
    static: dict[str, str] = Field(default={}, description="names and values")


class Exporter(Section):
    """Who gets spans besides the collector."""

    type: Literal["posthog"] = Field(description="the only kind that there is")
    url: Text = Field(repr=False, description="where it is")
    api_key: Text = Field(repr=False, description="its key, best as `$NAME`")
    distinct_id_header: str | None = Field(
        default=None, description="the header that says who asks"
    )
    capture_messages: bool = Field(default=False, description="whether texts are sent, too")


class Tracing(Section):
    """Where spans go."""

    random_sampling: int | None = Field(default=None, description="percent of the requests")
    trace_arch_internal: bool = Field(default=False, description="Plano's own steps, too")
    opentracing_grpc_endpoint: str | None = Field(
        default=None, repr=False, description="the collector: `http://HOST:4317`, without a path"
    )
    span_attributes: SpanAttributes | None = None
    exporters: list[Exporter] = Field(default=[])

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
                "collector", "must be http, a host and a port, such as http://localhost:4317"
            )
        return endpoint


class StateStorage(Section):
    """Where Plano keeps conversations for the responses API."""

    type: Literal["memory", "postgres"] = Field(description="`postgres` needs `connection_string`")
    connection_string: Text | None = Field(
        default=None, repr=False, description="of the database, best as `$NAME`"
    )

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        if self.type == "postgres" and self.connection_string is None:
            raise PydanticCustomError("state", "type postgres needs `connection_string:`")
        return self


class CostSource(Section):
    """A catalog of prices."""

    type: Literal["cost"] = Field(description="of prices")
    provider: Literal["digitalocean", "models.dev"] = Field(description="whose catalog")
    url: Text | None = Field(
        default=None, repr=False, description="where it is, if not in its usual place"
    )
    refresh_interval: int | None = Field(
        default=None, ge=1, description="seconds between two readings; None: read once"
    )
    model_aliases: dict[str, str] = Field(
        default={}, description="the catalog's names, and which models they are"
    )


class LatencySource(Section):
    """A query for latencies."""

    type: Literal["latency"] = Field(description="of latencies")
    provider: Literal["prometheus"] = Field(description="what is asked")
    url: Text = Field(repr=False, description="where it is")
    query: Text = Field(description="in its own language")
    refresh_interval: int | None = Field(
        default=None, ge=1, description="seconds between two queries; None: asked once"
    )


MetricsSource = Annotated[CostSource | LatencySource, Field(discriminator="type")]
