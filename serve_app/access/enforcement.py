"""Whether limits can be enforced as the ingress is deployed."""

from serve_app.config.schema.gateway import GatewayConfig


def limits_problem(
    config: GatewayConfig, replicas: int, counted_in: str | None = None
) -> str | None:
    """Why the limits of a configuration can't be enforced; None if they can.

    ``replicas``: the most that the ingress may have. ``counted_in``: where a running ingress
    counts; None: as the configuration says.
    """
    counted_in = counted_in or config.counts_in
    if replicas <= 1 or counted_in == "redis" or not config.has_shared_limits:
        return None
    return (
        f"the ingress may have {replicas} replicas, and each would count limits and budgets by "
        "itself; set `type: redis` with a `url`, or `max_replicas: 1` for the Ingress in serve.yaml; "
        "then restart the application"
    )
