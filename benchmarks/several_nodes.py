"""Measures which requests fail while nodes of a Ray cluster are killed, all on this machine.

    .venv/bin/python benchmarks/several_nodes.py [--phases head upgrade]

The cluster is a small version of the one in docs/deploy.md: a head without replicas, two nodes with
CPUs for ingress and provider clients, one replica of each on both, and a node with a resource that
stands for a GPU, for the Orchestrator. The nodes share a token and a real Redis, which holds the
state of Ray's head and the sessions. Clients use the HAProxies of the two nodes with CPUs in turn,
like clients of a load balancer: if one refuses the connection, they use the other; they retry
nothing else.

The provider answers after half a second, or streams 20 events a second. The phases:

- placement: the cluster starts without a node for the Orchestrator; then the node joins
- orchestrator: its node is killed and replaced
- cpu: a node with ingress and provider client is killed and replaced
- upgrade: `serve deploy` with other `args`, while streams run
- gcs: the head's gcs_server is killed and starts again
- head: the head is killed and starts again

The figures are lost requests and durations. The start of machines and the network between them are
not part of them.
"""

import secrets
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Final

from benchmarks.lib.clients import CUT, CUT_WITH_ERROR, Clients, Outcome, RequestKind
from benchmarks.lib.cluster import mock
from benchmarks.lib.machine import headline, machine
from benchmarks.lib.nodes import HEAD, restart_alone, running_cluster, wait_until
from benchmarks.lib.ports import free_ports
from benchmarks.lib.script import end_on_terminate, script_parser, verdict, write_results
from benchmarks.lib.stage import COMPLETE, CPU_NODES, GPU_NODE, KEY_NAME, SESSIONS, Phase, Stage

_LIMIT_S: Final = 900
"""The script ends after this time."""
_WITHIN_S: Final = 120.0
_DOWN_S: Final = 8.0
_BEFORE_S: Final = 5.0
_AFTER_S: Final = 3.0
_LONG_STREAMS: Final = 20

STREAM: Final = RequestKind("stream of 2 s", "vllm/slow", 40)
LONG_STREAM: Final = RequestKind("stream of 40 s", "vllm/slow", 800)
AUTO: Final = RequestKind("auto", "auto")


def _load(clients: Clients) -> float:
    """Starts all kinds of requests and waits a few seconds; returns the start time."""
    began_s = time.monotonic()
    clients.keep(COMPLETE, 4)
    clients.keep(STREAM, 8)
    clients.keep(AUTO, 2)
    time.sleep(_BEFORE_S)
    return began_s


def _demand_sessions(stage: Stage, phase: Phase) -> None:
    moved = stage.moved()
    measured = "; ".join([f"{SESSIONS - len(moved)} of {SESSIONS}", *moved[:1]])
    phase.demand("sessions keep their model", measured, holds=not moved)


def _first_decision(clients: Clients, after_s: float) -> float | None:
    """Returns when the first request after ``after_s`` had its decision; None if none had."""
    ends = [one.headed_s for one in list(clients.outcomes) if one.decided and one.began_s > after_s]
    return min(ends, default=None)


def start(stage: Stage) -> Phase:
    """Starts the cluster without the node for the Orchestrator, then that node."""
    phase = Phase("placement")
    began_s = time.monotonic()
    stage.start_cpu_nodes(*CPU_NODES)
    joined_s = time.monotonic()
    stage.deploy()
    wait_until(stage.answers, _WITHIN_S, "both HAProxies answer")
    phase.figures["nodes_joined_s"] = round(joined_s - began_s, 1)
    phase.figures["deploy_to_first_answers_s"] = round(time.monotonic() - joined_s, 1)
    with stage.clients() as clients:
        clients.keep(AUTO, 3)
        time.sleep(_BEFORE_S)
        alone = [*clients.outcomes]
        starts_s = time.monotonic()
        stage.start_gpu_node()
        node_s = time.monotonic()
        wait_until(lambda: _first_decision(clients, starts_s) is not None, _WITHIN_S, "a decision")
        outcomes = clients.stop()
    first_s = _first_decision(clients, starts_s) or 0.0
    wait_until(stage.is_complete, _WITHIN_S, "all replicas run")
    phase.report(outcomes, began_s, node_s)
    phase.figures["gpu_node_joined_s"] = round(node_s - starts_s, 1)
    decided = sum(one.decided for one in alone)
    phase.none_failed(outcomes, "`auto` has an answer without an Orchestrator")
    phase.demand(
        "no decision without an Orchestrator", f"{decided} of {len(alone)}", holds=not decided
    )
    after = f"{first_s - node_s:.1f} s after the node joined"
    phase.demand("decisions begin without an intervention", after, holds=first_s > node_s)
    _demand_placement(stage, phase)
    stage.bind()
    _demand_sessions(stage, phase)
    return phase


def _demand_placement(stage: Stage, phase: Phase) -> None:
    nodes = {name: sorted(node for node, _ in each) for name, each in stage.replicas().items()}
    phase.figures["replicas"] = nodes
    shared = nodes.pop("provider-shared")
    own = nodes.pop("Orchestrator")
    phase.demand(
        "the Orchestrator runs on the node with its resource", own, holds=own == [GPU_NODE]
    )
    for name, names in nodes.items():
        phase.demand(f"{name.split('-')[0]} on both", names, holds=names == [*CPU_NODES])
    phase.demand("provider-shared on nodes with CPUs", shared, holds=set(shared) <= set(CPU_NODES))


def orchestrator(stage: Stage) -> Phase:
    """Kills the Orchestrator's node during new conversations; another node joins."""
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
        wait_until(lambda: _first_decision(clients, node_s) is not None, _WITHIN_S, "a decision")
        time.sleep(_AFTER_S)
        outcomes = clients.stop()
    wait_until(stage.is_complete, _WITHIN_S, "all replicas run")
    back_s = time.monotonic()
    phase.report(outcomes, began_s, killed_s)
    last_s = max(one.headed_s for one in outcomes if one.decided and one.began_s < killed_s)
    first_s = _first_decision(clients, node_s) or 0.0
    phase.none_failed(outcomes)
    phase.demand(
        "decisions resume",
        f"{first_s - last_s:.1f} s without any; {first_s - node_s:.1f} s after the new node joined",
        holds=first_s > node_s,
    )
    phase.figures["all_back_after_new_node_s"] = round(back_s - node_s, 1)
    _demand_sessions(stage, phase)
    return phase


def cpu(stage: Stage) -> Phase:
    """Kills a node with ingress, provider client and HAProxy; another node joins."""
    phase = Phase("cpu")
    name = CPU_NODES[1]
    with stage.clients() as clients:
        began_s = _load(clients)
        killed_s = time.monotonic()
        dead_s = stage.cluster.nodes[name].kill()
        time.sleep(_DOWN_S)
        stage.start_cpu_nodes(name)
        node_s = time.monotonic()
        wait_until(stage.is_complete, _WITHIN_S, "all replicas run")
        back_s = time.monotonic()
        time.sleep(_AFTER_S)
        outcomes = clients.stop()
    phase.report(outcomes, began_s, killed_s)
    in_flight = [one for one in outcomes if one.began_s < dead_s and one.ended_s > killed_s]
    phase.figures["kill_took_s"] = round(dead_s - killed_s, 3)
    phase.figures["all_back_after_new_node_s"] = round(back_s - node_s, 1)
    for port, where in zip(
        stage.ports, ("through the other node", "through the killed node"), strict=True
    ):
        for kind, results in _by_kind([one for one in in_flight if one.port == port]).items():
            phase.note(f"in flight {where}: {kind}", _listed(results))
    phase.none_failed(
        [one for one in outcomes if one.began_s >= dead_s],
        "no request fails after the node has ended",
    )
    phase.note("all replicas run again", f"{back_s - node_s:.1f} s after the new node joined")
    _demand_sessions(stage, phase)
    return phase


def _by_kind(outcomes: Sequence[Outcome]) -> dict[str, dict[str, int]]:
    by_kind: dict[str, dict[str, int]] = {}
    for one in outcomes:
        results = by_kind.setdefault(one.kind, {})
        results[one.result] = results.get(one.result, 0) + 1
    return by_kind


def _listed(results: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {result}" for result, count in results.items())


def upgrade(stage: Stage) -> Phase:
    """Deploys with the path of an equal file while streams run."""
    phase = Phase("upgrade")
    old = {pid for each in stage.replicas().values() for _, pid in each}
    with stage.clients() as clients:
        began_s = _load(clients)
        clients.once(LONG_STREAM, _LONG_STREAMS)
        time.sleep(1)
        stage.file = "gateway-2.yaml" if stage.file == "gateway-1.yaml" else "gateway-1.yaml"
        deployed_s = time.monotonic()
        stage.deploy()
        wait_until(lambda: _renewed(stage, old), 2 * _WITHIN_S, "only new replicas run")
        new_s = time.monotonic()
        time.sleep(_AFTER_S)
        outcomes = clients.stop()
    phase.report(outcomes, began_s, deployed_s)
    streams = [one for one in outcomes if "stream" in one.kind]
    cut = [one for one in streams if one.result in {CUT, CUT_WITH_ERROR}]
    phase.demand("no stream is cut", f"{len(cut)} of {len(streams)}", holds=not cut)
    phase.none_failed(outcomes)
    phase.note("only new replicas run", f"after {new_s - deployed_s:.1f} s")
    _demand_sessions(stage, phase)
    return phase


def _renewed(stage: Stage, old: set[int]) -> bool:
    pids = {pid for replicas in stage.replicas().values() for _, pid in replicas}
    living = stage.cluster.owners().keys()
    return bool(pids) and not pids & old and not living & old and stage.is_complete()


def gcs(stage: Stage) -> Phase:
    """Kills the head's gcs_server and starts it again with the same command."""
    phase = Phase("gcs")
    process = stage.cluster.nodes[HEAD].process("gcs_server")
    if process is None:
        raise RuntimeError("the head has no process gcs_server")
    with stage.clients() as clients:
        began_s = _load(clients)
        killed_s = time.monotonic()
        restart_alone(process, _DOWN_S, stage.folder / "gcs.log")
        back_s = time.monotonic()
        _deploy_again(stage, phase, back_s)
        time.sleep(_AFTER_S)
        outcomes = clients.stop()
    phase.report(outcomes, began_s, killed_s)
    phase.none_failed(outcomes)
    _demand_sessions(stage, phase)
    return phase


def head(stage: Stage) -> Phase:
    """Kills the head with all its processes and starts it again on the same ports."""
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
        _deploy_again(stage, phase, back_s)
        time.sleep(_AFTER_S)
        outcomes = clients.stop()
    phase.figures["head_up_again_s"] = round(back_s - killed_s - _DOWN_S, 1)
    phase.report(outcomes, began_s, killed_s)
    phase.none_failed(outcomes)
    same = all(
        set(each) <= set(stage.replicas().get(name, []))
        for name, each in replicas.items()
        if name != "Orchestrator"
    )
    phase.demand(
        "replicas outlive the head", "the same processes" if same else "other processes", holds=same
    )
    _demand_sessions(stage, phase)
    return phase


def _deploy_again(stage: Stage, phase: Phase, back_s: float) -> None:
    """Waits for `serve status` and deploys another number of replicas."""

    def is_running() -> bool:
        status = stage.cluster.status() or {}
        return bool(status.get("applications", {}).get("fingerpost", {}).get("status") == "RUNNING")

    wait_until(is_running, _WITHIN_S, "serve status reports RUNNING")
    status_s = time.monotonic()
    phase.note("`serve status` reports RUNNING again", f"after {status_s - back_s:.1f} s")
    stage.orchestrators = 3 - stage.orchestrators
    stage.deploy()
    wait_until(stage.is_complete, _WITHIN_S, "the new number of replicas runs")
    measured = f"{stage.orchestrators} replicas {time.monotonic() - status_s:.1f} s later"
    phase.note("`serve deploy` takes effect", measured)


PHASES: Final[dict[str, Callable[[Stage], Phase]]] = {
    "orchestrator": orchestrator,
    "cpu": cpu,
    "upgrade": upgrade,
    "gcs": gcs,
    "head": head,
}


def run(names: Sequence[str]) -> list[Phase]:
    """Runs the phases in turn; the first one starts the cluster and always runs."""
    (port,) = free_ports(1)
    key = secrets.token_hex(16)
    with mock(port), running_cluster({KEY_NAME: key}) as (cluster, folder):
        stage = Stage(cluster, folder, port, key)
        phases: list[Phase] = []
        for name, phase_of in (("placement", start), *PHASES.items()):
            if name == "placement" or (name in names and phases[0].holds):
                phases.append(_timed(name, phase_of, stage))
        return [phase for phase in phases if phase.name in names]


def _timed(name: str, phase_of: Callable[[Stage], Phase], stage: Stage) -> Phase:
    """Runs a phase; returns only the failure if it does not end."""
    began_s = time.monotonic()
    try:
        phase = phase_of(stage)
    except RuntimeError as error:
        phase = Phase(name)
        phase.demand("the phase ends", error, holds=False)
    phase.figures["phase_took_s"] = round(time.monotonic() - began_s, 1)
    for one in phase.verdicts:
        print(f"{name}: {one.demand}: {one.measured}", flush=True)
    return phase


def table(phases: Sequence[Phase]) -> str:
    """Returns all verdicts and figures as Markdown."""
    lines = ["| phase | demand | measured | holds |", "|---|---|---|---|"]
    lines += [
        f"| {phase.name} | {one.demand} | {one.measured} | {verdict(holds=one.holds)} |"
        for phase in phases
        for one in phase.verdicts
    ]
    lines += ["", "| phase | when | kind | requests | results | wait p50 s | p99 s | longest s |"]
    lines += ["|---|---|---|--:|---|--:|--:|--:|"]
    for phase in phases:
        for when in ("before", "from then on"):
            for kind, row in phase.figures.get(when, {}).items():
                waits = " | ".join(str(row[f"wait_{one}_s"]) for one in ("p50", "p99", "longest"))
                cells = f"{kind} | {row['requests']} | {_listed(row['results'])} | {waits}"
                lines.append(f"| {phase.name} | {when} | {cells} |")
    return "\n".join(lines)


def main() -> int:
    """Runs the benchmark; returns 0 if all demands hold."""
    known = ["placement", *PHASES]
    parser = script_parser(__doc__)
    parser.add_argument("--phases", nargs="+", choices=known, default=known)
    options = parser.parse_args()
    end_on_terminate()
    signal.signal(signal.SIGALRM, signal.getsignal(signal.SIGTERM))
    signal.alarm(_LIMIT_S)
    about = machine()
    phases = run(options.phases)
    about["load_average_after"] = machine()["load_average"]
    text = table(phases)
    print("\n" + text)
    result = {"machine": about, "phases": [asdict(phase) for phase in phases]}
    head = f"# Several nodes\n\n{headline(about)} How: benchmarks/several_nodes.py.\n\n"
    write_results(options.results, "several_nodes", result, f"{head}{text}", indent=None)
    return 0 if all(phase.holds for phase in phases) else 1


if __name__ == "__main__":
    sys.exit(main())
