"""The cluster of several_nodes.py, and the verdicts and figures of a phase."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from benchmarks.lib.clients import Clients, Outcome, RequestKind, failed, figures
from benchmarks.lib.nodes import HEAD, Cluster, wait_until
from benchmarks.lib.paths import PROJECT

CPU_NODES: Final = ("cpu-1", "cpu-2")
GPU_NODE: Final = "gpu-like"
GPU: Final = {"gpu_like": 2.0}
"""A custom resource of Ray that stands for a GPU with room for two replicas."""
SESSIONS: Final = 10
_BIND_S: Final = 60.0
KEY_NAME: Final = "CLIENT_KEY_TEAM_A"
_APPLICATION: Final = "fingerpost"

COMPLETE: Final = RequestKind("complete", "vllm/slow")


@dataclass(frozen=True, slots=True)
class PhaseVerdict:
    """A demand on a phase, and the measured value."""

    demand: str
    measured: str
    holds: bool | None
    """None for a figure without a demand."""


@dataclass(slots=True)
class Phase:
    """Verdicts, figures and requests of a phase."""

    name: str
    verdicts: list[PhaseVerdict] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    requests: list[Any] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Whether all demands hold."""
        return all(verdict.holds is not False for verdict in self.verdicts)

    def demand(self, what: str, measured: object, *, holds: bool) -> None:
        """Adds a verdict with a demand."""
        self.verdicts.append(PhaseVerdict(what, str(measured), holds))

    def note(self, what: str, measured: str) -> None:
        """Adds a figure without a demand."""
        self.verdicts.append(PhaseVerdict(what, measured, None))

    def none_failed(self, outcomes: Sequence[Outcome], what: str = "no request fails") -> None:
        """Adds the demand that no outcome is a failure."""
        bad = failed(outcomes)
        measured = f"{len(bad)} of {len(outcomes)}"
        if bad:
            measured += f"; {figures(bad)}; first: {bad[0].result} {bad[0].detail}"
        self.demand(what, measured, holds=not bad and bool(outcomes))

    def report(self, outcomes: Sequence[Outcome], began_s: float, at_s: float) -> None:
        """Adds figures of the requests that ended before ``at_s`` and of the others."""
        before = [one for one in outcomes if one.ended_s < at_s]
        self.figures["before"] = figures(before)
        self.figures["from then on"] = figures([one for one in outcomes if one.ended_s >= at_s])
        self.requests = [one.facts(began_s) for one in outcomes]


@dataclass(slots=True)
class Stage:
    """The cluster, its provider and its sessions."""

    cluster: Cluster
    folder: Path
    provider: int
    """Port of the provider."""
    key: str
    file: str = "gateway-1.yaml"
    orchestrators: int = 1
    sessions: dict[str, str] = field(default_factory=dict)

    @property
    def ports(self) -> list[int]:
        """Ports of the HAProxies that a load balancer would use."""
        return [self.cluster.nodes[name].http_port for name in CPU_NODES]

    def clients(self) -> Clients:
        """Returns clients of both nodes with CPUs."""
        return Clients(self.ports, self.key)

    def start_gpu_node(self) -> None:
        """Starts the node for the Orchestrator."""
        self.cluster.start(GPU_NODE, 0, GPU)
        self.cluster.wait(GPU_NODE)

    def start_cpu_nodes(self, *names: str) -> None:
        """Starts nodes with CPUs, all at the same time."""
        for name in names:
            self.cluster.start(name, 4)
        for name in names:
            self.cluster.wait(name)

    def deploy(self) -> None:
        """Deploys configs/ec2/cpu/serve.yaml with the deployments of this cluster."""
        (self.folder / self.file).write_text(yaml.safe_dump(gateway(self.provider)))
        config = yaml.safe_load((PROJECT / "configs/ec2/cpu/serve.yaml").read_text())
        config["http_options"]["port"] = self.cluster.nodes[HEAD].http_port
        application = config["applications"][0]
        application["args"] = {"config": str(self.folder / self.file)}
        application["deployments"] = deployments(self.provider, self.orchestrators)
        self.cluster.deploy(config, self.folder / "serve.yaml")

    def replicas(self) -> dict[str, list[tuple[str, int]]]:
        """Returns node and process id of the running replicas, by deployment."""
        reported = self.cluster.application(_APPLICATION).get("deployments", {})
        owners = self.cluster.owners()
        return {
            name: [
                (owners.get(one["pid"], "gone"), one["pid"])
                for one in deployment["replicas"]
                if one["state"] == "RUNNING"
            ]
            for name, deployment in reported.items()
        }

    def is_complete(self) -> bool:
        """Returns whether all replicas run on the right nodes and both HAProxies answer."""
        if self.cluster.application(_APPLICATION).get("status") != "RUNNING":
            return False
        nodes = {
            name: sorted(node for node, _ in replicas) for name, replicas in self.replicas().items()
        }
        orchestrators = nodes.pop("Orchestrator", None) == [GPU_NODE] * self.orchestrators
        nodes.pop("provider-shared", None)
        spread = len(nodes) == 2 and all(names == list(CPU_NODES) for names in nodes.values())
        return orchestrators and spread and self.answers()

    def answers(self) -> bool:
        """Returns whether each of the two HAProxies gives a correct answer."""
        return all(not failed(self.request(COMPLETE, [port])) for port in self.ports)

    def request(self, kind: RequestKind, ports: Sequence[int]) -> list[Outcome]:
        """Sends one request and waits for its end."""
        with Clients(ports, self.key) as clients:
            clients.once(kind, 1)
            return clients.stop()

    def bind(self) -> None:
        """Starts the sessions; repeats requests without a decision, which bind no session.

        An ingress looks for a missing Orchestrator every 30 s at most.
        """
        wait_until(self._all_bound, _BIND_S, "all sessions are bound")

    def _all_bound(self) -> bool:
        outcomes = self._in_sessions()
        self.sessions = {one.kind: one.model for one in outcomes if one.reason == "affinity"}
        return len(self.sessions) == SESSIONS

    def moved(self) -> list[str]:
        """Returns the sessions whose model has changed, with the reason."""
        return [
            f"{one.kind}: {one.result} {one.reason} {one.model}"
            for one in self._in_sessions()
            if one.reason != "affinity" or self.sessions.get(one.kind) != one.model
        ]

    def _in_sessions(self) -> list[Outcome]:
        with Clients(self.ports, self.key) as clients:
            for number in range(SESSIONS):
                clients.once(
                    RequestKind(f"session {number}", "auto", session=f"session-{number}"), 1
                )
            return clients.stop()


def deployments(provider: int, orchestrators: int) -> list[dict[str, Any]]:
    """Returns the deployments: ingress and provider client on each node with CPUs."""
    spread = {"autoscaling_config": _fixed(2), "max_replicas_per_node": 1}
    return [
        {"name": "Ingress", **spread, "ray_actor_options": {"num_cpus": 1}},
        {
            "name": f"provider-vllm-127-0-0-1-{provider}",
            **spread,
            "ray_actor_options": {"num_cpus": 0.75},
        },
        {"name": "provider-shared", "ray_actor_options": {"num_cpus": 0.25}},
        {
            "name": "Orchestrator",
            "autoscaling_config": _fixed(orchestrators),
            "ray_actor_options": {"num_cpus": 0, "resources": {"gpu_like": 1}},
        },
    ]


def _fixed(count: int) -> dict[str, Any]:
    return {"min_replicas": count, "max_replicas": count, "target_ongoing_requests": 32}


def gateway(provider: int) -> dict[str, Any]:
    """Returns configs/ec2/cpu/gateway.yaml for the scripted provider, with data path dedicated."""
    config: dict[str, Any] = yaml.safe_load((PROJECT / "configs/ec2/cpu/gateway.yaml").read_text())
    url = f"http://127.0.0.1:{provider}/v1"
    names = ("vllm/slow", "vllm/slow@code", "vllm/slow@writing")
    config["client_keys"] = [f"${KEY_NAME}"]
    config["model_providers"] = [
        {"model": name, "base_url": url, "data_path": "dedicated"} for name in names
    ]
    config["model_providers"][0]["default"] = True
    models = {"code": names[1], "writing": names[2], "quick": names[0]}
    for preference in config["routing_preferences"]:
        preference["models"] = [models[preference["name"]]]
    return config
