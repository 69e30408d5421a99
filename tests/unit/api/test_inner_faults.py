"""A fault inside the gateway: one line in its log, and an error in the client's dialect."""

import logging
from dataclasses import fields
from pathlib import Path
from typing import Any

import httpx
import pytest

from serve_app.api.app import ApiDependencies, create_api
from serve_app.telemetry.metrics import MetricsObserver
from tests.unit.config.broken import V
from tests.unit.fakes import FakeMeter, snapshot_of
from tests.unit.requests.gateway_rig import make_rig

FORGED = "/v1/responses/x%0d%0aINFO%20forged%1b%5b2J%E2%80%A8y"
"""A path with line breaks and an escape sequence."""


def broken_api(folder: Path) -> httpx.AsyncClient:
    """A gateway without the part that keeps answers."""
    snapshot = snapshot_of(folder, V)
    unused: dict[str, Any] = {field.name: None for field in fields(ApiDependencies)}
    used = {
        "gateway": make_rig(snapshot, {}).gateway,
        "snapshot": lambda: snapshot,
        "observer": MetricsObserver(FakeMeter()),
        "new_id": lambda: "id",
    }
    transport = httpx.ASGITransport(create_api(ApiDependencies(**{**unused, **used})))
    return httpx.AsyncClient(transport=transport, base_url="http://localhost")


@pytest.mark.parametrize("path", [FORGED, "/v1/conversations/c", "/healthz"])
async def test_fault_beside_the_surfaces_is_an_error_of_the_gateway(
    path: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its body is JSON, as on the surfaces, and its line in the log cannot be forged by a path."""
    with caplog.at_level(logging.DEBUG):
        async with broken_api(tmp_path) as client:
            answer = await client.get(path, headers={"origin": "http://localhost:1"})
    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "internal_error"
    assert answer.headers["access-control-allow-origin"] == "http://localhost:1"
    ours = [record for record in caplog.records if record.name == "fingerpost"]
    assert len(ours) == 1
    message = ours[0].getMessage()
    assert message.isprintable()
    assert "forged" in message or path != FORGED
