"""What all tests here share."""

import pytest

from serve_app import app


@pytest.fixture(autouse=True)
def _no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """The builder asks a running Serve where it listens; Ray would start a cluster to be asked."""
    monkeypatch.setattr(app, "_serve_host", lambda: None)
