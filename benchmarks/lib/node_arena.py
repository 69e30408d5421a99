"""The gateway of chaos.py on a cluster of several nodes, one of which is killed as a whole.

A head without replicas and two nodes, each with one replica of the ingress and of both provider
clients; the Orchestrator runs on the first. Clients use the HAProxy of the first node only: what
the HAProxy of a killed node has accepted is lost in any case, see several_nodes.py.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil
import yaml

from benchmarks.lib.arena import IN_REDIS, application
from benchmarks.lib.clients import Clients
from benchmarks.lib.nodes import HEAD, Cluster, running_cluster, wait_until
from benchmarks.lib.paths import PROJECT
from benchmarks.lib.switches import SwitchedScripts
from tests.scripted_provider import ScriptedProvider

_KEPT, _KILLED = "kept", "killed"
_CPUS: Final = 4
_ENGINE: Final = {"engine": 1.0}
"""A custom resource of Ray that only the first node has."""
_START_S: Final = 180.0


@dataclass(frozen=True, slots=True)
class NodeArena:
    """The running cluster and its providers."""

    cluster: Cluster
    switch: SwitchedScripts

    def clients(self) -> Clients:
        """Returns clients of the first node's HAProxy."""
        return Clients([self.cluster.nodes[_KEPT].http_port], "unused")

    def replicas(self) -> dict[str, list[int]]:
        """Returns the process ids of running replicas, by ``application:deployment``."""
        deployments = self.cluster.application(IN_REDIS).get("deployments", {})
        return {
            f"{IN_REDIS}:{name}": [
                one["pid"]
                for one in about["replicas"]
                if one["state"] == "RUNNING" and psutil.pid_exists(one["pid"])
            ]
            for name, about in deployments.items()
        }

    def kill_node(self) -> None:
        """Kills the second node with all its processes."""
        self.cluster.nodes[_KILLED].kill()

    def replace_node(self) -> None:
        """Starts a node in its place, with an empty disk."""
        self.cluster.start(_KILLED, _CPUS)
        self.cluster.wait(_KILLED)


@contextmanager
def running_node_arena(retry_on: str) -> Iterator[NodeArena]:
    """Runs the providers and the cluster; waits until all replicas run, one on each node."""
    with ExitStack() as stack:
        switch = SwitchedScripts()
        first = stack.enter_context(ScriptedProvider(find=switch.script))
        second = stack.enter_context(ScriptedProvider())
        environ = {"RAY_SERVE_HAPROXY_RETRY_ON": retry_on}
        cluster, folder = stack.enter_context(running_cluster(environ))
        cluster.start(_KEPT, _CPUS, _ENGINE)
        cluster.start(_KILLED, _CPUS)
        cluster.wait(_KEPT)
        cluster.wait(_KILLED)
        config = _serve_config(cluster, folder, (first, second))
        cluster.deploy(config, folder / "serve.yaml")
        arena = NodeArena(cluster, switch)
        wanted = {one["name"] for one in config["applications"][0]["deployments"]}

        def is_complete() -> bool:
            replicas = arena.replicas()
            return len(replicas) == len(wanted) and all(
                len(pids) == (1 if name.endswith("Orchestrator") else 2)
                for name, pids in replicas.items()
            )

        wait_until(is_complete, _START_S, "all replicas run")
        yield arena


def _serve_config(
    cluster: Cluster, folder: Path, providers: tuple[ScriptedProvider, ScriptedProvider]
) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load((PROJECT / "configs/ec2/cpu/serve.yaml").read_text())
    config["http_options"] = {"host": "127.0.0.1", "port": cluster.nodes[HEAD].http_port}
    sessions = {"type": "redis", "url": "$AFFINITY_URL"}
    gateway = application(folder, IN_REDIS, sessions, providers)
    two = {"num_replicas": 2, "autoscaling_config": None}
    one = {"num_replicas": 1, "autoscaling_config": None}
    spread = [*gateway["deployments"], {"name": "provider-shared", **two}]
    gateway["deployments"] = [
        *({**deployment, "max_replicas_per_node": 1} for deployment in spread),
        {
            "name": "Orchestrator",
            **one,
            "ray_actor_options": {"num_cpus": 0, "resources": {"engine": 1}},
        },
    ]
    config["applications"] = [gateway]
    return config
