"""Older files, rewritten in the format of v0.4.0."""

import json
import random
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serve_app.config.load import load
from serve_app.config.locations import ConfigError
from serve_app.config.migrate.migrate import migrate, remarks
from serve_app.config.schema.gateway import GatewayConfig
from tests.unit.config.trees import DEMOS, FILES, OLDER

OLD = "version: v0.3.0\n"
VECTORS = {
    vector["name"]: vector["config"]
    for vector in json.loads(Path(__file__).parents[1].joinpath("plano_config.json").read_text())
}
MANY = settings(
    max_examples=50,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


class Plain(yaml.SafeDumper):
    """Writes no anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def config_of(directory: Path, text: str) -> GatewayConfig:
    file = directory / "gateway.yaml"
    file.write_text(text, "utf-8", newline="")
    return load(file).config


def checked(directory: Path, text: str) -> str:
    """The migrated text, which says the same, in the new form, with every comment."""
    new = migrate(text, "gateway.yaml").text
    assert config_of(directory, new) == config_of(directory, text)
    assert Counter(remarks(new)) == Counter(remarks(text))
    again = migrate(new, "gateway.yaml")
    assert (again.text, again.changes, again.warnings) == (new, (), ())
    return new


@pytest.mark.parametrize("text", DEMOS)
def test_demo_is_rewritten(text: str, tmp_path: Path) -> None:
    """It means the same in the new format, and keeps its comments."""
    new = yaml.safe_load(checked(tmp_path, text))
    assert new["version"] == "v0.4.0"
    assert "llm_providers" not in new
    assert isinstance(new["listeners"], list)
    assert all("routing_preferences" not in entry for entry in new["model_providers"])


@pytest.mark.parametrize("name", VECTORS)
def test_vector_is_rewritten(name: str, tmp_path: Path) -> None:
    """A readable file means the same afterwards; any other is a ConfigError."""
    if name in {"both llm+model providers", "legacy listeners none prov"}:
        with pytest.raises(ConfigError):
            migrate(VECTORS[name], "gateway.yaml")
    else:
        checked(tmp_path, VECTORS[name])


def test_whole_text_is_rewritten(tmp_path: Path) -> None:
    """Only what has to move is moved, and comments move with their item."""
    text = DEMOS[1].replace("\n\n", "\n")
    assert DEMOS[1].startswith("# The first form")
    migrated = migrate(text, "gateway.yaml")
    assert (
        migrated.text
        == """\
# The first form: listeners by direction, models under their old name.
version: v0.4.0
listeners:
  # applications ask here
  - type: model     # outwards
    name: egress_traffic
    address: 0.0.0.0
    port: 12000
    timeout: 30s
  - type: prompt
    name: ingress_traffic
    port: 10000
# keys come from the environment
model_providers:
  # cheap
  - model: openai/gpt-5-mini
    access_key: $OPENAI_API_KEY
    default: true
  # good
  - model: anthropic/claude-sonnet-4-6
    access_key: $ANTHROPIC_API_KEY
state_storage:
  # nothing to install
  type: memory

routing_preferences:
  - name: small talk
    description: greetings and chat
    models:
      - openai/gpt-5-mini
"""
    )
    assert migrated.changes == (
        "version: changed from v0.1.0 to v0.4.0",
        "llm_providers: renamed to model_providers",
        "listeners: converted to a list",
        "llm_providers[0].routing_preferences[0]: moved to routing_preferences[0]",
    )
    assert migrated.warnings == ()


CASES = {
    "the key first": (
        "model_providers:\n  - routing_preferences:\n      - name: a  # x\n        description: d\n    # y\n    model: openai/a\n",
        "model_providers:\n  # y\n  - model: openai/a\n\nrouting_preferences:\n  # x\n  - name: a\n    description: d\n    models:\n      - openai/a\n",
    ),
    "routes at the top level": (
        "routing_preferences:\n  - name: z\n    description: d\n    models: [openai/a]  # here\n\n# next\nmodel_providers:\n  - model: openai/a\n    routing_preferences:\n      - {name: z, description: e}  # lost\n      - name: b\n        description: d\n",
        "routing_preferences:\n  - name: z\n    description: d\n    models: [openai/a]  # here\n  - name: b\n    description: d\n    models:\n      - openai/a\n\n# next\nmodel_providers:\n  - model: openai/a\n    # lost\n",
    ),
    "signs that YAML reads in several ways": (
        "model_providers:\n- model: openai/a\n  default: yes\n  access_key: 0o7\n  routing_preferences:\n  - name: 1e3\n    description: 'on'\n  - name: \"é 😀\"\n    description: |\n      a\n      # no comment\n\n      b\n",
        "model_providers:\n- model: openai/a\n  default: yes\n  access_key: 0o7\n\nrouting_preferences:\n- name: 1e3\n  description: 'on'\n  models:\n  - openai/a\n- name: \"é 😀\"\n  description: |\n    a\n    # no comment\n\n    b\n  models:\n  - openai/a\n",
    ),
    "anchors": (
        "model_providers:\n  - model: openai/a\n    routing_preferences: &r\n      - {name: a, description: d}\n  - model: openai/b\n    routing_preferences: *r\n",
        "model_providers:\n  - model: openai/a\n  - model: openai/b\n\nrouting_preferences:\n  - name: a\n    description: d\n    models:\n      - openai/a\n      - openai/b\n",
    ),
    "an empty list": (
        "routing_preferences: []\nmodel_providers:\n    - model: openai/a\n      headers:\n          x: y\n      routing_preferences: [{name: a}]\n",
        "routing_preferences:\n    - name: a\n      description: ''\n      models:\n          - openai/a\nmodel_providers:\n    - model: openai/a\n      headers:\n          x: y\n",
    ),
    "both listeners": (
        "listeners:\n  # in\n  ingress_traffic:\n    message_format: openai # mf\n    # p\n    port: 1\n  # out\n  egress_traffic: {port: 2}  # t\nmodel_providers:\n  - model: openai/a\n",
        "listeners:\n  # in\n  # t\n  - {type: model, name: egress_traffic, port: 2}\n  - type: prompt\n    name: ingress_traffic\n    # p\n    # mf\n    port: 1\n  # out\nmodel_providers:\n  - model: openai/a\n",
    ),
    "brackets before what is taken out": (
        "model_providers:\n  - model: openai/a\n    headers: {x: y}  # h\n    routing_preferences:\n      - name: a\n        description: d\n    # after\n    default: true # at the end",
        "model_providers:\n  - model: openai/a\n    headers: {x: y}  # h\n    # after\n    default: true # at the end\n\nrouting_preferences:\n  - name: a\n    description: d\n    models:\n      - openai/a\n",
    ),
    "an end without a line's end": (
        "model_providers:\n  - model: openai/a\n    routing_preferences:\n      - description: d\n        name: a # x",
        "model_providers:\n  - model: openai/a\n\nrouting_preferences:\n  # x\n  - name: a\n    description: d\n    models:\n      - openai/a\n",
    ),
    "an end that is left blank": (
        "model_providers:\n  - model: openai/a\n    routing_preferences:\n      - name: a\n        description: d\n\n",
        "model_providers:\n  - model: openai/a\n\nrouting_preferences:\n  - name: a\n    description: d\n    models:\n      - openai/a\n",
    ),
    "nothing but a version": ("mode: llm  # x\n", "mode: llm  # x\n"),
}


@pytest.mark.parametrize(("old", "new"), CASES.values(), ids=CASES)
def test_odd_texts_are_rewritten(old: str, new: str, tmp_path: Path) -> None:
    """The order and the style of the parts do not matter."""
    assert checked(tmp_path, OLD + old) == f"version: v0.4.0\n{new}"


@pytest.mark.parametrize("name", [name for name in CASES if name != "routes at the top level"])
def test_missing_version_is_added(name: str, tmp_path: Path) -> None:
    """It is the first line; the rest is the same as for a file with an older version."""
    old, new = CASES[name]
    assert checked(tmp_path, old) == f"version: v0.4.0\n{new}"
    assert migrate(old, "gateway.yaml").changes[0] == "version: v0.4.0 added"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("model_providers: []\n", "version: v0.4.0\nmodel_providers: []\n"),
        ("{mode: llm}\n", "{version: v0.4.0, mode: llm}\n"),
        ("---\n# a\nmode: llm # b\n", "---\n# a\nversion: v0.4.0\nmode: llm # b\n"),
        ("# a\n\n# b\nmode: llm\n", "# a\n\n# b\nversion: v0.4.0\nmode: llm\n"),
    ],
)
def test_missing_version_is_added_alone(old: str, new: str, tmp_path: Path) -> None:
    """A file that lacks nothing else keeps its other lines."""
    assert checked(tmp_path, old) == new


def test_flow_style_is_kept(tmp_path: Path) -> None:
    """A comment inside cannot be kept, and a warning names it."""
    text = "{version: v0.3.0, llm_providers: [{model: openai/a, routing_preferences: [{name: a}, # x\n {name: b}]}]}\n"
    migrated = migrate(text, "gateway.yaml")
    assert config_of(tmp_path, migrated.text) == config_of(tmp_path, text)
    assert migrated.text.startswith("{version: v0.4.0, model_providers: [")


def test_line_ends_of_windows_are_kept(tmp_path: Path) -> None:
    """They are the same afterwards."""
    text = f"---\n# a\n{OLD}llm_providers:\n  - model: openai/a\n".replace("\n", "\r\n")
    assert checked(tmp_path, text) == text.replace("v0.3.0", "v0.4.0").replace("llm_", "model_")


@pytest.mark.parametrize(
    "text",
    [
        "model_providers:\n  - &f\n    model: openai/a\n    routing_preferences: [{name: a}]\n  - <<: *f\n    model: openai/b\n",
        "model_providers:\n  - model: openai/a\n    <<: {routing_preferences: [{name: a}]}\n",
        "<<: {model_providers: [{model: openai/a, routing_preferences: [{name: a}]}]}\n",
        "listeners:\n  egress_traffic:\n    <<: {message_format: openai}\nmodel_providers:\n  - model: openai/a\n    routing_preferences: [{name: a}]\n",
        "listeners:\n  egress_traffic: &l {message_format: openai}\n  ingress_traffic:\n    <<: *l\nmodel_providers:\n  - model: openai/a\n    routing_preferences: [{name: a}]\n",
    ],
)
def test_merged_keys_are_refused(text: str, tmp_path: Path) -> None:
    """What ``<<`` merges cannot be removed; the file itself can be loaded."""
    with pytest.raises(ConfigError) as caught:
        migrate(OLD + text, "gateway.yaml")
    assert str(caught.value) == (
        "gateway.yaml has 1 problem:\n  cannot be rewritten with anchors and <<; "
        "write their values out first"
    )
    assert len(config_of(tmp_path, OLD + text).routing_preferences) == 1


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", 1),
        ("- a\n", 1),
        ("version: [\n", 2),
        ("version: v0.3.0\nmode: llm\nmode: llm\n", 3),
        ("version: v0.1\nlisteners: {egress_traffic: 1}\nllm_providers: []\nmodel_providers: []\n", 2),
        ("version: v0.4.0\nllm_providers: []\nmodel_providers: []\n", 2),
        ("\ud800", 1),
    ],
)  # fmt: skip
def test_file_that_is_not_a_configuration_is_refused(text: str, line: int) -> None:
    """The error has the line of its first problem."""
    with pytest.raises(ConfigError) as caught:
        migrate(text, "gateway.yaml")
    assert caught.value.problems[0].line == line


@MANY
@given(FILES, st.sampled_from([None, True, False]))
def test_file_in_the_new_format_is_not_changed(tree: Any, flow: bool | None) -> None:
    """It stays the same byte for byte, even with problems."""
    tree.pop("llm_providers", None)
    tree = {**tree, "version": "v0.4.0", "listeners": []}
    text = yaml.dump(tree, Dumper=Plain, default_flow_style=flow)
    migrated = migrate(text, "gateway.yaml")
    assert (migrated.text, migrated.changes, migrated.warnings) == (text, (), ())


@MANY
@given(OLDER, st.sampled_from([None, True, False]), st.integers(2, 4), st.randoms())
def test_any_older_file_means_the_same(
    tmp_path: Path, tree: Any, flow: bool | None, indent: int, chance: random.Random
) -> None:
    """Comments may be anywhere between its lines and after them."""
    text = yaml.dump(
        tree, Dumper=Plain, default_flow_style=flow, indent=indent, sort_keys=False, width=1000
    )
    lines: list[str] = []
    for number, line in enumerate(text.splitlines() if flow is False else []):
        if chance.random() < 0.3:
            lines.append(f"{' ' * chance.randrange(8)}# above {number}")
        if chance.random() < 0.2:
            lines.append("")
        is_text = line.count('"') % 2 or line.count("'") % 2 or not line
        behind = not is_text and chance.random() < 0.2
        lines.append(f"{line}  # behind {number}" if behind else line)
    written = "\n".join([*lines, ""]) if lines else text
    if yaml.safe_load(written) == yaml.safe_load(text):
        checked(tmp_path, written)


@MANY
@given(
    st.sampled_from(DEMOS),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 9), st.text(max_size=3)), max_size=3),
)
def test_any_text_is_rewritten_or_refused(text: str, changes: list[tuple[float, int, str]]) -> None:
    """There is no other exception, and the meaning never changes."""
    for where, length, put in changes:
        at = int(where * len(text))
        text = text[:at] + put + text[at + length :]
    with suppress(ConfigError):
        new = migrate(text, "gateway.yaml").text
        assert migrate(new, "gateway.yaml").text == new


def test_the_gateway_does_not_import_the_yaml_editor() -> None:
    """Only ``fingerpost migrate`` needs ruamel.yaml."""
    code = "import sys, serve_app.requests.gateway, serve_app.api.app; print('ruamel.yaml' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
