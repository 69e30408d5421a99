"""The deployments of a configuration as values."""

from pathlib import Path

import pytest

from serve_app.graph import DRAIN_S, Role, deployment_names, deployments_of
from tests.unit.config.broken import V
from tests.unit.fakes import setup_of

PROVIDERS = """model_providers:
  - {model: openai/a}
  - {model: vllm/b, base_url: "http://h:1", data_path: inline}
  - {model: groq/*}
"""
REDIS = "routing: {session_cache: {type: redis, url: 'redis://h'}}\n"


def test_deployments_follow_the_configuration(tmp_path: Path) -> None:
    """One for each dedicated provider; none for what is shared or inline."""
    specs = deployments_of(setup_of(tmp_path, V + PROVIDERS))
    assert [(spec.name, spec.role, spec.slug) for spec in specs] == [
        ("Ingress", Role.INGRESS, None),
        ("Orchestrator", Role.ORCHESTRATOR, None),
        ("Affinity", Role.AFFINITY, None),
        ("provider-shared", Role.SHARED, None),
        ("provider-openai", Role.PROVIDER, "openai"),
    ]


def test_redis_replaces_the_affinity_deployment(tmp_path: Path) -> None:
    """Then the ingress asks Redis itself."""
    assert "Affinity" not in deployment_names(setup_of(tmp_path, V + PROVIDERS + REDIS))


@pytest.mark.parametrize(
    ("section", "target"),
    [
        ("", 4),
        ("orchestrator: {engine: vllm, model: /w, min_confidence: 0.1}\n", 32),
        ("orchestrator: {engine: http, model: m, base_url: 'http://h', min_confidence: 0.1}\n", 32),
    ],
)
def test_the_orchestrator_scales_by_its_engine(section: str, target: int, tmp_path: Path) -> None:
    """One that answers in batches takes more questions at once."""
    specs = deployments_of(setup_of(tmp_path, V + PROVIDERS + section))
    (orchestrator,) = (spec for spec in specs if spec.role is Role.ORCHESTRATOR)
    assert orchestrator.options["autoscaling_config"]["target_ongoing_requests"] == target
    assert orchestrator.options["max_ongoing_requests"] >= target


def test_replicas_with_streams_drain_longer_than_the_longest_stream(tmp_path: Path) -> None:
    """So that no scaling cuts an answer."""
    snapshot = setup_of(tmp_path, V + PROVIDERS)
    assert snapshot.config.timeouts.total_s < DRAIN_S
    for spec in deployments_of(snapshot):
        streams = spec.role in {Role.INGRESS, Role.PROVIDER, Role.SHARED}
        assert spec.options.get("graceful_shutdown_timeout_s") == (DRAIN_S if streams else None)
