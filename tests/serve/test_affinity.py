"""Sessions on a cluster: two ingress replicas, with bindings in memory or in a real Redis."""

import concurrent.futures
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing
from functools import partial
from uuid import uuid4

import pytest

from tests.serve.conftest import Cluster, SessionSite
from tests.site import PROMPTS, SESSION_ENTRIES, SESSION_TTL_S, Site, eventually

CODE, VERSE = "dedicated/coder", "inline/poet"
_DECISIONS = """
import asyncio, ray, sys
from ray import serve
ray.init(log_to_driver=False)
async def main():
    print(await serve.get_deployment_handle("Orchestrator", sys.argv[1]).decisions.remote())
asyncio.run(main())
"""


def _ask(site: Site, session: str, text: str, **headers: str) -> dict[str, str]:
    body = {"model": "auto", "messages": [{"role": "user", "content": text}]}
    answer = site.send(json.dumps(body).encode(), headers={"x-model-affinity": session, **headers})
    assert answer.status == 200, answer.body
    return answer.headers


def _model(site: Site, session: str, text: str) -> str:
    return _ask(site, session, text)["x-fingerpost-model"]


def _decisions(cluster: Cluster, app: str) -> int:
    environ = {**cluster.environ, "RAY_ADDRESS": cluster.address}
    driver = subprocess.run(
        [sys.executable, "-c", _DECISIONS, app],
        env=environ, capture_output=True, text=True, timeout=90, check=True,
    )  # fmt: skip
    return int(driver.stdout.strip().splitlines()[-1])


@pytest.fixture
def session() -> str:
    return uuid4().hex


def test_binding_applies_on_both_ingresses(
    cluster: Cluster, sessions: SessionSite, session: str
) -> None:
    """A binding applies at once on both ingress replicas, and the orchestrator decides only the
    first turn.
    """
    site = sessions.site
    before = _decisions(cluster, sessions.app)
    assert _model(site, session, f"{PROMPTS['code']} {session}") == CODE
    texts = [f"{PROMPTS['poems and songs']} {number}" for number in range(24)]
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        responses = list(pool.map(lambda text: _ask(site, session, text), texts))
    assert {headers["x-fingerpost-model"] for headers in responses} == {CODE}
    assert {headers["x-fingerpost-reason"] for headers in responses} == {"affinity"}
    assert _decisions(cluster, sessions.app) == before + 1


def test_concurrent_first_requests_share_one_binding(sessions: SessionSite) -> None:
    """Concurrent first requests of a session leave one binding, to a model that answered one of
    them.
    """
    for _ in range(4):
        session = uuid4().hex
        texts = [PROMPTS["code"], PROMPTS["poems and songs"]] * 3
        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            first = set(pool.map(partial(_model, sessions.site, session), texts))
        later = {_model(sessions.site, session, PROMPTS["translation"]) for _ in range(6)}
        assert len(later) == 1
        assert later <= first <= {CODE, VERSE}


def test_session_expires_after_last_use(sessions: SessionSite, session: str) -> None:
    """Each use extends a session; after its time to live without use it is decided again."""
    assert _model(sessions.site, session, PROMPTS["code"]) == CODE
    for _ in range(4):
        time.sleep(SESSION_TTL_S / 2.5)
        assert _model(sessions.site, session, PROMPTS["poems and songs"]) == CODE
    time.sleep(SESSION_TTL_S + 1.5)
    assert _model(sessions.site, session, PROMPTS["poems and songs"]) == VERSE


@pytest.mark.parametrize("sessions", ["memory"], indirect=True)
def test_store_evicts_least_recently_used_sessions(sessions: SessionSite, session: str) -> None:
    """A full store evicts the least recently used sessions."""
    assert _model(sessions.site, session, PROMPTS["code"]) == CODE
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        names = [uuid4().hex for _ in range(SESSION_ENTRIES * 3)]
        list(pool.map(lambda name: _ask(sessions.site, name, PROMPTS["code"]), names))
    assert _model(sessions.site, session, PROMPTS["poems and songs"]) == VERSE


def test_redis_replaces_affinity_deployment(cluster: Cluster, sessions: SessionSite) -> None:
    """With Redis there is no Affinity replica, because the ingress replicas call Redis."""
    assert bool(cluster.replicas("Affinity", sessions.app)) is (sessions.redis is None)


def _bound(sessions: SessionSite, count: int) -> list[str]:
    names = [uuid4().hex for _ in range(count)]
    assert {_model(sessions.site, name, PROMPTS["code"]) for name in names} == {CODE}
    return names


def _keeps(site: Site, name: str) -> bool:
    return _model(site, name, f"{PROMPTS['poems and songs']} {time.monotonic()}") == CODE


@pytest.mark.parametrize("sessions", ["memory"], indirect=True)
def test_killed_store_replica_keeps_sessions(cluster: Cluster, sessions: SessionSite) -> None:
    """When the store's replica is killed under load, no request is lost and live sessions keep
    their models.
    """
    names = _bound(sessions, 6)
    for (
        name
    ) in names:  # an ingress that has not responses a session cannot keep it without the store
        assert all(_keeps(sessions.site, name) for _ in range(12))
    (victim,) = cluster.replicas("Affinity", sessions.app)
    done = threading.Event()

    def load(name: str) -> list[bool]:
        kept = []
        while not done.is_set():
            kept.append(_keeps(sessions.site, name))
        return kept

    with concurrent.futures.ThreadPoolExecutor(len(names)) as pool:
        running = [pool.submit(load, name) for name in names]
        try:
            time.sleep(2)
            os.kill(victim, signal.SIGKILL)
            # The load continues until a new replica has started, however long that takes: a
            # session that is not used within its time to live would expire.
            eventually(
                lambda: bool(cluster.replicas("Affinity", sessions.app).keys() - {victim}), 60
            )
            time.sleep(3)
        finally:
            done.set()
        kept = [one for future in running for one in future.result()]
    assert all(kept)
    assert len(kept) > 50
    assert all(_keeps(sessions.site, name) for name in names)


@pytest.mark.parametrize("sessions", ["redis"], indirect=True)
def test_bindings_have_plano_format(sessions: SessionSite, session: str) -> None:
    """Bindings are written in Plano's format, and a binding that Plano wrote is applied."""
    assert sessions.redis is not None
    _ask(sessions.site, session, PROMPTS["code"], **{"x-tenant": "acme"})
    written = json.loads(_redis(sessions, "GET", f"plano:affinity:acme:{session}"))
    assert (written["anchor_model"], written["route_name"]) == (CODE, "code")
    other = uuid4().hex
    value = {"anchor_model": "shared/polyglot", "route_name": "translation", "last_used": 1}
    _redis(sessions, "SET", f"plano:affinity:{other}", json.dumps(value))
    assert _model(sessions.site, other, PROMPTS["code"]) == "shared/polyglot"


@pytest.mark.parametrize("sessions", ["redis"], indirect=True)
@pytest.mark.parametrize("trouble", ["stopped", "killed"])
def test_stopped_redis_does_not_fail_requests(sessions: SessionSite, trouble: str) -> None:
    """While Redis is stopped or killed, requests wait for a moment at most, and it is used again
    soon after its return.
    """
    redis, site = sessions.redis, sessions.site
    assert redis is not None
    eventually(lambda: all(_is_used(sessions) for _ in range(8)), 20)  # by both ingress replicas
    (name,) = _bound(sessions, 1)
    assert all(
        _keeps(site, name) for _ in range(16)
    )  # so that both ingress replicas have cached it
    if trouble == "stopped":
        redis.send(signal.SIGSTOP)
    else:
        redis.kill()
    try:
        waits = []
        for number in range(40):
            started = time.monotonic()
            _ask(site, f"{name}-{number}", PROMPTS["code"])
            waits.append(time.monotonic() - started)
            assert _keeps(site, name)  # an ingress caches the bindings that it has responses
        assert max(waits) < 0.6  # 250 ms plus the request
        assert sorted(waits)[20] < 0.2  # both breakers are open after five failures each
    finally:
        if trouble == "stopped":
            redis.send(signal.SIGCONT)
        else:
            redis.start()

    eventually(lambda: all(_is_used(sessions) for _ in range(8)), 20)


def _is_used(sessions: SessionSite) -> bool:
    """True if a new session's binding is written to Redis."""
    fresh = uuid4().hex
    _ask(sessions.site, fresh, PROMPTS["code"])
    return bool(_redis(sessions, "GET", f"plano:affinity:{fresh}"))


def _redis(sessions: SessionSite, *words: str) -> str:
    """Sends one command by hand; returns the reply, or "" for null."""
    assert sessions.redis is not None
    with closing(socket.create_connection(("127.0.0.1", sessions.redis.port), 5)) as line:
        parts = [f"${len(word.encode())}\r\n{word}\r\n" for word in words]
        line.sendall(f"*{len(words)}\r\n{''.join(parts)}".encode())
        answer = line.makefile("rb")
        head = answer.readline().decode()
        if head.startswith("$-1") or not head.startswith("$"):
            return ""
        return answer.read(int(head[1:])).decode()
