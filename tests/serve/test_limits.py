"""Limits on a Serve cluster with two ingress replicas."""

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from tests.serve.conftest import Cluster, SessionSite
from tests.site import LIMIT, LIMITED, eventually


def test_exactly_the_limit_passes_two_ingress_replicas(redis_sessions: SessionSite) -> None:
    """Of 200 requests at once at two ingress replicas with Redis, exactly 50 are answered."""
    site = redis_sessions.site
    with ThreadPoolExecutor(40) as pool:
        statuses = Counter(pool.map(lambda _: site.ask(LIMITED).status, range(200)))
    assert statuses == {200: LIMIT, 429: 200 - LIMIT}
    refused = site.ask(LIMITED)
    assert refused.error["code"] == "rate_limit_exceeded"
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"
    assert site.ask("shared/parrot").status == 200


def test_limit_that_two_replicas_would_count_each_is_refused(
    memory_sessions: SessionSite, cluster: Cluster
) -> None:
    """A reload that limits what two ingress replicas count in their memories changes nothing."""
    site, file = memory_sessions.site, cluster.home / "sessions-memory.yaml"
    before = file.read_text()

    def error() -> str:
        health = json.loads(site.send(method="GET", path="/healthz").body)
        return str(health["reload"]["error"] or "")

    try:
        limits = {"shared/parrot": {"requests_per_minute": 1}}
        file.write_text(json.dumps({**json.loads(before), "model_limits": limits}))
        eventually(lambda: "limit_storage: the ingress may have 2 replicas" in error(), 15)
        assert {site.ask("shared/parrot").status for _ in range(4)} == {200}
    finally:
        file.write_text(before)
    eventually(lambda: {error() for _ in range(8)} == {""}, 15)
