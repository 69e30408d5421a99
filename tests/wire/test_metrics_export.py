"""Metrics as a collector receives them, and as ``/metrics`` shows them."""

import json
from pathlib import Path
from typing import Any, Final

import pytest

from serve_app.telemetry.metric_export import otel_name
from serve_app.telemetry.metrics import METRICS, Metric
from tests.collector import collecting
from tests.scripted_provider import ScriptedProvider
from tests.site import SECRET, Site, write_config
from tests.wire.conftest import serve_api

KEY: Final = "client-key-0123456789"
PROMPT: Final = "the words umbrella and lighthouse"


def configured(folder: Path, providers: dict[str, ScriptedProvider], **more: Any) -> Path:
    file = write_config(folder, providers)
    prices = {"dedicated/parrot": {"input": 1.0, "output": 2.0}}
    config = {**json.loads(file.read_text()), "prices": prices, **more}
    file.write_text(json.dumps(config))
    return file


def ask(site: Site, model: str, **fields: Any) -> int:
    body = {"model": model, "messages": [{"role": "user", "content": PROMPT}], **fields}
    headers = {"x-fingerpost-key": KEY}
    return site.send(json.dumps(body).encode(), headers=headers).status


def test_collector_gets_metrics_by_their_names(
    tmp_path: Path, providers: dict[str, ScriptedProvider], environ: dict[str, str]
) -> None:
    """A collector gets counters, gauges and histograms by OpenTelemetry's names, with labels of a
    bounded number of values, and no key or text of a conversation.
    """
    with collecting() as collector:
        file = configured(tmp_path, providers, telemetry={"metrics": {"endpoint": collector.url}})
        with serve_api(file, providers, environ) as site:
            ask(site, "dedicated/parrot")
            ask(site, "dedicated/parrot", stream=True)
            ask(site, "dedicated/status-500", fallbacks=["inline/parrot"])
            ask(site, "shared/any-name-that-a-client-makes-up")
    points = collector.metrics
    asked = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "dedicated",
        "gen_ai.request.model": "dedicated/parrot",
    }
    assert ({**asked}, (2, pytest.approx(0.1, abs=0.5))) in points["gen_ai.server.request.duration"]
    tokens = {
        labels["gen_ai.token.type"]: value
        for labels, value in points["gen_ai.client.token.usage"]
        if asked.items() <= labels.items()
    }
    assert tokens["input"][1] >= 3
    assert tokens["output"][1] >= 5
    ((labels, cost),) = points["fingerpost.cost_usd"]
    assert labels == {"provider": "dedicated", "model": "dedicated/parrot"}
    assert cost >= (3 * 1.0 + 5 * 2.0) / 1e6
    attempts = {
        (labels["provider"], labels["model"], labels["outcome"]): value
        for labels, value in points["fingerpost.upstream_attempts"]
    }
    assert attempts["dedicated", "other", "500"] == 1
    assert attempts["dedicated", "dedicated/parrot", "ok"] == 2
    assert {labels["reason"] for labels, _ in points["fingerpost.requests"]} == {"explicit", "failover"}  # fmt: skip
    assert set(points) <= {otel_name(metric) for metric in METRICS}
    sent = b"".join(body for _, body in collector.bodies)
    for secret in (SECRET, KEY, "umbrella", "lighthouse", "makes-up"):
        assert secret.encode() not in sent, secret


def test_otel_names_are_unique_and_become_ours_again() -> None:
    """Every metric has its own name, and Prometheus' rules for names make ours of it."""
    names = {metric: otel_name(metric) for metric in Metric}
    assert len(set(names.values())) == len(names)
    for metric, name in names.items():
        spec = METRICS[metric]
        is_seconds = metric.value.endswith("_seconds")
        written = name.replace(".", "_") + "_seconds" * is_seconds
        assert written + "_total" * (spec.kind == "counter") == metric.value
        assert (spec.unit == "s") >= is_seconds, "the exporter adds the unit"


def test_metrics_are_served_as_text(
    tmp_path: Path, providers: dict[str, ScriptedProvider], environ: dict[str, str]
) -> None:
    """``/metrics`` counts what this replica has answered, with names of the table alone."""
    with serve_api(configured(tmp_path, providers), providers, environ) as site:
        ask(site, "dedicated/parrot")
        ask(site, "auto")
        answer = site.send(method="GET", path="/metrics")
    text = answer.body.decode()
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert 'fingerpost_requests_total{surface="chat",status="200",reason="explicit",replica="replica-1"} 1' in text  # fmt: skip
    assert 'gen_ai_token_type="input"' in text
    assert "umbrella" not in text
    names = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
    assert names <= {metric.value for metric in Metric}
    assert len(names) > 8


@pytest.mark.parametrize("is_open", [False, True])
def test_metrics_need_a_client_key_unless_opened(
    is_open: bool, tmp_path: Path, providers: dict[str, ScriptedProvider], environ: dict[str, str]
) -> None:
    """With client keys ``/metrics`` needs one, also from this machine, unless it is opened; other
    paths need one all the same.
    """
    file = configured(tmp_path, providers, client_keys=[KEY], telemetry={"open_metrics": is_open})
    with serve_api(file, providers, environ, peer="198.51.100.7") as site:
        without = site.send(method="GET", path="/metrics").status
        headers = {"authorization": f"Bearer {KEY}"}
        with_key = site.send(method="GET", path="/metrics", headers=headers).status
        models = site.send(method="GET", path="/v1/models").status
        posted = site.send(b"{}", path="/metrics").status
        beside = site.send(method="GET", path="/metrics/").status
    assert (without, with_key, models) == (200 if is_open else 401, 200, 401)
    assert posted == (405 if is_open else 401)
    assert beside == 401


def test_metrics_are_not_served_to_other_machines(
    tmp_path: Path, providers: dict[str, ScriptedProvider], environ: dict[str, str]
) -> None:
    """Without client keys only programs on this machine read ``/metrics``."""
    file = configured(tmp_path, providers)
    with serve_api(file, providers, environ, peer="198.51.100.7") as site:
        assert site.send(method="GET", path="/metrics").status == 403
