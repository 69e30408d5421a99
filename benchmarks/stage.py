"""The cluster of several_nodes.py, and what a phase finds on it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml
from clients import Ask, Clients, Outcome, failed, figures
from cluster import PROJECT
from nodes import HEAD, Cluster, until

CPU_NODES: Final = ("cpu-1", "cpu-2")
GPU_NODE: Final = "gpu-like"
GPU: Final = {"gpu_like": 2.0}
"""Ray calls it a resource like any other; a card for two replicas."""
SESSIONS: Final = 10
_BIND_S: Final = 60.0
KEY_NAME: Final = "CLIENT_KEY_TEAM_A"
_APPLICATION: Final = "fingerpost"

COMPLETE: Final = Ask("complete", "vllm/slow")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was asked of a phase, and what was measured."""

    demand: str
    measured: str
    holds: bool | None
    """None where nothing was asked, and a figure is all there is to say."""


@dataclass(slots=True)
class Phase:
    """What a phase found."""

    name: str
    verdicts: list[Verdict] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    requests: list[Any] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Whether all that was asked is so."""
        return all(verdict.holds is not False for verdict in self.verdicts)

    def demand(self, what: str, measured: object, *, holds: bool) -> None:
        """A line for the verdicts."""
        self.verdicts.append(Verdict(what, str(measured), holds))

    def note(self, what: str, measured: str) -> None:
        """A figure that nothing was asked of; what never happens ends the phase instead."""
        self.verdicts.append(Verdict(what, measured, None))

    def none_failed(self, outcomes: Sequence[Outcome], what: str = "no request fails") -> None:
        """The demand that is made most often."""
        bad = failed(outcomes)
        said = f"{len(bad)} of {len(outcomes)}"
        if bad:
            said += f"; {figures(bad)}; first: {bad[0].result} {bad[0].detail}"
        self.demand(what, said, holds=not bad and bool(outcomes))

    def report(self, outcomes: Sequence[Outcome], began_s: float, at_s: float) -> None:
        """Figures of the requests that ended before ``at_s``, and of the others."""
        before = [one for one in outcomes if one.ended_s < at_s]
        self.figures["before"] = figures(before)
        self.figures["from then on"] = figures([one for one in outcomes if one.ended_s >= at_s])
        self.requests = [one.facts(began_s) for one in outcomes]


@dataclass(slots=True)
class Stage:
    """Everything that is up."""

    cluster: Cluster
    place: Path
    provider: int
    """The port of the provider."""
    key: str
    file: str = "gateway-1.yaml"
    orchestrators: int = 1
    sessions: dict[str, str] = field(default_factory=dict)

    @property
    def ports(self) -> list[int]:
        """Of the HAProxies that a load balancer would know."""
        return [self.cluster.nodes[name].http_port for name in CPU_NODES]

    def clients(self) -> Clients:
        """Clients of both nodes with CPUs."""
        return Clients(self.ports, self.key)

    def start_gpu_node(self) -> None:
        """Starts the node for the Orchestrator."""
        self.cluster.start(GPU_NODE, 0, GPU)
        self.cluster.wait(GPU_NODE)

    def start_cpu_nodes(self, *names: str) -> None:
        """Starts nodes with CPUs, all at once."""
        for name in names:
            self.cluster.start(name, 4)
        for name in names:
            self.cluster.wait(name)

    def deploy(self) -> None:
        """`serve deploy` of configs/ec2/cpu/serve.yaml, with the deployments of this cluster."""
        (self.place / self.file).write_text(yaml.safe_dump(gateway(self.provider)))
        config = yaml.safe_load((PROJECT / "configs/ec2/cpu/serve.yaml").read_text())
        config["http_options"]["port"] = self.cluster.nodes[HEAD].http_port
        application = config["applications"][0]
        application["args"] = {"config": str(self.place / self.file)}
        application["deployments"] = deployments(self.provider, self.orchestrators)
        self.cluster.deploy(config, self.place / "serve.yaml")

    def replicas(self) -> dict[str, list[tuple[str, int]]]:
        """The node and the process id of each replica that runs, by deployment."""
        said = self.cluster.application(_APPLICATION).get("deployments", {})
        owners = self.cluster.owners()
        return {
            name: [
                (owners.get(one["pid"], "gone"), one["pid"])
                for one in deployment["replicas"]
                if one["state"] == "RUNNING"
            ]
            for name, deployment in said.items()
        }

    def all_there(self) -> bool:
        """Every deployment is whole and where it belongs, and both HAProxies answer."""
        if self.cluster.application(_APPLICATION).get("status") != "RUNNING":
            return False
        found = {
            name: sorted(node for node, _ in replicas) for name, replicas in self.replicas().items()
        }
        orchestrators = found.pop("Orchestrator", None) == [GPU_NODE] * self.orchestrators
        found.pop("provider-shared", None)
        spread = len(found) == 2 and all(nodes == list(CPU_NODES) for nodes in found.values())
        return orchestrators and spread and self.answer()

    def answer(self) -> bool:
        """Whether each of the two HAProxies gives a good answer."""
        return all(not failed(self.ask(COMPLETE, [port])) for port in self.ports)

    def ask(self, ask: Ask, ports: Sequence[int]) -> list[Outcome]:
        """Asks once, and waits."""
        with Clients(ports, self.key) as clients:
            clients.once(ask, 1)
            return clients.stop()

    def bind(self) -> None:
        """Begins the sessions; what nobody decided binds none, and is asked again.

        An ingress that missed the Orchestrator for long looks for it again after 30 s at most.
        """
        until(self._all_bound, _BIND_S, "all sessions are bound")

    def _all_bound(self) -> bool:
        said = self._in_sessions()
        self.sessions = {one.kind: one.model for one in said if one.reason == "affinity"}
        return len(self.sessions) == SESSIONS

    def moved(self) -> list[str]:
        """The sessions that are not with the model that they began with, and why."""
        return [
            f"{one.kind}: {one.result} {one.reason} {one.model}"
            for one in self._in_sessions()
            if one.reason != "affinity" or self.sessions.get(one.kind) != one.model
        ]

    def _in_sessions(self) -> list[Outcome]:
        with Clients(self.ports, self.key) as clients:
            for number in range(SESSIONS):
                clients.once(Ask(f"session {number}", "auto", session=f"session-{number}"), 1)
            return clients.stop()


def deployments(provider: int, orchestrators: int) -> list[dict[str, Any]]:
    """Ingress and provider client on each node with CPUs, the Orchestrator where its resource is."""
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
    """configs/ec2/cpu/gateway.yaml for the scripted provider, on a data path of its own."""
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
