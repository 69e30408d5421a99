"""How many replicas the deployment of this process may have."""

from typing import Any

from ray import serve


def most_replicas() -> int:
    """The most replicas of the deployment that this process is a replica of; 1 outside of Serve."""
    try:
        config: Any = serve.get_replica_context()._deployment_config  # noqa: SLF001 - nothing else has it
    except (serve.exceptions.RayServeException, AttributeError):
        return 1
    scaling = config.autoscaling_config
    return int(scaling.max_replicas if scaling is not None else config.num_replicas or 1)
