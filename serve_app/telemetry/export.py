"""Starts what a configuration exports by OpenTelemetry's protocol over HTTP, and ends it.

The SDK reads the standard variables ``OTEL_*`` itself, for whatever the configuration leaves out.
It is imported only if something is exported.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Thread
from typing import TYPE_CHECKING, Final, Literal, NamedTuple
from urllib.parse import urlsplit, urlunsplit

from serve_app.config.references import CONTROL_CHARACTER, MissingEnvironmentError, expand
from serve_app.config.schema.telemetry import CollectorSection, Telemetry
from serve_app.telemetry.metric_store import MetricStore
from serve_app.telemetry.record import Observer
from serve_app.telemetry.trace_context import Tracer

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource

CLOSE_S: Final = 3.0
"""The longest wait for a collector when the replica ends."""

_log = logging.getLogger("fingerpost")


class Destination(NamedTuple):
    """A collector with everything expanded."""

    endpoint: str | None
    """With the path of its signal; None: as the environment says."""
    headers: Mapping[str, str]
    timeout_s: float | None


@dataclass(frozen=True, slots=True)
class Exports:
    """What is exported; all empty where nothing is."""

    tracing: Tracer | None = None
    observers: tuple[Observer, ...] = ()
    warnings: tuple[str, ...] = ()
    flushers: tuple[Callable[[], None], ...] = ()
    """Each exports what waits."""
    closers: tuple[Callable[[], None], ...] = ()

    def close(self, within_s: float = CLOSE_S) -> None:
        """Exports what is left, and returns after ``within_s`` even if no collector answers."""
        threads = [Thread(target=closer, daemon=True) for closer in self.closers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(within_s)


def start_exports(
    telemetry: Telemetry, environ: Mapping[str, str], store: MetricStore, replica: str
) -> Exports:
    """Starts the exports of a configuration. What cannot be exported becomes a warning."""
    if telemetry.traces is None and telemetry.metrics is None:
        return Exports()
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return Exports(warnings=("telemetry is off: OTEL_SDK_DISABLED is true; unset it",))
    try:
        resource = _resource(telemetry, environ, replica)
        traces = _traces(telemetry, environ, resource)
        metrics = _metrics(telemetry, environ, resource, store)
    except (MissingEnvironmentError, ValueError) as error:
        return Exports(warnings=(f"telemetry is off: {error}",))
    return Exports(
        traces.tracing,
        traces.observers,
        flushers=(*traces.flushers, *metrics.flushers),
        closers=(*traces.closers, *metrics.closers),
    )


def destination(
    section: CollectorSection, signal: Literal["traces", "metrics"], environ: Mapping[str, str]
) -> Destination:
    """Where a signal goes. Raises MissingEnvironmentError, or ValueError without any value."""
    headers = {}
    for name, text in section.headers.items():
        value = expand(text, environ).strip()
        if CONTROL_CHARACTER.search(value) or not value.isascii():
            message = f"telemetry.{signal}.headers.{name} is not a header value; correct it"
            raise ValueError(message)
        headers[name] = value
    if section.endpoint is None:
        return Destination(None, headers, section.timeout_s)
    parts = urlsplit(expand(section.endpoint, environ))
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        message = f"telemetry.{signal}.endpoint is not an http or https URL; correct it"
        raise ValueError(message)
    path = parts.path if parts.path not in {"", "/"} else f"/v1/{signal}"
    url = urlunsplit((parts.scheme, parts.netloc, path, "", ""))
    return Destination(url, headers, section.timeout_s)


def _traces(telemetry: Telemetry, environ: Mapping[str, str], resource: "Resource") -> Exports:
    section = telemetry.traces
    if section is None:
        return Exports()
    from serve_app.telemetry.exporters import span_exporter  # noqa: PLC0415 - the SDK is large
    from serve_app.telemetry.spans import SpanObserver  # noqa: PLC0415 - as above

    exporter = span_exporter(destination(section, "traces", environ))
    observer = SpanObserver(exporter, resource, section.max_queue)
    tracing = Tracer(
        section.sample, follow_client=section.follow_client, with_content=telemetry.content
    )
    return Exports(tracing, (observer,), flushers=(observer.flush,), closers=(observer.close,))


def _metrics(
    telemetry: Telemetry, environ: Mapping[str, str], resource: "Resource", store: MetricStore
) -> Exports:
    section = telemetry.metrics
    if section is None:
        return Exports()
    from serve_app.telemetry.exporters import metric_exporter  # noqa: PLC0415 - the SDK is large
    from serve_app.telemetry.metric_export import MetricExport  # noqa: PLC0415 - as above

    exporter = metric_exporter(destination(section, "metrics", environ))
    export = MetricExport(exporter, resource, store, section.interval_s)
    return Exports(flushers=(export.flush,), closers=(export.close,))


def _resource(telemetry: Telemetry, environ: Mapping[str, str], replica: str) -> "Resource":
    """The attributes of everything that is exported; those of the configuration win."""
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 - the SDK is large

    named = "OTEL_SERVICE_NAME" in environ or "service.name=" in environ.get(
        "OTEL_RESOURCE_ATTRIBUTES", ""
    )
    own = {"service.instance.id": replica} if replica else {}
    name = {} if named else {"service.name": "fingerpost"}
    return Resource.create({**name, **own, **telemetry.attributes})
