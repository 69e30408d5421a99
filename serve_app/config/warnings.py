"""What a configuration says and what is not in force, or likely not what was meant."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from serve_app.config.plano_router import not_in_force
from serve_app.config.schema.durations import seconds_of
from serve_app.config.schema.gateway import GatewayConfig
from serve_app.config.schema.orchestrator import OrchestratorSection
from serve_app.config.schema.section import Section

_SECTIONS: Final[Mapping[str, str]] = {
    "ratelimits": "nothing is limited",
    "prompt_guards": "nothing is guarded",
    "tracing": "nothing is traced; answers say in their headers what was decided",
    "state_storage": "no conversation is kept; clients send the whole of it",
    "endpoints": "they serve prompt targets; a provider's address is its base_url",
    "agents": "this gateway serves models only",
    "filters": "requests and answers pass as they are",
    "prompt_targets": "this gateway serves models only",
    "system_prompt": "it belongs to prompt targets; clients send their own",
    "mode": "this gateway serves models only",
}
_SOURCES: Final[Mapping[str, str]] = {
    "cost": "prices are the published ones, or those under prices",
    "latency": "models stay in the order given",
}
_LISTENERS: Final[Mapping[str, str]] = {
    "timeout": "timeouts.total_s is",
    "max_retries": "an attempt that failed is followed by others, up to 4 in all",
    "router": "this gateway serves models only",
    "agents": "this gateway serves models only",
    "input_filters": "requests pass as they are",
    "output_filters": "answers pass as they are",
}
_OVERRIDES: Final[Mapping[str, str]] = {
    "agent_orchestration_model": "this gateway serves models only",
    "disable_signals": "conversations are never analysed",
    "prompt_target_intent_matching_threshold": "this gateway serves models only",
    "optimize_context_window": "requests pass as they are",
    "use_agent_orchestrator": "this gateway serves models only",
}


def notices(config: GatewayConfig) -> list[str]:
    """What is accepted and not in force, or likely not what was meant; one line each."""
    return [
        *config.forms,
        *_of_listeners(config),
        *_of_models(config),
        *_of_routes(config),
        *_of_engine(config.orchestrator),
        *_of_overrides(config),
        *_of_sessions(config),
        *_of_sections(config),
    ]


def _of_listeners(config: GatewayConfig) -> Iterator[str]:
    if config.listeners:
        yield "listeners is not in force: Serve's http_options say where to listen"
    for key, instead in _LISTENERS.items():
        if any(getattr(listener, key) not in (None, []) for listener in config.listeners):
            yield f"listeners: {key} is not in force: {instead}"


def _of_models(config: GatewayConfig) -> Iterator[str]:
    for entry in config.model_providers:
        if entry.routing_preferences:
            yield (
                f"routing_preferences under {entry.model!r} is not in force from v0.4.0 on: "
                "write them at the top level, with models"
            )


def _of_routes(config: GatewayConfig) -> Iterator[str]:
    if any(route.selection_policy for route in config.routing_preferences):
        yield "selection_policy is not in force: models stay in the order given"
    for route in config.routing_preferences:
        if not route.description:
            yield f"route {route.name!r} has no description: its name alone is matched; give one"
        if len(route.examples) == 1:
            yield f"route {route.name!r} has one example, which helps little; give three"


def _of_engine(section: OrchestratorSection) -> Iterator[str]:
    model = section.model
    if section.engine == "embedding" and model is not None and not _is_file(model):
        yield f"orchestrator.model: there is no file {model} on this machine"
    how = f", with task {section.task} and device {section.device}"
    for name in section.unused:
        said = f"engine {section.engine}{how if section.engine == 'vllm' else ''}"
        yield f"orchestrator.{name} is not in force: {said} does not look at it"


def _of_overrides(config: GatewayConfig) -> Iterator[str]:
    overrides = config.overrides
    yield from not_in_force(config)
    for key, instead in _OVERRIDES.items():
        if key in overrides.model_fields_set:
            yield f"overrides.{key} is not in force: {instead}"
    text = overrides.upstream_connect_timeout
    if text is not None and seconds_of(text) != config.timeouts.connect_s:
        yield "overrides.upstream_connect_timeout is not in force: timeouts.connect_s is"
    bundle = overrides.upstream_tls_ca_path
    if bundle is not None and not _is_file(bundle):
        yield f"overrides.upstream_tls_ca_path: there is no file {bundle} on this machine"


def _of_sessions(config: GatewayConfig) -> Iterator[str]:
    routing, caching = config.routing, config.prompt_caching
    if routing.routing_budget is not None and routing.routing_budget.record_counterfactual:
        yield "routing.routing_budget.record_counterfactual is not in force"
    for key in ("llm_provider", "model"):
        if getattr(routing, key) is not None:
            yield f"routing.{key} is not in force, nor is it in Plano; leave it out"
    marks = caching.inject_cache_control
    if marks or (marks is None and caching.enabled):
        yield (
            "prompt_caching.inject_cache_control is not in force: clients mark themselves "
            "what is to be cached"
        )
    if "min_prefix_tokens" in caching.model_fields_set:
        yield "prompt_caching.min_prefix_tokens is not in force: nothing is marked"
    if caching.session_ttl_seconds is not None:
        yield "prompt_caching.session_ttl_seconds is not in force: routing.session_ttl_seconds is"


def _of_sections(config: GatewayConfig) -> Iterator[str]:
    for source in config.model_metrics_sources:
        yield (
            f"model_metrics_sources of type {source.type} is not in force: {_SOURCES[source.type]}"
        )
    for key, instead in _SECTIONS.items():
        said = getattr(config, key)
        if said.model_fields_set if isinstance(said, Section) else said:
            yield f"{key} is not in force: {instead}"


def _is_file(name: str) -> bool:
    """False also where it can't be told: too long a name, or a folder that is not for us."""
    try:
        return Path(name).is_file()
    except OSError:
        return False
