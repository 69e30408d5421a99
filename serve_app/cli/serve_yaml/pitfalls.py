"""What Ray Serve takes of a serve.yaml, and then does something else than was meant."""

from collections.abc import Mapping
from typing import Final, TypeGuard

from serve_app.cli.serve_yaml.read import LAST_PORT
from serve_app.cli.serve_yaml.schema import Found, entries
from serve_app.cli.summary import deployment_names
from serve_app.config.locations import Location
from serve_app.domain import Json
from serve_app.snapshot import Snapshot

_TAKEN: Final[dict[float, str]] = {
    6379: "Ray's head",
    8265: "Ray's dashboard",
    8404: "HAProxy's statistics",
    8500: "Serve's other proxy",
    9101: "HAProxy's metrics",
    **dict.fromkeys(range(30000, 31001), "an ingress replica"),
}
"""Ports of a node that Ray and Serve listen on themselves, unless the environment moves them."""

AT_MOST: Final = {"Orchestrator": 64}
AT_MOST_ELSE: Final = 1000
DRAIN_S: Final = 660
"""What the builder says of a deployment where serve.yaml is silent; a test compares."""


def address_problems(content: Mapping[str, Json]) -> Found:
    """Where nobody would be listening, or something else."""
    if content.get("proxy_location") == "Disabled":
        yield ("proxy_location",), "then nothing listens; must be 'HeadOnly' or 'EveryNode'"
    http = content.get("http_options")
    if not isinstance(http, dict):
        return
    port = http.get("port")
    if _is_number(port) and not 0 < port <= LAST_PORT:
        yield ("http_options", "port"), f"must be from 1 to {LAST_PORT}"
    elif _is_number(port) and port in _TAKEN:
        message = f"{port} is the port of {_TAKEN[port]}; take another one, such as 8000"
        yield ("http_options", "port"), message
    for key in ("ssl_keyfile", "ssl_certfile"):
        if http.get(key) is not None:
            message = "HAProxy ends no TLS; leave it out, and let what stands in front end it"
            yield ("http_options", key), message


def hints(
    content: Mapping[str, Json],
    place: Location,
    application: Mapping[str, Json],
    snapshot: Snapshot,
) -> Found:
    """What works, but not as it seems."""
    yield from _time(content, snapshot)
    yield from _gpu(place, application, snapshot)
    for here, options in entries(application, "deployments", place):
        yield from _never_scaled(here, options)
        yield from _cut(here, options, snapshot)
    if snapshot.config.timeouts.total_s > DRAIN_S:
        yield from _left_at_the_usual(place, application, snapshot)


def _time(content: Mapping[str, Json], snapshot: Snapshot) -> Found:
    http = content.get("http_options")
    limit = http.get("request_timeout_s") if isinstance(http, dict) else None
    total = snapshot.config.timeouts.total_s
    if _is_number(limit) and 0 < limit < total:
        message = f"Serve ends every answer after {limit:g} s, before timeouts.total_s, {total:g}"
        yield ("http_options", "request_timeout_s"), message


def _gpu(place: Location, application: Mapping[str, Json], snapshot: Snapshot) -> Found:
    """What keeps a replica from the GPU that its engine is for: it would start, and not decide."""
    section = snapshot.config.orchestrator
    if section.engine != "vllm" or section.device != "cuda":
        return
    where, share = (*place, "deployments"), None
    for here, options in entries(application, "deployments", place):
        asked = options.get("ray_actor_options")
        if options.get("name") == "Orchestrator" and isinstance(asked, dict):
            where, share = (*here, "ray_actor_options"), asked.get("num_gpus")
    if not share:
        text = "the Orchestrator sees no GPU, which orchestrator.device wants; set num_gpus"
        yield where, f"{text} in its ray_actor_options"
    elif isinstance(share, int | float) and share > 1:
        yield (*where, "num_gpus"), "is more than the one GPU that a model is loaded on"


def _never_scaled(here: Location, options: Mapping[str, Json]) -> Found:
    scaling = options.get("autoscaling_config")
    target = scaling.get("target_ongoing_requests") if isinstance(scaling, dict) else None
    usual = AT_MOST.get(str(options.get("name")), AT_MOST_ELSE)
    most = options.get("max_ongoing_requests", usual)
    if _is_number(target) and _is_number(most) and most < target:
        message = (
            f"{target:g} requests at once are never there, so no replica is added: "
            f"max_ongoing_requests is {most:g}"
        )
        yield (*here, "autoscaling_config", "target_ongoing_requests"), message


def _cut(here: Location, options: Mapping[str, Json], snapshot: Snapshot) -> Found:
    drain, total = options.get("graceful_shutdown_timeout_s"), snapshot.config.timeouts.total_s
    if _carries_streams(options.get("name")) and _is_number(drain) and drain < total:
        message = (
            f"a replica that goes cuts its streams after {drain:g} s; timeouts.total_s is {total:g}"
        )
        yield (*here, "graceful_shutdown_timeout_s"), message


def _left_at_the_usual(
    place: Location, application: Mapping[str, Json], snapshot: Snapshot
) -> Found:
    """Deployments that nobody gave the time that longer answers take."""
    said = {
        options.get("name")
        for _, options in entries(application, "deployments", place)
        if options.get("graceful_shutdown_timeout_s") is not None
    }
    left = [
        name for name in deployment_names(snapshot) if _carries_streams(name) and name not in said
    ]
    if left:
        message = (
            f"timeouts.total_s is {snapshot.config.timeouts.total_s:g}, and replicas of "
            f"{', '.join(left)} that go wait {DRAIN_S} s; raise their graceful_shutdown_timeout_s"
        )
        yield (*place, "deployments"), message


def _carries_streams(name: Json) -> bool:
    return name == "Ingress" or str(name).startswith("provider-")


def _is_number(value: Json) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
