"""A failing orchestrator: every request is still answered."""

import concurrent.futures
import os
import signal
import time
from collections import Counter

from tests.serve.conftest import Cluster
from tests.site import PROMPTS, Site, eventually

TROUBLE = {"orchestrator_timeout", "orchestrator_error", "orchestrator_busy", "breaker_open"}


def _ask(site: Site, text: str) -> tuple[int, str]:
    answer = site.ask("auto", messages=[{"role": "user", "content": text}])
    return answer.status, answer.headers["x-fingerpost-reason"]


def _routes(site: Site, text: str) -> bool:
    return _ask(site, text) in {(200, "route"), (200, "cached")}


def test_equal_concurrent_conversations_are_one_decision(site: Site) -> None:
    """Forty concurrent equal conversations cause one decision of the Orchestrator."""
    health = site.send(method="GET", path="/healthz").json["orchestrator"]
    before = health["asked"]
    text = f"{PROMPTS['code']} (number forty)"
    with concurrent.futures.ThreadPoolExecutor(40) as pool:
        replies = list(pool.map(lambda _: _ask(site, text), range(40)))
    assert {status for status, _ in replies} == {200}
    assert {reason for _, reason in replies} <= {"route", "cached"}
    after = site.send(method="GET", path="/healthz").json["orchestrator"]
    assert after["asked"] == before + 1
    assert (after["state"], after["breaker"]) == ("ok", "closed")


def test_killed_orchestrator_loses_no_request(cluster: Cluster) -> None:
    """When the Orchestrator is killed under load, the default model answers until a new replica
    routes again.
    """
    site = cluster.site
    (victim,) = _replica(cluster)
    until = time.monotonic() + 8

    def load(client: int) -> list[tuple[int, str]]:
        replies: list[tuple[int, str]] = []
        while time.monotonic() < until:
            replies.append(_ask(site, f"{PROMPTS['code']} {client}.{len(replies)}"))
        return replies

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        running = [pool.submit(load, client) for client in range(4)]
        time.sleep(1.5)
        os.kill(victim, signal.SIGKILL)
        replies = Counter(pair for future in running for pair in future.result())
    assert {status for status, _ in replies} == {200}, replies
    assert replies[200, "route"] > 0
    assert {reason for _, reason in replies} <= TROUBLE | {"route"}
    assert sum(replies[200, reason] for reason in TROUBLE) > 0
    eventually(lambda: _routes(site, f"{PROMPTS['code']} {time.monotonic()}"), 60)


def test_stopped_orchestrator_opens_breaker(cluster: Cluster) -> None:
    """A stopped Orchestrator causes timeouts until the breaker opens; after it continues, requests
    are routed again.
    """
    site = cluster.site
    (stopped,) = _replica(cluster)
    os.kill(stopped, signal.SIGSTOP)
    try:
        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            texts = [f"{PROMPTS['translation']} {position}" for position in range(6)]
            replies = list(pool.map(lambda text: _ask(site, text), texts))
        assert set(replies) == {(200, "orchestrator_timeout")}
        started = time.monotonic()
        assert _ask(site, "one more of these") == (200, "breaker_open")
        assert time.monotonic() - started < 1
        health = site.send(method="GET", path="/healthz").json
        assert health["status"] == "ok"
        assert health["orchestrator"]["state"] == "orchestrator_timeout"
    finally:
        os.kill(stopped, signal.SIGCONT)
    took_s = eventually(lambda: _routes(site, f"{PROMPTS['translation']} {time.monotonic()}"), 60)
    assert took_s < 40


def test_orchestrator_scaled_to_zero_is_started_by_request(
    routing_site: Site, cluster: Cluster
) -> None:
    """An Orchestrator that has scaled to zero routes again after a request has started it."""
    assert _routes(routing_site, PROMPTS["code"])
    assert cluster.replicas("Orchestrator")


def _replica(cluster: Cluster) -> list[int]:
    """The process of the first application's Orchestrator, once it is available."""
    text = PROMPTS["code"]
    eventually(lambda: _routes(cluster.site, f"{text} {time.monotonic()}"), 60)
    return list(cluster.replicas("Orchestrator"))
