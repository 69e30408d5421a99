"""Summarizes a configuration: as text line by line, and as JSON.

Of keys only the names of their variables are shown.
"""

import os
from collections.abc import Iterator, Mapping, Sequence

from serve_app.config.schema.logs import OFF
from serve_app.config.schema.orchestrator import EngineSection, OrchestratorSection
from serve_app.config.warnings import config_warnings
from serve_app.domain import AUTO, Json, Prefer, Route
from serve_app.engines.embedding.tuned import TunedInForce, configured_tuning
from serve_app.engines.servers import FIRST, SECOND
from serve_app.engines.threshold import ThresholdInForce
from serve_app.engines.vllm import arguments, checkpoint, settings
from serve_app.graph import deployment_names
from serve_app.providers.endpoints import Endpoint
from serve_app.snapshot import Snapshot


def summary(snapshot: Snapshot) -> list[str]:
    """The summary as text, line by line."""
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
    lines += [f"warning: {warning}" for warning in snapshot_warnings(snapshot)]
    lines += [f"alias {alias} -> {model or AUTO}" for alias, model in policy.aliases.items()]
    lines += [f"route {route.name} -> {_models_of(route)}" for route in policy.routes]
    lines += [f"rule {rule.name} -> {rule.model or f'route {rule.route}'}" for rule in policy.rules]
    if policy.routes and snapshot.config.orchestrator.engine != "http":
        lines.append(f"threshold {snapshot.threshold.text}")
    lines += [
        f"log {name} -> {section.to}" for name, section in snapshot.config.logs if section.to != OFF
    ]
    lines += _examined(snapshot.config.orchestrator)[1]
    lines += _tuned(snapshot).facts
    return lines


def _models_of(route: Route) -> str:
    """The models of a route with their efforts, and what orders them."""
    efforts = dict(route.efforts)
    names = [
        f"{model} ({efforts[model]})" if model in efforts else str(model) for model in route.models
    ]
    order = "" if route.prefer is Prefer.NONE else f"; {route.prefer} first"
    return f"{', '.join(names)}{order}"


def _missing(endpoint: Endpoint) -> str:
    missing = endpoint.missing(os.environ)
    are = "is" if len(missing) == 1 else "are"
    return f"  [{' and '.join(missing)} {are} not set]" if missing else ""


def summary_json(snapshot: Snapshot) -> dict[str, Json]:
    """The summary as JSON."""
    policy, providers = snapshot.policy, snapshot.providers
    keys = keys_of(snapshot)
    return {
        "version": policy.version,
        "warnings": snapshot_warnings(snapshot),
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
        "rules": [
            {
                "name": rule.name,
                "model": None if rule.model is None else str(rule.model),
                "route": rule.route,
            }
            for rule in policy.rules
        ],
        "default": None if policy.default is None else str(policy.default),
        "threshold": _threshold_json(snapshot.threshold),
        "deployments": deployment_names(snapshot),
    }


def _threshold_json(threshold: ThresholdInForce) -> dict[str, Json]:
    picked = threshold.picked
    return {
        "min_confidence": threshold.min_confidence,
        "min_margin": threshold.min_margin,
        "max_error": threshold.max_error,
        "source": threshold.source or None,
        "error": None if picked is None else picked.error,
        "error_at_most": None if picked is None else picked.error_at_most,
    }


NO_SUMMARY: Mapping[str, Json] = {
    "version": None, "warnings": [], "providers": [], "models": [], "wildcards": [], "aliases": {},
    "routes": [], "rules": [], "default": None, "threshold": None, "deployments": [],
}  # fmt: skip
"""The summary of a configuration that cannot be used."""


def keys_of(snapshot: Snapshot) -> dict[str, dict[str, bool]]:
    """For each provider: the variables that it needs, each with whether it is set here.

    ``access_key`` is listed if a provider needs a key and none is configured.
    """
    keys: dict[str, dict[str, bool]] = {slug: {} for slug in snapshot.providers.data_paths()}
    for endpoint in snapshot.providers.endpoints():
        missing = endpoint.missing(os.environ)
        for name in endpoint.missing({}):
            keys[endpoint.slug][name] = name not in missing
    return keys


def snapshot_warnings(snapshot: Snapshot) -> list[str]:
    """The warnings about a configuration, its threshold, and the weights on this machine."""
    return [
        *config_warnings(snapshot.config, os.environ),
        *snapshot.threshold.warnings,
        *_weight_warnings(snapshot.config.orchestrator, FIRST),
        *_examined(snapshot.config.orchestrator)[0],
        *_tuned(snapshot).warnings,
    ]


def _tuned(snapshot: Snapshot) -> TunedInForce:
    policy = snapshot.policy
    section = snapshot.config.orchestrator
    return configured_tuning(section, policy.routes, policy.no_route_examples)


def _examined(section: OrchestratorSection) -> tuple[Sequence[str], Sequence[str]]:
    """Warnings about the embedded engine's own models on this machine, and facts about them."""
    if section.engine != "embedding" or (section.model is None and section.reranker is None):
        return (), ()
    from serve_app.engines.embedding import examine  # noqa: PLC0415 - imports onnxruntime

    return examine.examine(section)


def _weight_warnings(section: EngineSection, key: str) -> Iterator[str]:
    """Warnings, not problems: on the machine of the engine the folder may be a different one."""
    if isinstance(section, OrchestratorSection) and section.when_unsure is not None:
        yield from _weight_warnings(section.when_unsure, SECOND)
    if section.engine != "vllm" or section.model is None or section.download:
        return
    faults = checkpoint.faults(section.model, section.task)
    for fault in faults:
        yield f"{key}.model, on this machine: {fault}"
    if not faults:
        misfit = arguments.misfit(
            settings.VllmSettings.from_section(section), checkpoint.read_checkpoint(section.model)
        )
        if misfit is not None:
            yield f"{key}.model, on this machine: {misfit}"
