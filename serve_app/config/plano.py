"""Sections of Plano's file that are read and not in force; notices.py says so, key by key.

What has a plain form is checked as strictly as the rest. Agents, filters and prompt targets are
another product: they are taken as they are.
"""

import re
from typing import Annotated, Any, Final, Literal, Self, TypeAlias
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from serve_app.config.strict import Strict, Text

Loose: TypeAlias = dict[str, Any]

_DURATION: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|s|m|h)")
_SECONDS: Final = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def seconds_of(text: str) -> float | None:
    """The seconds that a time with its unit stands for; None where it is none, or is nothing.

    >>> seconds_of("5s"), seconds_of("500ms"), seconds_of("0s"), seconds_of("soon")
    (5.0, 0.5, None, None)
    """
    found = _DURATION.fullmatch(text)
    return (float(found[1]) * _SECONDS[found[2]] or None) if found else None


def _readable(text: str) -> str:
    if seconds_of(text) is None:
        raise PydanticCustomError("duration", "must be a time with its unit")
    return text


Duration = Annotated[str, AfterValidator(_readable)]


class Listener(Strict):
    """Where Plano listens. Ray Serve owns the address and the port here."""

    type: Literal["model", "prompt", "agent"]
    name: Text
    port: int | None = None
    address: str | None = None
    timeout: str | None = None
    router: Literal["plano_orchestrator_v1"] | None = None
    max_retries: int | None = None
    agents: list[Loose] = Field(default=[])
    input_filters: list[Text] = Field(default=[])
    output_filters: list[Text] = Field(default=[])


class LegacyListener(Strict):
    """One of the two listeners of Plano's first versions."""

    address: str | None = None
    port: int | None = None
    message_format: Literal["openai"] | None = None
    timeout: str | None = None


class LegacyListeners(Strict):
    """The older form of ``listeners``, a mapping."""

    egress_traffic: LegacyListener | None = None
    ingress_traffic: LegacyListener | None = None


class InlinePreference(Strict):
    """A route under a model, as it was written before v0.4.0."""

    name: str | None = None
    description: str = ""


class PlanoEndpoint(Strict):
    """A server of prompt targets."""

    endpoint: Text
    connect_timeout: str | None = None
    protocol: Literal["http", "https"] | None = None
    http_host: str | None = None
    prefix_affinity: bool = False


class Selector(Strict):
    """Whose tokens are counted: those of requests with this header."""

    key: Text
    value: str


class TokenLimit(Strict):
    """How many tokens there may be in a unit of time."""

    tokens: int = Field(ge=0)
    unit: Literal["second", "minute", "hour", "day"]


class RateLimit(Strict):
    """A bound of the tokens that a model is sent."""

    model: Text
    selector: Selector
    limit: TokenLimit


class OnException(Strict):
    """What a client is told."""

    message: str


class Jailbreak(Strict):
    """A guard against prompts that talk a model out of its instructions."""

    on_exception: OnException


class InputGuards(Strict):
    """Guards of prompts."""

    jailbreak: Jailbreak


class PromptGuards(Strict):
    """Guards."""

    input_guards: InputGuards | None = None


class SpanAttributes(Strict):
    """What is put into every span."""

    header_prefixes: list[Text] = Field(default=[])
    static: dict[str, str] = Field(default={})


class Exporter(Strict):
    """Who gets spans besides the collector."""

    type: Literal["posthog"]
    url: Text = Field(repr=False)
    api_key: Text = Field(repr=False)
    distinct_id_header: str | None = None
    capture_messages: bool = False


class Tracing(Strict):
    """Where spans go."""

    random_sampling: int | None = None
    trace_arch_internal: bool = False
    opentracing_grpc_endpoint: str | None = Field(default=None, repr=False)
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


class StateStorage(Strict):
    """Where Plano keeps conversations for the responses API."""

    type: Literal["memory", "postgres"]
    connection_string: Text | None = Field(default=None, repr=False)

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        if self.type == "postgres" and self.connection_string is None:
            raise PydanticCustomError("state", "type postgres needs `connection_string:`")
        return self


class CostSource(Strict):
    """A catalog of prices."""

    type: Literal["cost"]
    provider: Literal["digitalocean", "models.dev"]
    url: Text | None = Field(default=None, repr=False)
    refresh_interval: int | None = Field(default=None, ge=1)
    model_aliases: dict[str, str] = Field(default={})


class LatencySource(Strict):
    """A query for latencies."""

    type: Literal["latency"]
    provider: Literal["prometheus"]
    url: Text = Field(repr=False)
    query: Text
    refresh_interval: int | None = Field(default=None, ge=1)


MetricsSource = Annotated[CostSource | LatencySource, Field(discriminator="type")]
