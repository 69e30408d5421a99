"""What Plano's section ``tracing`` becomes."""

from pathlib import Path

import pytest

from serve_app.config.plano_tracing import telemetry_of
from serve_app.config.schema.telemetry import Traces
from tests.unit.fakes import snapshot_of

ONE_MODEL = "version: v0.4.0\nmodel_providers: [{model: openai/a}]\n"


@pytest.mark.parametrize(
    ("text", "traces"),
    [
        ("", None),
        ("tracing: {}", None),
        ("tracing: {random_sampling: 0, opentracing_grpc_endpoint: 'http://h:4317'}", None),
        ("tracing: {random_sampling: 25}", Traces(sample=0.25)),
        ("tracing: {random_sampling: 1000}", Traces(sample=1)),
        (
            "tracing: {random_sampling: 100, opentracing_grpc_endpoint: 'http://jaeger:4317/'}",
            Traces(sample=1, endpoint="http://jaeger:4318"),
        ),
        (
            "tracing: {random_sampling: 100, opentracing_grpc_endpoint: 'http://[::1]:4317'}",
            Traces(sample=1, endpoint="http://[::1]:4318"),
        ),
        (
            "tracing: {random_sampling: 100, opentracing_grpc_endpoint: 'http://h:5555'}",
            Traces(sample=1),
        ),
        (
            "tracing: {random_sampling: 100}\ntelemetry: {traces: {sample: 0.5}}",
            Traces(sample=0.5),
        ),
    ],
)
def test_plano_tracing_becomes_traces(text: str, traces: Traces | None, tmp_path: Path) -> None:
    """Plano's share and collector are used unless telemetry.traces is set."""
    config = snapshot_of(tmp_path, f"{ONE_MODEL}{text}\n").config
    assert telemetry_of(config).traces == traces


def test_static_attributes_of_plano_are_kept(tmp_path: Path) -> None:
    """Plano's fixed attributes join those of telemetry, which win."""
    text = (
        "tracing: {random_sampling: 1, span_attributes: {static: {env: plano, a: b, empty: ''}}}\n"
        "telemetry: {attributes: {env: ours}}\n"
    )
    config = snapshot_of(tmp_path, ONE_MODEL + text).config
    assert telemetry_of(config).attributes == {"env": "ours", "a": "b"}
