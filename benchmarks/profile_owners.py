"""Shows whose code a request's CPU goes to: Serve's, its HTTP libraries', or the gateway's own.

    .venv/bin/python benchmarks/profile_owners.py

Samples the replicas of the overhead benchmark's applications with py-spy, which it installs in an
environment of its own, while eight clients send complete answers or streams. A sample belongs to
the innermost frame whose owner is known. py-spy does not stop the process, so that some samples
are torn; compare shares, and take times from overhead.py.
"""

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.lib.machine import headline, machine
from benchmarks.lib.peers import executable_of, install_tool
from benchmarks.lib.processes import temporary_folder
from benchmarks.lib.script import end_on_terminate, script_parser, write_results
from benchmarks.lib.testbed import Testbed, running_testbed
from benchmarks.lib.variants import VARIANTS, Variant, Workload, load_of

_SPY: Final = "py-spy==0.4.3"
_RATE: Final = 400
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
_IS_STACK: Final = re.compile(r"\S \d+$")
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
        command += ["--rate", str(_RATE), "--duration", str(round(_SECONDS)), "--nonblocking"]
        spy = subprocess.Popen(
            [*command, "--output", str(file)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        spies.append((begin, file, spy))
    figures = testbed.generator.put(load_of(variant, testbed.ports["serve"], load, _SECONDS - 1))
    if figures.errors:
        raise RuntimeError(figures.first_error)
    found = []
    for begin, file, spy in spies:
        spy.wait(timeout=60)
        stacks = list(filter(_IS_STACK.search, file.read_text().splitlines()))
        found.append(
            {
                "variant": variant.name,
                "load": load.label,
                "replica": begin,
                "owners": dict(owners(stacks).most_common()),
                "functions": dict(own_functions(stacks).most_common(15)),
            }
        )
    return found


def table(samples: Sequence[Mapping[str, Any]]) -> str:
    """Returns the shares as Markdown, and the gateway's dearest functions."""
    names = [name for name, _ in _OWNERS] + [_REST]
    lines = [f"| load | replica | {' | '.join(names)} |", f"|---|---|{'--:|' * len(names)}"]
    for sample in samples:
        total = sum(sample["owners"].values()) or 1
        shares = [f"{sample['owners'].get(name, 0) / total:.0%}" for name in names]
        lines.append(f"| {sample['load']} | {sample['replica']} | {' | '.join(shares)} |")
    for sample in samples:
        if sample["functions"]:
            total = sum(sample["owners"].values())
            lines += ["", f"{sample['load']}, {sample['replica']}: share of samples inside", ""]
            lines += [
                f"- {count / total:.1%} {function}"
                for function, count in sample["functions"].items()
            ]
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
