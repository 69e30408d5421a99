"""The application as Serve builds it: ``serve run configs/serve.yaml`` calls ``build``.

This module has no postponed annotations on purpose: Serve looks at the parameter's class, and a
text there would make it skip conversion in silence. ``build`` takes a plain mapping and checks it.
"""

from pathlib import Path
from typing import Any, Final

from ray import is_initialized, serve
from ray.serve import Application, context

from deployments.affinity import Affinity
from deployments.ingress import Ingress
from deployments.orchestrator import Orchestrator
from deployments.provider import ProviderClient
from serve_app.access.exposure import exposure_problem
from serve_app.config.locations import ConfigError, Problem
from serve_app.config.without_file import NO_FILE
from serve_app.domain import DataPath
from serve_app.packaged_files import find_packaged
from serve_app.providers.endpoints import SHARED_SLUG
from serve_app.snapshot import Snapshot, compile_snapshot

_IO_BOUND: Final[dict[str, Any]] = {
    # Serve's defaults of 5 and 2 are for GPUs; these replicas mostly wait
    "max_ongoing_requests": 1000,
    "autoscaling_config": {
        "min_replicas": 1,
        "max_replicas": 8,
        "target_ongoing_requests": 200,
    },
    "ray_actor_options": {"num_cpus": 0.05},
    "graceful_shutdown_timeout_s": 660,  # the longest stream, and a minute
}
_AT_ONCE: Final = {
    # one question after the other; it turns away what would wait for too long: the 21st where one
    # takes 12 ms, the 7th where the core is shared. What is never there adds no replica
    "embedding": 4,
    "vllm": 32,  # answers them in batches
    "http": 32,  # mostly waits
}
"""Questions at once that a replica of the Orchestrator is meant for, by its engine."""
_ORCHESTRATOR: Final[dict[str, Any]] = {
    "max_ongoing_requests": 64,
    "autoscaling_config": {"min_replicas": 1, "max_replicas": 4},
    "ray_actor_options": {"num_cpus": 0.05},
}
_AFFINITY: Final[dict[str, Any]] = {
    "max_ongoing_requests": 1000,
    "num_replicas": 1,
    "ray_actor_options": {"num_cpus": 0.05},
}


def build(args: dict[str, Any]) -> Application:
    """The graph of a configuration. ``args``: ``config``, the path of gateway.yaml, or nothing.

    What is bound is the path: each replica reads the file and expands the references in it, so
    no key is ever in an argument that Serve keeps. Raises ConfigError with all problems.
    """
    config = _config_path(args)
    snapshot = compile_snapshot(config)
    _refuse_open_door(config, snapshot)
    path = None if config is None else str(config)
    providers = {
        slug: _deployment(ProviderClient, f"provider-{slug}", _IO_BOUND).bind(path)
        for slug, data_path in snapshot.providers.data_paths().items()
        if data_path is DataPath.DEDICATED
    }
    return _deployment(Ingress, "Ingress", _IO_BOUND).bind(
        path,
        providers,
        _deployment(ProviderClient, f"provider-{SHARED_SLUG}", _IO_BOUND).bind(path),
        _orchestrator(snapshot, path),
        _affinity(snapshot, path),
        _serve_host(),
    )


def _orchestrator(snapshot: Snapshot, path: str | None) -> Application:
    target = _AT_ONCE[snapshot.config.orchestrator.engine]
    scaling = {**_ORCHESTRATOR["autoscaling_config"], "target_ongoing_requests": target}
    options = {**_ORCHESTRATOR, "autoscaling_config": scaling}
    return _deployment(Orchestrator, "Orchestrator", options).bind(path)


def _affinity(snapshot: Snapshot, path: str | None) -> Application | None:
    """The store in memory; none where the ingress asks Redis itself."""
    if snapshot.config.routing.session_cache.type == "redis":
        return None
    return _deployment(Affinity, "Affinity", _AFFINITY).bind(path)


def _deployment(target: type, name: str, options: dict[str, Any]) -> serve.Deployment:
    return serve.deployment(target, name=name, **options)


def _config_path(args: dict[str, Any]) -> Path | None:
    """The file that ``args`` names, absolute; a relative one may be one of the program's own.

    None where it names none: then every provider is served that the environment has a key for.
    """
    unknown = sorted(set(args) - {"config"})
    if unknown or not isinstance(args.get("config", "-"), str) or args.get("config") == "":
        message = "args of the application: write `config: PATH` and nothing else"
        if unknown:
            message += f" (there is {', '.join(unknown)})"
        raise ConfigError("serve.yaml", (Problem(0, "applications[0].args", message),))
    if "config" not in args:
        return None
    return find_packaged(Path(args["config"]).expanduser()).absolute()


def _refuse_open_door(config: Path | None, snapshot: Snapshot) -> None:
    host = _serve_host()
    problem = None if host is None else exposure_problem(host, snapshot.config)
    if problem is not None:
        raise ConfigError(str(config or NO_FILE), (Problem(0, "client_keys", problem),))


def _serve_host() -> str | None:
    """Where Serve listens; None while it isn't running yet."""
    if not is_initialized():  # asking would start a Ray of its own
        return None
    client = context._get_global_client(raise_if_no_controller_running=False)  # noqa: SLF001
    return None if client is None else str(client.http_config.host)
