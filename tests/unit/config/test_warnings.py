"""What is accepted and not in force is said, and nothing else is."""

from pathlib import Path

import pytest

from serve_app.config.warnings import notices
from tests.unit.config.broken import G, V
from tests.unit.fakes import snapshot_of

OURS = "this gateway serves models only"
LISTENS = "listeners is not in force: Serve's http_options say where to listen"

CASES = {
    "listeners: [{type: model, name: x, port: 1, address: h, timeout: 5s, max_retries: 2}]": [
        LISTENS,
        "listeners: timeout is not in force: timeouts.total_s is",
        "listeners: max_retries is not in force: an attempt that failed is followed by others, up to 4 in all",
    ],
    "listeners: [{type: agent, name: x, router: plano_orchestrator_v1, agents: [{id: a}]}]": [
        LISTENS,
        f"listeners: router is not in force: {OURS}",
        f"listeners: agents is not in force: {OURS}",
    ],
    "listeners: [{type: prompt, name: x, input_filters: [a], output_filters: [b]}]": [
        LISTENS,
        "listeners: input_filters is not in force: requests pass as they are",
        "listeners: output_filters is not in force: answers pass as they are",
    ],
    "overrides: {llm_routing_model: x, orchestrator_model_context_length: 1}": [
        "overrides.llm_routing_model is not in force: routes are matched by orchestrator.engine, as model_providers has no 'x'",
        "overrides.orchestrator_model_context_length is not in force: orchestrator.max_query_tokens is",
    ],
    "overrides: {agent_orchestration_model: x, disable_signals: false, use_agent_orchestrator: true}": [
        f"overrides.agent_orchestration_model is not in force: {OURS}",
        "overrides.disable_signals is not in force: conversations are never analysed",
        f"overrides.use_agent_orchestrator is not in force: {OURS}",
    ],
    "overrides: {prompt_target_intent_matching_threshold: 1, optimize_context_window: true}": [
        f"overrides.prompt_target_intent_matching_threshold is not in force: {OURS}",
        "overrides.optimize_context_window is not in force: requests pass as they are",
    ],
    "routing: {llm_provider: x, model: y}": [
        "routing.llm_provider is not in force, nor is it in Plano; leave it out",
        "routing.model is not in force, nor is it in Plano; leave it out",
    ],
    "routing: {routing_budget: {max_switch_spend_pct: 1, record_counterfactual: true}}": [
        "routing.routing_budget.record_counterfactual is not in force"
    ],
    "prompt_caching: {enabled: true, min_prefix_tokens: 5, session_ttl_seconds: 60}": [
        "prompt_caching.inject_cache_control is not in force: clients mark themselves what is to be cached",
        "prompt_caching.min_prefix_tokens is not in force: nothing is marked",
        "prompt_caching.session_ttl_seconds is not in force: routing.session_ttl_seconds is",
    ],
    "prompt_caching: {inject_cache_control: true}": [
        "prompt_caching.inject_cache_control is not in force: clients mark themselves what is to be cached"
    ],
    "model_metrics_sources: [{type: cost, provider: models.dev, url: http://c, refresh_interval: 1, model_aliases: {a: b}}]": [
        "model_metrics_sources of type cost is not in force: prices are the published ones, or those under prices"
    ],
    "model_metrics_sources: [{type: latency, provider: prometheus, url: http://p, query: q}]": [
        "model_metrics_sources of type latency is not in force: models stay in the order given"
    ],
    "ignore_unsupported: true\nratelimits: [{model: a, selector: {key: k, value: ''}, limit: {tokens: 0, unit: day}}]": [
        "ratelimits is not in force: nothing is limited"
    ],
    "ignore_unsupported: true\nprompt_guards: {input_guards: {jailbreak: {on_exception: {message: m}}}}": [
        "prompt_guards is not in force: nothing is guarded"
    ],
    "tracing: {random_sampling: 100, trace_arch_internal: true, opentracing_grpc_endpoint: http://h:4317/, span_attributes: {header_prefixes: [x-], static: {a: b}}, exporters: [{type: posthog, url: http://p, api_key: $K, distinct_id_header: x, capture_messages: true}]}": [
        "tracing is not in force: nothing is traced; answers say in their headers what was decided"
    ],
    "tracing: {opentracing_grpc_endpoint: $COLLECTOR}": [
        "tracing is not in force: nothing is traced; answers say in their headers what was decided"
    ],
    "state_storage: {type: memory}": [
        "state_storage is not in force: no conversation is kept; clients send the whole of it"
    ],
    "state_storage: {type: postgres, connection_string: 'postgresql://u:$P@h/d'}": [
        "state_storage is not in force: no conversation is kept; clients send the whole of it"
    ],
    "endpoints: {app: {endpoint: 'h:1', connect_timeout: 5s, protocol: https, http_host: x, prefix_affinity: true}}": [
        "endpoints is not in force: they serve prompt targets; a provider's address is its base_url"
    ],
    "agents: [{id: a, url: http://a, whatever: {x: [1]}}]": [f"agents is not in force: {OURS}"],
    "filters: [{id: a, url: http://a, type: mcp}]": [
        "filters is not in force: requests and answers pass as they are"
    ],
    "prompt_targets: [{name: a, description: d, parameters: [{name: p}]}]": [
        f"prompt_targets is not in force: {OURS}"
    ],
    "system_prompt: Be brief.": [
        "system_prompt is not in force: it belongs to prompt targets; clients send their own"
    ],
    "mode: llm": [f"mode is not in force: {OURS}"],
}
SILENT = [
    "listeners: []",
    "overrides: {always_route: true}",
    "overrides: {upstream_connect_timeout: 2.5s}",
    "overrides: {upstream_connect_timeout: 5s}\ntimeouts: {connect_s: 5}",
    "prompt_caching: {enabled: true, session_affinity: false, inject_cache_control: false}",
    "prompt_caching: {session_affinity: true}",
    "model_metrics_sources: []\nratelimits: []\nagents: []\nfilters: []\nprompt_targets: []",
    "endpoints: {}\nprompt_guards: {}\nratelimits: []\ntracing: {}",
    "routing: {session_ttl_seconds: 5, route_on_user_only: true}",
]


@pytest.mark.parametrize(("text", "expected"), CASES.items())
def test_a_key_that_is_not_in_force_is_named(
    text: str, expected: list[str], tmp_path: Path
) -> None:
    """One line each, with what holds instead where there is something."""
    assert notices(snapshot_of(tmp_path, f"{G}{text}\n").config) == expected


@pytest.mark.parametrize("text", SILENT)
def test_what_is_in_force_or_says_nothing_is_not_named(text: str, tmp_path: Path) -> None:
    """No line without a reason."""
    assert notices(snapshot_of(tmp_path, f"{G}{text}\n").config) == []


def test_the_timeout_of_plano_is_in_force(tmp_path: Path) -> None:
    """It is timeouts.connect_s, unless that is there itself."""
    texts = {
        "overrides: {upstream_connect_timeout: 500ms}\n": 0.5,
        "overrides: {upstream_connect_timeout: 1.5s}\ntimeouts: {idle_s: 7}\n": 1.5,
        "overrides: {upstream_connect_timeout: 2m}\n": 120.0,
        "overrides: {upstream_connect_timeout: 1h}\n": 3600.0,
        "overrides: {upstream_connect_timeout: 9s}\ntimeouts: {connect_s: 3}\n": 3.0,
        "overrides: {}\n": 5.0,
    }
    for text, expected in texts.items():
        config = snapshot_of(tmp_path, V + text).config
        assert config.timeouts.connect_s == expected
        assert notices(config) == ["overrides.upstream_connect_timeout is not in force: timeouts.connect_s is"] * ("9s" in text)  # fmt: skip


def test_a_bundle_of_certificates_lies_beside_the_file(tmp_path: Path) -> None:
    """A relative path is absolute afterwards; one that is not there is noticed."""
    text = f"{V}overrides: {{upstream_tls_ca_path: ca.pem}}\n"
    config = snapshot_of(tmp_path, text).config
    assert config.overrides.upstream_tls_ca_path == str(tmp_path / "ca.pem")
    assert notices(config) == [
        f"overrides.upstream_tls_ca_path: there is no file {tmp_path / 'ca.pem'} on this machine"
    ]
    (tmp_path / "ca.pem").touch()
    assert notices(snapshot_of(tmp_path, text).config) == []


@pytest.mark.parametrize(
    ("key", "name"), [("orchestrator", "model"), ("overrides", "upstream_tls_ca_path")]
)
def test_a_name_that_no_file_can_have_is_noticed(key: str, name: str, tmp_path: Path) -> None:
    """It is looked for, and not found."""
    (notice,) = notices(snapshot_of(tmp_path, f'{V}{key}: {{{name}: "~a\\0b"}}\n').config)
    assert notice.startswith(f"{key}.{name}: there is no file {tmp_path}")


def test_secrets_of_sections_are_not_shown(tmp_path: Path) -> None:
    """Neither in what was read nor in a notice."""
    config = snapshot_of(
        tmp_path,
        V + "state_storage: {type: postgres, connection_string: 'postgresql://u:sk-secret@h/d'}\n"
        "tracing: {opentracing_grpc_endpoint: 'http://u:sk-secret@h:1', exporters: "
        "[{type: posthog, url: 'http://sk-secret@h', api_key: sk-secret}]}\n"
        "prompt_targets: [{name: a, endpoint: {http_headers: {Authorization: sk-secret}}}]\n"
        "agents: [{id: sk-secret}]\nfilters: [{id: sk-secret}]\n"
        "model_metrics_sources: [{type: cost, provider: models.dev, url: 'http://sk-secret@h'},"
        " {type: latency, provider: prometheus, url: 'http://u:sk-secret@h', query: q}]\n",
    ).config
    assert "sk-secret" not in repr(config) + "".join(notices(config))
