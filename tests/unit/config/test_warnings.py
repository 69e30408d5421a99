"""Warnings about a configuration: keys that are ignored, and references that are not set."""

from pathlib import Path

import pytest

from serve_app.config.warnings import config_warnings, unset_provider_keys
from tests.unit.config_texts import ONE_MODEL, VERSION
from tests.unit.fakes import snapshot_of

MODELS_ONLY = "this gateway only serves models; remove it"
UNCHANGED = "requests and answers are passed on unchanged; remove it"
LISTENERS = "listeners is ignored; set host and port under http_options of serve.yaml"

GRPC = (
    "tracing.opentracing_grpc_endpoint is ignored: spans are sent over HTTP, not gRPC; "
    "set telemetry.traces.endpoint"
)
CASES = {
    "listeners: [{type: model, name: x, port: 1, address: h, timeout: 5s, max_retries: 2}]": [
        LISTENERS,
        "listeners[].timeout is ignored: one limit applies to all requests; set timeouts.total_s",
        "listeners[].max_retries is ignored: a request makes up to 4 attempts; remove it",
    ],
    "listeners: [{type: agent, name: x, router: plano_orchestrator_v1, agents: [{id: a}]}]": [
        LISTENERS,
        f"listeners[].router is ignored: {MODELS_ONLY}",
        f"listeners[].agents is ignored: {MODELS_ONLY}",
    ],
    "listeners: [{type: prompt, name: x, input_filters: [a], output_filters: [b]}]": [
        LISTENERS,
        f"listeners[].input_filters is ignored: {UNCHANGED}",
        f"listeners[].output_filters is ignored: {UNCHANGED}",
    ],
    "overrides: {llm_routing_model: x, orchestrator_model_context_length: 1}": [
        "overrides.llm_routing_model is ignored: model_providers has no 'x'; add it, with its base_url",
        "overrides.orchestrator_model_context_length is ignored; set orchestrator.max_query_tokens",
    ],
    "overrides: {agent_orchestration_model: x, disable_signals: false, use_agent_orchestrator: true}": [
        f"overrides.agent_orchestration_model is ignored: {MODELS_ONLY}",
        "overrides.disable_signals is ignored: conversations are never analysed; remove it",
        f"overrides.use_agent_orchestrator is ignored: {MODELS_ONLY}",
    ],
    "overrides: {prompt_target_intent_matching_threshold: 1, optimize_context_window: true}": [
        f"overrides.prompt_target_intent_matching_threshold is ignored: {MODELS_ONLY}",
        f"overrides.optimize_context_window is ignored: {UNCHANGED}",
    ],
    "routing: {llm_provider: x, model: y}": [
        "routing.llm_provider is ignored, as in Plano; remove it",
        "routing.model is ignored, as in Plano; remove it",
    ],
    "routing: {routing_budget: {max_switch_spend_pct: 1, record_counterfactual: true}}": [
        "routing.routing_budget.record_counterfactual is ignored; remove it"
    ],
    "prompt_caching: {enabled: true, min_prefix_tokens: 5, session_ttl_seconds: 60}": [
        "prompt_caching.inject_cache_control is ignored: requests are passed on unchanged; set cache_control in the client",
        "prompt_caching.min_prefix_tokens is ignored: requests are passed on unchanged; remove it",
        "prompt_caching.session_ttl_seconds is ignored; set routing.session_ttl_seconds",
    ],
    "prompt_caching: {inject_cache_control: true}": [
        "prompt_caching.inject_cache_control is ignored: requests are passed on unchanged; set cache_control in the client"
    ],
    "model_metrics_sources: [{type: cost, provider: models.dev, url: http://c, refresh_interval: 1, model_aliases: {a: b}}]": [
        "model_metrics_sources of type cost is ignored: published prices are used; set your own under prices"
    ],
    "model_metrics_sources: [{type: latency, provider: prometheus, url: http://p, query: q}]": [
        "model_metrics_sources of type latency is ignored: the gateway measures how fast models are itself; remove it"
    ],
    "ignore_unsupported: true\nratelimits: [{model: a, selector: {key: k, value: ''}, limit: {tokens: 0, unit: day}}]": [
        "ratelimits is ignored: no request is limited; limit requests in front of the gateway"
    ],
    "ignore_unsupported: true\nprompt_guards: {input_guards: {jailbreak: {on_exception: {message: m}}}}": [
        "prompt_guards is ignored: no prompt is checked; check prompts in front of the gateway"
    ],
    "tracing: {random_sampling: 100, trace_arch_internal: true, opentracing_grpc_endpoint: http://h:4317/, span_attributes: {header_prefixes: [x-], static: {a: b}}, exporters: [{type: posthog, url: http://p, api_key: $K, distinct_id_header: x, capture_messages: true}]}": [
        "tracing.trace_arch_internal is ignored: it is about Plano's own steps; remove it",
        "tracing.span_attributes.header_prefixes is ignored; set telemetry.attributes",
        "tracing.exporters is ignored: only a collector receives spans; configure it there",
    ],
    "tracing: {opentracing_grpc_endpoint: $COLLECTOR}": [
        "tracing sends no spans: random_sampling is not set; set it, or telemetry.traces"
    ],
    "tracing: {random_sampling: 5, opentracing_grpc_endpoint: $COLLECTOR}": [GRPC],
    "tracing: {random_sampling: 5, opentracing_grpc_endpoint: http://h:9}": [GRPC],
    "tracing: {random_sampling: 5, opentracing_grpc_endpoint: http://h:99999999}": [GRPC],
    "tracing: {random_sampling: 5}\ntelemetry: {traces: {sample: 1}}": [
        "tracing is ignored: telemetry.traces is set; remove one of them"
    ],
    "telemetry: {traces: {endpoint: 'http://$OTLP_HOST:4318', headers: {a: $OTLP_KEY}}, metrics: {headers: {a: $OTLP_KEY}}}": [
        "telemetry.traces: OTLP_HOST is not set; set it, or nothing is exported",
        "telemetry.traces: OTLP_KEY is not set; set it, or nothing is exported",
        "telemetry.metrics: OTLP_KEY is not set; set it, or nothing is exported",
    ],
    "state_storage: {type: memory, url: 'redis://h'}": [
        "state_storage.url is ignored: answers are not kept in Redis; set type redis"
    ],
    "state_storage: {type: redis, url: 'redis://$STATE_HOST'}": [
        "state_storage.url: STATE_HOST is not set; set it, or no answers are kept"
    ],
    "state_storage: {type: postgres, connection_string: 'postgresql://u:$P@h/d'}": [
        "state_storage.type postgres is ignored: answers are kept in memory; set type redis, or remove state_storage"
    ],
    "endpoints: {app: {endpoint: 'h:1', connect_timeout: 5s, protocol: https, http_host: x, prefix_affinity: true}}": [
        "endpoints is ignored: they serve prompt targets; set the address of a provider as its base_url"
    ],
    "agents: [{id: a, url: http://a, whatever: {x: [1]}}]": [f"agents is ignored: {MODELS_ONLY}"],
    "filters: [{id: a, url: http://a, type: mcp}]": [f"filters is ignored: {UNCHANGED}"],
    "prompt_targets: [{name: a, description: d, parameters: [{name: p}]}]": [
        f"prompt_targets is ignored: {MODELS_ONLY}"
    ],
    "system_prompt: Be brief.": [
        "system_prompt is ignored: it belongs to prompt targets; send a system message from the client"
    ],
    "mode: llm": [f"mode is ignored: {MODELS_ONLY}"],
}
SILENT = [
    "state_storage: {type: memory, ttl_seconds: 60, max_megabytes: 8}",
    "state_storage: {type: none}",
    "listeners: []",
    "overrides: {always_route: true}",
    "overrides: {upstream_connect_timeout: 2.5s}",
    "overrides: {upstream_connect_timeout: 5s}\ntimeouts: {connect_s: 5}",
    "prompt_caching: {enabled: true, session_affinity: false, inject_cache_control: false}",
    "prompt_caching: {session_affinity: true}",
    "model_metrics_sources: []\nratelimits: []\nagents: []\nfilters: []\nprompt_targets: []",
    "endpoints: {}\nprompt_guards: {}\nratelimits: []\ntracing: {}",
    "routing: {session_ttl_seconds: 5, route_on_user_only: true}",
    "tracing: {random_sampling: 100, opentracing_grpc_endpoint: 'http://h:4317', span_attributes: {static: {a: b}}}",
    "telemetry: {traces: {endpoint: 'http://h:4318', sample: 0.1}, metrics: {}, attributes: {a: b}, content: true, open_metrics: true}",
]


@pytest.mark.parametrize(("text", "expected"), CASES.items())
def test_an_ignored_key_is_named(text: str, expected: list[str], tmp_path: Path) -> None:
    """One line each, with what to do instead."""
    assert config_warnings(snapshot_of(tmp_path, f"{ONE_MODEL}{text}\n").config, {}) == expected


@pytest.mark.parametrize("text", SILENT)
def test_a_key_that_is_used_or_empty_gives_no_warning(text: str, tmp_path: Path) -> None:
    """Empty sections and keys that are used are not listed."""
    assert config_warnings(snapshot_of(tmp_path, f"{ONE_MODEL}{text}\n").config, {}) == []


def test_a_weight_without_another_entry_is_named(tmp_path: Path) -> None:
    """A weight spreads the requests for one model over its entries, not over different models."""
    entries = "{model: openai/a, weight: 2}, {model: openai/b}"
    text = f"{VERSION}model_providers: [{entries}, {{model: openai/b, base_url: 'http://h', weight: 3}}]\n"
    assert config_warnings(snapshot_of(tmp_path, text).config, {}) == [
        "weight under 'openai/a' is ignored: the model has no other entry; add one, or remove it"
    ]


def test_plano_s_connect_timeout_is_used(tmp_path: Path) -> None:
    """It becomes timeouts.connect_s, unless that is set."""
    texts = {
        "overrides: {upstream_connect_timeout: 500ms}\n": 0.5,
        "overrides: {upstream_connect_timeout: 1.5s}\ntimeouts: {idle_s: 7}\n": 1.5,
        "overrides: {upstream_connect_timeout: 2m}\n": 120.0,
        "overrides: {upstream_connect_timeout: 1h}\n": 3600.0,
        "overrides: {upstream_connect_timeout: 9s}\ntimeouts: {connect_s: 3}\n": 3.0,
        "overrides: {}\n": 5.0,
    }
    for text, expected in texts.items():
        config = snapshot_of(tmp_path, VERSION + text).config
        assert config.timeouts.connect_s == expected
        assert config_warnings(config, {}) == ["overrides.upstream_connect_timeout is ignored: timeouts.connect_s is set; remove one of them"] * ("9s" in text)  # fmt: skip


def test_certificate_bundle_is_relative_to_the_file(tmp_path: Path) -> None:
    """A relative path becomes absolute; a missing file is a warning."""
    text = f"{VERSION}overrides: {{upstream_tls_ca_path: ca.pem}}\n"
    config = snapshot_of(tmp_path, text).config
    assert config.overrides.upstream_tls_ca_path == str(tmp_path / "ca.pem")
    assert config_warnings(config, {}) == [
        f"overrides.upstream_tls_ca_path: no file {tmp_path / 'ca.pem'} on this machine; correct the path"
    ]
    (tmp_path / "ca.pem").touch()
    assert config_warnings(snapshot_of(tmp_path, text).config, {}) == []


@pytest.mark.parametrize(
    ("key", "name"), [("orchestrator", "model"), ("overrides", "upstream_tls_ca_path")]
)
def test_a_name_that_no_file_can_have_is_a_warning(key: str, name: str, tmp_path: Path) -> None:
    """The file is looked up, and is missing."""
    (warning,) = config_warnings(
        snapshot_of(tmp_path, f'{VERSION}{key}: {{{name}: "~a\\0b"}}\n').config, {}
    )
    assert warning.startswith(f"{key}.{name}: no file ")
    assert str(tmp_path) in warning


def test_secrets_of_sections_are_hidden(tmp_path: Path) -> None:
    """Neither the configuration nor a warning shows them."""
    config = snapshot_of(
        tmp_path,
        VERSION
        + "state_storage: {type: postgres, connection_string: 'postgresql://u:sk-secret@h/d'}\n"
        "tracing: {opentracing_grpc_endpoint: 'http://u:sk-secret@h:1', exporters: "
        "[{type: posthog, url: 'http://sk-secret@h', api_key: sk-secret}]}\n"
        "prompt_targets: [{name: a, endpoint: {http_headers: {Authorization: sk-secret}}}]\n"
        "agents: [{id: sk-secret}]\nfilters: [{id: sk-secret}]\n"
        "model_metrics_sources: [{type: cost, provider: models.dev, url: 'http://sk-secret@h'},"
        " {type: latency, provider: prometheus, url: 'http://u:sk-secret@h', query: q}]\n",
    ).config
    assert "sk-secret" not in repr(config) + "".join(config_warnings(config, {}))


SERVER = "orchestrator: {engine: %s, model: m, base_url: $UNIT_URL, access_key: 'file:%s'}\n"


def test_unset_references_outside_of_providers_are_named(tmp_path: Path) -> None:
    """Those of client keys, of Redis and of the orchestrator's server, where these are in use."""
    keys = "client_keys: [$UNIT_A, $UNIT_KEY, sk-1]\n"
    cache = "routing: {session_cache: {type: %s, url: 'redis://:$UNIT_B@h:$UNIT_URL/$UNIT_A'}}\n"
    file = tmp_path / "key"
    used = snapshot_of(tmp_path, VERSION + keys + cache % "redis" + SERVER % ("http", file)).config
    assert config_warnings(used, {"UNIT_A": "x"}) == [
        "client_keys[1]: UNIT_KEY is not set; set it, or no client can use this key",
        "routing.session_cache.url: UNIT_B and UNIT_URL are not set; set them, or sessions are not kept",
        "orchestrator.base_url: UNIT_URL is not set; set it, or its server cannot be called",
        f"orchestrator.access_key: file:{file} is not set; set it, or its server cannot be called",
    ]
    file.write_text("sk-2")
    environ = dict.fromkeys(("UNIT_A", "UNIT_B", "UNIT_KEY", "UNIT_URL"), "x")
    assert config_warnings(used, environ) == []
    unused = snapshot_of(tmp_path, VERSION + cache % "memory" + SERVER % ("embedding", file)).config
    assert not any("is not set" in warning for warning in config_warnings(unused, {}))


def test_unset_keys_of_providers_are_named(tmp_path: Path) -> None:
    """A line for each variable of each provider; a vendor's missing access_key is one."""
    entries = "[{model: openai/a, access_key: $UNIT_A}, {model: openai/b}, {model: vllm/c, base_url: $UNIT_URL}]"
    table = snapshot_of(tmp_path, f"{VERSION}model_providers: {entries}\n").providers
    assert unset_provider_keys(table.endpoints(), {"UNIT_URL": "http://h"}) == [
        "provider openai: UNIT_A is not set; set it, or its models cannot answer",
        "provider openai: access_key is not set; set it, or its models cannot answer",
    ]
