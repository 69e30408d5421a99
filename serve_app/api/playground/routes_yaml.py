"""Edited routes as YAML, to be pasted into ``gateway.yaml``."""

import yaml

from serve_app.api.playground.views import render_route
from serve_app.domain import Json
from serve_app.snapshot import Snapshot


class _Indented(yaml.SafeDumper):
    """Indents lists below their keys, as the examples of the documentation do."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: FBT001, FBT002 - PyYAML's signature
        del indentless
        super().increase_indent(flow, indentless=False)


def routes_as_yaml(edited: Snapshot, snapshot: Snapshot) -> str:
    """The routes of an edited configuration, and its thresholds if they differ from those in use."""
    policy = edited.policy
    content: dict[str, Json] = {
        "routing_preferences": [render_route(route) for route in policy.routes]
    }
    if policy.no_route_examples or snapshot.policy.no_route_examples:
        content["no_route_examples"] = list(policy.no_route_examples)
    before, after = snapshot.config.orchestrator, edited.config.orchestrator
    limits = {
        name: getattr(after, name)
        for name in ("min_confidence", "min_margin")
        if getattr(after, name) != getattr(before, name)
    }
    if limits:
        content["orchestrator"] = limits
    return yaml.dump(
        content, Dumper=_Indented, sort_keys=False, allow_unicode=True, width=100, indent=2
    )
