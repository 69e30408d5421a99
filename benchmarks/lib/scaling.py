"""Samples of a run of autoscaling.py, and verdicts and tables from them. Pure functions.

The texts of verdicts and tables are those of the recorded results, which a test compares.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Self

from benchmarks.lib.machine import headline
from benchmarks.lib.script import verdict

DECIDED: Final = frozenset({"route", "no_match"})
"""Reasons of decisions that the Orchestrator made."""


@dataclass(frozen=True, slots=True)
class Replicas:
    """Number of replicas of one deployment by Serve's state."""

    starting: int = 0
    running: int = 0
    stopping: int = 0
    """Draining replicas: they accept no new requests and end those they have."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The cluster at one moment, in seconds since the run began."""

    at: float
    replicas: Mapping[str, Replicas]
    streams: int
    """Number of open streams."""
    haproxies: int
    """Number of processes; an old one runs until its streams have ended."""

    def line(self) -> list[Any]:
        """Returns the sample for JSON."""
        counts = {name: list(asdict(one).values()) for name, one in self.replicas.items()}
        return [round(self.at, 2), self.streams, self.haproxies, counts]

    @classmethod
    def of(cls, line: Sequence[Any]) -> Self:
        """Reads a sample from its JSON."""
        at, streams, haproxies, counts = line
        return cls(at, {name: Replicas(*each) for name, each in counts.items()}, streams, haproxies)


@dataclass(frozen=True, slots=True)
class LoadPhase:
    """A load, from its first request until the deployment has one replica again."""

    deployment: str
    what: str
    began: float
    eased: float
    """Time of the end of the load."""
    ended: float
    requests: int
    outcomes: Mapping[str, int]
    """Number of decisions by reason."""
    faults: int
    first_fault: str


@dataclass(frozen=True, slots=True)
class StreamRecord:
    """One streamed answer, as its client received it."""

    began: float
    ended: float
    events: int
    wanted: int
    fault: str
    """Problem of the stream; empty if it is complete."""
    phase: str
    """Deployment that had two replicas when it began; empty for a long stream."""


@dataclass(frozen=True, slots=True)
class ScalingRun:
    """All samples, phases and streams."""

    samples: Sequence[Sample]
    phases: Sequence[LoadPhase]
    streams: Sequence[StreamRecord]

    def facts(self) -> dict[str, Any]:
        """Returns the run for JSON."""
        return {
            "phases": [asdict(phase) for phase in self.phases],
            "streams": [asdict(stream) for stream in self.streams],
            "samples": [sample.line() for sample in self.samples],
        }

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Self:
        """Reads a run from its JSON."""
        return cls(
            [Sample.of(line) for line in facts["samples"]],
            [LoadPhase(**each) for each in facts["phases"]],
            [StreamRecord(**each) for each in facts["streams"]],
        )


@dataclass(frozen=True, slots=True)
class Scaling:
    """Path and times of one deployment; a time is None if no sample shows it."""

    path: tuple[int, ...]
    """Numbers of running replicas in turn."""
    starts_s: float | None
    """From the first request of the load until a replica is starting."""
    up_s: float | None
    """From the first request of the load until two are running."""
    down_s: float | None
    """From the end of the load until one is running."""
    drained_s: float | None
    """From then until the other replica has ended."""


@dataclass(frozen=True, slots=True)
class ScalingVerdict:
    """A demand on the run, and what the samples show."""

    name: str
    holds: bool
    seen: str


def scaling(samples: Sequence[Sample], phase: LoadPhase) -> Scaling:
    """Returns path and times of a phase's deployment."""
    during = [
        (sample.at, sample.replicas.get(phase.deployment, Replicas()))
        for sample in samples
        if phase.began <= sample.at <= phase.ended
    ]
    path = tuple(
        one.running
        for index, (_, one) in enumerate(during)
        if index == 0 or one.running != during[index - 1][1].running
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


def strays(run: ScalingRun) -> list[str]:
    """Returns deployments whose number of replicas changed outside their phase."""
    names = {
        name
        for sample in run.samples
        for name, one in sample.replicas.items()
        if (one.running != 1 or one.starting)
        and not any(
            phase.deployment == name and phase.began <= sample.at <= phase.ended
            for phase in run.phases
        )
    }
    return sorted(names)


def judge(run: ScalingRun) -> list[ScalingVerdict]:
    """Returns all verdicts."""
    return [*_each_alone(run), *_streams(run), *_load(run)]


def _each_alone(run: ScalingRun) -> Iterator[ScalingVerdict]:
    for phase in run.phases:
        path = scaling(run.samples, phase).path
        shown = " -> ".join(map(str, path))
        yield ScalingVerdict(f"{phase.deployment} goes 1 -> 2 -> 1", path == (1, 2, 1), shown)
    others = strays(run)
    yield ScalingVerdict(
        "all others stay at 1, all the time", not others, ", ".join(others) or "they did"
    )


def _streams(run: ScalingRun) -> Iterator[ScalingVerdict]:
    long = [stream for stream in run.streams if not stream.phase]
    late = [stream for stream in run.streams if stream.phase]
    around = [
        stream
        for stream in long
        if stream.began < run.phases[0].began and stream.ended > run.phases[-1].ended
    ]
    name = "long streams run from before the first load until after the last replica is gone"
    yield ScalingVerdict(name, len(around) == len(long) > 0, f"{len(around)} of {len(long)}")
    for what, streams in (("long", long), ("late", late)):
        cut = [stream for stream in streams if stream.fault]
        why = f"; the first: {cut[0].fault}" if cut else ""
        if streams:
            measured = f"{len(cut)} of {len(streams)} cut{why}"
            yield ScalingVerdict(
                f"every event of the {what} streams arrives, in order", not cut, measured
            )


def _load(run: ScalingRun) -> Iterator[ScalingVerdict]:
    requests = sum(phase.requests for phase in run.phases)
    faults = sum(phase.faults for phase in run.phases)
    why = next((phase.first_fault for phase in run.phases if phase.faults), "")
    measured = f"{faults} of {requests} bad" + (f"; the first: {why}" if why else "")
    yield ScalingVerdict(
        "every request of the loads has a good answer", requests > 0 and not faults, measured
    )
    reasons = Counter[str]()
    for phase in run.phases:
        reasons.update(phase.outcomes)
    if reasons:
        late = sum(reasons[reason] for reason in reasons.keys() - DECIDED)
        name = "the Orchestrator makes every decision that it is asked for"
        yield ScalingVerdict(name, not late, f"{late} of {reasons.total()} left to the default")


def table(run: ScalingRun) -> str:
    """Returns the figures as Markdown."""
    lines = ["| what must hold | seen | holds |", "|---|---|---|"]
    lines += [f"| {one.name} | {one.seen} | {verdict(holds=one.holds)} |" for one in judge(run)]
    heads = ["load", "requests", "a replica starts after", "two run after"]
    heads += ["one again, after its end", "the other is gone, after that"]
    lines += ["", f"| {' | '.join(heads)} |", "|---|--:|--:|--:|--:|--:|"]
    for phase in run.phases:
        times = scaling(run.samples, phase)
        in_turn = (times.starts_s, times.up_s, times.down_s, times.drained_s)
        cells = " | ".join("never" if one is None else f"{one:.1f} s" for one in in_turn)
        lines.append(f"| {phase.what} | {phase.requests} | {cells} |")
    for phase in run.phases:
        if phase.outcomes:
            reasons = ", ".join(f"{name} {count}" for name, count in sorted(phase.outcomes.items()))
            lines += ["", f"Reasons of the decisions: {reasons}."]
    return "\n".join(lines)


def markdown(result: Mapping[str, Any], run: ScalingRun, picture: str) -> str:
    """Returns the whole report."""
    settings = result["settings"]
    lines = [
        "# Autoscaling, each deployment on its own",
        "",
        f"{headline(result['machine'])} How: benchmarks/autoscaling.py.",
        "",
        f"![Replicas and open streams over time]({picture})",
        "",
        table(run),
        "",
        "Streams:",
        "",
        *_stream_lines(run),
        "",
        "Settings:",
        "",
        *(f"- {name}: {value}" for name, value in settings.items()),
    ]
    return "\n".join(lines) + "\n"


def _stream_lines(run: ScalingRun) -> Iterator[str]:
    for phase in dict.fromkeys(stream.phase for stream in run.streams):
        streams = [stream for stream in run.streams if stream.phase == phase]
        lasted = max(stream.ended - stream.began for stream in streams)
        began = min(stream.began for stream in streams)
        name = f"begun with two replicas of {phase}" if phase else "long"
        yield (
            f"- {len(streams)} {name}: from {began:.0f} s on, {streams[0].wanted} events each, "
            f"{lasted:.0f} s at the longest"
        )
