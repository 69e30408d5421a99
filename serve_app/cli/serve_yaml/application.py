"""Checks one application of a serve.yaml: what it runs, its configuration, and its deployments."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from serve_app.access.enforcement import limits_problem
from serve_app.cli.serve_yaml.tree import Findings, applications, entries
from serve_app.config.locations import Location
from serve_app.config.pydantic_errors import did_you_mean
from serve_app.domain import Json
from serve_app.graph import deployment_names
from serve_app.packaged_files import find_packaged
from serve_app.snapshot import Snapshot

IMPORT_PATH: Final = "serve_app.app:build"

_MOST_OF_AUTO: Final = 100
"""Serve's own maximum for ``num_replicas: auto``."""

_IMPORT_PATHS: Final = frozenset({IMPORT_PATH, "serve_app.app.build"})


def is_foreign(application: Mapping[str, Json], content: Mapping[str, Json]) -> bool:
    """True for an application of another project beside one of this project."""
    name = application.get("import_path")
    names = [other.get("import_path") for _, other in applications(content)]
    has_gateway = any(isinstance(other, str) and other in _IMPORT_PATHS for other in names)
    return has_gateway and isinstance(name, str) and "serve_app" not in name


def named_config(application: Mapping[str, Json]) -> Path | None:
    """The configuration that an application names, as the builder resolves it; None without."""
    args = application.get("args")
    name = args.get("config") if isinstance(args, dict) else None
    if not isinstance(name, str) or not name:
        return None
    try:
        path = Path(name).expanduser()
    except RuntimeError:  # ~user, and this machine has no such user
        path = Path(name)
    return find_packaged(path).absolute()


def is_without_config(application: Mapping[str, Json]) -> bool:
    """True for an application that is configured by the keys in the environment."""
    args = application.get("args", {})
    return isinstance(args, dict) and "config" not in args


def application_problems(
    location: Location, application: Mapping[str, Json], config: Path | None
) -> Findings:
    """Problems of an application's own keys; ``config`` is the file that has to exist, if any."""
    yield from _import_path(location, application)
    yield from _route_prefix(location, application)
    yield from _args(location, application, config)


def deployment_problems(
    location: Location, application: Mapping[str, Json], snapshot: Snapshot
) -> Findings:
    """Entries of ``deployments`` for which Serve would refuse the application."""
    names, earlier = deployment_names(snapshot), set[str]()
    for here, options in entries(application, "deployments", location):
        name = options.get("name")
        if not isinstance(name, str):
            continue  # Serve's schema reports it
        if name in earlier:
            yield (*here, "name"), f"duplicate entry {name!r}; keep one"
        elif name not in names:
            yield (*here, "name"), _unknown_deployment(name, names, snapshot)
        earlier.add(name)
        if options.get("user_config") is not None:
            message = "no deployment has a user_config; put settings into gateway.yaml"
            yield (*here, "user_config"), message
        if name == "Affinity":
            yield from _one_replica(here, options)
        if name == "Ingress":
            problem = limits_problem(snapshot.config, _most_replicas(options))
            if problem is not None:
                yield here, f"limit_storage of gateway.yaml: {problem}"


def _most_replicas(options: Mapping[str, Json]) -> int:
    """The most replicas that a deployment with these options may have; 1 if they do not say.

    A number of replicas is ignored unless autoscaling is switched off.
    """
    number, scaling = options.get("num_replicas"), options.get("autoscaling_config")
    most: Json = _MOST_OF_AUTO if number == "auto" else 1
    if isinstance(scaling, dict):
        most = scaling.get("max_replicas", most)
    elif "autoscaling_config" in options and number != "auto":
        most = number
    return most if isinstance(most, int) else 1


def _import_path(location: Location, application: Mapping[str, Json]) -> Findings:
    name = application.get("import_path")
    if isinstance(name, str) and name not in _IMPORT_PATHS:  # else Serve's schema reports it
        yield (*location, "import_path"), f"must be {IMPORT_PATH}, not {name!r}"


def _route_prefix(location: Location, application: Mapping[str, Json]) -> Findings:
    """Serve validates it only when it deploys."""
    prefix = application.get("route_prefix")
    if not isinstance(prefix, str) or prefix == "/":
        return
    if not prefix.startswith("/") or prefix.endswith("/") or not {"{", "}"}.isdisjoint(prefix):
        message = "must start with a slash, must not end with one, and must not contain braces"
        yield (*location, "route_prefix"), message


def _args(location: Location, application: Mapping[str, Json], config: Path | None) -> Findings:
    args = application.get("args", {})
    if not isinstance(args, dict):
        return  # Serve's schema reports it
    if "config" in args and (not isinstance(args["config"], str) or not args["config"]):
        yield (*location, "args", "config"), "must be the path of a gateway.yaml, or left out"
    elif config is not None and not config.is_file():
        packaged = "" if Path(args["config"]).is_absolute() else ", and no packaged file either"
        yield (*location, "args", "config"), f"no file {config}{packaged}; correct the path"
    for key in args:
        if key != "config":
            hint = did_you_mean(key, ["config"]) or "; known keys: config"
            yield (*location, "args", key), f"unknown key{hint}"


def _unknown_deployment(name: str, names: list[str], snapshot: Snapshot) -> str:
    slug = name.removeprefix("provider-")
    data_path = snapshot.providers.data_paths().get(slug) if slug != name else None
    if data_path is not None:
        return f"no deployment {name!r}: provider {slug} is {data_path}; remove this entry"
    if name == "Affinity":
        return f"no deployment {name!r}: sessions are kept in Redis; remove this entry"
    hint = did_you_mean(name, names) or f"; the deployments are {', '.join(names)}"
    return f"no deployment {name!r}{hint}"


def _one_replica(here: Location, options: Mapping[str, Json]) -> Findings:
    reason = "Affinity keeps sessions in the memory of one replica; use Redis to scale"
    if options.get("num_replicas", 1) != 1:
        yield (*here, "num_replicas"), f"must be 1: {reason}"
    if options.get("autoscaling_config") is not None:
        yield (*here, "autoscaling_config"), f"must be left out: {reason}"
