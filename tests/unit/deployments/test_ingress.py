"""The warnings of the ingress at its start; other parts of it need Serve."""

from pathlib import Path

import pytest

from deployments.ingress import _missing_for_engine
from tests.unit.config.broken import V
from tests.unit.fakes import snapshot_of

SECTION = "orchestrator: {engine: %s, model: m, base_url: $UNIT_URL, access_key: $UNIT_KEY}\n"


def test_ingress_warns_of_unset_engine_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ingress names the variables of the orchestrator's server that are not set, if its engine
    has a server.
    """
    monkeypatch.delenv("UNIT_URL", raising=False)
    monkeypatch.setenv("UNIT_KEY", "x")
    assert _missing_for_engine(snapshot_of(tmp_path, V + SECTION % "http")) == [
        "UNIT_URL is not set: the orchestrator's server can't be asked"
    ]
    assert _missing_for_engine(snapshot_of(tmp_path, V + SECTION % "embedding")) == []
