"""A configuration that changes under load while the gateway runs on a cluster."""

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.scripted_provider import ScriptedProvider
from tests.serve.conftest import Cluster, SessionSite
from tests.site import Answered, Site, eventually

SWAPS, PAUSE_S, WITHIN_S = 100, 0.25, 5.0
CHUNKS = 10
BAD = (
    "version: v9",
    "version: [",
    "",
    "version: v0.4.0\nmodel_aliases: {current: {target: gone/x}}",
)
_VERSIONS = """
import asyncio, json, ray, sys, time
from ray import serve
ray.init(log_to_driver=False)
async def main():
    handles = [serve.get_deployment_handle(name, sys.argv[1]) for name in sys.argv[2:]]
    while True:
        for handle in handles:
            print(json.dumps([time.time(), handle.deployment_id.name, await handle.policy.remote()]), flush=True)
        await asyncio.sleep(0.05)
asyncio.run(main())
"""


@dataclass
class Reloading:
    """The file of a running application, and the variants that are written to it."""

    site: Site
    app: str
    file: Path
    base: dict[str, Any]
    hop: ScriptedProvider
    versions: dict[str, int] = field(default_factory=dict)
    """The number of the variant of each policy version."""

    def text(self, number: int) -> str:
        """A variant in which the alias ``current`` resolves to a model with this number."""
        added = {
            "model": "hop/*",
            "base_url": self.hop.url,
            "provider_interface": "vllm",
            "data_path": "shared",
        }
        variant = {
            **self.base,
            "model_providers": [*self.base["model_providers"], added],
            "model_aliases": {"current": {"target": f"hop/slow@v{number}"}},
        }
        return json.dumps(variant)

    def write(self, text: str, number: int | None = None) -> str:
        """Writes the file, in place or, every other time, by renaming; returns the version."""
        version = hashlib.sha256(text.encode()).hexdigest()[:12]
        if number is not None:
            self.versions[version] = number
        if number is None or number % 2:
            self.file.write_text(text)
        else:
            new = self.file.with_suffix(".new")
            new.write_text(text)
            new.replace(self.file)
        return version

    def health(self) -> Any:
        return self.site.send(method="GET", path="/healthz").json

    def everywhere(self, version: str) -> bool:
        """True if all replicas use this version: sends enough requests at once to reach each."""
        with ThreadPoolExecutor(8) as pool:
            versions = list(pool.map(lambda _: self.health()["policy"], range(32)))
        return set(versions) == {version}


@pytest.fixture
def reloading(cluster: Cluster, memory_sessions: SessionSite) -> Iterator[Reloading]:
    """An application with two ingress replicas, whose file is restored after the test."""
    file = cluster.home / "sessions-memory.yaml"
    before = file.read_text()
    with ScriptedProvider() as hop:
        reloading = Reloading(
            memory_sessions.site, memory_sessions.app, file, json.loads(before), hop
        )
        try:
            yield reloading
        finally:
            version = reloading.write(before)
            eventually(lambda: reloading.everywhere(version), 30)


def test_reload_adds_provider(reloading: Reloading) -> None:
    """An added provider answers through provider-shared on every ingress within seconds."""
    assert reloading.site.ask("hop/parrot").status == 404
    version = reloading.write(reloading.text(0))
    eventually(lambda: reloading.everywhere(version), WITHIN_S + 2)
    answers = [reloading.site.ask("hop/parrot") for _ in range(8)]
    assert {answer.status for answer in answers} == {200}
    assert {answer.headers["x-fingerpost-policy"] for answer in answers} == {version}
    assert reloading.health()["providers"][f"vllm-127-0-0-1-{reloading.hop.port}"] == "shared"


def test_invalid_file_is_reported_and_ignored(reloading: Reloading) -> None:
    """An invalid file is reported with its line and the fix, and the last good one stays in use."""
    version = reloading.health()["policy"]
    reloading.write("version: v0.4.0\nmodel_alias: {}\n")
    eventually(lambda: reloading.health()["reload"]["error"] is not None, WITHIN_S + 2)
    health = next(health for _ in range(99) if (health := reloading.health())["reload"]["error"])
    assert "line 2: model_alias: unknown key; did you mean" in health["reload"]["error"]
    assert health["policy"] == version
    assert health["status"] == "ok"
    assert reloading.site.ask("dedicated/parrot").headers["x-fingerpost-policy"] == version


@dataclass
class _Load:
    """Sends requests until it is stopped; each must be answered by a single variant."""

    reloading: Reloading
    ended: threading.Event = field(default_factory=threading.Event)
    wrong: list[str] = field(default_factory=list)
    answered: int = 0
    variants: set[int] = field(default_factory=set)

    def run(self, *, stream: bool) -> None:
        while not self.ended.is_set():
            answer = self.reloading.site.ask("current", stream=stream, max_tokens=CHUNKS)
            self._judge(answer, stream=stream)

    def _judge(self, answer: Answered, *, stream: bool) -> None:
        number = self.reloading.versions.get(answer.headers.get("x-fingerpost-policy", ""), -1)
        model = f"slow@v{number}"
        name = answer.headers.get("x-fingerpost-model")
        whole = (
            answer.body.endswith(b"data: [DONE]\n\n") and answer.body.count(b"data: ") == CHUNKS + 3
            if stream
            else answer.status == 200 and answer.json["model"] == model
        )
        if answer.status != 200 or name != f"hop/{model}" or not whole:
            self.wrong.append(f"{answer.status} {name} by {number}: {answer.body[:300]!r}")
        self.answered += 1
        self.variants.add(number)


def test_hundred_reloads_under_load_lose_no_request(cluster: Cluster, reloading: Reloading) -> None:
    """In a hundred reloads under load, no request is lost or answered by two variants, and all
    replicas end on the last good one.
    """
    first = reloading.write(reloading.text(0), 0)
    eventually(lambda: reloading.everywhere(first), WITHIN_S + 2)
    load = _Load(reloading)
    with (
        _versions(cluster, reloading.app, "provider-shared", "Orchestrator") as lines,
        ThreadPoolExecutor(8) as pool,
    ):
        running = [pool.submit(load.run, stream=bool(number % 2)) for number in range(8)]
        last, written_at = first, 0.0
        for number in range(1, SWAPS + 1):
            if number % 3 == 0:
                reloading.write(BAD[number // 3 % len(BAD)])
            else:
                last = reloading.write(reloading.text(number), number)
                written_at = time.time()
            time.sleep(PAUSE_S)
        took_s = eventually(lambda: reloading.everywhere(last), WITHIN_S)
        time.sleep(max(0.0, written_at + WITHIN_S + 1 - time.time()))
        load.ended.set()
        for future in running:
            future.result()
    assert load.wrong == []
    assert load.answered > SWAPS
    assert len(load.variants) > 4, "the load has seen too few of the variants"
    late = [line for line in lines if line[0] > written_at + WITHIN_S]
    assert {line[1] for line in late} == {"provider-shared", "Orchestrator"}
    assert {line[2] for line in late} == {last}
    print(
        f"{load.answered} answers by {len(load.variants)} versions, the last after {took_s:.1f} s"
    )


@contextlib.contextmanager
def _versions(cluster: Cluster, app: str, *deployments: str) -> Iterator[list[list[Any]]]:
    """Polls replicas for their current version and yields the list of results."""
    environ = {**cluster.environ, "RAY_ADDRESS": cluster.address}
    lines: list[list[Any]] = []
    with subprocess.Popen(
        [sys.executable, "-c", _VERSIONS, app, *deployments],
        env=environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as driver:  # fmt: skip
        assert driver.stdout is not None
        first = driver.stdout.readline()
        while first and not first.startswith("["):
            first = driver.stdout.readline()
        assert first, "the driver has said nothing"
        reader = threading.Thread(
            target=lambda: lines.extend(
                json.loads(line) for line in driver.stdout or () if line.startswith("[")
            )
        )
        reader.start()
        try:
            yield lines
        finally:
            driver.kill()
            reader.join(10)


def test_later_replica_follows_reloads(cluster: Cluster, reloading: Reloading) -> None:
    """A replica that starts later reads the current file and follows later changes."""
    version = reloading.write(reloading.text(7), 7)
    eventually(lambda: reloading.everywhere(version), WITHIN_S + 2)
    (victim, *_) = cluster.replicas("Ingress", reloading.app)
    os.kill(victim, 9)
    eventually(lambda: victim not in cluster.replicas("Ingress", reloading.app), 30)
    eventually(lambda: len(cluster.replicas("Ingress", reloading.app)) == 2, 30)
    version = reloading.write(reloading.text(8), 8)
    eventually(lambda: reloading.everywhere(version), 20)
