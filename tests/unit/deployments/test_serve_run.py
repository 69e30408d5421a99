"""`serve run` without Ray's dashboard."""

import os

import pytest

import deployments.serve_run as module
from deployments.serve_run import main


@pytest.mark.parametrize(
    ("address", "begun"),
    [("", [{"namespace": "serve", "include_dashboard": False}]), ("127.0.0.1:6379", [])],
)
def test_ray_is_started_without_dashboard_unless_it_runs_elsewhere(
    address: str, begun: list[dict[str, object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray refuses options for a cluster that runs already."""
    begins: list[dict[str, object]] = []
    commands: list[list[str]] = []
    monkeypatch.setenv("RAY_ADDRESS", address)
    monkeypatch.setenv("MALLOC_ARENA_MAX", "unset")
    monkeypatch.delenv("MALLOC_ARENA_MAX")  # so that what is set here goes at the end
    monkeypatch.setattr(module, "ray", type("Ray", (), {"init": lambda **own: begins.append(own)}))
    monkeypatch.setattr(module, "cli", commands.append)
    main(["serve.yaml"])
    assert begins == begun
    assert os.environ.get("MALLOC_ARENA_MAX") == ("2" if begun else None)
    assert commands == [["run", "serve.yaml"]]
