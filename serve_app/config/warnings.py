"""Warnings about a configuration: keys that are accepted and ignored, and what is not set or missing.

``fingerpost check`` prints them, and the ingress logs them and lists them in ``/healthz``.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol

from serve_app.config.plano_router import router_warnings
from serve_app.config.plano_tracing import telemetry_of, tracing_warnings
from serve_app.config.references import missing
from serve_app.config.schema.access import HASHED, ClientKey
from serve_app.config.schema.durations import seconds_of
from serve_app.config.schema.gateway import GatewayConfig
from serve_app.config.schema.logs import OFF
from serve_app.config.schema.orchestrator import (
    MAX_DECISION_ROUTES,
    EngineSection,
    OrchestratorSection,
)
from serve_app.config.schema.section import Section

_MODELS_ONLY: Final = "this gateway only serves models; remove it"
_UNCHANGED: Final = "requests and answers are passed on unchanged; remove it"
_SECTIONS: Final[Mapping[str, str]] = {
    "prompt_guards": "no prompt is checked; check prompts in front of the gateway",
    "endpoints": "they serve prompt targets; set the address of a provider as its base_url",
    "agents": _MODELS_ONLY,
    "filters": _UNCHANGED,
    "prompt_targets": _MODELS_ONLY,
    "system_prompt": "it belongs to prompt targets; send a system message from the client",
    "mode": _MODELS_ONLY,
}
_SOURCES: Final[Mapping[str, str]] = {
    "cost": "published prices are used; set your own under prices",
    "latency": "the gateway measures how fast models are itself; remove it",
}
_LISTENERS: Final[Mapping[str, str]] = {
    "timeout": "one limit applies to all requests; set timeouts.total_s",
    "max_retries": "a request makes up to 4 attempts; remove it",
    "router": _MODELS_ONLY,
    "agents": _MODELS_ONLY,
    "input_filters": _UNCHANGED,
    "output_filters": _UNCHANGED,
}
_OVERRIDES: Final[Mapping[str, str]] = {
    "agent_orchestration_model": _MODELS_ONLY,
    "disable_signals": "conversations are never analysed; remove it",
    "prompt_target_intent_matching_threshold": _MODELS_ONLY,
    "optimize_context_window": _UNCHANGED,
    "use_agent_orchestrator": _MODELS_ONLY,
}


class KeyedEndpoint(Protocol):
    """An endpoint of a provider, as far as its references matter."""

    @property
    def slug(self) -> str:
        """The name of its provider."""
        ...

    def missing(self, environ: Mapping[str, str]) -> Sequence[str]:
        """Names of the variables and files that it needs and that are not set."""
        ...


def config_warnings(config: GatewayConfig, environ: Mapping[str, str]) -> list[str]:
    """What a configuration contains that is ignored, unset or likely a mistake; one line each."""
    return [
        *config.forms,
        *_listeners(config),
        *_models(config),
        *_routes(config),
        *_engine(config.orchestrator),
        *_many_routes(config),
        *_overrides(config),
        *_sessions(config),
        *_state(config),
        *_logs(config),
        *_sections(config),
        *tracing_warnings(config),
        *_unset(config, environ),
    ]


def unset_provider_keys(
    endpoints: Iterable[KeyedEndpoint], environ: Mapping[str, str]
) -> list[str]:
    """What providers need and ``environ`` lacks; one line for each name and endpoint."""
    return [
        f"provider {endpoint.slug}: {name} is not set; set it, or its models cannot answer"
        for endpoint in endpoints
        for name in endpoint.missing(environ)
    ]


def _unset(config: GatewayConfig, environ: Mapping[str, str]) -> Iterator[str]:
    """References outside of ``model_providers`` whose variable or file is missing."""
    yield from _unset_keys(config, environ)
    cache = config.routing.session_cache
    if cache.type == "redis":
        key = "routing.session_cache.url"
        yield from _unset_in(key, cache.url or "", environ, "sessions are not kept")
    if config.state_storage.url is not None and config.keeps_state_in == "redis":
        key, url = "state_storage.url", config.state_storage.url
        yield from _unset_in(key, url, environ, "no answers are kept")
    yield from _unset_collectors(config, environ)
    for place, section in _engines(config.orchestrator):
        if section.asks_server and section.base_url is not None:
            for name in ("base_url", "access_key"):
                text, effect = getattr(section, name) or "", "its server cannot be called"
                yield from _unset_in(f"{place}.{name}", text, environ, effect)


def _unset_collectors(config: GatewayConfig, environ: Mapping[str, str]) -> Iterator[str]:
    telemetry = telemetry_of(config)
    for key, section in (("traces", telemetry.traces), ("metrics", telemetry.metrics)):
        for text in () if section is None else (section.endpoint or "", *section.headers.values()):
            yield from _unset_in(f"telemetry.{key}", text, environ, "nothing is exported")


def _unset_keys(config: GatewayConfig, environ: Mapping[str, str]) -> Iterator[str]:
    effect, hashed = "no client can use this key", False
    for index, entry in enumerate(config.client_keys or ()):
        place, key = f"client_keys[{index}]", entry
        if isinstance(entry, ClientKey):
            place, key = f"{place}.key", entry.key
        hashed = hashed or str(key).startswith(HASHED)
        yield from _unset_in(place, str(key), environ, effect)
    if hashed:
        effect = "no client can use a key that is stored as sha256:"
        yield from _unset_in("key_secret", config.key_secret, environ, effect)
    if config.counts_in == "redis" and config.limit_storage.url is not None:
        effect = "limits can't be counted"
        yield from _unset_in("limit_storage.url", config.limit_storage.url, environ, effect)


def _unset_in(key: str, text: str, environ: Mapping[str, str], effect: str) -> Iterator[str]:
    names = missing(text, environ)
    if names:
        are, them = ("is", "it") if len(names) == 1 else ("are", "them")
        yield f"{key}: {' and '.join(names)} {are} not set; set {them}, or {effect}"


def _listeners(config: GatewayConfig) -> Iterator[str]:
    if config.listeners:
        yield "listeners is ignored; set host and port under http_options of serve.yaml"
    for key, reason in _LISTENERS.items():
        if any(getattr(listener, key) not in (None, []) for listener in config.listeners):
            yield f"listeners[].{key} is ignored: {reason}"


def _models(config: GatewayConfig) -> Iterator[str]:
    entries = Counter(entry.model for entry in config.model_providers)
    for entry in config.model_providers:
        if "weight" in entry.model_fields_set and entries[entry.model] == 1:
            yield (
                f"weight under {entry.model!r} is ignored: the model has no other entry; add one, or remove it"
            )
        if entry.routing_preferences:
            yield (
                f"routing_preferences under {entry.model!r} is ignored since v0.4.0; "
                "move the routes to the top level, and add their models"
            )


def _routes(config: GatewayConfig) -> Iterator[str]:
    for route in config.routing_preferences:
        if not route.description:
            yield f"route {route.name!r}: only its name is matched; add a description"
        if len(route.examples) == 1:
            yield f"route {route.name!r}: a single example helps little; add two more"


def _engine(first: OrchestratorSection) -> Iterator[str]:
    if first.engine == "embedding":
        yield from _embedded(first)
    for place, section in _engines(first):
        options = f" with task {section.task} and device {section.device}"
        engine = f"engine {section.engine}{options if section.engine == 'vllm' else ''}"
        for name in section.unused:
            yield f"{place}.{name} is ignored: {engine} does not use it; remove it"
        if section.asks_server and section.base_url is None and section.access_key is not None:
            key = "that of the entry of model_providers is sent"
            yield f"{place}.access_key is ignored: {key}; remove it"
    blind = {"http": "engine http", "vllm": "mode json" if first.mode == "json" else ""}
    how = blind.get(first.engine, "")
    if first.when_unsure is not None and how:
        yield (
            f"orchestrator.when_unsure only helps while the engine is unavailable: {how} has no "
            "probabilities, so no call is close; use another engine first"
        )


def _many_routes(config: GatewayConfig) -> Iterator[str]:
    count = len(config.routing_preferences)
    for place, section in _engines(config.orchestrator):
        if section.engine == "decision" and count > MAX_DECISION_ROUTES:
            yield (
                f"{place}: engine decision cannot choose among {count} routes, only among "
                f"{MAX_DECISION_ROUTES}; merge some, or use another engine"
            )


def _embedded(section: OrchestratorSection) -> Iterator[str]:
    for name in ("model", "reranker"):
        path = getattr(section, name)
        if path is not None and not _is_file(path, or_folder=True):
            kind = "file" if path.endswith(".onnx") else "file or folder"
            yield f"orchestrator.{name}: no {kind} {path} on this machine; correct the path"
    for name in ("query_prefix", "passage_prefix"):
        if section.model is None and getattr(section, name) is not None:
            yield f"orchestrator.{name} is ignored: the bundled model has no prefixes; remove it"


def _engines(section: OrchestratorSection) -> Iterator[tuple[str, EngineSection]]:
    """Both engines, with their places in the file."""
    yield "orchestrator", section
    if section.when_unsure is not None:
        yield "orchestrator.when_unsure", section.when_unsure


def _overrides(config: GatewayConfig) -> Iterator[str]:
    overrides = config.overrides
    yield from router_warnings(config)
    for key, reason in _OVERRIDES.items():
        if key in overrides.model_fields_set:
            yield f"overrides.{key} is ignored: {reason}"
    text = overrides.upstream_connect_timeout
    if text is not None and seconds_of(text) != config.timeouts.connect_s:
        key = "overrides.upstream_connect_timeout"
        yield f"{key} is ignored: timeouts.connect_s is set; remove one of them"
    bundles = {
        config.state_storage.tls_ca_path: "state_storage.tls_ca_path",
        config.routing.session_cache.tls_ca_path: "routing.session_cache.tls_ca_path",
        overrides.upstream_tls_ca_path: "overrides.upstream_tls_ca_path",
    }
    for bundle, key in bundles.items():
        if bundle is not None and not _is_file(bundle):
            yield f"{key}: no file {bundle} on this machine; correct the path"


def _sessions(config: GatewayConfig) -> Iterator[str]:
    routing, caching = config.routing, config.prompt_caching
    if routing.routing_budget is not None and routing.routing_budget.record_counterfactual:
        yield "routing.routing_budget.record_counterfactual is ignored; remove it"
    for key in ("llm_provider", "model"):
        if getattr(routing, key) is not None:
            yield f"routing.{key} is ignored, as in Plano; remove it"
    marks = caching.inject_cache_control
    if marks or (marks is None and caching.enabled):
        yield (
            "prompt_caching.inject_cache_control is ignored: requests are passed on unchanged; "
            "set cache_control in the client"
        )
    if "min_prefix_tokens" in caching.model_fields_set:
        yield (
            "prompt_caching.min_prefix_tokens is ignored: requests are passed on unchanged; "
            "remove it"
        )
    if caching.session_ttl_seconds is not None:
        yield "prompt_caching.session_ttl_seconds is ignored; set routing.session_ttl_seconds"


def _state(config: GatewayConfig) -> Iterator[str]:
    section = config.state_storage
    if section.type == "postgres":
        yield (
            "state_storage.type postgres is ignored: answers are kept in "
            f"{config.keeps_state_in}; set type redis, or remove state_storage"
        )
    if section.url is not None and config.keeps_state_in != "redis":
        yield "state_storage.url is ignored: answers are not kept in Redis; set type redis"


def _logs(config: GatewayConfig) -> Iterator[str]:
    for name, section in config.logs:
        if section.to == OFF and section.model_fields_set - {"to"}:
            yield f"logs.{name} is ignored: `to` is off; name a file in it"


def _sections(config: GatewayConfig) -> Iterator[str]:
    for source in config.model_metrics_sources:
        reason = _SOURCES[source.type]
        yield f"model_metrics_sources of type {source.type} is ignored: {reason}"
    for key, reason in _SECTIONS.items():
        value = getattr(config, key)
        if value.model_fields_set if isinstance(value, Section) else value:
            yield f"{key} is ignored: {reason}"


def _is_file(name: str, *, or_folder: bool = False) -> bool:
    """False also where the system cannot tell: the name is too long, or the folder is closed."""
    try:
        return Path(name).is_file() or (or_folder and Path(name).is_dir())
    except OSError:
        return False
