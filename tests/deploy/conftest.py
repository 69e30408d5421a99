"""Fixtures of all tests of this folder."""

import pytest

from serve_app import app


@pytest.fixture(autouse=True)
def _no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the builder from asking a running Serve for its address, which would start a Ray
    cluster.
    """
    monkeypatch.setattr(app, "_serve_host", lambda: None)
