"""One Serve cluster for all tests of this folder, started and stopped as by ``make run``.

Its scope is ``package``: it stops before the tests of other folders run.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from serve_app.cli import serve_process
from serve_app.cli.serve_yaml.read import read_env_file, read_serve_file
from tests import stateful_provider
from tests.matrix.conftest import Bench, bench_of, entries_of
from tests.matrix.vendor import script
from tests.scripted_provider import ScriptedProvider
from tests.serve.closed_proxy import ClosedProxy
from tests.site import (
    DATA_PATHS,
    SECRET,
    Site,
    closed_port,
    eventually,
    write_config,
    write_routing_config,
    write_sessions_config,
)
from tests.stateful_provider import StatefulProvider
from tests.unit.affinity.redis_server import Server, running

GATEWAY_KEY = "fp-key-of-the-routing-site"
CONFIGS = Path(__file__).parents[2] / "configs"


@dataclass
class Cluster:
    """A running gateway with its home folder, environment and processes."""

    site: Site
    home: Path
    environ: dict[str, str]
    gateway: serve_process.ServeProcess
    proxy: ClosedProxy
    """The one that the environment names."""
    seconds_to_health: float = 0.0

    def replicas(self, deployment: str = "", app: str = "fingerpost") -> dict[int, str]:
        """Process ids of replicas and their deployments, in the gateway's session only."""
        pids = {}
        for process in serve_process.in_session(self.gateway.session):
            with suppress(psutil.NoSuchProcess):
                title = " ".join(process.cmdline())
                name = title.partition(f"ray::ServeReplica:{app}:")[2].strip()
                if name and deployment in {"", name}:
                    pids[process.pid] = name
        return pids

    @property
    def address(self) -> str:
        """The address at which another driver can join."""
        for process in serve_process.in_session(self.gateway.session):
            for argument in process.cmdline():
                if argument.startswith("--gcs-address="):
                    return argument.partition("=")[2]
        message = "no raylet"
        raise AssertionError(message)


@pytest.fixture(scope="package")
def cluster_providers() -> Iterator[dict[str, ScriptedProvider]]:
    """The providers behind the cluster."""
    with ExitStack() as stack:
        yield {name: stack.enter_context(ScriptedProvider()) for name in DATA_PATHS}


@pytest.fixture(scope="package")
def vendor() -> Iterator[ScriptedProvider]:
    """The provider of three dialects behind the cluster."""
    with ScriptedProvider(find=script) as provider:
        yield provider


@pytest.fixture(scope="package")
def stateful() -> Iterator[StatefulProvider]:
    """The provider behind the cluster that keeps answers, or does not."""
    with StatefulProvider() as provider:
        yield provider


@dataclass
class SessionSite:
    """A gateway with two ingress replicas, and the store of its bindings."""

    site: Site
    app: str
    redis: Server | None


_REDIS: dict[str, Server] = {}
BACKENDS = ("memory", "redis")


def _keyed_config(
    home: Path, providers: dict[str, ScriptedProvider], vendor: ScriptedProvider
) -> Path:
    """A configuration that requires a key, and has a provider that gets the client's own."""
    theirs = {
        "model": "theirs/*",
        "base_url": vendor.url,
        "provider_interface": "anthropic",
        "passthrough_auth": True,
    }
    return write_routing_config(
        home, providers, model_providers=[theirs], client_keys=[GATEWAY_KEY]
    )


def _session_apps(
    application: dict[str, Any],
    home: Path,
    providers: dict[str, ScriptedProvider],
    stateful: StatefulProvider,
) -> list[dict[str, Any]]:
    apps = []
    others = stateful_provider.entries_of(stateful.url)
    for backend in BACKENDS:
        url = _REDIS["server"].url if backend == "redis" else None
        config = write_sessions_config(home, providers, url, others)
        two = {"name": "Ingress", "num_replicas": 2, "autoscaling_config": None}
        own = {
            "name": f"sessions-{backend}",
            "route_prefix": f"/sessions-{backend}",
            "args": {"config": str(config)},
            "deployments": [two],
        }
        apps.append({**application, **own})
    return apps


def _session_site(cluster: Cluster, backend: str) -> SessionSite:
    app = f"sessions-{backend}"
    site = Site("127.0.0.1", cluster.site.port, cluster.site.providers, f"/{app}")
    eventually(lambda: len(cluster.replicas("Ingress", app)) == 2, 60)
    eventually(lambda: site.explain("hello")["orchestrator"]["scores"] is not None, 60)
    return SessionSite(site, app, _REDIS["server"] if backend == "redis" else None)


@pytest.fixture(params=BACKENDS)
def sessions(cluster: Cluster, request: pytest.FixtureRequest) -> SessionSite:
    """The gateway of each session backend in turn."""
    return _session_site(cluster, request.param)


@pytest.fixture
def redis_sessions(cluster: Cluster) -> SessionSite:
    """The gateway with sessions in Redis."""
    return _session_site(cluster, "redis")


@pytest.fixture
def memory_sessions(cluster: Cluster) -> SessionSite:
    """The gateway with sessions in memory."""
    return _session_site(cluster, "memory")


@pytest.fixture(scope="package")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A Redis server for the whole run, which tests stop and kill."""
    with running(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="package")
def proxy() -> Iterator[ClosedProxy]:
    """The proxy that the environment of the cluster names."""
    with ClosedProxy().running() as running_proxy:
        yield running_proxy


@pytest.fixture(scope="package")
def cluster(
    cluster_providers: dict[str, ScriptedProvider],
    vendor: ScriptedProvider,
    redis_server: Server,
    stateful: StatefulProvider,
    proxy: ClosedProxy,
) -> Iterator[Cluster]:
    """The graph with two replicas of the dedicated provider's client, and one for each dialect's
    interface; one application requires a key.
    """
    _REDIS["server"] = redis_server
    home = Path(tempfile.mkdtemp(prefix="fpt-", dir="/tmp"))
    port = closed_port()
    dialects = [{**entry, "data_path": "dedicated"} for entry in entries_of(vendor)]
    config = write_config(home, cluster_providers, dialects)
    slug = f"vllm-127-0-0-1-{cluster_providers['dedicated'].port}"
    serve = yaml.safe_load((CONFIGS / "serve.yaml").read_text())
    serve["http_options"] = {"host": "127.0.0.1", "port": port}
    application = serve["applications"][0]
    application["args"] = {"config": str(config)}
    application["deployments"] = [
        {"name": f"provider-{slug}", "num_replicas": 2, "autoscaling_config": None}
    ]
    routing = {
        **application,
        "name": "routing",
        "route_prefix": "/routing-site",
        "args": {"config": str(_keyed_config(home, cluster_providers, vendor))},
        "deployments": [
            {
                "name": "Orchestrator",
                "autoscaling_config": {"min_replicas": 0, "max_replicas": 1},
            }
        ],
    }
    serve["applications"] += [
        routing,
        *_session_apps(application, home, cluster_providers, stateful),
    ]
    file = home / "serve.yaml"
    file.write_text(yaml.safe_dump(serve))
    settings = read_env_file(CONFIGS / "serve.env")
    base = {"FINGERPOST_TEST_KEY": SECRET, **os.environ, **proxy.environ}
    environ = serve_process.cluster_environment(base, settings, home)
    gateway = serve_process.ServeProcess(read_serve_file(file), environ, home / "serve.log")
    try:
        site = Site("127.0.0.1", port, cluster_providers)
        cluster = Cluster(site, home, environ, gateway, proxy)
        cluster.seconds_to_health = gateway.wait_until_healthy()
        yield cluster
    finally:
        killed = gateway.stop()
        shutil.rmtree(home, ignore_errors=True)
    assert not killed, "serve run left processes behind"


_AWAKE: set[str] = set()
"""The files of tests for which every provider has answered."""


@pytest.fixture
def site(cluster: Cluster, request: pytest.FixtureRequest) -> Site:
    """The contract's gateway: HAProxy, ingress, provider clients.

    At the begin of each file every provider answers once, so that no key rests that the tests of
    another file have refused.
    """
    if request.module.__name__ not in _AWAKE:
        _AWAKE.add(request.module.__name__)
        for data_path in DATA_PATHS:
            assert cluster.site.ask(f"{data_path}/parrot").status == 200
    return cluster.site


@pytest.fixture(scope="package")
def routing_site(cluster: Cluster) -> Site:
    """The second application, whose Orchestrator has been started from zero replicas; it requires
    a key.
    """
    at = cluster.site
    site = Site(at.host, at.port, at.providers, "/routing-site", GATEWAY_KEY)
    eventually(lambda: site.explain("hello")["orchestrator"]["scores"] is not None, 60)
    return site


@pytest.fixture(scope="package")
def bench(cluster: Cluster, vendor: ScriptedProvider) -> Iterator[Bench]:
    """The clients of every dialect before the first application."""
    with bench_of(cluster.site, vendor) as made:
        yield made
