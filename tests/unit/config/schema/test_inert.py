"""Verdicts on 56 configurations, compared with those of Plano."""

import json
from pathlib import Path
from typing import NamedTuple

import pytest

from serve_app.config.load import load
from serve_app.config.locations import ConfigError
from serve_app.config.warnings import config_warnings
from serve_app.domain import ModelRef
from serve_app.snapshot import Snapshot, compile_snapshot

HERE = Path(__file__).parents[1]
VECTORS = {
    vector["name"]: vector for vector in json.loads((HERE / "plano_config.json").read_text())
}
DEMOS = sorted((HERE / "demos").glob("*.yaml"))


class Difference(NamedTuple):
    """Where our verdict is another one than that of Plano's command, and why."""

    ours: str
    why: str


DIFFERENCES = {
    "no version": Difference(
        "accepts", "the newest that the file fits is meant, and a warning names it"
    ),
    "no listeners": Difference("accepts", "Serve says where to listen, so nothing has to"),
    "iface bad enum": Difference(
        "accepts", "`provider_interface` may be any provider that we have a row for"
    ),
    "dup model_id": Difference(
        "accepts", "two providers may have a model of one name; a bare name must then be in full"
    ),
    "two defaults": Difference("rejects", "only one can hold; Plano's start refuses it, too"),
    "alias->wild model": Difference("accepts", "a wildcard takes every name of its provider"),
    "pref undeclared model": Difference(
        "rejects", "nobody could answer; Plano's start refuses it, too"
    ),
    "redis no url": Difference("rejects", "there is nowhere to go; Plano's start refuses it, too"),
}
LATER = {
    "pref cheapest no source": "prices are the published ones, or those under `prices`; latencies are measured here",
    "budget no source": "prices are the published ones, or those under `prices`",
}
"""What both accept, but Plano's start refuses: why we start."""


def verdict(directory: Path, text: str) -> str:
    file = directory / "gateway.yaml"
    file.write_text(text, "utf-8")
    try:
        compile_snapshot(file)
    except ConfigError:
        return "rejects"
    return "accepts"


@pytest.mark.parametrize("name", VECTORS)
def test_verdict_is_that_of_plano(name: str, tmp_path: Path) -> None:
    """The table of differences has the exceptions with their reasons."""
    plano = VECTORS[name]["plano"]
    ours = verdict(tmp_path, VECTORS[name]["config"])
    assert ours == (DIFFERENCES[name].ours if name in DIFFERENCES else plano)
    assert (ours == plano) is (name not in DIFFERENCES)


def test_each_difference_is_about_a_configuration() -> None:
    """All 56 configurations are present, and no row is unused."""
    assert len(VECTORS) == 56
    assert set(DIFFERENCES) | set(LATER) <= set(VECTORS)
    assert all(VECTORS[name]["plano"] == "accepts" for name in LATER)


def test_ratelimits_are_in_force(tmp_path: Path) -> None:
    """Plano's limits are compiled, and no warning says that they are ignored."""
    assert verdict(tmp_path, VECTORS["ratelimits"]["config"]) == "accepts"
    snapshot = compile_snapshot(tmp_path / "gateway.yaml")
    (rule,) = snapshot.model_terms.of(ModelRef("openai", "gpt-4o"), {"selector-key": "v"})
    assert (rule.limit, rule.span_s) == (1, 60.0)
    assert not any("ratelimits" in line for line in config_warnings(snapshot.config, {}))


def snapshot_of(name: str) -> Snapshot:
    return compile_snapshot(HERE / "demos" / name)


@pytest.mark.parametrize("file", DEMOS, ids=lambda file: str(file.stem))
def test_demo_is_read_unchanged(file: Path) -> None:
    """Files such as Plano's demos need no change."""
    assert load(file).problems == ()
    assert compile_snapshot(file).config.version == "v0.4.0"


def test_demo_of_aliases_resolves() -> None:
    """Aliases name bare models, full models and models of a wildcard."""
    policy = snapshot_of("aliases.yaml").policy
    assert {alias: str(model) for alias, model in policy.aliases.items()} == {
        "acme.summary.v2": "openai/gpt-5-mini",
        "acme.reasoning.v1": "openai/gpt-5",
        "acme.writing.v1": "anthropic/claude-sonnet-4-6",
        "quick": "anthropic/claude-haiku-4-5",
        "local": "ollama/qwen3",
    }
    assert str(policy.default) == "openai/gpt-5-mini"


def test_demo_of_preferences_has_routes() -> None:
    """A route under two models has both in their order."""
    snapshot = snapshot_of("preferences.yaml")
    assert [(route.name, [*map(str, route.models)]) for route in snapshot.policy.routes] == [
        ("reading code", ["openai/gpt-5"]),
        ("review", ["openai/gpt-5", "anthropic/claude-sonnet-4-6"]),
        ("writing code", ["anthropic/claude-sonnet-4-6"]),
    ]
    assert snapshot.policy.routes[2].description == "write new functions, tests and scripts"
    assert snapshot.config.overrides.llm_routing_model == "plano/Plano-Orchestrator"
    assert "plano/Plano-Orchestrator" in snapshot.policy.models


def test_oldest_demo_is_converted() -> None:
    """Listeners become a list, and the list of models gets its new name."""
    config = snapshot_of("oldest.yaml").config
    assert [(one.type, one.name, one.port, one.timeout) for one in config.listeners] == [
        ("model", "egress_traffic", 12000, "30s"),
        ("prompt", "ingress_traffic", 10000, None),
    ]
    assert [entry.model for entry in config.model_providers] == [
        "openai/gpt-5-mini",
        "anthropic/claude-sonnet-4-6",
    ]
    assert [route.name for route in config.routing_preferences] == ["small talk"]
