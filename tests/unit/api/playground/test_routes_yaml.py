"""Edited routes as YAML: what is copied can be pasted into the configuration."""

from pathlib import Path

import yaml

from serve_app.api.playground.inputs import read_edit
from serve_app.api.playground.routes_yaml import routes_as_yaml
from serve_app.snapshot import Snapshot
from tests.unit.fakes import snapshot_of
from tests.unit.requests.gateway_rig import TEXT

ROUTES = """
no_route_examples: [hi]
routing_preferences:
  - name: "code é: #1"
    description: "it's: - {odd} & *long* | > 'text', yes"
    models: [openai/b, {model: vllm/c, effort: high}]
    examples: ["no", "- a: b", "a\\nb", "\\u2028 <script>"]
    selection_policy: {prefer: cheapest}
  - name: "null"
    description: climbs
    models: [openai/a, openai/b]
    escalate: true
"""


def test_yaml_of_routes_means_the_same_routes(tmp_path: Path) -> None:
    """Names that look like other YAML, line breaks and every option survive."""
    snapshot = snapshot_of(tmp_path, TEXT + ROUTES)
    copied = routes_as_yaml(snapshot, snapshot)
    again: Snapshot = snapshot_of(tmp_path, TEXT + copied)
    assert again.policy.routes == snapshot.policy.routes
    assert again.policy.no_route_examples == snapshot.policy.no_route_examples
    assert "orchestrator" not in yaml.safe_load(copied)
    assert "\n  - name:" in copied


def test_yaml_has_an_edited_threshold(tmp_path: Path) -> None:
    """Only if it differs from the one in use."""
    snapshot = snapshot_of(tmp_path, TEXT + ROUTES)
    edit = read_edit({"min_confidence": 0.45}, snapshot.policy)
    assert edit is not None
    copied = yaml.safe_load(routes_as_yaml(edit.applied_to(snapshot), snapshot))
    assert copied["orchestrator"] == {"min_confidence": 0.45}
