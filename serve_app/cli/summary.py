"""What a configuration comes to: for people line by line, for programs as JSON.

Keys are told by the names of their variables only.
"""

import os
from collections.abc import Iterator, Mapping

from serve_app.config.schema.orchestrator import OrchestratorSection
from serve_app.config.warnings import config_warnings
from serve_app.domain import AUTO, DataPath, Json
from serve_app.engines.vllm import arguments, checkpoint, settings
from serve_app.providers.endpoints import SHARED_SLUG, Endpoint
from serve_app.snapshot import Snapshot


def summary(snapshot: Snapshot) -> list[str]:
    """What a configuration serves, line by line."""
    policy, providers = snapshot.policy, snapshot.providers
    keys = keys_of(snapshot)
    lines = [f"policy {policy.version}"]
    for slug, data_path in providers.data_paths().items():
        states = ", ".join(
            f"{name} is {'set' if is_set else 'not set'}" for name, is_set in keys[slug].items()
        )
        lines.append(f"provider {slug} ({data_path})" + (f"  [{states}]" if states else ""))
    for name, model in policy.models.items():
        default = ", default" if model == policy.default else ""
        lines.append(f"model {name}{default}{_missing(providers.models[model])}")
    for prefix, endpoint in providers.wildcards.items():
        lines.append(f"models {prefix}/*{_missing(endpoint)}")
    lines += [f"warning: {warning}" for warning in warnings_of(snapshot)]
    lines += [f"alias {alias} -> {model or AUTO}" for alias, model in policy.aliases.items()]
    lines += [
        f"route {route.name} -> {', '.join(map(str, route.models))}" for route in policy.routes
    ]
    return lines


def _missing(endpoint: Endpoint) -> str:
    missing = endpoint.missing(os.environ)
    return f"  [{' and '.join(missing)} is not set]" if missing else ""


def summary_json(snapshot: Snapshot) -> dict[str, Json]:
    """The same for programs."""
    policy, providers = snapshot.policy, snapshot.providers
    keys = keys_of(snapshot)
    return {
        "version": policy.version,
        "warnings": warnings_of(snapshot),
        "providers": [
            {
                "slug": slug,
                "data_path": data_path.value,
                "keys": [{"name": name, "set": is_set} for name, is_set in keys[slug].items()],
            }
            for slug, data_path in providers.data_paths().items()
        ],
        "models": list(policy.models),
        "wildcards": [f"{prefix}/*" for prefix in providers.wildcards],
        "aliases": {alias: str(model or AUTO) for alias, model in policy.aliases.items()},
        "routes": [
            {"name": route.name, "models": [str(model) for model in route.models]}
            for route in policy.routes
        ],
        "default": None if policy.default is None else str(policy.default),
        "deployments": deployment_names(snapshot),
    }


NO_SUMMARY: Mapping[str, Json] = {
    "version": None, "warnings": [], "providers": [], "models": [], "wildcards": [], "aliases": {},
    "routes": [], "default": None, "deployments": [],
}  # fmt: skip
"""``summary_json`` of a configuration that can't be used."""


def keys_of(snapshot: Snapshot) -> dict[str, dict[str, bool]]:
    """For each provider: the variables that its exchanges need, and whether they are set here.

    ``access_key`` stands for one where a vendor needs a key and none is configured.
    """
    found: dict[str, dict[str, bool]] = {slug: {} for slug in snapshot.providers.data_paths()}
    for endpoint in snapshot.providers.endpoints():
        missing = endpoint.missing(os.environ)
        for name in endpoint.missing({}):
            found[endpoint.slug][name] = name not in missing
    return found


def warnings_of(snapshot: Snapshot) -> list[str]:
    """What is accepted and hardly meant; also variables outside of ``model_providers``."""
    return [
        *config_warnings(snapshot.config, os.environ),
        *_weight_warnings(snapshot.config.orchestrator),
    ]


def _weight_warnings(section: OrchestratorSection) -> Iterator[str]:
    """No problems: the folder may be sound on the engine's machine, or be there alone."""
    if section.engine != "vllm" or section.model is None or section.download:
        return
    faults = checkpoint.faults(section.model, section.task)
    for fault in faults:
        yield f"orchestrator.model, on this machine: {fault}"
    if not faults:
        misfit = arguments.misfit(
            settings.VllmSettings.from_section(section), checkpoint.read_checkpoint(section.model)
        )
        if misfit is not None:
            yield f"orchestrator.model, on this machine: {misfit}"


def deployment_names(snapshot: Snapshot) -> list[str]:
    """The deployments that serve_app/app.py makes of a configuration."""
    kept_in_memory = snapshot.config.routing.session_cache.type != "redis"
    paths = snapshot.providers.data_paths()
    own = [slug for slug, data_path in paths.items() if data_path is DataPath.DEDICATED]
    return [
        "Ingress",
        "Orchestrator",
        *(["Affinity"] if kept_in_memory else []),
        *(f"provider-{slug}" for slug in [SHARED_SLUG, *own]),
    ]
