"""The status of the health report, which tells whether the gateway has started."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import httpx
import pytest

from serve_app.api.app import ApiDependencies, create_api
from serve_app.domain import Json
from serve_app.telemetry.metrics import MetricsObserver
from tests.unit.config.broken import V
from tests.unit.fakes import FakeMeter, snapshot_of
from tests.unit.requests.gateway_rig import make_rig


@pytest.mark.parametrize(("status", "code"), [("ok", 200), ("starting", 503)])
async def test_health_report_has_a_status_of_its_own(
    status: str, code: int, tmp_path: Path
) -> None:
    """A gateway that is starting answers with its whole report, under 503."""
    report = {"status": status, "missing_clients": []}
    snapshot = snapshot_of(tmp_path, V)

    async def health() -> Json:
        return report

    unused: dict[str, Any] = {field.name: None for field in fields(ApiDependencies)}
    used = {
        "gateway": make_rig(snapshot, {}).gateway,
        "snapshot": lambda: snapshot,
        "observer": MetricsObserver(FakeMeter()),
        "health": health,
        "new_id": lambda: "id",
    }
    dependencies = ApiDependencies(**{**unused, **used})
    transport = httpx.ASGITransport(create_api(dependencies))
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        answer = await client.get("/healthz")
    assert (answer.status_code, answer.json()) == (code, report)
