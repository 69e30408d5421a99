"""A collector of OpenTelemetry on loopback: takes traces and metrics over HTTP and keeps them."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

KINDS = {1: "internal", 2: "server", 3: "client"}


@dataclass(frozen=True)
class ExportedSpan:
    """A span as it arrived; times are seconds since the epoch."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    kind: str
    began: float
    ended: float
    is_error: bool
    attributes: dict[str, Any]


@dataclass
class Collector:
    """What has arrived. ``status`` and ``pause_s`` make it fail or slow."""

    url: str = ""
    status: int = 200
    pause_s: float = 0.0
    bodies: list[tuple[str, bytes]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    @property
    def spans(self) -> list[ExportedSpan]:
        """Every span, in the order of arrival."""
        return [
            _span(span)
            for path, body in self.bodies
            if path == "/v1/traces"
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    @property
    def resources(self) -> list[dict[str, Any]]:
        """The resource attributes of each export of traces or metrics."""
        return [
            _attributes(resource.resource.attributes)
            for path, body in self.bodies
            for resource in (
                ExportTraceServiceRequest.FromString(body).resource_spans
                if path == "/v1/traces"
                else ExportMetricsServiceRequest.FromString(body).resource_metrics
            )
        ]

    @property
    def metrics(self) -> dict[str, list[tuple[dict[str, Any], Any]]]:
        """The points of the last export, by metric: attributes, and a value or (count, sum)."""
        exports = [body for path, body in self.bodies if path == "/v1/metrics"]
        found: dict[str, list[tuple[dict[str, Any], Any]]] = {}
        for body in exports[-1:]:
            for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                for scope in resource.scope_metrics:
                    for metric in scope.metrics:
                        points = getattr(metric, metric.WhichOneof("data") or "gauge").data_points
                        found[metric.name] = [
                            (_attributes(point.attributes), _value(point)) for point in points
                        ]
        return found


@contextmanager
def collecting(port: int = 0) -> Iterator[Collector]:
    """A running collector."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            time.sleep(collector.pause_s)
            if collector.status == 200:
                collector.headers.append({k.lower(): v for k, v in self.headers.items()})
                collector.bodies.append((self.path, body))
            self.send_response(collector.status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_request(self, code: Any = "-", size: Any = "-") -> None:
            """Logs nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    collector.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _span(span: Span) -> ExportedSpan:
    return ExportedSpan(
        span.name,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        KINDS[span.kind],
        span.start_time_unix_nano / 1e9,
        span.end_time_unix_nano / 1e9,
        span.status.code == 2,
        _attributes(span.attributes),
    )


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: _any(pair.value) for pair in pairs}


def _any(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_any(item) for item in value.array_value.values]
    return getattr(value, kind)


def _value(point: Any) -> Any:
    if hasattr(point, "bucket_counts"):
        return point.count, point.sum
    return getattr(point, point.WhichOneof("value"))
