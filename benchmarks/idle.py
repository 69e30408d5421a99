"""What the demo takes while nobody asks it anything: memory and CPU time of every process.

    .venv/bin/python benchmarks/idle.py

Each round starts the demo twice (``fingerpost run`` beside the scripted provider, as ``make demo``
does, with loopback ports of its own): once as it is, and once with Ray's own defaults in place of
the settings that configs/serve.env has for an idle machine. Both wait until a first decision has
been made, then ``--settle`` seconds, then measure for ``--seconds``. The order changes with each
round. ``--set NAME=VALUE`` measures the demo with a variable added, in place of Ray's defaults.

Memory is PSS: each page divided by the number of processes that share it. CPU time is a
percentage of one core. Processes are found by their session, not by their environment, because
Ray's processes overwrite it when they rename themselves. The scripted provider stands for another
machine and is not counted.
"""

import os
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean
from typing import Final

import psutil

from benchmarks.lib.machine import headline, machine
from benchmarks.lib.paths import PROJECT
from benchmarks.lib.ports import free_ports, free_range
from benchmarks.lib.processes import clean_environment, running, temporary_folder
from benchmarks.lib.script import end_on_terminate, script_parser, write_results

DEFAULTS: Final = {
    "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.1",
    "RAY_SERVE_METRICS_EXPORT_INTERVAL_MS": "100",
    "RAY_LOG_MONITOR_MANY_FILES_THRESHOLD": "1000",
}
"""Ray's own value of each variable that configs/serve.env sets for an idle machine."""

NOW: Final = "as it is"
_STARTS_WITHIN_S: Final = 180.0
_UP: Final = "Fingerpost is up"
_PORTS: Final = 100
_REPLICA: Final = "ray::ServeReplica:fingerpost:"
_TITLES: Final = {
    "ray::ServeController": ("ServeController", "Serve: deploys, scales, looks after replicas"),
    "ray::HAProxyManager": ("HAProxyManager", "Serve: writes HAProxy's configuration"),
    "ray::ProxyActor": ("ProxyActor", "Serve: proxy in Python, HAProxy's fallback"),
    "ray::DashboardAgent": ("DashboardAgent", "Ray: the metrics port, the node's figures"),
    "ray::RuntimeEnvAgent": ("RuntimeEnvAgent", "Ray: makes environments for workers"),
    "ray-dashboard-": ("dashboard modules", "Ray: one of them answers `serve status`"),
}
"""By the beginning of the title that a process gave itself."""
_FILES: Final = {
    "gcs_server": ("gcs_server", "Ray: the state of the cluster"),
    "raylet": ("raylet", "Ray: the node's workers and memory"),
    "haproxy": ("haproxy", "the proxy in front"),
    "dashboard.py": ("dashboard.py", "Ray: the dashboard's web server"),
    "log_monitor.py": ("log_monitor.py", "Ray: collects the logs of workers"),
    "monitor.py": ("monitor.py", "Ray: the autoscaler for nodes"),
    "serve": ("serve run", "the driver that holds the cluster"),
    "fingerpost": ("fingerpost run", "the launcher"),
}
"""By the file that it runs."""
_TEXTS: Final = {
    "forkserver": ("dashboard fork server", "Ray: parent of the dashboard's modules"),
    "deployments.serve_run": ("serve run", "the driver that holds the cluster"),
    "resource_tracker": ("dashboard tracker", "Python: comes with the fork server"),
}
"""By a part of its command line."""
_REPLICAS: Final = {
    "Ingress": "ours: the HTTP surface",
    "Orchestrator": "ours: the embedded engine",
    "Affinity": "ours: bindings of sessions",
    "provider": "ours: connections to providers",
}


@dataclass(frozen=True, slots=True)
class Usage:
    """One process, or several of a kind."""

    name: str
    purpose: str
    pss_mb: float
    cpu_percent: float
    processes: int = 1


@dataclass(frozen=True, slots=True)
class Sample:
    """One start of the demo."""

    round: int
    variant: str
    start_s: float
    usages: list[Usage]

    @property
    def pss_mb(self) -> float:
        """Memory of all processes."""
        return sum(one.pss_mb for one in self.usages)

    @property
    def cpu_percent(self) -> float:
        """CPU time of all processes."""
        return sum(one.cpu_percent for one in self.usages)


def measure(
    rounds: int, variants: Mapping[str, Mapping[str, str]], settle_s: float, seconds: float
) -> list[Sample]:
    """Samples of all variants, in turn."""
    samples = []
    for number in range(1, rounds + 1):
        names = [*variants] if number % 2 else [*variants][::-1]
        for name in names:
            start_s, usages = _sample(variants[name], settle_s, seconds)
            samples.append(Sample(number, name, start_s, usages))
            total = f"{samples[-1].pss_mb:6.0f} MB  {samples[-1].cpu_percent:5.1f} % of a core"
            print(f"round {number}  {name:<16} {start_s:5.1f} s to start  {total}", flush=True)
    return samples


def _sample(
    settings: Mapping[str, str], settle_s: float, seconds: float
) -> tuple[float, list[Usage]]:
    with ExitStack() as stack:
        place = stack.enter_context(temporary_folder())
        provider = _demo(place)
        neighbour = f"{sys.executable} -m tests.scripted_provider --port {provider}"
        serve_file = str(place / "serve.yaml")
        fingerpost = str(Path(sys.executable).with_name("fingerpost"))
        command = [fingerpost, "run", serve_file, "--no-dashboard", "--beside", neighbour]
        began = time.monotonic()
        log = place / "log"
        stack.enter_context(running(command, _environment(settings), log))
        (launcher,) = (one for one in psutil.Process().children() if one.is_running())
        while _UP not in log.read_text(errors="replace"):
            if (
                launcher.status() == psutil.STATUS_ZOMBIE
                or time.monotonic() - began > _STARTS_WITHIN_S
            ):
                raise RuntimeError(f"the demo did not start:\n{log.read_text()[-3000:]}")
            time.sleep(0.1)
        start_s = time.monotonic() - began
        time.sleep(settle_s)
        return start_s, _usages(launcher, seconds)


def _demo(place: Path) -> int:
    """Writes the demo's files with free ports; returns the provider's port."""
    port, provider = free_ports(2)
    gateway = (PROJECT / "configs/demo.gateway.yaml").read_text().replace("9009", str(provider))
    (place / "gateway.yaml").write_text(gateway)
    serve = (PROJECT / "configs/demo.serve.yaml").read_text().replace("8000", str(port))
    serve = serve.replace("configs/demo.gateway.yaml", str(place / "gateway.yaml"))
    (place / "serve.yaml").write_text(serve)
    return provider


def _environment(settings: Mapping[str, str]) -> dict[str, str]:
    first = free_range(_PORTS)
    metrics, stats, fallback, fallback_grpc = free_ports(4)
    return {
        **clean_environment(),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(metrics),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(stats),
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(fallback),
        "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": str(fallback_grpc),
        "PYTHONPATH": str(PROJECT),
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(first),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(first + _PORTS),
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",  # nobody is served when it stops
        **settings,
    }


def _usages(launcher: psutil.Process, seconds: float) -> list[Usage]:
    """Memory and CPU time over ``seconds``, largest first; replicas apart, modules together."""
    processes = _processes(launcher)
    before = {process.pid: _cpu_s(process) for process in processes}
    began = time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - began
    found: dict[str, Usage] = {}
    for process in processes:
        with suppress(psutil.Error):
            name, purpose = describe(process.name(), process.cmdline())
            percent = 100 * (_cpu_s(process) - before[process.pid]) / took
            held = process.memory_full_info().pss / 1e6
            old = found.get(name, Usage(name, purpose, 0.0, 0.0, 0))
            total = old.pss_mb + held, old.cpu_percent + percent
            found[name] = Usage(name, purpose, *total, old.processes + 1)
    return sorted(found.values(), key=lambda one: -one.pss_mb)


def _processes(launcher: psutil.Process) -> list[psutil.Process]:
    """The launcher and everything in the session of its `serve run`."""
    sessions = {launcher.pid}
    for child in launcher.children():
        if "tests.scripted_provider" not in child.cmdline():
            sessions.add(child.pid)
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if os.getsid(process.pid) in sessions:
                found.append(process)
    return found


def _cpu_s(process: psutil.Process) -> float:
    with suppress(psutil.Error):
        times = process.cpu_times()
        return times.user + times.system + times.children_user + times.children_system
    return 0.0


def describe(name: str, command: Sequence[str]) -> tuple[str, str]:
    """Name and purpose of a process, for the table."""
    title = command[0] if command else name
    if title.startswith(_REPLICA):
        replica = title.removeprefix(_REPLICA).partition(".")[0]
        if replica.startswith("provider-") and replica != "provider-shared":
            replica = "provider of its own"
        purpose = next(text for key, text in _REPLICAS.items() if replica.startswith(key))
        return f"replica {replica}", purpose
    files = {Path(word).name for word in [name, *command[:3]]}
    named = [part for key, part in _TITLES.items() if title.startswith(key)]
    named += [part for key, part in _FILES.items() if key in files]
    named += [part for key, part in _TEXTS.items() if key in " ".join(command)]
    return named[0] if named else ("other", "")


def average(samples: Sequence[Sample]) -> list[Usage]:
    """The mean of each row over several samples of one variant."""
    rows: dict[str, list[Usage]] = {}
    for sample in samples:
        for usage in sample.usages:
            rows.setdefault(usage.name, []).append(usage)
    means = [
        Usage(
            name,
            found[0].purpose,
            sum(one.pss_mb for one in found) / len(samples),
            sum(one.cpu_percent for one in found) / len(samples),
            found[0].processes,
        )
        for name, found in rows.items()
    ]
    return sorted(means, key=lambda one: -one.pss_mb)


def table(samples: Sequence[Sample], other: str) -> str:
    """All rows as Markdown, the other variant beside."""
    now = average([one for one in samples if one.variant == NOW])
    against = {one.name: one for one in average([s for s in samples if s.variant == other])}
    lines = [
        f"| process | what it is | PSS MB | % of a core | {other}: PSS MB | {other}: % of a core |",
        "|---|---|--:|--:|--:|--:|",
    ]
    for one in now:
        old = against.get(one.name, Usage(one.name, "", 0.0, 0.0))
        name = one.name if one.processes == 1 else f"{one.name} ({one.processes})"
        lines.append(f"| {name} | {one.purpose} | {_cells(one)} | {_cells(old)} |")
    totals = [_total(samples, name) for name in (NOW, other)]
    lines.append(f"| **all** | | {totals[0]} | {totals[1]} |")
    lines += ["", "| round | variant | start s | PSS MB | % of a core |", "|--:|---|--:|--:|--:|"]
    lines += [
        f"| {one.round} | {one.variant} | {one.start_s:.1f} | {one.pss_mb:.0f} "
        f"| {one.cpu_percent:.1f} |"
        for one in samples
    ]
    return "\n".join(lines)


def _cells(one: Usage) -> str:
    return f"{one.pss_mb:.0f} | {one.cpu_percent:.2f}"


def _total(samples: Sequence[Sample], variant: str) -> str:
    found = [one for one in samples if one.variant == variant]
    held = mean(one.pss_mb for one in found)
    return f"**{held:.0f}** | **{mean(one.cpu_percent for one in found):.1f}**"


def main() -> int:
    """Runs it; 0 when every start succeeded."""
    parser = script_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=60.0, help="of each measurement")
    parser.add_argument("--settle", type=float, default=20.0, help="seconds before it")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    options = parser.parse_args()
    end_on_terminate()
    about = machine()
    other, settings = "Ray's defaults", DEFAULTS
    if options.set:
        other, settings = " ".join(options.set), dict(one.split("=", 1) for one in options.set)
    variants: dict[str, Mapping[str, str]] = {NOW: {}, other: settings}
    samples = measure(options.rounds, variants, options.settle, options.seconds)
    about["load_average_after"] = machine()["load_average"]
    text = table(samples, other)
    print("\n" + text)
    result = {
        "machine": about,
        "variants": variants,
        "samples": [asdict(sample) for sample in samples],
    }
    how = f"How: benchmarks/idle.py, {options.rounds} rounds of {options.seconds:g} s."
    head = f"# The demo at rest\n\n{headline(about)} {how}\n\n"
    write_results(options.results, "idle", result, f"{head}{text}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
