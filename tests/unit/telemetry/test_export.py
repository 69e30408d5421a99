"""Where traces and metrics are exported to, and what happens if that cannot be known."""

import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Final

import pytest

from serve_app.config.references import MissingEnvironmentError
from serve_app.config.schema.telemetry import MetricsExport, Telemetry, Traces
from serve_app.telemetry.export import Exports, destination, start_exports
from serve_app.telemetry.metric_store import MetricStore
from serve_app.telemetry.record import RequestRecord
from tests.collector import collecting

SECRET: Final = "sk-otlp-secret"


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        (None, None),
        ("http://h:4318", "http://h:4318/v1/traces"),
        ("http://h:4318/", "http://h:4318/v1/traces"),
        ("https://$HOST/otlp/v1/traces", "https://collector.example/otlp/v1/traces"),
    ],
)
def test_endpoint_gets_the_path_of_its_signal(endpoint: str | None, expected: str | None) -> None:
    """An address without a path gets that of OpenTelemetry; a path stays as it is."""
    section = Traces(endpoint=endpoint, headers={"authorization": "Bearer $KEY "}, timeout_s=2)
    found = destination(section, "traces", {"HOST": "collector.example", "KEY": SECRET})
    assert found.endpoint == expected
    assert found.headers == {"authorization": f"Bearer {SECRET}"}
    assert found.timeout_s == 2
    assert SECRET not in repr(section)


def test_key_may_be_in_a_file(tmp_path: Path) -> None:
    """A header may refer to a file."""
    (tmp_path / "key").write_text(f"{SECRET}\n")
    section = MetricsExport(headers={"a": f"file:{tmp_path / 'key'}"})
    assert destination(section, "metrics", {}).headers == {"a": SECRET}


@pytest.mark.parametrize(
    ("fields", "environ"),
    [
        ({"headers": {"a": "$KEY"}}, {}),
        ({"headers": {"a": "$KEY"}}, {"KEY": f"{SECRET}\r\nx: y"}),
        ({"headers": {"a": "$KEY"}}, {"KEY": f"{SECRET}é"}),
        ({"endpoint": "$URL"}, {"URL": f"ftp://{SECRET}"}),
        ({"endpoint": "$URL"}, {"URL": f"{SECRET}"}),
    ],
)
def test_unusable_value_is_a_warning_without_it(fields: Any, environ: dict[str, str]) -> None:
    """Nothing is exported, the gateway starts all the same, and the warning names the key alone."""
    telemetry = Telemetry(traces=Traces(**fields))
    with pytest.raises((MissingEnvironmentError, ValueError)):
        destination(Traces(**fields), "traces", environ)
    exports = start_exports(telemetry, environ, MetricStore(), "r")
    (warning,) = exports.warnings
    assert warning.startswith("telemetry is off: ")
    assert SECRET not in warning
    assert exports.tracing is None
    assert exports.observers == ()


def test_nothing_is_started_without_a_section() -> None:
    """A configuration that exports nothing starts no thread and imports no SDK for it."""
    before = threading.active_count()
    assert start_exports(Telemetry(), {}, MetricStore(), "r") == Exports()
    assert threading.active_count() == before


def test_sdk_is_imported_only_for_an_export() -> None:
    """The modules that every ingress imports do not import the SDK, which takes time and memory."""
    program = (
        "import sys, serve_app.telemetry.export, serve_app.api.app; "
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def test_standard_switch_turns_everything_off() -> None:
    """OTEL_SDK_DISABLED wins over the configuration, and a warning says so."""
    environ = {"OTEL_SDK_DISABLED": "TRUE"}
    exports = start_exports(Telemetry(traces=Traces()), environ, MetricStore(), "r")
    assert exports.tracing is None
    assert "OTEL_SDK_DISABLED" in exports.warnings[0]


def test_standard_variables_fill_what_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Address, headers and the name of the service come from the standard variables."""
    with collecting() as collector:
        environ = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "OTEL_EXPORTER_OTLP_HEADERS": "x-scope=ops",
            "OTEL_SERVICE_NAME": "router",
        }
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        telemetry = Telemetry(traces=Traces(sample=1))
        exports = start_exports(telemetry, environ, MetricStore(), "r-1")
        assert exports.tracing is not None
        context, _ = exports.tracing.begin((), "/v1/messages")
        record = RequestRecord("messages", 404, error_type="404", at=time.time(), context=context)
        exports.observers[0].ended(record)
        exports.close()
    assert [headers["x-scope"] for headers in collector.headers] == ["ops"]
    assert [span.name for span in collector.spans] == ["POST /v1/messages"]
    assert collector.resources[0]["service.name"] == "router"


def test_end_is_bounded() -> None:
    """An exporter that does not end does not keep the replica."""
    never = threading.Event()

    def hang() -> None:
        never.wait(30)

    began = time.monotonic()
    Exports(closers=(hang,)).close(within_s=0.1)
    assert time.monotonic() - began < 2
    never.set()
