"""The deployments of a configuration as values: their names, their options, why each exists.

app.py binds them to Ray Serve; the command line checks a serve.yaml against them without Ray.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Any, Final

from serve_app.access.enforcement import limits_problem
from serve_app.domain import DataPath
from serve_app.providers.endpoints import SHARED_SLUG
from serve_app.snapshot import Snapshot

DRAIN_S: Final = 660
"""Seconds that a replica with streams may take to stop: the longest stream, and a minute."""

_IO_BOUND: Final[Mapping[str, Any]] = MappingProxyType(
    {
        # Serve's defaults of 5 and 2 are for GPUs; these replicas mostly wait
        "max_ongoing_requests": 1000,
        "autoscaling_config": {
            "min_replicas": 1,
            "max_replicas": 8,
            "target_ongoing_requests": 200,
        },
        "ray_actor_options": {"num_cpus": 0.05},
        "graceful_shutdown_timeout_s": DRAIN_S,
    }
)
_ORCHESTRATOR: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "max_ongoing_requests": 64,
        "autoscaling_config": {"min_replicas": 1, "max_replicas": 4},
        "ray_actor_options": {"num_cpus": 0.05},
    }
)
_AFFINITY: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "max_ongoing_requests": 1000,
        "num_replicas": 1,
        "ray_actor_options": {"num_cpus": 0.05},
    }
)
_TARGET_OF_ENGINE: Final[Mapping[str, int]] = MappingProxyType(
    {
        # one question after the other; it refuses those that would wait for too long: the 21st
        # where one takes 12 ms, the 7th where the core is shared. A higher target would never be
        # reached, and so would never add a replica
        "embedding": 4,
        "vllm": 32,  # answers them in batches
        "http": 32,  # mostly waits
        "embeddings": 32,
        "decision": 32,
    }
)
"""``target_ongoing_requests`` of the Orchestrator, by its engine."""

_TARGET_WITH_TIERS: Final = 12
"""The least of it with ``when_unsure``: close calls mostly wait for the other engine."""


class Role(Enum):
    """What a deployment is for."""

    INGRESS = "serves the API"
    ORCHESTRATOR = "scores routes"
    AFFINITY = "keeps sessions and earlier answers in memory"
    PROVIDER = "carries the exchanges of one provider"
    SHARED = "carries wildcards, and providers that a reload adds"


@dataclass(frozen=True, slots=True)
class DeploymentSpec:
    """One deployment, as Serve's options describe it."""

    name: str
    role: Role
    options: Mapping[str, Any] = field(repr=False)
    slug: str | None = None
    """The provider that a deployment of role PROVIDER carries."""


def deployments_of(snapshot: Snapshot) -> tuple[DeploymentSpec, ...]:
    """The deployments of a configuration, the ingress first."""
    specs = [
        DeploymentSpec("Ingress", Role.INGRESS, _ingress_options(snapshot)),
        DeploymentSpec("Orchestrator", Role.ORCHESTRATOR, _orchestrator_options(snapshot)),
    ]
    kinds = (snapshot.config.routing.session_cache.type, snapshot.config.keeps_state_in)
    if "memory" in kinds:  # else the ingress asks Redis itself
        specs.append(DeploymentSpec("Affinity", Role.AFFINITY, _AFFINITY))
    specs.append(DeploymentSpec(f"provider-{SHARED_SLUG}", Role.SHARED, _IO_BOUND))
    specs += [
        DeploymentSpec(f"provider-{slug}", Role.PROVIDER, _IO_BOUND, slug)
        for slug, data_path in snapshot.providers.data_paths().items()
        if data_path is DataPath.DEDICATED
    ]
    return tuple(specs)


def deployment_names(snapshot: Snapshot) -> list[str]:
    """The names of a configuration's deployments."""
    return [spec.name for spec in deployments_of(snapshot)]


def _ingress_options(snapshot: Snapshot) -> Mapping[str, Any]:
    """Those of an ingress; one that counts limits in its memory has a single replica."""
    config = snapshot.config
    if limits_problem(config, _IO_BOUND["autoscaling_config"]["max_replicas"]) is None:
        return _IO_BOUND
    scaling = {**_IO_BOUND["autoscaling_config"], "max_replicas": 1}
    return {**_IO_BOUND, "autoscaling_config": scaling}


def _orchestrator_options(snapshot: Snapshot) -> Mapping[str, Any]:
    section = snapshot.config.orchestrator
    target = _TARGET_OF_ENGINE[section.engine]
    if section.when_unsure is not None:
        target = max(target, _TARGET_WITH_TIERS)
    scaling = {**_ORCHESTRATOR["autoscaling_config"], "target_ongoing_requests": target}
    return {**_ORCHESTRATOR, "autoscaling_config": scaling}
