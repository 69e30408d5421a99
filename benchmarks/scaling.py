"""What a run of autoscaling.py has seen, and what follows from it. Pure functions."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Self

from machine import headline

DECIDED: Final = frozenset({"route", "no_match"})
"""Reasons of decisions that the Orchestrator made."""


@dataclass(frozen=True, slots=True)
class Replicas:
    """How many of one deployment there are, by Serve's state."""

    starting: int = 0
    running: int = 0
    stopping: int = 0
    """Those take nothing new and end what they have."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at the cluster; times are seconds since the run began."""

    at: float
    replicas: Mapping[str, Replicas]
    streams: int
    """Open ones, as their clients see them."""
    haproxies: int
    """Processes; an old one lives on for the streams that it carries."""

    def line(self) -> list[Any]:
        """The sample as JSON."""
        counts = {name: list(asdict(one).values()) for name, one in self.replicas.items()}
        return [round(self.at, 2), self.streams, self.haproxies, counts]

    @classmethod
    def of(cls, line: Sequence[Any]) -> Self:
        """A sample from its JSON."""
        at, streams, haproxies, counts = line
        return cls(at, {name: Replicas(*each) for name, each in counts.items()}, streams, haproxies)


@dataclass(frozen=True, slots=True)
class Phase:
    """One load, from its first request until all is as before."""

    deployment: str
    what: str
    began: float
    eased: float
    """When the load ended."""
    ended: float
    requests: int
    outcomes: Mapping[str, int]
    """Of decisions: how many had which reason."""
    faults: int
    first_fault: str


@dataclass(frozen=True, slots=True)
class Stream:
    """One streamed answer, as its client saw it."""

    began: float
    ended: float
    events: int
    wanted: int
    fault: str
    """What is wrong with it; empty for one that is whole."""
    phase: str
    """The deployment whose second replica it began on or beside; empty for a long one."""


@dataclass(frozen=True, slots=True)
class Found:
    """Everything."""

    samples: Sequence[Sample]
    phases: Sequence[Phase]
    streams: Sequence[Stream]

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "phases": [asdict(phase) for phase in self.phases],
            "streams": [asdict(stream) for stream in self.streams],
            "samples": [sample.line() for sample in self.samples],
        }

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Self:
        """From its JSON."""
        return cls(
            [Sample.of(line) for line in facts["samples"]],
            [Phase(**each) for each in facts["phases"]],
            [Stream(**each) for each in facts["streams"]],
        )


@dataclass(frozen=True, slots=True)
class Scaling:
    """How one deployment went up and down; None for what was not seen."""

    path: tuple[int, ...]
    """The numbers of running replicas, one after another."""
    starts_s: float | None
    """From the first request of the load until a replica is starting."""
    up_s: float | None
    """From the first request of the load until two are running."""
    down_s: float | None
    """From the end of the load until one is running."""
    drained_s: float | None
    """From then until the other one is gone."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One thing that must hold."""

    name: str
    holds: bool
    seen: str


def scaling(samples: Sequence[Sample], phase: Phase) -> Scaling:
    """What the samples say about a phase's deployment."""
    during = [
        (sample.at, sample.replicas.get(phase.deployment, Replicas()))
        for sample in samples
        if phase.began <= sample.at <= phase.ended
    ]
    path = tuple(
        one.running
        for place, (_, one) in enumerate(during)
        if place == 0 or one.running != during[place - 1][1].running
    )
    starts = next((at for at, one in during if one.starting or one.running > 1), None)
    up = next((at for at, one in during if one.running > 1), None)
    later = [(at, one) for at, one in during if at >= phase.eased]
    down = None if up is None else next((at for at, one in later if one.running == 1), None)
    gone = None
    if down is not None:
        gone = next((at for at, one in later if at >= down and not one.stopping), None)
    return Scaling(
        path,
        _between(phase.began, starts),
        _between(phase.began, up),
        _between(phase.eased, down),
        None if down is None else _between(down, gone),
    )


def _between(start: float, end: float | None) -> float | None:
    return None if end is None else round(end - start, 1)


def strays(found: Found) -> list[str]:
    """Deployments that were seen with more or less than one replica when it was not their turn."""
    seen = {
        name
        for sample in found.samples
        for name, one in sample.replicas.items()
        if (one.running != 1 or one.starting)
        and not any(
            phase.deployment == name and phase.began <= sample.at <= phase.ended
            for phase in found.phases
        )
    }
    return sorted(seen)


def judge(found: Found) -> list[Verdict]:
    """All that must hold."""
    return [*_each_alone(found), *_streams(found), *_load(found)]


def _each_alone(found: Found) -> Iterator[Verdict]:
    for phase in found.phases:
        seen = scaling(found.samples, phase)
        path = " -> ".join(map(str, seen.path))
        yield Verdict(f"{phase.deployment} goes 1 -> 2 -> 1", seen.path == (1, 2, 1), path)
    others = strays(found)
    yield Verdict("all others stay at 1, all the time", not others, ", ".join(others) or "they did")


def _streams(found: Found) -> Iterator[Verdict]:
    long = [stream for stream in found.streams if not stream.phase]
    late = [stream for stream in found.streams if stream.phase]
    around = [
        stream
        for stream in long
        if stream.began < found.phases[0].began and stream.ended > found.phases[-1].ended
    ]
    name = "long streams run from before the first load until after the last replica is gone"
    yield Verdict(name, len(around) == len(long) > 0, f"{len(around)} of {len(long)}")
    for what, streams in (("long", long), ("late", late)):
        cut = [stream for stream in streams if stream.fault]
        why = f"; the first: {cut[0].fault}" if cut else ""
        if streams:
            seen = f"{len(cut)} of {len(streams)} cut{why}"
            yield Verdict(f"every event of the {what} streams arrives, in order", not cut, seen)


def _load(found: Found) -> Iterator[Verdict]:
    requests = sum(phase.requests for phase in found.phases)
    faults = sum(phase.faults for phase in found.phases)
    why = next((phase.first_fault for phase in found.phases if phase.faults), "")
    seen = f"{faults} of {requests} bad" + (f"; the first: {why}" if why else "")
    yield Verdict("every request of the loads has a good answer", requests > 0 and not faults, seen)
    reasons = Counter[str]()
    for phase in found.phases:
        reasons.update(phase.outcomes)
    if reasons:
        late = sum(reasons[reason] for reason in reasons.keys() - DECIDED)
        name = "the Orchestrator makes every decision that it is asked for"
        yield Verdict(name, not late, f"{late} of {reasons.total()} left to the default")


def table(found: Found) -> str:
    """The figures as Markdown."""
    lines = ["| what must hold | seen | holds |", "|---|---|---|"]
    lines += [
        f"| {one.name} | {one.seen} | {'yes' if one.holds else 'NO'} |" for one in judge(found)
    ]
    heads = ["load", "requests", "a replica starts after", "two run after"]
    heads += ["one again, after its end", "the other is gone, after that"]
    lines += ["", f"| {' | '.join(heads)} |", "|---|--:|--:|--:|--:|--:|"]
    for phase in found.phases:
        seen = scaling(found.samples, phase)
        times = (seen.starts_s, seen.up_s, seen.down_s, seen.drained_s)
        cells = " | ".join("never" if one is None else f"{one:.1f} s" for one in times)
        lines.append(f"| {phase.what} | {phase.requests} | {cells} |")
    for phase in found.phases:
        if phase.outcomes:
            told = ", ".join(f"{name} {count}" for name, count in sorted(phase.outcomes.items()))
            lines += ["", f"Reasons of the decisions: {told}."]
    return "\n".join(lines)


def markdown(result: Mapping[str, Any], found: Found, picture: str) -> str:
    """The whole report."""
    settings = result["settings"]
    lines = [
        "# Autoscaling, each deployment on its own",
        "",
        f"{headline(result['machine'])} How: benchmarks/autoscaling.py.",
        "",
        f"![Replicas and open streams over time]({picture})",
        "",
        table(found),
        "",
        "Streams:",
        "",
        *_stream_lines(found),
        "",
        "Settings:",
        "",
        *(f"- {name}: {told}" for name, told in settings.items()),
    ]
    return "\n".join(lines) + "\n"


def _stream_lines(found: Found) -> Iterator[str]:
    for phase in dict.fromkeys(stream.phase for stream in found.streams):
        mine = [stream for stream in found.streams if stream.phase == phase]
        lasted = max(stream.ended - stream.began for stream in mine)
        began = min(stream.began for stream in mine)
        name = f"begun with two replicas of {phase}" if phase else "long"
        yield (
            f"- {len(mine)} {name}: from {began:.0f} s on, {mine[0].wanted} events each, "
            f"{lasted:.0f} s at the longest"
        )
