"""The deployments of a configuration as values."""

from pathlib import Path

import pytest

from serve_app.graph import DRAIN_S, Role, deployment_names, deployments_of
from tests.unit.config.broken import V
from tests.unit.fakes import snapshot_of

PROVIDERS = """model_providers:
  - {model: openai/a}
  - {model: vllm/b, base_url: "http://h:1", data_path: inline}
  - {model: groq/*}
"""
REDIS = "routing: {session_cache: {type: redis, url: 'redis://h'}}\n"


def test_deployments_follow_configuration(tmp_path: Path) -> None:
    """Each dedicated provider has a deployment; shared and inline providers have none of their own."""
    specs = deployments_of(snapshot_of(tmp_path, V + PROVIDERS))
    assert [(spec.name, spec.role, spec.slug) for spec in specs] == [
        ("Ingress", Role.INGRESS, None),
        ("Orchestrator", Role.ORCHESTRATOR, None),
        ("Affinity", Role.AFFINITY, None),
        ("provider-shared", Role.SHARED, None),
        ("provider-openai", Role.PROVIDER, "openai"),
    ]


def test_redis_replaces_affinity_deployment(tmp_path: Path) -> None:
    """With Redis there is no Affinity deployment, because the ingress calls Redis itself."""
    assert "Affinity" not in deployment_names(snapshot_of(tmp_path, V + PROVIDERS + REDIS))


@pytest.mark.parametrize(
    ("section", "target"),
    [
        ("", 4),
        ("orchestrator: {engine: vllm, model: /w, min_confidence: 0.1}\n", 32),
        ("orchestrator: {engine: http, model: m, base_url: 'http://h', min_confidence: 0.1}\n", 32),
        ("orchestrator: {engine: embeddings, model: openai/a}\n", 32),
        ("orchestrator: {engine: decision, model: m, base_url: 'http://h'}\n", 32),
        ("orchestrator: {when_unsure: {engine: http, model: openai/a}}\n", 12),
        (
            "orchestrator: {engine: vllm, model: /w, when_unsure: {engine: http, model: openai/a}}\n",
            32,
        ),
    ],
)
def test_orchestrator_target_follows_engine(section: str, target: int, tmp_path: Path) -> None:
    """The Orchestrator of an engine that batches has a higher target of ongoing requests."""
    specs = deployments_of(snapshot_of(tmp_path, V + PROVIDERS + section))
    (orchestrator,) = (spec for spec in specs if spec.role is Role.ORCHESTRATOR)
    assert orchestrator.options["autoscaling_config"]["target_ongoing_requests"] == target
    assert orchestrator.options["max_ongoing_requests"] >= target


def test_streaming_replicas_drain_longer_than_longest_stream(tmp_path: Path) -> None:
    """Replicas that carry streams drain longer than the total timeout, so that scaling down does
    not cut an answer.
    """
    snapshot = snapshot_of(tmp_path, V + PROVIDERS)
    assert snapshot.config.timeouts.total_s < DRAIN_S
    for spec in deployments_of(snapshot):
        streams = spec.role in {Role.INGRESS, Role.PROVIDER, Role.SHARED}
        assert spec.options.get("graceful_shutdown_timeout_s") == (DRAIN_S if streams else None)


LIMITED = [
    "model_limits: {openai/a: {concurrent: 1}}\n",
    "client_keys: [{key: $K, name: k, budget: {usd: 1}}]\n",
    "teams: {t: {limits: {requests_per_minute: 1}}}\n",
    "ratelimits: [{model: a, selector: {key: x, value: y}, limit: {tokens: 1, unit: day}}]\n",
]


@pytest.mark.parametrize("limits", LIMITED)
def test_ingress_that_counts_in_memory_is_alone(limits: str, tmp_path: Path) -> None:
    """With limits in memory the ingress has one replica; with Redis, or without limits, it scales."""

    def most(text: str) -> int:
        specs = deployments_of(snapshot_of(tmp_path, V + PROVIDERS + text))
        number: int = specs[0].options["autoscaling_config"]["max_replicas"]
        return number

    assert most("") == most("client_keys: [{key: $K, name: k}]\n") == 8
    assert most(limits) == 1
    assert (
        most(limits + REDIS)
        == most(limits + "limit_storage: {type: redis, url: 'redis://h'}\n")
        == 8
    )
    assert most(limits + REDIS + "limit_storage: {type: memory}\n") == 1
