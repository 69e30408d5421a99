"""Options of a serve.yaml that Ray Serve accepts, with an effect that is rarely intended."""

from collections.abc import Mapping
from typing import Final, TypeGuard

from serve_app.cli.serve_yaml.read import LAST_PORT
from serve_app.cli.serve_yaml.tree import Findings, entries
from serve_app.config.locations import Location
from serve_app.domain import Json
from serve_app.engines.servers import FIRST, SECOND
from serve_app.graph import DRAIN_S, deployment_names, deployments_of
from serve_app.snapshot import Snapshot

_TAKEN: Final[dict[float, str]] = {
    6379: "Ray's head",
    8265: "Ray's dashboard",
    8404: "HAProxy's statistics",
    8500: "Serve's fallback proxy",
    9101: "HAProxy's metrics",
    **dict.fromkeys(range(30000, 31001), "ingress replicas"),
}
"""Ports of a node that Ray and Serve use themselves, unless the environment changes them."""


def address_problems(content: Mapping[str, Json]) -> Findings:
    """Options that leave nothing listening, or listen on a port or with TLS that cannot work."""
    if content.get("proxy_location") == "Disabled":
        yield ("proxy_location",), "'Disabled' starts no proxy; set 'HeadOnly' or 'EveryNode'"
    http = content.get("http_options")
    if not isinstance(http, dict):
        return
    port = http.get("port")
    if _is_number(port) and not 0 < port <= LAST_PORT:
        yield ("http_options", "port"), f"must be from 1 to {LAST_PORT}"
    elif _is_number(port) and port in _TAKEN:
        message = f"port {port} is used by {_TAKEN[port]}; choose another one, such as 8000"
        yield ("http_options", "port"), message
    for key in ("ssl_keyfile", "ssl_certfile"):
        if http.get(key) is not None:
            message = "HAProxy does not terminate TLS; remove this key, and terminate TLS in front"
            yield ("http_options", key), message


def replica_pitfalls(location: Location, application: Mapping[str, Json]) -> Findings:
    """Fixed numbers of replicas that autoscaling ignores."""
    for here, options in entries(application, "deployments", location):
        fixed = isinstance(options.get("num_replicas"), int) and options.get("name") != "Affinity"
        if fixed and "autoscaling_config" not in options:
            message = "ignored: the deployment autoscales; add `autoscaling_config: null`"
            yield (*here, "num_replicas"), message


def config_pitfalls(
    content: Mapping[str, Json],
    location: Location,
    application: Mapping[str, Json],
    snapshot: Snapshot,
) -> Findings:
    """Options that do not fit the configuration of the gateway."""
    yield from _request_timeout(content, snapshot)
    yield from _gpu(location, application, snapshot)
    for here, options in entries(application, "deployments", location):
        yield from _never_scaled(here, options, snapshot)
        yield from _short_drain(here, options, snapshot)
    if snapshot.config.timeouts.total_s > DRAIN_S:
        yield from _default_drains(location, application, snapshot)


def _request_timeout(content: Mapping[str, Json], snapshot: Snapshot) -> Findings:
    http = content.get("http_options")
    limit = http.get("request_timeout_s") if isinstance(http, dict) else None
    total = snapshot.config.timeouts.total_s
    if _is_number(limit) and 0 < limit < total:
        message = (
            f"{limit:g} s is below timeouts.total_s ({total:g} s), so Serve cuts longer answers; "
            "raise it, or remove it"
        )
        yield ("http_options", "request_timeout_s"), message


def _gpu(location: Location, application: Mapping[str, Json], snapshot: Snapshot) -> Findings:
    """Shares of a GPU with which an Orchestrator that needs one cannot decide."""
    first = snapshot.config.orchestrator
    engines = ((FIRST, first), (SECOND, first.when_unsure))
    needy = [key for key, own in engines if own and own.engine == "vllm" and own.device == "cuda"]
    if not needy:
        return
    where, share = (*location, "deployments"), None
    for here, options in entries(application, "deployments", location):
        actor = options.get("ray_actor_options")
        if options.get("name") == "Orchestrator" and isinstance(actor, dict):
            where, share = (*here, "ray_actor_options"), actor.get("num_gpus")
    if not share:
        message = f"the Orchestrator has no GPU, which {needy[0]}.device: cuda needs"
        yield where, f"{message}; set num_gpus in its ray_actor_options"
    elif isinstance(share, int | float) and share > 1:
        yield (*where, "num_gpus"), f"{share:g} GPUs are reserved, one is used; set it to 1"


def _never_scaled(here: Location, options: Mapping[str, Json], snapshot: Snapshot) -> Findings:
    scaling = options.get("autoscaling_config")
    target = scaling.get("target_ongoing_requests") if isinstance(scaling, dict) else None
    name = options.get("name")
    own = next((spec.options for spec in deployments_of(snapshot) if spec.name == name), {})
    most = options.get("max_ongoing_requests", own.get("max_ongoing_requests"))
    if _is_number(target) and _is_number(most) and most < target:
        message = (
            f"{target:g} is above max_ongoing_requests ({most:g}), so the deployment never scales "
            "up; lower it"
        )
        yield (*here, "autoscaling_config", "target_ongoing_requests"), message


def _short_drain(here: Location, options: Mapping[str, Json], snapshot: Snapshot) -> Findings:
    drain, total = options.get("graceful_shutdown_timeout_s"), snapshot.config.timeouts.total_s
    if _carries_streams(options.get("name")) and _is_number(drain) and drain < total:
        message = (
            f"{drain:g} s is below timeouts.total_s ({total:g} s), so a replica that stops cuts its "
            "streams; raise it"
        )
        yield (*here, "graceful_shutdown_timeout_s"), message


def _default_drains(
    location: Location, application: Mapping[str, Json], snapshot: Snapshot
) -> Findings:
    """Deployments whose default drain is shorter than the longest answer."""
    configured = {
        options.get("name")
        for _, options in entries(application, "deployments", location)
        if options.get("graceful_shutdown_timeout_s") is not None
    }
    names = [
        name
        for name in deployment_names(snapshot)
        if _carries_streams(name) and name not in configured
    ]
    if names:
        message = (
            f"replicas of {', '.join(names)} that stop cut their streams after {DRAIN_S} s, before "
            f"timeouts.total_s ({snapshot.config.timeouts.total_s:g} s); "
            "raise their graceful_shutdown_timeout_s"
        )
        yield (*location, "deployments"), message


def _carries_streams(name: Json) -> bool:
    return name == "Ingress" or str(name).startswith("provider-")


def _is_number(value: Json) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
