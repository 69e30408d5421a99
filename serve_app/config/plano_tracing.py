"""Plano's section ``tracing``, as far as it has an equivalent in ``telemetry``.

It is used where ``telemetry.traces`` is left out. Plano sends spans by gRPC to port 4317; the
gateway sends them over HTTP, to the port that collectors open for that: 4318.
"""

from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from serve_app.config.schema.gateway import GatewayConfig
from serve_app.config.schema.inert import Tracing
from serve_app.config.schema.telemetry import Telemetry, Traces

_GRPC_PORT: Final = 4317
_HTTP_PORT: Final = 4318
_PERCENT: Final = 100
_KEY: Final = "tracing"


def telemetry_of(config: GatewayConfig) -> Telemetry:
    """The section ``telemetry`` with Plano's switches applied."""
    section, plano = config.telemetry, config.tracing
    if plano is None or section.traces is not None or not plano.random_sampling:
        return section
    share = min(max(plano.random_sampling, 0), _PERCENT) / _PERCENT
    static = {} if plano.span_attributes is None else plano.span_attributes.static
    attributes = {name: value for name, value in static.items() if name and value}
    return section.model_copy(
        update={
            "traces": Traces(sample=share, endpoint=_http_endpoint(plano)),
            "attributes": {**attributes, **section.attributes},
        }
    )


def tracing_warnings(config: GatewayConfig) -> Iterator[str]:
    """What of Plano's section is ignored; one line each."""
    plano = config.tracing
    if plano is None or not plano.model_fields_set:
        return
    if config.telemetry.traces is not None:
        yield f"{_KEY} is ignored: telemetry.traces is set; remove one of them"
        return
    if not plano.random_sampling:
        yield f"{_KEY} sends no spans: random_sampling is not set; set it, or telemetry.traces"
        return
    endpoint = plano.opentracing_grpc_endpoint
    if endpoint is not None and _http_endpoint(plano) is None:
        yield (
            f"{_KEY}.opentracing_grpc_endpoint is ignored: spans are sent over HTTP, not gRPC; "
            "set telemetry.traces.endpoint"
        )
    if plano.trace_arch_internal:
        yield f"{_KEY}.trace_arch_internal is ignored: it is about Plano's own steps; remove it"
    if plano.span_attributes is not None and plano.span_attributes.header_prefixes:
        yield f"{_KEY}.span_attributes.header_prefixes is ignored; set telemetry.attributes"
    if plano.exporters:
        yield f"{_KEY}.exporters is ignored: only a collector receives spans; configure it there"


def _http_endpoint(plano: Tracing) -> str | None:
    """The collector's address for HTTP; None if there is none, or its port is not the usual one."""
    text = plano.opentracing_grpc_endpoint
    if not text or "$" in text:
        return None
    try:
        parts = urlsplit(text)
        is_usual = parts.port == _GRPC_PORT
    except ValueError:  # not a port
        return None
    if not is_usual:
        return None
    own, _, _ = parts.netloc.rpartition(":")
    return urlunsplit((parts.scheme, f"{own}:{_HTTP_PORT}", "", "", ""))
