"""What a configuration comes to: for people line by line, for programs as JSON.

Keys are told by the names of their variables only.
"""

import os
from collections.abc import Iterator, Mapping

from serve_app.config.load import notices
from serve_app.config.references import missing, references
from serve_app.config.schema.orchestrator import Orchestrator
from serve_app.domain import AUTO, DataPath, Json
from serve_app.engines.vllm import checkpoint
from serve_app.providers.endpoints import SHARED_SLUG, Endpoint
from serve_app.requests.decide import Setup


def summary(setup: Setup) -> list[str]:
    """What a configuration serves, line by line."""
    policy, providers = setup.policy, setup.providers
    keys = keys_of(setup)
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
    lines += [f"note: {warning}" for warning in warnings_of(setup)]
    lines += [f"alias {alias} -> {model or AUTO}" for alias, model in policy.aliases.items()]
    lines += [
        f"route {route.name} -> {', '.join(map(str, route.models))}" for route in policy.routes
    ]
    return lines


def _missing(endpoint: Endpoint) -> str:
    missing = endpoint.missing(os.environ)
    return f"  [{' and '.join(missing)} is not set]" if missing else ""


def as_json(setup: Setup) -> dict[str, Json]:
    """The same for programs."""
    policy, providers = setup.policy, setup.providers
    keys = keys_of(setup)
    return {
        "version": policy.version,
        "warnings": warnings_of(setup),
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
        "deployments": deployment_names(setup),
    }


NOTHING: Mapping[str, Json] = {
    "version": None, "warnings": [], "providers": [], "models": [], "wildcards": [], "aliases": {},
    "routes": [], "default": None, "deployments": [],
}  # fmt: skip
"""``as_json`` of a configuration that can't be used."""


def keys_of(setup: Setup) -> dict[str, dict[str, bool]]:
    """For each provider: the variables that its exchanges need, and whether they are set here.

    ``access_key`` stands for one where a vendor needs a key and none is configured.
    """
    found: dict[str, dict[str, bool]] = {slug: {} for slug in setup.providers.data_paths()}
    for endpoint in setup.providers.endpoints():
        missing = endpoint.missing(os.environ)
        for name in endpoint.missing({}):
            found[endpoint.slug][name] = name not in missing
    return found


def warnings_of(setup: Setup) -> list[str]:
    """What is accepted and hardly meant; also variables outside of ``model_providers``."""
    return [*notices(setup.config), *_of_weights(setup.config.orchestrator), *_unset(setup)]


def _of_weights(section: Orchestrator) -> Iterator[str]:
    """No problems: the folder may be sound on the engine's machine, or be there alone."""
    if section.engine != "vllm" or section.model is None or section.download:
        return
    faults = checkpoint.faults(section.model, section.task)
    for fault in faults:
        yield f"orchestrator.model, on this machine: {fault}"
    if not faults:
        from serve_app.engines.vllm import settings

        misfit = settings.misfit(settings.settings_of(section), checkpoint.read(section.model))
        if misfit is not None:
            yield f"orchestrator.model, on this machine: {misfit}"


def _unset(setup: Setup) -> Iterator[str]:
    texts = {f"client_keys[{i}]": key for i, key in enumerate(setup.config.client_keys or ())}
    cache = setup.config.routing.session_cache
    if cache.type == "redis":
        texts["routing.session_cache.url"] = cache.url or ""
    section = setup.config.orchestrator
    if section.engine == "http":
        texts["orchestrator.base_url"] = section.base_url or ""
        texts["orchestrator.access_key"] = section.access_key or ""
    for place, text in texts.items():
        unset = missing(text, os.environ)
        if unset:
            yield f"{place}: {' and '.join(unset)} is not set"


def deployment_names(setup: Setup) -> list[str]:
    """The deployments that serve_app/app.py makes of a configuration."""
    kept_in_memory = setup.config.routing.session_cache.type != "redis"
    paths = setup.providers.data_paths()
    own = [slug for slug, data_path in paths.items() if data_path is DataPath.DEDICATED]
    return [
        "Ingress",
        "Orchestrator",
        *(["Affinity"] if kept_in_memory else []),
        *(f"provider-{slug}" for slug in [SHARED_SLUG, *own]),
    ]


def example(setup: Setup, url: str) -> str:
    """A curl line that works with this configuration here and now."""
    policy, providers = setup.policy, setup.providers
    models = [policy.default] if policy.default else []
    models += [model for model in policy.models.values() if model != policy.default]
    key = ""
    if setup.config.client_keys is not None:
        names = references(setup.config.client_keys[0])
        key = f" -H 'Authorization: Bearer {'$' + names[0] if names else '...'}'".replace("'", '"')
    for model in models:
        endpoint = providers.endpoint(model)
        if endpoint is not None and not endpoint.missing(os.environ):
            body = f'{{"model": "{model}", "messages": [{{"role": "user", "content": "Hello"}}]}}'
            return f"  curl{key} {url}/v1/chat/completions -H 'content-type: application/json' -d '{body}'"
    return (
        f"  curl{key} {url}/v1/models\n\n"
        "No model has its key: set the variables named above and start again, or try `make demo`."
    )
