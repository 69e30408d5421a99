"""Measures what clients notice while parts of a gateway die, hang or fail, on this machine.

    .venv/bin/python benchmarks/chaos.py [--events redis-killed provider-503]

A Serve cluster has two applications: one with its sessions in Redis and two provider clients'
replicas, one with its sessions in the Affinity deployment; each has two ingress replicas. HAProxy
sends a request again if an ingress closed the connection without an answer (``--retry-on``; Serve's
default is ``conn-failure``). Each model has an endpoint at two providers; only the first one is made
to fail.

Clients send complete requests of half a second, streams of two seconds and requests in sessions, each
as soon as its last answer has ended, and retry nothing. Every event begins after some seconds of
that load. The processes to kill are those that Serve lists for this cluster.

``node-killed`` has a cluster of its own, with a head and two nodes, each with an ingress and provider
clients: the second one is killed as a whole, and replaced some seconds later.

The demands: no complete request is lost; no stream ends without an error event, apart from those
whose ingress is killed, which nothing can end in order; no session changes its model while Redis runs.
"""

import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, Final

from benchmarks.lib.arena import IN_MEMORY, IN_REDIS, RETRY_ON, Arena, running_arena, session_kinds
from benchmarks.lib.clients import CUT, CUT_WITH_ERROR, OK, Clients, Outcome, RequestKind
from benchmarks.lib.machine import headline, machine
from benchmarks.lib.node_arena import NodeArena, running_node_arena
from benchmarks.lib.nodes import wait_until
from benchmarks.lib.script import end_on_terminate, script_parser, verdict, write_results

_LIMIT_S: Final = 900
"""The script ends after this time."""
_BEFORE_S, _AFTER_S, _LASTS_S = 4.0, 4.0, 6.0
_BACK_S: Final = 90.0
_BIND_S: Final = 60.0
_SLOW_S: Final = 0.5
"""Redis answers at least this much later than the 250 ms for which the gateway waits."""
_PROBES: Final = 20
_STREAM: Final = "stream"

AnyArena = Arena | NodeArena

Change = Callable[[Any], object]
"""Something that happens to an ``Arena``, or to a ``NodeArena``."""


@dataclass(frozen=True, slots=True)
class Event:
    """What happens, and what a client may notice of it."""

    name: str
    begin: Change
    end: Change | None = None
    """What ends it after some seconds; None for a process that Serve starts again."""
    application: str = IN_REDIS
    kills_ingress: bool = False
    """Streams of the killed process end without an error event."""
    may_move: bool = False
    """Sessions may change their model."""
    restarts: bool = False
    """After ``end``, too, Serve starts replicas again."""


def _kill(name: str, arena: Arena) -> None:
    arena.replica(name).kill()


def _switch(behaviour: str | None, arena: Arena) -> None:
    arena.switch.behaviour = behaviour


def _delay(delay_s: float, arena: Arena) -> None:
    arena.relay.delay_s = delay_s


def _signal(number: signal.Signals, arena: Arena) -> None:
    arena.redis.send(number)


EVENTS: Final = (
    Event("provider-replica-killed", partial(_kill, f"{IN_REDIS}:provider-vllm")),
    Event("ingress-killed", partial(_kill, f"{IN_REDIS}:Ingress"), kills_ingress=True),
    Event("orchestrator-killed", partial(_kill, f"{IN_REDIS}:Orchestrator")),
    Event("affinity-killed", partial(_kill, f"{IN_MEMORY}:Affinity"), application=IN_MEMORY),
    Event("provider-503", partial(_switch, "503"), partial(_switch, None)),
    Event("provider-hangs", partial(_switch, "hang"), partial(_switch, None)),
    Event("provider-cuts", partial(_switch, "cut"), partial(_switch, None)),
    Event("redis-slow", partial(_delay, _SLOW_S), partial(_delay, 0.0)),
    Event("redis-stopped", partial(_signal, signal.SIGSTOP), partial(_signal, signal.SIGCONT)),
    Event(
        "redis-killed",
        lambda arena: arena.redis.kill(),
        lambda arena: arena.redis.start(),
        may_move=True,
    ),
)
NODE_EVENT: Final = Event(
    "node-killed",
    lambda arena: arena.kill_node(),
    lambda arena: arena.replace_node(),
    kills_ingress=True,
    restarts=True,
)


@dataclass(frozen=True, slots=True)
class Report:
    """The figures of one event."""

    event: str
    unary: int
    lost: dict[str, int]
    """Complete requests without a correct answer, by result."""
    first_loss: str
    streams: int
    with_error: int
    """Streams that an error event ended."""
    refused: dict[str, int]
    """Streams that did not begin, by result."""
    cut: int
    """Streams that ended without an error event."""
    silent: int
    """Those of them whose end looks like that of a complete answer."""
    sessions_moved: list[str]
    longest_s: float
    """The longest wait for a complete answer or for the head of a stream."""
    disturbed_s: float
    """From the event to the end of the last request that failed or waited unusually long."""
    demands: dict[str, bool]
    back_s: float = 0.0
    """From the event until it is ended, or until as many replicas run as before."""
    injected: int = 0
    """Requests that a provider was asked and failed."""


def _load(clients: Clients, event: Event) -> None:
    prefix = "/memory" if event.application == IN_MEMORY else ""
    clients.keep(RequestKind("complete", "vllm/slow", prefix=prefix), 6)
    clients.keep(RequestKind(_STREAM, "vllm/slow", 40, prefix=prefix), 12)
    clients.keep(RequestKind("new session", "auto", session="new-{}", prefix=prefix), 2)
    for kind in session_kinds(event.application):
        clients.keep(kind, 1)


def _bind(arena: AnyArena, application: str) -> dict[str, str]:
    """Binds all sessions; returns the model of each."""
    bound: dict[str, str] = {}

    def are_bound() -> bool:
        with arena.clients() as clients:
            for kind in session_kinds(application):
                clients.once(kind, 1)
            outcomes = clients.stop()
        bound.update({one.kind: one.model for one in outcomes})
        return all(one.reason == "affinity" for one in outcomes)

    wait_until(are_bound, _BIND_S, f"the sessions of {application} are bound")
    return bound


def _settle(arena: AnyArena) -> None:
    """Waits until nothing rests any more: conversations begin at either provider again."""
    kind = RequestKind("settle", "vllm/slow")

    def is_asked() -> bool:
        before = arena.switch.asked[None]
        with arena.clients() as clients:
            clients.once(kind, _PROBES)
            clients.stop()
        return arena.switch.asked[None] - before > _PROBES // 4

    wait_until(is_asked, _BACK_S, "the first provider is asked again")


def run_event(arena: AnyArena, event: Event) -> Report:
    """Runs one event under load; returns its figures."""
    _settle(arena)
    injected = _injected(arena)
    bound = _bind(arena, event.application)
    complete = {name: len(pids) for name, pids in arena.replicas().items()}
    before = arena.replicas()
    waits = event.end is None or event.restarts

    def is_back() -> bool:
        now = arena.replicas()
        if now == before:
            return False  # Serve has not noticed yet
        return {name: len(pids) for name, pids in now.items()} == complete

    with arena.clients() as clients:
        _load(clients, event)
        time.sleep(_BEFORE_S)
        struck_s = time.monotonic()
        event.begin(arena)
        if event.end is not None:
            time.sleep(_LASTS_S)
            event.end(arena)
        if waits:
            wait_until(is_back, _BACK_S, f"{event.name}: all replicas run again")
        back_s = time.monotonic() - struck_s
        time.sleep(_AFTER_S)
        outcomes = clients.stop()
    return replace(
        report(event, outcomes, bound, struck_s),
        back_s=round(back_s, 1),
        injected=_injected(arena) - injected,
    )


def _injected(arena: AnyArena) -> int:
    """Returns how many requests a provider has failed so far."""
    return sum(count for name, count in arena.switch.asked.items() if name is not None)


def report(
    event: Event, outcomes: Sequence[Outcome], bound: dict[str, str], struck_s: float
) -> Report:
    """Returns the figures of the requests of an event that began at ``struck_s``."""
    streams = [one for one in outcomes if one.kind == _STREAM]
    unary = [one for one in outcomes if one.kind != _STREAM]
    lost = [one for one in unary if one.result != OK]
    cut = [one for one in streams if one.result == CUT]
    silent = [one for one in cut if "Error: " not in one.detail]
    moved = [
        f"{one.kind}: {one.reason} {one.model}"
        for one in unary
        if one.kind in bound and one.result == OK and one.model != bound[one.kind]
    ]
    demands = {
        "no complete request lost": not lost,
        "no stream without an end": not (silent if event.kills_ingress else cut),
    }
    if not event.may_move:
        demands["no session moved"] = not moved
    began = Counter(one.result for one in streams if one.result not in {OK, CUT, CUT_WITH_ERROR})
    return Report(
        event=event.name,
        unary=len(unary),
        lost=dict(Counter(one.result for one in lost)),
        first_loss=lost[0].detail if lost else "",
        streams=len(streams),
        with_error=sum(one.result == CUT_WITH_ERROR for one in streams),
        refused=dict(began),
        cut=len(cut),
        silent=len(silent),
        sessions_moved=moved,
        longest_s=round(max(one.waited_s for one in outcomes), 2),
        disturbed_s=round(_disturbed_s(outcomes, struck_s), 1),
        demands=demands,
    )


def _disturbed_s(outcomes: Sequence[Outcome], struck_s: float) -> float:
    before = [one for one in outcomes if one.ended_s < struck_s]
    usual_s = {
        is_stream: 2 * max(one.waited_s for one in before if is_stream == (one.kind == _STREAM))
        for is_stream in (True, False)
    }
    ends = [
        one.ended_s
        for one in outcomes
        if one.ended_s >= struck_s
        and (one.result != OK or one.waited_s > usual_s[one.kind == _STREAM])
    ]
    return max(ends, default=struck_s) - struck_s


def table(reports: Sequence[Report]) -> str:
    """Returns the figures as Markdown."""
    heads = (
        *("event", "complete requests", "lost", "streams", "not begun"),
        *("ended by an error event", "without one", "of these silent", "sessions moved"),
        *(
            "longest wait s",
            "disturbed for s",
            "over after s",
            "failed by provider",
            "demands hold",
        ),
    )
    lines = [f"| {' | '.join(heads)} |", "|---|" + "--:|" * (len(heads) - 2) + "---|"]
    for one in reports:
        failed = [name for name, holds in one.demands.items() if not holds]
        cells: tuple[Any, ...] = (
            *(one.event, one.unary, _listed(one.lost), one.streams, _listed(one.refused)),
            *(one.with_error, one.cut, one.silent, len(one.sessions_moved)),
            *(one.longest_s, one.disturbed_s, one.back_s, one.injected),
            f"{verdict(holds=not failed)}{': not ' if failed else ''}{'; '.join(failed)}",
        )
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def _listed(results: dict[str, int]) -> str:
    return ", ".join(f"{count} {result}" for result, count in results.items()) or "0"


def main() -> int:
    """Runs the benchmark; returns 0 if all demands hold."""
    known = [event.name for event in (*EVENTS, NODE_EVENT)]
    parser = script_parser(__doc__)
    parser.add_argument("--events", nargs="+", choices=known, default=known)
    parser.add_argument("--retry-on", default=RETRY_ON, help="value of RAY_SERVE_HAPROXY_RETRY_ON")
    options = parser.parse_args()
    end_on_terminate()
    signal.signal(signal.SIGALRM, signal.getsignal(signal.SIGTERM))
    signal.alarm(_LIMIT_S)
    about = machine()
    reports = []
    chosen = [event for event in EVENTS if event.name in options.events]
    if chosen:
        with running_arena(options.retry_on) as arena:
            for event in chosen:
                reports.append(run_event(arena, event))
                print(reports[-1], flush=True)
    if NODE_EVENT.name in options.events:
        with running_node_arena(options.retry_on) as nodes:
            reports.append(run_event(nodes, NODE_EVENT))
            print(reports[-1], flush=True)
    about["load_average_after"] = machine()["load_average"]
    text = table(reports)
    print("\n" + text)
    result = {
        "machine": about,
        "retry_on": options.retry_on,
        "events": [asdict(one) for one in reports],
    }
    head = f"# Chaos\n\n{headline(about)} How: benchmarks/chaos.py; `RAY_SERVE_HAPROXY_RETRY_ON={options.retry_on}`.\n\n"
    write_results(options.results, "chaos", result, head + text)
    return 0 if all(all(one.demands.values()) for one in reports) else 1


if __name__ == "__main__":
    sys.exit(main())
