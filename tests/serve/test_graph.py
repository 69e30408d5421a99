"""The whole graph: replicas that die, ports over handles, metrics and secrets."""

import concurrent.futures
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request

import pytest

from tests.scripted_provider import ScriptedProvider
from tests.serve.conftest import Cluster
from tests.site import SECRET, Site, eventually

DEPLOYMENTS = {"Affinity", "Ingress", "Orchestrator", "provider-shared"}


def _dedicated(cluster: Cluster) -> str:
    return f"provider-vllm-127-0-0-1-{cluster.site.providers['dedicated'].port}"


def test_graph_has_expected_deployments(cluster: Cluster, vendor: ScriptedProvider) -> None:
    """Dedicated providers have their own client; the shared and the inline one do not."""
    dialects = {f"provider-{name}-127-0-0-1-{vendor.port}" for name in ("anthropic", "openai")}
    assert set(cluster.replicas().values()) == DEPLOYMENTS | {_dedicated(cluster)} | dialects
    assert len(cluster.replicas(_dedicated(cluster))) == 2
    assert len(cluster.replicas("Affinity")) == 1


def test_killed_provider_replica_loses_no_request(cluster: Cluster) -> None:
    """When a provider replica is killed twice under unary load, every request is answered."""
    site = cluster.site
    until = time.monotonic() + 12

    def load() -> list[int]:
        statuses = []
        while time.monotonic() < until:
            statuses.append(site.ask("dedicated/slow").status)
        return statuses

    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        running = [pool.submit(load) for _ in range(12)]
        for pause_s in (2, 5):
            time.sleep(pause_s)
            os.kill(min(cluster.replicas(_dedicated(cluster))), signal.SIGKILL)
        statuses = [status for future in running for status in future.result()]
    assert set(statuses) == {200}
    assert len(statuses) > 100
    eventually(lambda: len(cluster.replicas(_dedicated(cluster))) == 2, 30)


def test_stream_of_killed_replica_ends_with_error(cluster: Cluster) -> None:
    """When a provider client dies after the commit point, the stream ends with an error event and
    not cleanly.
    """
    site = cluster.site
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        answer = pool.submit(site.ask, "dedicated/endless", stream=True)
        time.sleep(1)
        for victim in cluster.replicas(_dedicated(cluster)):
            os.kill(victim, signal.SIGKILL)
        body = answer.result(30).body
    assert b"more " in body
    last = body.rstrip().rpartition(b"\n\n")[2]
    assert json.loads(last.removeprefix(b"data: "))["error"]["code"] == "upstream_error"
    eventually(lambda: site.ask("dedicated/parrot").status == 200, 30)


_ASK_HANDLES = """
import asyncio, json, ray
from ray import serve
from serve_app.domain import Binding, ModelRef, Question, Route, Turn

ROUTES = (Route("verse", "poems", ()), Route("code", "programs", ()))
QUESTION = Question((Turn("user", "a poem about the sea"),), ROUTES, "test")

async def main():
    app = lambda name: serve.get_deployment_handle(name, "fingerpost")
    store, model, other = app("Affinity"), ModelRef("a", "b"), ModelRef("c", "d")
    print(json.dumps([
        await store.get.remote("s") is None,
        await store.bind.remote("s", Binding(model), None),
        await store.bind.remote("s", Binding(other), None),
        await store.bind.remote("s", Binding(other), model),
        str((await store.get.remote("s")).model),
        (await app("Orchestrator").score.remote(QUESTION)).winner,
    ]))

ray.init(log_to_driver=False)
asyncio.run(main())
"""


def test_affinity_and_orchestrator_answer_over_handles(cluster: Cluster) -> None:
    """Over handles, the store inserts and swaps bindings, and the orchestrator returns the winning
    route.
    """
    environ = {**cluster.environ, "RAY_ADDRESS": cluster.address}
    driver = subprocess.run(
        [sys.executable, "-c", _ASK_HANDLES],
        env=environ, capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    assert driver.returncode == 0, driver.stderr
    results = json.loads(driver.stdout.strip().splitlines()[-1])
    assert results == [True, True, False, True, "c/d", "verse"]


def test_metrics_are_exported_to_prometheus(cluster: Cluster) -> None:
    """The node exports the ingress's metrics for Prometheus with their names and labels."""
    cluster.site.ask("fast")
    cluster.site.ask("fast", stream=True)
    cluster.site.ask("auto")
    discovery = cluster.home / "ray" / "prom_metrics_service_discovery.json"
    target = json.loads(discovery.read_text())[0]["targets"][0]
    port = target.rpartition(":")[2]

    def text() -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            return str(answer.read().decode())

    expected = {
        'reason="alias"',
        "ray_fingerpost_requests_total",
        "ray_gen_ai_server_request_duration_bucket",
        "ray_gen_ai_server_time_to_first_token_bucket",
        "ray_fingerpost_upstream_attempts_total",
        "ray_fingerpost_overhead_seconds_bucket",
        "ray_fingerpost_decisions_total",
        "ray_fingerpost_decision_seconds_bucket",
        "ray_fingerpost_policy_in_force",
        "ray_fingerpost_last_reload_good",
    }
    missing = set(expected)

    def all_there() -> bool:
        shown = text()
        missing.difference_update([name for name in expected if name in shown])
        return not missing

    with contextlib.suppress(AssertionError):
        eventually(all_there, 30)
    assert not missing


_STATUS = """
import json, ray, subprocess, sys, urllib.request
ray.init(log_to_driver=False)
site = "http://" + ray._private.worker.get_dashboard_url()
open_ = urllib.request.build_opener(urllib.request.ProxyHandler({})).open
for path in sys.argv[1:]:
    print(path, open_(site + path, timeout=30).read().decode())
status = [sys.executable, "-m", "ray.serve.scripts", "status", "--address", site]
print(subprocess.run(status, capture_output=True, text=True, timeout=60).stdout)
"""
_API = (
    "/api/serve/applications/",
    "/api/v0/actors?detail=1",
    "/api/jobs/",
    "/api/v0/workers?detail=1",
)


def test_key_is_not_in_logs_or_status(cluster: Cluster) -> None:
    """A key is neither in a log, nor in an answer, nor in the status of Serve and the dashboard."""
    site = cluster.site
    site.ask("dedicated/leak")
    for path in ("/healthz", "/v1/models", "/v1/models/dedicated/parrot"):
        assert SECRET.encode() not in site.send(method="GET", path=path).body
    assert SECRET not in json.dumps(site.explain("hello"))
    shown = subprocess.run(
        [sys.executable, "-c", _STATUS, *_API],
        env={**cluster.environ, "RAY_ADDRESS": cluster.address},
        capture_output=True, text=True, timeout=120, check=True,
    ).stdout  # fmt: skip
    assert shown.count("provider-shared") > 1, "neither Serve nor the dashboard said anything"
    assert "RUNNING" in shown
    assert SECRET not in shown
    files = [file for file in (cluster.home / "ray").rglob("*") if file.is_file()]
    assert len(files) > 10
    for file in [*files, cluster.home / "serve.log"]:
        assert SECRET.encode() not in file.read_bytes(), file


@pytest.mark.parametrize("data_path", ["dedicated", "shared", "inline"])
def test_concurrent_streams_do_not_mix(site: Site, data_path: str) -> None:
    """Each of sixteen concurrent streams is complete and does not contain another's bytes."""
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: site.ask(f"{data_path}/slow", stream=True), range(16)))
    expected = site.exchange(data_path).answered
    assert {answer.body for answer in answers} == {expected}
