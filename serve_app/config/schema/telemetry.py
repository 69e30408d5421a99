"""The section ``telemetry``: where traces and metrics go by OpenTelemetry's protocol.

Addresses and headers are kept as references; the ingress replica expands them when it starts.
"""

from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from serve_app.config.schema.section import Section, Text

DEFAULT_SAMPLE: Final = 0.01
"""The share of requests that is traced unless the configuration says otherwise."""

Attributes = Annotated[dict[Text, Text], Field(max_length=64)]


class CollectorSection(Section):
    """A collector of OpenTelemetry, and how it is reached."""

    endpoint: Text | None = Field(
        default=None,
        description="URL of the collector, such as `http://collector:4318`; without a path, the one of the signal is "
        "added; null: `OTEL_EXPORTER_OTLP_ENDPOINT` of the environment, else `http://localhost:4318`",
        repr=False,
    )
    headers: dict[Text, Text] = Field(
        default={},
        description="additional headers for the collector; values may be `$NAME`",
        repr=False,
    )
    timeout_s: float | None = Field(
        default=None,
        gt=0,
        le=60,
        description="timeout of one export with its retries, seconds; null: `OTEL_EXPORTER_OTLP_TIMEOUT`, else 10",
    )

    @field_validator("endpoint")
    @classmethod
    def _is_url(cls, endpoint: str | None) -> str | None:
        if endpoint is None or "$" in endpoint:
            return endpoint
        try:
            parts = urlsplit(endpoint)
            usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and not parts.query
        except ValueError:
            usable = False
        if not usable:
            raise PydanticCustomError(
                "collector", "must be an http or https URL, such as http://localhost:4318"
            )
        return endpoint


class Traces(CollectorSection):
    """Traces: one span for each request, its decision and its attempts, sent over HTTP."""

    sample: float = Field(
        default=DEFAULT_SAMPLE,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="share of the requests that is traced, from 0 to 1; of those without a `traceparent` if "
        "`follow_client` is set",
    )
    follow_client: bool = Field(
        default=True,
        description="whether a request with a `traceparent` is traced exactly if its client traces it",
    )
    max_queue: int = Field(
        default=2048,
        ge=512,
        le=65536,
        description="maximum number of spans that wait for the collector; further ones are dropped",
    )


class MetricsExport(CollectorSection):
    """Metrics, sent over HTTP, beside those that Prometheus scrapes."""

    interval_s: float = Field(
        default=60.0, ge=1, le=3600, description="interval between two exports, seconds"
    )


class Telemetry(Section):
    """Traces and metrics for OpenTelemetry, and what they may contain."""

    traces: Traces | None = None
    metrics: MetricsExport | None = None
    attributes: Attributes = Field(
        default={},
        description="attributes of every span and metric that is exported, such as `deployment.environment.name`",
    )
    content: bool = Field(
        default=False,
        description="whether spans contain the text of conversations; the text of answers is never recorded",
    )
    open_metrics: bool = Field(
        default=False,
        description="whether `/metrics` is served without a client key, and to other machines",
    )
