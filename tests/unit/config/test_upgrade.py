"""Older formats of Plano's file: how they are converted, and where their problems are shown."""

from pathlib import Path
from typing import Any

import pytest

from serve_app.config.load import load
from serve_app.config.schema.gateway import GatewayConfig
from serve_app.config.upgrade import OLDER, upgrade
from serve_app.config.warnings import config_warnings
from tests.unit.config_texts import VERSION
from tests.unit.fakes import snapshot_of

OLD = "version: v0.3.0\n"
INLINE = """model_providers:
  - model: openai/a
    routing_preferences:
      - {name: code, description: first}
      - {name: chat, description: talk}
  - model: openai/b
    routing_preferences:
      - {name: code, description: second}
      - {name: math, description: sums}
      - {name: chat, description: talk}
"""


def config_of(directory: Path, text: str) -> GatewayConfig:
    return snapshot_of(directory, text).config


def routes_of(config: GatewayConfig) -> list[tuple[str, str, list[Any]]]:
    return [
        (route.name, route.description, list(route.models)) for route in config.routing_preferences
    ]


@pytest.mark.parametrize("version", OLDER)
def test_routes_under_models_are_moved_to_the_top_level(version: str, tmp_path: Path) -> None:
    """They are in the order of their first mention, and the first description is kept."""
    config = config_of(tmp_path, f"version: {version}\n{INLINE}")
    assert routes_of(config) == [
        ("code", "first", ["openai/a", "openai/b"]),
        ("chat", "talk", ["openai/a", "openai/b"]),
        ("math", "sums", ["openai/b"]),
    ]
    assert config.version == "v0.4.0"
    assert all(not entry.routing_preferences for entry in config.model_providers)
    assert config_warnings(config, {}) == [
        "routing_preferences under model_providers is the format before v0.4.0; move the routes to the top level",
        "model_providers[1].routing_preferences[0].description is ignored: route 'code' keeps the first one; remove this one",
    ]


def test_routes_under_models_are_ignored_in_new_files(tmp_path: Path) -> None:
    """From v0.4.0 on they are ignored, with a warning."""
    config = config_of(tmp_path, VERSION + INLINE)
    assert config.routing_preferences == []
    assert config_warnings(config, {}) == [
        f"routing_preferences under 'openai/{name}' is ignored since v0.4.0; move the routes to the top level, and add their models"
        for name in "ab"
    ]


def test_route_at_the_top_level_takes_precedence(tmp_path: Path) -> None:
    """It stays unchanged and comes first; routes under models follow."""
    config = config_of(
        tmp_path,
        f"{OLD}{INLINE}routing_preferences:\n"
        "  - {name: chat, description: top, models: [openai/b], selection_policy: {prefer: ''}}\n",
    )
    assert routes_of(config) == [
        ("chat", "top", ["openai/b"]),
        ("code", "first", ["openai/a", "openai/b"]),
        ("math", "sums", ["openai/b"]),
    ]
    assert [warning for warning in config_warnings(config, {}) if "'chat'" in warning] == [
        f"model_providers[{place} is ignored: the top-level routing_preferences has a route 'chat'; remove one of the two"
        for place in ("0].routing_preferences[1]", "1].routing_preferences[2]")
    ]


def test_incomplete_routes_are_accepted(tmp_path: Path) -> None:
    """Without a description the name is matched; without a name there is no route."""
    text = f"{OLD}model_providers:\n  - model: openai/a\n    routing_preferences: [{{name: c}}, {{description: d}}, {{name: ''}}]\n"
    snapshot = snapshot_of(tmp_path, text)
    assert routes_of(snapshot.config) == [("c", "", ["openai/a"])]
    assert snapshot.policy.routes[0].description == "c"
    assert config_warnings(snapshot.config, {})[1:] == [
        "model_providers[0].routing_preferences[1] is ignored: it has no name; add one",
        "model_providers[0].routing_preferences[2] is ignored: it has no name; add one",
        "route 'c': only its name is matched; add a description",
    ]


def test_first_description_is_kept_even_if_empty(tmp_path: Path) -> None:
    """A later empty description is not a conflict."""
    text = f"{OLD}model_providers:\n" + "".join(
        f"  - model: openai/{name}\n    routing_preferences: [{{name: c{description}}}]\n"
        for name, description in (("a", ""), ("b", ", description: d"), ("c", ""))
    )
    config = config_of(tmp_path, text)
    assert routes_of(config) == [("c", "", ["openai/a", "openai/b", "openai/c"])]
    assert sum("is ignored" in warning for warning in config_warnings(config, {})) == 1


def test_model_with_two_endpoints_is_in_a_route_once(tmp_path: Path) -> None:
    """Several entries may name it."""
    config = load(_written(tmp_path, OLD + INLINE.replace("openai/b", "openai/a"))).config
    assert {tuple(route.models) for route in config.routing_preferences} == {("openai/a",)}


def _written(directory: Path, text: str) -> Path:
    file = directory / "gateway.yaml"
    file.write_text(text, "utf-8")
    return file


def test_old_name_of_the_list_is_a_warning(tmp_path: Path) -> None:
    """It is accepted in any version of the format."""
    for version in (*OLDER, "v0.4.0"):
        config = config_of(tmp_path, f"version: {version}\nllm_providers:\n  - model: openai/a\n")
        assert [entry.model for entry in config.model_providers] == ["openai/a"]
        assert config_warnings(config, {}) == ["llm_providers is the old name of model_providers; rename it"]  # fmt: skip


TOP_LEVEL = """routing_preferences:
  - {name: code, description: writing code, models: [openai/a]}
"""
MISSING = "version is missing: the file is read as"
NEWEST_NOTE = f"{MISSING} v0.4.0; add the line `version: v0.4.0`"


@pytest.mark.parametrize(
    "text",
    [
        "model_providers:\n  - model: openai/a\n",
        f"model_providers:\n  - model: openai/a\n{TOP_LEVEL}",
        f"llm_providers:\n  - model: openai/a\n{TOP_LEVEL}",
        f"listeners:\n  - {{type: model, name: m, port: 1}}\nmodel_providers:\n  - model: openai/a\n{TOP_LEVEL}",
        f"listeners: {{egress_traffic: {{port: 1}}}}\nllm_providers:\n  - model: openai/a\n{TOP_LEVEL}",
        "model_providers:\n  - model: openai/a\n    routing_preferences: []\n",
        f"{INLINE}{TOP_LEVEL}",
    ],
)  # fmt: skip
def test_file_without_version_has_the_newest(text: str, tmp_path: Path) -> None:
    """It means the same as with the line that the warning names."""
    config = config_of(tmp_path, text)
    assert config.version == "v0.4.0"
    assert config_warnings(config, {}).count(NEWEST_NOTE) == 1
    complete = config_of(tmp_path, VERSION + text)
    assert config == complete
    assert set(config_warnings(config, {})) - set(config_warnings(complete, {})) == {NEWEST_NOTE}


@pytest.mark.parametrize("key", ["model_providers", "llm_providers"])
def test_file_without_version_may_have_routes_under_models(key: str, tmp_path: Path) -> None:
    """It has then the newest version that reads them, which is the one that the warning names."""
    text = INLINE.replace("model_providers", key)
    config = config_of(tmp_path, text)
    note = f"{MISSING} v0.3.0, because of routing_preferences under {key}; add the line `version: v0.3.0`"
    assert note in config_warnings(config, {})
    assert [name for name, _, _ in routes_of(config)] == ["code", "chat", "math"]
    complete = config_of(tmp_path, OLD + text)
    assert config == complete
    assert set(config_warnings(config, {})) - set(config_warnings(complete, {})) == {note}


def test_problem_of_a_file_without_version_is_its_own(tmp_path: Path) -> None:
    """The missing version is no problem beside it, and the line is that of the file."""
    text = "model_providers:\n  - model: openai/a\n    zzz: 1\n    routing_preferences: {}\n"
    problems = load(_written(tmp_path, text)).problems
    assert {(problem.line, problem.path) for problem in problems} == {
        (3, "model_providers[0].zzz"),
        (4, "model_providers[0].routing_preferences"),
    }


def test_empty_parts_are_not_converted() -> None:
    """They stay unchanged, and an empty listener is dropped."""
    values = {
        "version": "v0.3.0",
        "listeners": {"egress_traffic": None, "ingress_traffic": {}},
        "model_providers": [{"model": "openai/a", "routing_preferences": []}],
        "routing_preferences": [{"name": "x"}, "y", {}],
    }
    form = upgrade(values)
    assert form.values == {
        **values,
        "version": "v0.4.0",
        "listeners": [{"type": "prompt", "name": "ingress_traffic"}],
    }
    assert (form.older, form.ignored, form.problems) == ((), (), ())
    assert values["version"] == "v0.3.0"


def test_locations_lead_back_to_the_file(tmp_path: Path) -> None:
    """They lead past dropped entries, new names and moved routes."""
    loaded = load(
        _written(
            tmp_path,
            "version: v0.1\nllm_providers:\n  - model: 1\n  - model: openai/a\n"
            "    routing_preferences:\n      - {name: code, description: d}\n"
            "  - model: openai/b\n    routing_preferences:\n      - {name: code}\n"
            "routing_preferences:\n  - 1\n  - {name: x, description: d, models: [openai/a]}\n"
            "listeners:\n  ingress_traffic: {}\n  egress_traffic: {port: 1}\n",
        )
    )
    assert [problem.path for problem in loaded.problems] == [
        "llm_providers[0].model",
        "routing_preferences[0]",
    ]
    assert len(loaded.config.model_providers) == 2
    shown = [
        loaded.problem(place, "")
        for place in (
            ("model_providers", 1, "base_url"),
            ("routing_preferences", 0, "name"),
            ("routing_preferences", 1, "name"),
            ("routing_preferences", 1, "models", 1),
            ("routing_preferences", 1, "examples"),
            ("listeners", 0, "port"),
            ("listeners", 1),
        )
    ]
    assert [(problem.line, problem.path) for problem in shown] == [
        (7, "llm_providers[2].base_url"),
        (12, "routing_preferences[1].name"),
        (6, "llm_providers[1].routing_preferences[0].name"),
        (7, "llm_providers[2].model"),
        (6, "llm_providers[1].routing_preferences[0].examples"),
        (15, "listeners.egress_traffic.port"),
        (14, "listeners.ingress_traffic"),
    ]


@pytest.mark.parametrize(
    ("entries", "name", "left_out"),
    [
        ("\n  - model: openai/a\n    zzz: 1\n", "a", True),
        ("\n  - model: openai/*\n    zzz: 1\n", "openai/any", True),
        ("\n  - model: openai/*\n    zzz: 1\n", "any", False),
        ("\n  - model: 1\n", "any", True),
        ("\n  - openai/a\n", "openai/a", True),
        ("\n  - openai/a\n", "openai/b", False),
        (" {}\n", "any", True),
        ("\n  - model: a\n", "a", True),
        ("\n  - model: openai/a\n", "b", False),
    ],
)
def test_unreadable_entry_may_be_the_one_that_is_named(
    entries: str, name: str, left_out: bool, tmp_path: Path
) -> None:
    """A reference to it is not a second problem."""
    loaded = load(_written(tmp_path, f"{VERSION}model_providers:{entries}"))
    assert loaded.leaves_out(name) is left_out
