"""Fixtures of all tests of this folder."""

import pytest

from serve_app import app


@pytest.fixture(autouse=True)
def _no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the builder from reading the address of a running Serve, which would start a Ray
    cluster.
    """
    monkeypatch.setattr(app, "_serve_host", lambda: None)
