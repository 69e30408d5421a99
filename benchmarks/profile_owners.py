"""Shows whose code a request's CPU goes to: Serve's, its HTTP libraries', or the gateway's own.

    .venv/bin/python benchmarks/profile_owners.py

Samples the replicas of the overhead benchmark's applications with py-spy, which it installs in an
environment of its own, while eight clients send complete answers or streams. A sample of the event
loop's thread belongs to the innermost frame whose owner is known, and the thread's CPU time is
divided by these shares. The CPU time of all other threads is Ray's: its core in C++, and what looks
after the replica. py-spy stops the process for each sample, which makes answers slower and does not
count as CPU time of the process.
"""

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import psutil

from benchmarks.lib.machine import headline, machine
from benchmarks.lib.peers import executable_of, install_tool
from benchmarks.lib.processes import temporary_folder
from benchmarks.lib.script import end_on_terminate, script_parser, write_results
from benchmarks.lib.testbed import Testbed, running_testbed
from benchmarks.lib.variants import VARIANTS, Variant, Workload, load_of

_SPY: Final = "py-spy==0.4.3"
_RATE: Final = 250
_SECONDS: Final = 8.0
_LOADS: Final = (Workload("unary", 8), Workload("stream", 8))
_REPLICAS: Final[Mapping[str, tuple[str, ...]]] = {
    "raw-inline": ("raw-inline:Echo",),
    "fingerpost-inline": ("fingerpost:Ingress",),
    "raw-hop": ("raw-hop:Echo", "raw-hop:Client"),
    "fingerpost-dedicated": ("fingerpost:Ingress", "fingerpost:provider-vllm"),
}
"""The replicas whose CPU a request of a variant takes, by the begin of their names."""
_OWNERS: Final = (
    ("fingerpost", re.compile(r"\((?:serve_app|deployments)/")),
    ("raw relay", re.compile(r"\(benchmarks/")),
    ("ray serve", re.compile(r"\(ray/serve/")),
    ("ray core and gRPC", re.compile(r"\((?:ray|grpc)/")),
    ("uvicorn", re.compile(r"\((?:uvicorn|starlette|httptools)/")),
    ("aiohttp", re.compile(r"\((?:aiohttp|multidict|yarl)/")),
)
_REST: Final = "Python and its event loop"
_LOOP: Final = re.compile(r"thread \((\d+)\): AsyncIO Thread")
"""The thread that runs a replica's event loop, as py-spy writes it: its id and its name."""
_OTHER_THREADS: Final = "other threads"
_LINE: Final = re.compile(r":\d+\)$")


def owners(stacks: Iterable[str]) -> Counter[str]:
    """Counts the samples of each owner; a line is frames from the outermost, and a count."""
    counts: Counter[str] = Counter()
    for line in stacks:
        frames, _, number = line.rpartition(" ")
        counts[_owner(frames.split(";"))] += int(number)
    return counts


def own_functions(stacks: Iterable[str]) -> Counter[str]:
    """Counts the samples inside each function of the gateway, those that it calls included."""
    counts: Counter[str] = Counter()
    for line in stacks:
        frames, _, number = line.rpartition(" ")
        own = {_LINE.sub(")", frame) for frame in frames.split(";") if _OWNERS[0][1].search(frame)}
        for function in own:
            counts[function] += int(number)
    return counts


def _owner(frames: Sequence[str]) -> str:
    for frame in reversed(frames):
        for name, pattern in _OWNERS:
            if pattern.search(frame):
                return name
    return _REST


def threads_s(pid: int) -> dict[int, float]:
    """Returns the CPU seconds of each thread of a process."""
    return {
        thread.id: thread.user_time + thread.system_time for thread in psutil.Process(pid).threads()
    }


def us_by_owner(
    stacks: Sequence[str], spent_s: Mapping[int, float], requests: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Returns CPU microseconds per request by owner, and those inside of the gateway's functions.

    ``spent_s`` is the CPU time of each thread while the samples were taken.
    """
    of_loop = [line for line in stacks if _LOOP.match(line)]
    loops = {int(match[1]) for line in of_loop if (match := _LOOP.match(line)) is not None}
    loop_us = sum(spent_s.get(thread, 0.0) for thread in loops) / requests * 1e6
    counts, functions = owners(of_loop), own_functions(of_loop)
    scale = loop_us / (sum(counts.values()) or 1)
    by_owner = {name: round(count * scale, 1) for name, count in counts.most_common()}
    by_owner[_OTHER_THREADS] = round(sum(spent_s.values()) / requests * 1e6 - loop_us, 1)
    inside = {name: round(count * scale, 1) for name, count in functions.most_common(15)}
    return by_owner, inside


def _sample(
    testbed: Testbed, variant: Variant, load: Workload, folder: Path
) -> list[dict[str, Any]]:
    """Samples each replica of a variant during a load."""
    used = testbed.count().used["serve"]
    spies = []
    for begin in _REPLICAS[variant.name]:
        pid = next(pid for pid, (role, _) in used.items() if begin in role)
        file = folder / f"{pid}-{load.name}"
        command = [executable_of("py-spy"), "record", "--pid", str(pid), "--format", "raw"]
        command += ["--rate", str(_RATE), "--duration", str(round(_SECONDS)), "--threads"]
        before = threads_s(pid)
        spy = subprocess.Popen(
            [*command, "--output", str(file)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        spies.append((begin, pid, before, file, spy))
    figures = testbed.generator.put(load_of(variant, testbed.ports["serve"], load, _SECONDS - 1))
    if figures.errors:
        raise RuntimeError(figures.first_error)
    found = []
    for begin, pid, before, file, spy in spies:
        spent = {thread: s - before.get(thread, 0.0) for thread, s in threads_s(pid).items()}
        spy.wait(timeout=60)
        by_owner, inside = us_by_owner(file.read_text().splitlines(), spent, figures.requests)
        found.append(
            {
                "variant": variant.name,
                "load": load.label,
                "replica": begin,
                "owners": by_owner,
                "functions": inside,
            }
        )
    return found


def table(samples: Sequence[Mapping[str, Any]]) -> str:
    """Returns the figures as Markdown, and the gateway's dearest functions."""
    names = [*(name for name, _ in _OWNERS), _REST, _OTHER_THREADS]
    lines = ["CPU microseconds for a request:", ""]
    lines += [
        f"| load | replica | all | {' | '.join(names)} |",
        f"|---|---|{'--:|' * (len(names) + 1)}",
    ]
    for sample in samples:
        own = sample["owners"]
        cells = [f"{own.get(name, 0):.0f}" for name in names]
        lines.append(
            f"| {sample['load']} | {sample['replica']} | {sum(own.values()):.0f} | {' | '.join(cells)} |"
        )
    for sample in samples:
        if sample["functions"]:
            lines += ["", f"{sample['load']}, {sample['replica']}: inside of", ""]
            lines += [f"- {us:.0f} {function}" for function, us in sample["functions"].items()]
    return "\n".join(lines)


def main() -> int:
    """Samples all variants and writes the report."""
    options = script_parser(__doc__).parse_args()
    end_on_terminate()
    install_tool("py-spy", _SPY)
    about = machine()
    variants = [variant for variant in VARIANTS if variant.name in _REPLICAS]
    samples: list[dict[str, Any]] = []
    with running_testbed({"serve"}, None) as testbed, temporary_folder() as folder:
        for variant in variants:
            for load in _LOADS:
                testbed.generator.put(load_of(variant, testbed.ports["serve"], load, 1.0))
                samples += _sample(testbed, variant, load, folder)
                print(f"{variant.name} {load.label}", flush=True)
    text = table(samples)
    head = (
        f"# Whose code a request runs\n\n{headline(about)} How: benchmarks/profile_owners.py.\n\n"
    )
    print(f"\n{text}")
    write_results(
        options.results, "profile_owners", {"machine": about, "samples": samples}, f"{head}{text}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
