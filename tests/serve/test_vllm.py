"""The whole graph with a language model: vLLM on the CPU, with real weights.

Its application is added to the cluster when these tests begin and deleted when they end, so that
no other test waits for the model or shares the machine with it.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

import psutil
import pytest

from tests.engine.conftest import converted
from tests.scripted_provider import ScriptedProvider
from tests.serve.conftest import Cluster
from tests.site import PROMPTS, ROUTES, Site, eventually

pytestmark = [
    pytest.mark.skipif(sys.version_info >= (3, 12), reason="the lock has torch for 3.11 alone"),
    pytest.mark.timeout(600),  # starts the cluster and vLLM twice, on two cores
    *(  # raised by torch if the weights must be converted
        pytest.mark.filterwarnings(f"ignore::{kind}")
        for kind in ("DeprecationWarning", "FutureWarning", "UserWarning")
    ),
]

APP: Final = "vllm"
CORE: Final = "VLLM::EngineCore"
START_S: Final = 240.0
NOTICED_S: Final = 30.0
CLOSED_S: Final = 60.0
CLIENTS: Final = 4
PAUSE_S: Final = 0.2
"""The pause between two requests of a client, so that the engine has CPU time to restart."""

NAMES: Final = [*(str(route["name"]) for route in ROUTES), "other"]
"""``other`` matches the answer "none of these", so that even this small model has a winner."""

_DRIVER: Final = """
import sys
import ray
from ray import serve
ray.init(address=sys.argv[1], log_to_driver=False)
if sys.argv[3:]:
    from serve_app.app import build
    app = build({"config": sys.argv[3]})
    serve.run(app, name=sys.argv[2], route_prefix=f"/{sys.argv[2]}")
else:
    # Not waited for: an ingress drains for half a minute, with or without requests.
    serve.delete(sys.argv[2], _blocking=False)
"""


@dataclass
class LanguageSite:
    """The application whose engine is vLLM, and its processes."""

    site: Site
    cluster: Cluster
    cold_s: float = 0.0
    """Seconds from the start of the Orchestrator's process to the model's first decision."""

    def orchestrator(self, text: str) -> dict[str, Any]:
        """The gateway's explanation of a decision; empty while it is unavailable."""
        body = json.dumps({"messages": [{"role": "user", "content": text}]}).encode()
        answer = self.site.send(body, path="/v1/route")
        return dict(answer.json["orchestrator"]) if answer.status == 200 else {}

    def decides(self) -> bool:
        """True if the model itself answers a new question."""
        time.sleep(PAUSE_S)
        section = self.orchestrator(f"{PROMPTS['code']} {time.monotonic()}")
        return bool(section) and section["scores"] is not None and section["stand_in"] is None

    def replica(self) -> psutil.Process:
        """The Orchestrator's process."""
        (pid,) = self.cluster.replicas("Orchestrator", APP)
        return psutil.Process(pid)

    def core(self) -> psutil.Process:
        """The model's process, as soon as there is one."""
        eventually(lambda: len(self._cores()) == 1, START_S)
        (core,) = self._cores()
        return core

    def _cores(self) -> list[psutil.Process]:
        """Children of the replica's process with the title of a model's."""
        cores = []
        for child in self.replica().children(recursive=True):
            with suppress(psutil.Error):
                if CORE in " ".join(child.cmdline()):
                    cores.append(child)
        return cores


def _write_config(folder: Path, providers: dict[str, ScriptedProvider], model: Path) -> Path:
    entries: list[dict[str, Any]] = [
        {
            "model": f"{data_path}/*",
            "base_url": provider.url,
            "provider_interface": "vllm",
            "data_path": "inline",
        }
        for data_path, provider in providers.items()
    ]
    entries.append({**entries[0], "model": "dedicated/parrot", "default": True})
    other = {"name": "other", "description": "anything else", "models": ["inline/parrot"]}
    config = {
        "version": "v0.4.0",
        "model_providers": entries,
        "routing_preferences": [*ROUTES, other],
        "orchestrator": {
            "engine": "vllm",
            "model": str(model),
            "device": "cpu",
            "family": "generic",
            "threads": 1,
            "mode": "trie",
            "min_confidence": 0,
            "deadline_ms": 20_000,
            "max_model_len": 1024,
            "kv_cache_mb": 96,
        },
    }
    file = folder / "vllm.yaml"
    file.write_text(json.dumps(config, indent=1))
    return file


def _drive(cluster: Cluster, *arguments: str) -> None:
    """Runs a separate driver that adds the application or deletes it."""
    done = subprocess.run(
        [sys.executable, "-c", _DRIVER, cluster.address, APP, *arguments],
        env={**cluster.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def language(cluster: Cluster) -> Iterator[LanguageSite]:
    """The application, as soon as its model decides."""
    site = Site("127.0.0.1", cluster.site.port, cluster.site.providers, f"/{APP}")
    config = _write_config(cluster.home, cluster.site.providers, converted())
    language_site = LanguageSite(site, cluster)
    cores = []
    try:
        _drive(cluster, str(config))
        eventually(language_site.decides, START_S)
        language_site.cold_s = time.time() - language_site.replica().create_time()
        yield language_site
        cores = [language_site.core()]
    finally:
        _drive(cluster)
    psutil.wait_procs(cores, timeout=CLOSED_S)
    assert not any(core.is_running() for core in cores), "vLLM left a process behind"


def test_language_model_routes_auto(language: LanguageSite) -> None:
    """A request for ``auto`` gets a route, its probability, and the scores of all routes from the
    model.
    """
    text = "Write a function that adds two numbers"
    answer = language.site.ask("auto", messages=[{"role": "user", "content": text}])
    assert answer.status == 200
    assert answer.headers["x-fingerpost-reason"] == "route"
    section = language.orchestrator(text)
    assert (section["engine"], section["unavailable"], section["stand_in"]) == ("vllm", None, None)
    scores = section["scores"]
    assert list(scores) == NAMES
    assert sum(scores.values()) == pytest.approx(1, abs=1e-4)
    assert 0 <= section["doubt"] <= 1
    best = max(scores, key=scores.__getitem__)
    assert unquote(answer.headers["x-fingerpost-route"]) == best
    confidence = float(answer.headers["x-fingerpost-confidence"])
    assert confidence == pytest.approx(scores[best], abs=6e-4)
    assert section["cached"] is True


def test_model_runs_in_one_bounded_process(language: LanguageSite) -> None:
    """The model runs in one process of bounded size; the size and the start time are printed."""
    size = language.core().memory_info().rss >> 20
    print(f"\ncold start {language.cold_s:.1f} s, {size} MB in the process of the model")
    assert size < 2500


@pytest.mark.long  # restarts vLLM under load
def test_killed_model_process_loses_no_request(language: LanguageSite) -> None:
    """When the model's process is killed under load, the embedded engine answers until the model
    decides again.
    """
    site, core, stop = language.site, language.core(), threading.Event()
    limit_s = 1.5 * language.cold_s + 3

    def load(client: int) -> list[tuple[int, str]]:
        replies: list[tuple[int, str]] = []
        while not stop.is_set():
            text = f"{PROMPTS['code']} {client}.{len(replies)}"
            answer = site.ask("auto", messages=[{"role": "user", "content": text}])
            replies.append((answer.status, answer.headers.get("x-fingerpost-reason", "")))
            stop.wait(PAUSE_S)
        return replies

    with ThreadPoolExecutor(CLIENTS) as pool:
        running = [pool.submit(load, client) for client in range(CLIENTS)]
        try:
            time.sleep(3)
            core.send_signal(signal.SIGKILL)
            killed = time.monotonic()
            eventually(lambda: bool(language.orchestrator(f"{killed}").get("stand_in")), NOTICED_S)
            eventually(language.decides, limit_s)
            back_s = time.monotonic() - killed
        finally:
            stop.set()
        replies = Counter(pair for future in running for pair in future.result())
    print(f"\nback after {back_s:.1f} s, cold {language.cold_s:.1f} s; {dict(replies)}")
    assert set(replies) == {(200, "route")}
    assert sum(replies.values()) > 2 * CLIENTS
    assert back_s < limit_s
    assert language.core().pid != core.pid
