"""The gateway on several nodes of a Ray cluster, all on this machine, while nodes die.

    .venv/bin/python benchmarks/several_nodes.py [--phases head upgrade]

The cluster is that of docs/deploy.md in small: a head without work, two nodes with CPUs for ingress
and provider clients, one replica of each on either, and a node with a resource that stands in for
a GPU, for the Orchestrator. Nodes have a token in common and a real Redis, for what Ray's head knows
and for sessions. Clients take the HAProxies of the two nodes with CPUs in turn, as those behind a
load balancer: where a connection is refused, they go to the other one; else nothing is tried again.

The provider answers after half a second, or streams 20 events a second. The phases:

- placement: no node for the Orchestrator yet, then there is one
- orchestrator: its node is killed as a whole, and replaced
- cpu: a node with ingress and provider client is killed as a whole, and replaced
- upgrade: `serve deploy` with other `args`, while streams run
- gcs: the head's gcs_server is killed and comes back
- head: the head is killed as a whole, and comes back

What is measured is this: what requests lose, and how long it takes. How fast machines start, and
what networks do, is not in it.
"""

import argparse
import json
import secrets
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from clients import CUT, CUT_WITH_ERROR, Ask, Clients, Outcome
from cluster import free_ports, mock
from machine import headline, machine
from nodes import HEAD, clustered, restart_alone, until
from overhead import RESULTS, end_on_terminate
from stage import COMPLETE, CPU_NODES, GPU_NODE, KEY_NAME, SESSIONS, Phase, Stage

_LIMIT_S: Final = 900
"""All of it; what is longer is stopped."""
_WITHIN_S: Final = 120.0
_DOWN_S: Final = 8.0
_BEFORE_S: Final = 5.0
_AFTER_S: Final = 3.0
_LONG: Final = 20

STREAM: Final = Ask("stream of 2 s", "vllm/slow", 40)
LONG_STREAM: Final = Ask("stream of 40 s", "vllm/slow", 800)
AUTO: Final = Ask("auto", "auto")


def _load(clients: Clients) -> float:
    """Everything at once, and a few seconds of it; when it began."""
    began_s = time.monotonic()
    clients.keep(COMPLETE, 4)
    clients.keep(STREAM, 8)
    clients.keep(AUTO, 2)
    time.sleep(_BEFORE_S)
    return began_s


def _kept(stage: Stage, phase: Phase) -> None:
    moved = stage.moved()
    said = "; ".join([f"{SESSIONS - len(moved)} of {SESSIONS}", *moved[:1]])
    phase.demand("sessions keep their model", said, holds=not moved)


def _first_decision(clients: Clients, after_s: float) -> float | None:
    """When the first decision was there of a request that began after a moment."""
    ends = [one.headed_s for one in list(clients.outcomes) if one.decided and one.began_s > after_s]
    return min(ends, default=None)


def start(stage: Stage) -> Phase:
    """The cluster without the Orchestrator's node, and then with it."""
    phase = Phase("placement")
    began_s = time.monotonic()
    stage.start_cpu_nodes(*CPU_NODES)
    joined_s = time.monotonic()
    stage.deploy()
    until(stage.answer, _WITHIN_S, "both HAProxies answer")
    phase.figures["nodes_joined_s"] = round(joined_s - began_s, 1)
    phase.figures["deploy_to_first_answers_s"] = round(time.monotonic() - joined_s, 1)
    with stage.clients() as clients:
        clients.keep(AUTO, 3)
        time.sleep(_BEFORE_S)
        alone = [*clients.outcomes]
        starts_s = time.monotonic()
        stage.start_gpu_node()
        node_s = time.monotonic()
        until(lambda: _first_decision(clients, starts_s) is not None, _WITHIN_S, "a decision")
        outcomes = clients.stop()
    first_s = _first_decision(clients, starts_s) or 0.0
    until(stage.all_there, _WITHIN_S, "all replicas are there")
    phase.report(outcomes, began_s, node_s)
    phase.figures["gpu_node_joined_s"] = round(node_s - starts_s, 1)
    decided = sum(one.decided for one in alone)
    phase.none_failed(outcomes, "`auto` is answered before there is an Orchestrator")
    phase.demand("nothing is decided then", f"{decided} of {len(alone)}", holds=not decided)
    after = f"{first_s - node_s:.1f} s after the node joined"
    phase.demand("decisions begin by themselves", after, holds=first_s > node_s)
    _placement(stage, phase)
    stage.bind()
    _kept(stage, phase)
    return phase


def _placement(stage: Stage, phase: Phase) -> None:
    nodes = {name: sorted(node for node, _ in found) for name, found in stage.replicas().items()}
    phase.figures["replicas"] = nodes
    shared = nodes.pop("provider-shared")
    there = nodes.pop("Orchestrator")
    phase.demand("the Orchestrator is where its resource is", there, holds=there == [GPU_NODE])
    for name, found in nodes.items():
        phase.demand(f"{name.split('-')[0]} on both", found, holds=found == [*CPU_NODES])
    phase.demand("nothing else elsewhere", shared, holds=set(shared) <= set(CPU_NODES))


def orchestrator(stage: Stage) -> Phase:
    """The Orchestrator's node is killed under new conversations, and another one joins."""
    phase = Phase("orchestrator")
    with stage.clients() as clients:
        began_s = time.monotonic()
        clients.keep(AUTO, 4)
        time.sleep(_BEFORE_S)
        killed_s = time.monotonic()
        stage.cluster.nodes[GPU_NODE].kill()
        time.sleep(_DOWN_S)
        stage.start_gpu_node()
        node_s = time.monotonic()
        until(lambda: _first_decision(clients, node_s) is not None, _WITHIN_S, "a decision")
        time.sleep(_AFTER_S)
        outcomes = clients.stop()
    until(stage.all_there, _WITHIN_S, "all replicas are there")
    back_s = time.monotonic()
    phase.report(outcomes, began_s, killed_s)
    last_s = max(one.headed_s for one in outcomes if one.decided and one.began_s < killed_s)
    first_s = _first_decision(clients, node_s) or 0.0
    phase.none_failed(outcomes)
    phase.demand(
        "decisions are made again",
        f"{first_s - last_s:.1f} s without any; {first_s - node_s:.1f} s after the new node joined",
        holds=first_s > node_s,
    )
    phase.figures["all_back_after_new_node_s"] = round(back_s - node_s, 1)
    _kept(stage, phase)
    return phase


def cpu(stage: Stage) -> Phase:
    """A node with ingress, provider client and HAProxy is killed, and another one joins."""
    phase = Phase("cpu")
    name = CPU_NODES[1]
    with stage.clients() as clients:
        began_s = _load(clients)
        killed_s = time.monotonic()
        dead_s = stage.cluster.nodes[name].kill()
        time.sleep(_DOWN_S)
        stage.start_cpu_nodes(name)
        node_s = time.monotonic()
        until(stage.all_there, _WITHIN_S, "all replicas are there")
        back_s = time.monotonic()
        time.sleep(_AFTER_S)
        outcomes = clients.stop()
    phase.report(outcomes, began_s, killed_s)
    flying = [one for one in outcomes if one.began_s < dead_s and one.ended_s > killed_s]
    phase.figures["kill_took_s"] = round(dead_s - killed_s, 3)
    phase.figures["all_back_after_new_node_s"] = round(back_s - node_s, 1)
    for port, where in zip(stage.ports, ("through the other node", "through it"), strict=True):
        for kind, results in _by_kind([one for one in flying if one.port == port]).items():
            phase.note(f"in flight {where}: {kind}", _listed(results))
    phase.none_failed([one for one in outcomes if one.began_s >= dead_s], "nothing fails after it")
    phase.note("replicas are back", f"{back_s - node_s:.1f} s after the new node joined")
    _kept(stage, phase)
    return phase


def _by_kind(outcomes: Sequence[Outcome]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for one in outcomes:
        results = found.setdefault(one.kind, {})
        results[one.result] = results.get(one.result, 0) + 1
    return found


def _listed(results: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {result}" for result, count in results.items())


def upgrade(stage: Stage) -> Phase:
    """`serve deploy` with the path of another, equal file, while streams run."""
    phase = Phase("upgrade")
    old = {pid for found in stage.replicas().values() for _, pid in found}
    with stage.clients() as clients:
        began_s = _load(clients)
        clients.once(LONG_STREAM, _LONG)
        time.sleep(1)
        stage.file = "gateway-2.yaml" if stage.file == "gateway-1.yaml" else "gateway-1.yaml"
        deployed_s = time.monotonic()
        stage.deploy()
        until(lambda: _renewed(stage, old), 2 * _WITHIN_S, "only new replicas are there")
        new_s = time.monotonic()
        time.sleep(_AFTER_S)
        outcomes = clients.stop()
    phase.report(outcomes, began_s, deployed_s)
    streams = [one for one in outcomes if "stream" in one.kind]
    cut = [one for one in streams if one.result in {CUT, CUT_WITH_ERROR}]
    phase.demand("no stream is cut", f"{len(cut)} of {len(streams)}", holds=not cut)
    phase.none_failed(outcomes)
    phase.note("only new replicas are there", f"after {new_s - deployed_s:.1f} s")
    _kept(stage, phase)
    return phase


def _renewed(stage: Stage, old: set[int]) -> bool:
    found = {pid for replicas in stage.replicas().values() for _, pid in replicas}
    living = stage.cluster.owners().keys()
    return bool(found) and not found & old and not living & old and stage.all_there()


def gcs(stage: Stage) -> Phase:
    """The head's gcs_server is killed, and started again by the same command."""
    phase = Phase("gcs")
    process = stage.cluster.nodes[HEAD].process("gcs_server")
    if process is None:
        raise RuntimeError("there is no gcs_server")
    with stage.clients() as clients:
        began_s = _load(clients)
        killed_s = time.monotonic()
        restart_alone(process, _DOWN_S, stage.place / "gcs.log")
        back_s = time.monotonic()
        _deploys_again(stage, phase, back_s)
        time.sleep(_AFTER_S)
        outcomes = clients.stop()
    phase.report(outcomes, began_s, killed_s)
    phase.none_failed(outcomes)
    _kept(stage, phase)
    return phase


def head(stage: Stage) -> Phase:
    """The head is killed with all that runs on it, and comes back with the same ports."""
    phase = Phase("head")
    replicas = stage.replicas()
    with stage.clients() as clients:
        began_s = _load(clients)
        killed_s = time.monotonic()
        stage.cluster.nodes[HEAD].kill()
        time.sleep(_DOWN_S)
        stage.cluster.start(HEAD, 0)
        stage.cluster.wait(HEAD)
        back_s = time.monotonic()
        _deploys_again(stage, phase, back_s)
        time.sleep(_AFTER_S)
        outcomes = clients.stop()
    phase.figures["head_up_again_s"] = round(back_s - killed_s - _DOWN_S, 1)
    phase.report(outcomes, began_s, killed_s)
    phase.none_failed(outcomes)
    same = all(
        set(found) <= set(stage.replicas().get(name, [])) for name, found in _kinds(replicas)
    )
    phase.demand("replicas outlive it", "the same processes" if same else "others", holds=same)
    _kept(stage, phase)
    return phase


def _kinds(replicas: Mapping[str, list[tuple[str, int]]]) -> list[tuple[str, Any]]:
    return [(name, found) for name, found in replicas.items() if name != "Orchestrator"]


def _deploys_again(stage: Stage, phase: Phase, back_s: float) -> None:
    """`serve status` answers, and a `serve deploy` with another number takes effect."""

    def known() -> bool:
        said = stage.cluster.status() or {}
        return bool(said.get("applications", {}).get("fingerpost", {}).get("status") == "RUNNING")

    until(known, _WITHIN_S, "serve status says RUNNING")
    status_s = time.monotonic()
    phase.note("`serve status` says RUNNING again", f"after {status_s - back_s:.1f} s")
    stage.orchestrators = 3 - stage.orchestrators
    stage.deploy()
    until(stage.all_there, _WITHIN_S, "the new number of replicas is there")
    said = f"{stage.orchestrators} replicas {time.monotonic() - status_s:.1f} s later"
    phase.note("`serve deploy` takes effect", said)


PHASES: Final[dict[str, Callable[[Stage], Phase]]] = {
    "orchestrator": orchestrator,
    "cpu": cpu,
    "upgrade": upgrade,
    "gcs": gcs,
    "head": head,
}


def run(names: Sequence[str]) -> list[Phase]:
    """The phases, one after another; the first one is the start of everything."""
    (port,) = free_ports(1)
    key = secrets.token_hex(16)
    with mock(port), clustered({KEY_NAME: key}) as (cluster, place):
        stage = Stage(cluster, place, port, key)
        phases: list[Phase] = []
        for name, phase_of in (("placement", start), *PHASES.items()):
            if name == "placement" or (name in names and phases[0].holds):
                phases.append(_timed(name, phase_of, stage))
        return [phase for phase in phases if phase.name in names]


def _timed(name: str, phase_of: Callable[[Stage], Phase], stage: Stage) -> Phase:
    """A phase; one that does not come to its end has nothing but that to say."""
    began_s = time.monotonic()
    try:
        phase = phase_of(stage)
    except RuntimeError as error:
        phase = Phase(name)
        phase.demand("the phase comes to its end", error, holds=False)
    phase.figures["phase_took_s"] = round(time.monotonic() - began_s, 1)
    for verdict in phase.verdicts:
        print(f"{name}: {verdict.demand}: {verdict.measured}", flush=True)
    return phase


_HOLDS: Final = {True: "yes", False: "NO", None: ""}


def table(phases: Sequence[Phase]) -> str:
    """All verdicts and figures as Markdown."""
    lines = ["| phase | demand | measured | holds |", "|---|---|---|---|"]
    lines += [
        f"| {phase.name} | {one.demand} | {one.measured} | {_HOLDS[one.holds]} |"
        for phase in phases
        for one in phase.verdicts
    ]
    lines += ["", "| phase | when | kind | requests | results | wait p50 s | p99 s | longest s |"]
    lines += ["|---|---|---|--:|---|--:|--:|--:|"]
    for phase in phases:
        for when in ("before", "from then on"):
            for kind, found in phase.figures.get(when, {}).items():
                waits = " | ".join(str(found[f"wait_{one}_s"]) for one in ("p50", "p99", "longest"))
                cells = f"{kind} | {found['requests']} | {_listed(found['results'])} | {waits}"
                lines.append(f"| {phase.name} | {when} | {cells} |")
    return "\n".join(lines)


def main() -> int:
    """Runs it; 0 when everything holds."""
    known = ["placement", *PHASES]
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--phases", nargs="+", choices=known, default=known)
    parser.add_argument("--results", type=Path, default=RESULTS, help="a folder")
    options = parser.parse_args()
    end_on_terminate()
    signal.signal(signal.SIGALRM, signal.getsignal(signal.SIGTERM))
    signal.alarm(_LIMIT_S)
    about = machine()
    phases = run(options.phases)
    about["load_average_after"] = machine()["load_average"]
    text = table(phases)
    print("\n" + text)
    options.results.mkdir(parents=True, exist_ok=True)
    result = {"machine": about, "phases": [asdict(phase) for phase in phases]}
    (options.results / "several_nodes.json").write_text(json.dumps(result) + "\n")
    top = f"# Several nodes\n\n{headline(about)} How: benchmarks/several_nodes.py.\n\n"
    (options.results / "several_nodes.md").write_text(f"{top}{text}\n")
    return 0 if all(phase.holds for phase in phases) else 1


if __name__ == "__main__":
    sys.exit(main())
