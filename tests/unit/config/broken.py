"""Broken configurations, each with all its problems: line, path and message."""

from serve_app.providers.table import INTERFACES
from tests.unit.config_texts import ONE_MODEL as G
from tests.unit.config_texts import VERSION as V

__all__ = ["BROKEN", "KEYS", "Found", "G", "V"]

KEYS = (
    "version, listeners, model_providers, model_aliases, routing_preferences, no_route_examples, routing_rules, orchestrator, overrides, routing, prompt_caching, "
    "prices, client_keys, allow_anonymous, cors, limits, queue, probes, timeouts, logs, ui, ignore_unsupported, model_metrics_sources, ratelimits, prompt_guards, "
    "telemetry, tracing, state_storage, endpoints, agents, filters, prompt_targets, system_prompt, mode"
)
OVERRIDES = (
    "always_route, upstream_connect_timeout, upstream_tls_ca_path, llm_routing_model, orchestrator_model_context_length, agent_orchestration_model, "
    "disable_signals, prompt_target_intent_matching_threshold, optimize_context_window, use_agent_orchestrator"
)

NO_SLASH = "has no provider; write provider/name, or provider/* for all models"
LEFT_OUT = V + "model_providers:\n  - model: openai/%s\n    default: 1\nmodel_aliases:\n  slow:\n"
NO_BOOL = (4, "model_providers[0].default", "must be true or false, not 1")
Found = list[tuple[int, str, str]]

# fmt: off
BROKEN: dict[str, tuple[str, Found]] = {
    "wrong version": ("version: v9\n", [(1, "version", "must be 'v0.1', 'v0.1.0', '0.1-beta', '0.2.0', 'v0.3.0' or 'v0.4.0', not 'v9'")]),
    "empty version": ("version:\nmodel_providers: []\n", [(1, "version", "must be 'v0.1', 'v0.1.0', '0.1-beta', '0.2.0', 'v0.3.0' or 'v0.4.0', not null")]),
    "version number": ("version: 0.4\n", [(1, "version", "must be 'v0.1', 'v0.1.0', '0.1-beta', '0.2.0', 'v0.3.0' or 'v0.4.0', not 0.4")]),
    "unknown key": (V + "model_provider: []\n", [(2, "model_provider", "unknown key; did you mean 'model_providers'?")]),
    "unknown key far": (V + "zzz: 1\n", [(2, "zzz", f"unknown key; known keys: {KEYS}")]),
    "entry unknown": ((V + "model_providers:\n" "  - model: openai/a\n" "    acces_key: $K\n"), [(4, "model_providers[0].acces_key", "unknown key; did you mean 'access_key'?")]),
    "entry no model": ((V + "model_providers:\n" "  - default: true\n"), [(3, "model_providers[0].model", "missing; add `model:`")]),
    "entry text": ((V + "model_providers:\n" "  - openai/a\n"), [(3, "model_providers[0]", "must be a mapping of keys, not 'openai/a'")]),
    "providers map": ((V + "model_providers:\n" "  model: openai/a\n"), [(2, "model_providers", "must be a list, not a mapping")]),
    "providers nothing": (V + "model_providers:\n", [(2, "model_providers", "must be a list, not null")]),
    "key type": ((V + "model_providers:\n" "  - model: openai/a\n" "    access_key: [sk-secret]\n"), [(4, "model_providers[0].access_key", "must be a string, not a list")]),
    "client_keys text": (V + "client_keys: sk-secret\n", [(2, "client_keys", "must be a list, not a string")]),
    "client_keys empty": (V + "client_keys: []\n", [(2, "client_keys", "must not be empty; add an entry")]),
    "default yes": ((V + "model_providers:\n" "  - model: openai/a\n" "    default: 'yes'\n"), [(4, "model_providers[0].default", "must be true or false, not 'yes'")]),
    "data_path": ((V + "model_providers:\n" "  - model: openai/a\n" "    data_path: direct\n"), [(4, "model_providers[0].data_path", "must be 'dedicated', 'shared' or 'inline', not 'direct'")]),
    "body": ((V + "limits:\n" "  body_bytes: 0\n" "  header_bytes: 10\n"), [(3, "limits.body_bytes", "must be at least 1"), (4, "limits.header_bytes", "must be at least 1024")]),
    "body text": ((V + "limits:\n" "  body_bytes: 1 MiB\n"), [(3, "limits.body_bytes", "must be an integer, not '1 MiB'")]),
    "timeouts": ((V + "timeouts:\n" "  connect_s: 0\n" "  idle_s: soon\n" "  first_bytes: 1\n"), [(3, "timeouts.connect_s", "must be greater than 0"), (4, "timeouts.idle_s", "must be a number, not 'soon'"), (5, "timeouts.first_bytes", "unknown key; did you mean 'first_byte_s'?")]),
    "alias text": ((G + "model_aliases:\n" "  fast: openai/gpt-4o\n"), [(5, "model_aliases.fast", "must be a mapping of keys, not 'openai/gpt-4o'")]),
    "alias no target": ((G + "model_aliases:\n" "  fast: {}\n"), [(5, "model_aliases.fast.target", "missing; add `target:`")]),
    "alias unknown": ((G + "model_aliases:\n" "  fast:\n" "    target: openai/gpt-4\n"), [(6, "model_aliases.fast.target", "no entry of model_providers is named 'openai/gpt-4'; did you mean 'openai/gpt-4o'?")]),
    "alias far": ((G + "model_aliases:\n" "  fast:\n" "    target: zzz\n"), [(6, "model_aliases.fast.target", "no entry of model_providers is named 'zzz'; add it to model_providers")]),
    "alias auto": ((G + "model_aliases:\n" "  Auto:\n" "    target: gpt-4o\n"), [(5, "model_aliases.Auto", "is reserved for the choice by the gateway; use another name")]),
    "alias model": ((G + "model_aliases:\n" "  openai/gpt-4o:\n" "    target: gpt-4o\n"), [(5, "model_aliases.openai/gpt-4o", "is the name of a model; use another name")]),
    "alias of alias": ((G + "model_aliases:\n" "  fast:\n" "    target: gpt-4o\n" "  quick:\n" "    target: fast\n"), [(8, "model_aliases.quick.target", "'fast' is an alias; name the model itself")]),
    "route no models": ((G + "routing_preferences:\n" "  - name: code\n" "    description: d\n" "    models: []\n"), [(7, "routing_preferences[0].models", "must not be empty; add an entry")]),
    "route unknown": ((G + "routing_preferences:\n" "  - name: code\n" "    description: d\n" "    models: [gpt-4o, gpt-4x]\n"), [(7, "routing_preferences[0].models[1]", "no entry of model_providers is named 'gpt-4x'; did you mean 'gpt-4o'?")]),
    "route twice": ((G + "routing_preferences:\n" "  - name: code\n" "    description: d\n" "    models: [gpt-4o]\n" "  - name: code\n" "    description: e\n" "    models: [gpt-4o]\n"), [(8, "routing_preferences[1].name", "duplicate route 'code'; keep one")]),
    "route prefer": ((G + "routing_preferences:\n" "  - name: code\n" "    description: d\n" "    models: [gpt-4o]\n" "    selection_policy:\n" "      prefer: best\n"), [(9, "routing_preferences[0].selection_policy.prefer", "must be 'none', 'cheapest' or 'fastest', not 'best'")]),
    "route order": ((G + "routing_preferences:\n" "  - name: code\n" "    description: d\n" "    models: [gpt-4o]\n" "    selection_policy: {prefer: cheapest}\n" "    escalate: true\n"), [(5, "routing_preferences[0]", "escalate needs the order of `models`; remove `selection_policy:`")]),
    "route empty": ((G + "routing_preferences:\n" "  - name: ''\n" "    description: d\n" "    models: [gpt-4o]\n"), [(5, "routing_preferences[0].name", "must not be empty")]),
    "rule type": ((G + "routing_rules:\n" "  - name: a\n" "    match: {agent_type: 5}\n" "    model: gpt-4o\n"), [(6, "routing_rules[0].match.agent_type[0]", "must be a string, not 5")]),
    "rule list": ((G + "routing_rules:\n" "  - name: a\n" "    match: {alias: []}\n" "    model: gpt-4o\n"), [(6, "routing_rules[0].match.alias", "must not be empty; add an entry")]),
    "rule headers": ((G + "routing_rules:\n" "  - name: a\n" "    match: {headers: {}}\n" "    model: gpt-4o\n"), [(6, "routing_rules[0].match.headers", "must not be empty; add an entry")]),
    "rule unknown": ((G + "routing_rules:\n" "  - name: a\n" "    match: {alias: auto, agent_type: [a], headers: {x: y}}\n" "    model: gpt-4x\n"), [(7, "routing_rules[0].model", "no entry of model_providers is named 'gpt-4x'; did you mean 'gpt-4o'?")]),
    "no slash": ((V + "model_providers:\n" "  - model: gpt-4o\n"), [(3, "model_providers[0].model", "'gpt-4o' has no provider; write provider/name, or provider/* for all models")]),
    "lead slash": ((V + "model_providers:\n" "  - model: /gpt-4o\n"), [(3, "model_providers[0].model", "'/gpt-4o' has no provider; write provider/name, or provider/* for all models")]),
    "twice": ((V + "model_providers:\n" "  - model: openai/a\n" "  - model: openai/a\n"), [(4, "model_providers[1].model", "duplicate entry 'openai/a'; set another base_url or access_key, or remove it")]),
    "names twice": ((V + "model_providers:\n" "  - model: openai/a\n" "    name: x\n" "  - model: openai/b\n" "    name: x\n"), [(6, "model_providers[1].name", "duplicate name 'x'; keep one")]),
    "defaults": ((V + "model_providers:\n" "  - model: openai/a\n" "    default: true\n" "  - model: openai/b\n" "    default: true\n"), [(6, "model_providers[1].default", "'openai/a' is already the default; keep one")]),
    "wild default": ((V + "model_providers:\n" "  - model: openai/*\n" "    default: true\n"), [(4, "model_providers[0].default", "a wildcard cannot be the default; name one model")]),
    "unknown provider": ((V + "model_providers:\n" "  - model: opennai/a\n"), [(3, "model_providers[0].model", "unknown provider 'opennai'; add base_url and provider_interface, such as openai; did you mean 'openai'?")]),
    "unknown provider2": ((V + "model_providers:\n" "  - model: zzz/a\n" "    base_url: http://h\n"), [(3, "model_providers[0].model", "unknown provider 'zzz'; add provider_interface, such as openai")]),
    "unknown interface": ((V + "model_providers:\n" "  - model: zzz/a\n" "    base_url: http://h\n" "    provider_interface: gemni\n"), [(5, "model_providers[0].provider_interface", f"must be one of {', '.join(INTERFACES)}, not 'gemni'")]),
    "known interface": ((V + "model_providers:\n" "  - model: openai/a\n" "    provider_interface: openai\n"), [(4, "model_providers[0].provider_interface", "'openai' is a known provider; remove provider_interface")]),
    "no url": ((V + "model_providers:\n" "  - model: vllm/a\n"), [(3, "model_providers[0]", "'vllm' has no public address; add base_url, such as http://host:8000/v1")]),
    "url": ((V + "model_providers:\n" "  - model: vllm/a\n" "    base_url: host:8000\n"), [(4, "model_providers[0].base_url", "must be a URL with scheme and host, such as http://host:8000/v1, not 'host:8000'")]),
    "url2": ((V + "model_providers:\n" "  - model: vllm/a\n" "    base_url: ftp://host\n"), [(4, "model_providers[0].base_url", "must be a URL with scheme and host, such as http://host:8000/v1, not 'ftp://host'")]),
    "url3": ((V + "model_providers:\n" "  - model: vllm/a\n" "    base_url: http://u:sk-secret@host\n"), [(4, "model_providers[0].base_url", "contains a password; move it to access_key")]),
    "url4": ((V + "model_providers:\n" "  - model: vllm/a\n" "    base_url: http://host:99999\n"), [(4, "model_providers[0].base_url", "is not a URL: Port out of range 0-65535")]),
    "url5": ((V + "model_providers:\n" "  - model: vllm/a\n" "    base_url: http://host/v1?key=sk-secret\n"), [(4, "model_providers[0].base_url", "must end with its path; remove everything from '?' or '#'")]),
    "url6": ((V + "model_providers:\n" "  - model: vllm/a\n" "    base_url: http://[::1\n"), [(4, "model_providers[0].base_url", "is not a URL: Invalid IPv6 URL")]),
    "url space": ((V + "model_providers:\n" "  - model: vllm/a\n" "    base_url: 'http://h :1'\n"), [(4, "model_providers[0].base_url", "must be a URL with scheme and host, such as http://host:8000/v1, not 'http://h :1'")]),
    "url whole": ((V + "model_providers:\n" "  - model: vllm/a\n" "    base_url: http://h:1/v1/chat/completions/\n"), [(4, "model_providers[0].base_url", "must end before /chat/completions, which the gateway adds; remove that part")]),
    "paths": ((V + "model_providers:\n" "  - model: openai/a\n" "    data_path: inline\n" "  - model: openai/b\n" "    data_path: shared\n"), [(6, "model_providers[1].data_path", "another entry of provider 'openai' sets inline; set the same in both")]),
    "dup key": ((V + "model_providers: []\n" "model_providers: []\n"), [(3, "model_providers", "duplicate key; keep one")]),
    "dup key in": ((V + "model_providers:\n" "  - model: openai/a\n" "    default: true\n" "    default: false\n"), [(5, "model_providers[0].default", "duplicate key; keep one")]),
    "complex key": ((V + "? [a, b]\n" ": 1\n"), [(2, "", "a key must be a string; write it as one word or in quotes")]),
    "syntax": (V + "model_providers: [\n", [(3, "", "invalid YAML: expected the node content, but found '<stream end>'")]),
    "tab": ((V + "a:\n" "\tb: 1\n"), [(3, "", "invalid YAML: found character '\\t' that cannot start any token")]),
    "tag": (V + "a: !!python/object/apply:os.system [x]\n", [(2, "a", f"unknown key; known keys: {KEYS}")]),
    "recursive": (V + "a: &a [*a]\n", [(2, "", "invalid YAML: nested too deeply, or anchors expand to too many values")]),
    "recursive map": (V + "a: &a {b: *a}\n", [(2, "", "invalid YAML: nested too deeply, or anchors expand to too many values")]),
    "several": ((V + "model_provider: 1\n" "model_providers:\n" "  - model: openai/a\n" "    default: 1\n" "  - model: zzz/b\n" "model_aliases:\n" "  fast:\n" "    target: openai/nope\n" "  slow:\n" "    target: openai/a\n"), [(2, "model_provider", "unknown key; did you mean 'model_providers'?"), (5, "model_providers[0].default", "must be true or false, not 1"), (6, "model_providers[1].model", "unknown provider 'zzz'; add base_url and provider_interface, such as openai"), (9, "model_aliases.fast.target", "no entry of model_providers is named 'openai/nope'; add it to model_providers")]),
    "list": ("- a\n", [(1, "", "must be a mapping of keys, such as `version: v0.4.0`")]),
    "scalar": ("abc\n", [(1, "", "must be a mapping of keys, such as `version: v0.4.0`")]),
    "empty": ("", [(1, "", "file is empty; start with `version: v0.4.0`")]),
    "comment": ("# x\n", [(1, "", "file is empty; start with `version: v0.4.0`")]),
    "listener": ((V + "listeners:\n" "  - type: other\n" "    name: x\n"), [(3, "listeners[0].type", "must be 'model', 'prompt' or 'agent', not 'other'")]),
    "listener port": ((V + "listeners:\n" "  - type: model\n" "    name: x\n" "    port: '1'\n"), [(5, "listeners[0].port", "must be an integer, not '1'")]),
    "own alias": ((G + "model_aliases:\n" "  fingerpost/route:\n" "    target: gpt-4o\n"), [(5, "model_aliases.fingerpost/route", "is reserved for the choice by the gateway; use another name")]),
    "own provider": ((V + "model_providers:\n" "  - model: fingerpost/*\n" "    base_url: http://h\n" "    provider_interface: openai\n"), [(3, "model_providers[0].model", "the provider name 'fingerpost' is reserved for the gateway itself; use another name")]),
    "empty alias": ((G + "model_aliases:\n" "  '':\n" "    target: gpt-4o\n"), [(5, "model_aliases.", "is reserved for the choice by the gateway; use another name")]),
    "alias none": ((G + "model_aliases:\n" "  fast:\n" "    target: none\n"), [(6, "model_aliases.fast.target", "no entry of model_providers is named 'none'; add it to model_providers")]),
    "alias of auto": ((G + "model_aliases:\n" "  fast:\n" "    target: auto\n" "  quick:\n" "    target: fast\n"), [(8, "model_aliases.quick.target", "'fast' is an alias; name the model itself")]),
    "route auto": ((G + "routing_preferences:\n" "  - name: code\n" "    description: d\n" "    models: [auto]\n"), [(7, "routing_preferences[0].models[0]", "no entry of model_providers is named 'auto'; add it to model_providers")]),
    "route examples": ((G + "routing_preferences:\n" "  - name: code\n" "    description: d\n" "    models: [gpt-4o]\n" "    examples: write a test\n"), [(8, "routing_preferences[0].examples", "must be a list, not 'write a test'")]),
    "route example": ((G + "routing_preferences:\n" "  - name: code\n" "    description: d\n" "    models: [gpt-4o]\n" "    examples: [a, '', 1]\n"), [(8, "routing_preferences[0].examples[1]", "must not be empty"), (8, "routing_preferences[0].examples[2]", "must be a string, not 1")]),
    "many examples": ((G + "routing_preferences:\n" "  - name: code\n" "    description: d\n" "    models: [gpt-4o]\n" f"    examples: {['x'] * 65}\n"), [(8, "routing_preferences[0].examples", "must have at most 64 entries, not 65")]),
    "no route examples": ((V + "no_route_examples: hello\n"), [(2, "no_route_examples", "must be a list, not 'hello'")]),
    "no route example": ((V + "no_route_examples: [hi, '', 1]\n"), [(2, "no_route_examples[1]", "must not be empty"), (2, "no_route_examples[2]", "must be a string, not 1")]),
    "many no route": ((V + f"no_route_examples: {['x'] * 65}\n"), [(2, "no_route_examples", "must have at most 64 entries, not 65")]),
    "engine": ((V + "orchestrator:\n" "  engine: llm\n" "  threads: 0\n"), [(3, "orchestrator.engine", "must be 'embedding', 'vllm', 'http', 'embeddings' or 'decision', not 'llm'"), (4, "orchestrator.threads", "must be at least 1")]),
    "vllm without model": ((V + "orchestrator:\n" "  engine: vllm\n"), [(2, "orchestrator", "engine vllm needs `model:`; add it")]),
    "http without address": ((V + "orchestrator:\n" "  engine: http\n" "  model: m\n"), [(2, "orchestrator", "engine http needs `base_url:`, or `model: provider/name` of model_providers; add it")]),
    "vllm settings": ((V + "orchestrator:\n" "  engine: vllm\n" "  model: m\n" "  family: plano\n" "  gpu_memory_gb: 0\n" "  kv_cache_mb: 15\n" "  device: gpu\n"), [(5, "orchestrator.family", "must be 'auto', 'arch-router', 'plano-orchestrator', 'plano-orchestrator-card' or 'generic', not 'plano'"), (6, "orchestrator.gpu_memory_gb", "must be greater than 0"), (7, "orchestrator.kv_cache_mb", "must be at least 16"), (8, "orchestrator.device", "must be 'auto', 'cpu' or 'cuda', not 'gpu'")]),
    "thresholds": ((V + "orchestrator:\n" "  min_confidence: 1.1\n" "  min_margin: high\n" "  min_margins: 1\n"), [(3, "orchestrator.min_confidence", "must be at most 1"), (4, "orchestrator.min_margin", "must be a number, not 'high'"), (5, "orchestrator.min_margins", "unknown key; did you mean 'min_margin'?")]),
    "engine sizes": ((V + "orchestrator:\n" "  max_query_tokens: 513\n" "  deadline_ms: 9\n" "  model: ''\n"), [(3, "orchestrator.max_query_tokens", "must be at most 512"), (4, "orchestrator.deadline_ms", "must be at least 10"), (5, "orchestrator.model", "must not be empty")]),
    "engine numbers": ((V + "orchestrator:\n" "  min_confidence: .nan\n" "  min_margin: -0.1\n" "  max_query_tokens: 8.5\n" "  model: 1\n"), [(3, "orchestrator.min_confidence", "must be at most 1"), (4, "orchestrator.min_margin", "must be at least 0"), (5, "orchestrator.max_query_tokens", "must be an integer, not 8.5"), (6, "orchestrator.model", "must be a string, not 1")]),
    "orchestrator text": (V + "orchestrator: embedding\n", [(2, "orchestrator", "must be a mapping of keys, not 'embedding'")]),
    "overrides": ((V + "overrides:\n" "  always_route: 1\n" "  prompt: x\n"), [(3, "overrides.always_route", "must be true or false, not 1"), (4, "overrides.prompt", f"unknown key; known keys: {OVERRIDES}")]),

    # Files that once failed in another way, or reported too many problems:
    "a slash first, and default": (V + "model_providers:\n  - model: /openai/gpt-4o\n    default: true\n", [(3, "model_providers[0].model", f"'/openai/gpt-4o' {NO_SLASH}")]),
    "a slash first, and a name": (V + "model_providers:\n  - model: /openai/gpt-4o\n    name: x\n", [(3, "model_providers[0].model", f"'/openai/gpt-4o' {NO_SLASH}")]),
    "an alias by the bare name of an entry that is left out": (LEFT_OUT % "a" + "    target: a\n", [NO_BOOL]),
    "an alias below a wildcard that is left out": (LEFT_OUT % "*" + "    target: openai/x\n", [NO_BOOL]),
    "a reference to an entry that is left out": (LEFT_OUT % "a" + "    target: openai/a\n", [NO_BOOL]),
    "lines behind an entry that is left out": (
        V + "model_providers:\n  - model: openai/a\n    default: 1\n  - model: zzz\n  - name: x\n    model: yyy\n",
        [NO_BOOL, (5, "model_providers[1].model", f"'zzz' {NO_SLASH}"), (7, "model_providers[2].model", f"'yyy' {NO_SLASH}")],
    ),
}
# fmt: on
