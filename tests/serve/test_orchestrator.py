"""The orchestrator in trouble: whatever becomes of it, every request is answered."""

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


def test_forty_equal_conversations_are_one_decision(site: Site) -> None:
    """At once, by forty connections: the replica of the Orchestrator decides once."""
    health = site.send(method="GET", path="/healthz").json["orchestrator"]
    before = health["asked"]
    text = f"{PROMPTS['code']} (number forty)"
    with concurrent.futures.ThreadPoolExecutor(40) as pool:
        said = list(pool.map(lambda _: _ask(site, text), range(40)))
    assert {status for status, _ in said} == {200}
    assert {reason for _, reason in said} <= {"route", "cached"}
    after = site.send(method="GET", path="/healthz").json["orchestrator"]
    assert after["asked"] == before + 1
    assert (after["state"], after["breaker"]) == ("ok", "closed")


def test_no_request_is_lost_when_the_orchestrator_is_killed(cluster: Cluster) -> None:
    """SIGKILL under load: the default answers until the next replica is up, then routes again."""
    site = cluster.site
    (victim,) = _replica(cluster)
    until = time.monotonic() + 8

    def load(client: int) -> list[tuple[int, str]]:
        said: list[tuple[int, str]] = []
        while time.monotonic() < until:
            said.append(_ask(site, f"{PROMPTS['code']} {client}.{len(said)}"))
        return said

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        running = [pool.submit(load, client) for client in range(4)]
        time.sleep(1.5)
        os.kill(victim, signal.SIGKILL)
        said = Counter(pair for future in running for pair in future.result())
    assert {status for status, _ in said} == {200}, said
    assert said[200, "route"] > 0
    assert {reason for _, reason in said} <= TROUBLE | {"route"}
    assert sum(said[200, reason] for reason in TROUBLE) > 0
    eventually(lambda: _routes(site, f"{PROMPTS['code']} {time.monotonic()}"), 60)


def test_an_orchestrator_that_hangs_costs_its_deadline_and_then_nothing(cluster: Cluster) -> None:
    """SIGSTOP: timeouts, then the breaker answers at once; after SIGCONT it routes again."""
    site = cluster.site
    (stopped,) = _replica(cluster)
    os.kill(stopped, signal.SIGSTOP)
    try:
        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            texts = [f"{PROMPTS['translation']} {position}" for position in range(6)]
            said = list(pool.map(lambda text: _ask(site, text), texts))
        assert set(said) == {(200, "orchestrator_timeout")}
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


def test_an_orchestrator_at_zero_is_woken_and_nobody_waits_for_it(
    routing_site: Site, cluster: Cluster
) -> None:
    """The application whose Orchestrator may scale to zero routes once a request has woken it."""
    assert _routes(routing_site, PROMPTS["code"])
    assert cluster.replicas("Orchestrator")


def _replica(cluster: Cluster) -> list[int]:
    """The process of the first application's Orchestrator, once it gives decisions."""
    text = PROMPTS["code"]
    eventually(lambda: _routes(cluster.site, f"{text} {time.monotonic()}"), 60)
    return list(cluster.replicas("Orchestrator"))
