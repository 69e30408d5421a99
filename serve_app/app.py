"""The application as Serve builds it: ``serve run configs/serve.yaml`` calls ``build``.

This module does not postpone annotations: Serve reads the class of the parameter, and would
silently skip the conversion for a string. ``build`` takes a plain mapping and checks it.
"""

from collections.abc import Mapping
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
from serve_app.graph import DeploymentSpec, Role, deployments_of
from serve_app.packaged_files import find_packaged
from serve_app.snapshot import Snapshot, compile_snapshot

_CLASSES: Final[Mapping[Role, type]] = {
    Role.ORCHESTRATOR: Orchestrator,
    Role.AFFINITY: Affinity,
    Role.SHARED: ProviderClient,
}


def build(args: dict[str, Any]) -> Application:
    """Builds the graph of a configuration. ``args``: ``config``, the path of gateway.yaml, or {}.

    The path is bound: each replica reads the file and expands the references in it, so that no
    key is ever in an argument that Serve keeps. Raises ConfigError with all problems.
    """
    config = _config_path(args)
    snapshot = compile_snapshot(config)
    _refuse_exposure(config, snapshot)
    path = None if config is None else str(config)
    bound: dict[Role, Application] = {}
    providers: dict[str, Application] = {}
    specs = deployments_of(snapshot)
    for spec in specs:
        if spec.slug is not None:
            providers[spec.slug] = _deployment(ProviderClient, spec).bind(path)
        elif spec.role is not Role.INGRESS:
            bound[spec.role] = _deployment(_CLASSES[spec.role], spec).bind(path)
    return _deployment(Ingress, specs[0]).bind(
        path,
        providers,
        bound[Role.SHARED],
        bound[Role.ORCHESTRATOR],
        bound.get(Role.AFFINITY),
        _serve_host(),
    )


def _deployment(target: type, spec: DeploymentSpec) -> serve.Deployment:
    return serve.deployment(target, name=spec.name, **spec.options)


def _config_path(args: dict[str, Any]) -> Path | None:
    """The file that ``args`` names, absolute; a relative path may name a packaged file.

    None if it names none: then every provider is served that the environment has a key for.
    """
    unknown = sorted(set(args) - {"config"})
    if unknown or not isinstance(args.get("config", "-"), str) or args.get("config") == "":
        message = "args must be `config: PATH` and nothing else"
        if unknown:
            message += f"; remove {', '.join(unknown)}"
        raise ConfigError("serve.yaml", (Problem(0, "applications[0].args", message),))
    if "config" not in args:
        return None
    return find_packaged(Path(args["config"]).expanduser()).absolute()


def _refuse_exposure(config: Path | None, snapshot: Snapshot) -> None:
    host = _serve_host()
    problem = None if host is None else exposure_problem(host, snapshot.config)
    if problem is not None:
        raise ConfigError(str(config or NO_FILE), (Problem(0, "client_keys", problem),))


def _serve_host() -> str | None:
    """The host that Serve listens on; None while Serve is not running yet."""
    if not is_initialized():  # asking would start a Ray of its own
        return None
    client = context._get_global_client(raise_if_no_controller_running=False)  # noqa: SLF001
    return None if client is None else str(client.http_config.host)
