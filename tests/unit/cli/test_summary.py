"""The summary of a configuration, as text and as JSON."""

from pathlib import Path

import pytest

from serve_app.cli.run import example
from serve_app.cli.summary import (
    NO_SUMMARY,
    keys_of,
    snapshot_warnings,
    summary,
    summary_json,
)
from serve_app.config.warnings import config_warnings
from serve_app.domain import Json
from serve_app.graph import deployment_names
from tests.unit.config_texts import VERSION
from tests.unit.fakes import snapshot_of

TEXT = f"""{VERSION}
model_providers:
  - {{model: openai/a, access_key: $UNIT_KEY, default: true}}
  - {{model: vllm/b, base_url: "http://h:1", access_key: "${{UNIT_A}}-$UNIT_B"}}
  - {{model: ollama/*, base_url: $UNIT_URL}}
model_aliases:
  fast: {{target: a}}
routing_preferences:
  - {{name: code, description: d, models: [a, vllm/b]}}
"""
NAMES = ("UNIT_KEY", "UNIT_A", "UNIT_B", "UNIT_URL")


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


def test_summary_lists_what_is_served(tmp_path: Path) -> None:
    """It has providers, models, aliases and routes, and the variables that are not set."""
    snapshot = snapshot_of(tmp_path, TEXT)
    lines = [line for line in summary(snapshot) if not line.startswith("warning: ")]
    assert lines == [
        f"policy {snapshot.policy.version}",
        "provider openai (dedicated)  [UNIT_KEY is not set]",
        "provider vllm-h-1 (dedicated)  [UNIT_A is not set, UNIT_B is not set]",
        "provider ollama-unit-url (shared)  [UNIT_URL is not set]",
        "model openai/a, default  [UNIT_KEY is not set]",
        "model vllm/b  [UNIT_A and UNIT_B are not set]",
        "models ollama/*  [UNIT_URL is not set]",
        "alias fast -> openai/a",
        "route code -> openai/a, vllm/b",
        "threshold min_confidence 0.2, min_margin 0",
    ]


def test_summary_names_the_logs_that_are_on(tmp_path: Path) -> None:
    """With their absolute paths; those that are off are not mentioned."""
    text = f"{TEXT}logs: {{decisions: {{to: d.jsonl}}}}\n"
    shown = [line for line in summary(snapshot_of(tmp_path, text)) if line.startswith("log ")]
    assert shown == [f"log decisions -> {tmp_path}/d.jsonl"]


def test_summary_shows_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither values of variables nor literal keys are shown."""
    for name in NAMES:
        monkeypatch.setenv(name, "sk-1")
    text = TEXT.replace("$UNIT_KEY", "sk-1") + "client_keys: [sk-1]\n"
    snapshot = snapshot_of(tmp_path, text)
    shown = "\n".join([*summary(snapshot), example(snapshot, "http://x")])
    assert "sk-1" not in shown
    assert "not set" not in shown


def test_summary_shows_a_missing_access_key(tmp_path: Path) -> None:
    """A provider that needs a key and has none cannot answer."""
    snapshot = snapshot_of(tmp_path, VERSION + "model_providers:\n  - model: openai/a\n")
    assert "model openai/a  [access_key is not set]" in summary(snapshot)


def test_summary_shows_the_order_and_the_efforts_of_a_route(tmp_path: Path) -> None:
    """Behind the names of its models."""
    text = (
        f"{VERSION}model_providers:\n  - model: openai/a\n  - model: openai/b\n"
        "routing_preferences:\n  - {name: r, description: d, "
        "models: [{model: a, effort: high}, b], selection_policy: {prefer: cheapest}}\n"
    )
    shown = summary(snapshot_of(tmp_path, text))
    assert "route r -> openai/a (high), openai/b; cheapest first" in shown


@pytest.mark.parametrize(
    ("set_", "model"),
    [
        (["UNIT_KEY"], "openai/a"),
        (["UNIT_A", "UNIT_B"], "vllm/b"),
        (list(NAMES), "openai/a"),
    ],
)
def test_example_names_a_model_with_its_key(
    set_: list[str], model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It prefers the default model."""
    for name in set_:
        monkeypatch.setenv(name, "x")
    text = example(snapshot_of(tmp_path, TEXT), "http://h:8000")
    assert text.startswith("  curl http://h:8000/v1/chat/completions ")
    assert f'{{"model": "{model}", "messages": [{{"role": "user", "content": "Hello"}}]}}' in text


@pytest.mark.parametrize("set_", [[], ["UNIT_A"]])
def test_example_without_keys_lists_models(
    set_: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list of models works without any key."""
    for name in set_:
        monkeypatch.setenv(name, "x")
    text = example(snapshot_of(tmp_path, TEXT), "http://h:8000")
    assert text.startswith("  curl http://h:8000/v1/models\n")
    assert "make demo" in text


def test_example_needs_an_access_key(tmp_path: Path) -> None:
    """A model without the access_key that it needs is not named."""
    snapshot = snapshot_of(
        tmp_path, VERSION + "model_providers:\n  - {model: openai/a, default: true}\n"
    )
    assert "/v1/models" in example(snapshot, "http://h")


@pytest.mark.parametrize(
    ("keys", "header"),
    [
        ("[$UNIT_KEY]", ' -H "Authorization: Bearer $UNIT_KEY"'),
        ("['${UNIT_KEY}']", ' -H "Authorization: Bearer $UNIT_KEY"'),
        ("[sk-1]", ' -H "Authorization: Bearer ..."'),
    ],
)
def test_example_shows_the_client_key_by_name(keys: str, header: str, tmp_path: Path) -> None:
    """The shell expands the variable, and a literal key is not repeated."""
    text = example(snapshot_of(tmp_path, f"{TEXT}client_keys: {keys}\n"), "http://h")
    assert text.startswith(f"  curl{header} http://h/")


def test_summary_as_json_has_the_same_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys are the names of their variables, each with whether it is set."""
    monkeypatch.setenv("UNIT_A", "x")
    snapshot = snapshot_of(tmp_path, TEXT)
    assert summary_json(snapshot) == {
        "version": snapshot.policy.version,
        "warnings": config_warnings(snapshot.config, {}),
        "providers": [
            {"slug": "openai", "data_path": "dedicated", "keys": [key("UNIT_KEY")]},
            {
                "slug": "vllm-h-1",
                "data_path": "dedicated",
                "keys": [{"name": "UNIT_A", "set": True}, key("UNIT_B")],
            },
            {"slug": "ollama-unit-url", "data_path": "shared", "keys": [key("UNIT_URL")]},
        ],
        "models": ["openai/a", "vllm/b"],
        "wildcards": ["ollama/*"],
        "aliases": {"fast": "openai/a"},
        "routes": [{"name": "code", "models": ["openai/a", "vllm/b"]}],
        "rules": [],
        "default": "openai/a",
        "threshold": {
            "min_confidence": 0.2, "min_margin": 0.0, "max_error": None, "source": None,
            "error": None, "error_at_most": None,
        },
        "deployments": [
            "Ingress", "Orchestrator", "Affinity", "provider-shared", "provider-openai",
            "provider-vllm-h-1",
        ],
    }  # fmt: skip


def test_summary_lists_rules(tmp_path: Path) -> None:
    """Each with its model or its route, in the order in which they are asked."""
    rules = (
        "routing_rules:\n  - {name: small, match: {alias: auto}, model: a}\n"
        "  - {name: coding, match: {agent_type: Plan}, route: code}\n"
    )
    snapshot = snapshot_of(tmp_path, TEXT + rules)
    lines = summary(snapshot)
    assert [line for line in lines if line.startswith("rule ")] == [
        "rule small -> openai/a",
        "rule coding -> route code",
    ]
    assert summary_json(snapshot)["rules"] == [
        {"name": "small", "model": "openai/a", "route": None},
        {"name": "coding", "model": None, "route": "code"},
    ]


def key(name: str) -> dict[str, Json]:
    return {"name": name, "set": False}


def test_provider_has_the_keys_of_all_its_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each variable is listed once, with a missing access_key."""
    monkeypatch.setenv("UNIT_A", "x")
    snapshot = snapshot_of(
        tmp_path,
        VERSION + "model_providers:\n"
        "  - {model: openai/a, access_key: $UNIT_A}\n"
        "  - {model: openai/b, access_key: $UNIT_B}\n"
        "  - {model: openai/c, access_key: $UNIT_A}\n"
        "  - {model: openai/d, access_key: sk-1}\n"
        "  - {model: openai/e}\n",
    )
    assert keys_of(snapshot) == {"openai": {"UNIT_A": True, "UNIT_B": False, "access_key": False}}
    line = "provider openai (dedicated)  [UNIT_A is set, UNIT_B is not set, access_key is not set]"
    assert line in summary(snapshot)


def test_empty_configuration_has_a_summary(tmp_path: Path) -> None:
    """The summary of an unusable one has the same keys without values."""
    result = summary_json(snapshot_of(tmp_path, VERSION + "model_aliases: {any: {target: auto}}\n"))
    assert (result["default"], result["aliases"]) == (None, {"any": "auto"})
    assert list(NO_SUMMARY) == list(result)
    assert not any(NO_SUMMARY.values())


def test_unset_variables_outside_of_providers_are_warnings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """These are those of client keys, and of Redis if it is used."""
    monkeypatch.setenv("UNIT_A", "x")
    text = (
        "client_keys: [$UNIT_A, $UNIT_KEY, sk-1]\n"
        "routing: {session_cache: {type: %s, url: 'redis://:$UNIT_B@h:$UNIT_URL/$UNIT_A'}}\n"
    )
    redis = snapshot_warnings(snapshot_of(tmp_path, VERSION + text % "redis"))
    assert redis[-2:] == [
        "client_keys[1]: UNIT_KEY is not set; set it, or no client can use this key",
        "routing.session_cache.url: UNIT_B and UNIT_URL are not set; set them, or sessions are not kept",
    ]
    memory = snapshot_of(tmp_path, VERSION + text % "memory")
    assert snapshot_warnings(memory) == redis[:-1]
    assert f"warning: {redis[-2]}" in summary(memory)


def test_unset_variables_of_the_orchestrator_are_warnings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its address and its key count only if the engine uses them."""
    monkeypatch.setenv("UNIT_A", "x")
    text = "orchestrator: {engine: %s, model: m, base_url: 'http://$UNIT_A:$UNIT_URL', access_key: '$UNIT_KEY'}\n"
    assert snapshot_warnings(snapshot_of(tmp_path, VERSION + text % "http")) == [
        "orchestrator.base_url: UNIT_URL is not set; set it, or its server cannot be called",
        "orchestrator.access_key: UNIT_KEY is not set; set it, or its server cannot be called",
    ]
    warnings = snapshot_warnings(snapshot_of(tmp_path, VERSION + text % "embedding"))
    assert not any("is not set" in warning for warning in warnings)


def test_deployments_depend_on_the_configuration(tmp_path: Path) -> None:
    """Affinity needs the memory store, and a provider's deployment a dedicated data path."""
    text = TEXT.replace('http://h:1"', 'http://h:1", data_path: inline')
    text += "routing: {session_cache: {type: redis, url: redis://h}}\n"
    names = deployment_names(snapshot_of(tmp_path, text))
    assert names == ["Ingress", "Orchestrator", "provider-shared", "provider-openai"]
