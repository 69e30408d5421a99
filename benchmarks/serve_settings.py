"""Measures what settings of Ray Serve cost a request, one by one.

    .venv/bin/python benchmarks/serve_settings.py

A cluster with configs/serve.env as it is runs beside a second one in which one setting differs. Both
take turns, so that changes of the machine's speed affect both alike: complete answers through the
ingress alone, and streams through a provider client, eight clients each. A figure is the ratio of the
CPU time per request, the cluster's idle work taken off, the median of the rounds; idle work is
compared too, without any request. Results go to benchmarks/results/serve_settings.{json,md}.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any, Final

from benchmarks.lib.cluster import HERE
from benchmarks.lib.machine import headline, machine
from benchmarks.lib.ports import free_ports
from benchmarks.lib.script import end_on_terminate, publish, script_parser
from benchmarks.lib.testbed import Testbed, gateway, running_testbed
from benchmarks.lib.variants import VARIANTS, Variant, Workload, load_of

_IDLE_S: Final = 6.0
_LOADS: Final = (("inline", Workload("unary", 8)), ("dedicated", Workload("stream", 8)))


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting that differs from configs/serve.env or configs/serve.yaml."""

    what: str
    """What it changes, for people."""
    environ: Mapping[str, str] = field(default_factory=dict)
    logging: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """As it is written."""
        parts = [f"{key}={value}" for key, value in self.environ.items()]
        return ", ".join([*parts, *(f"{key}: {value}" for key, value in self.logging.items())])

    @property
    def options(self) -> dict[str, Any]:
        """What it sets of applications."""
        return {"logging_config": dict(self.logging)} if self.logging else {}


SETTINGS: Final = (
    Setting("nothing: how far two equal clusters differ here"),
    Setting("Serve's proxy in Python in place of HAProxy", {"RAY_SERVE_ENABLE_HA_PROXY": "0"}),
    Setting(
        "hops over Ray's actor calls, with a thread and a loop of their own",
        {"RAY_SERVE_THROUGHPUT_OPTIMIZED": "0"},
    ),
    Setting(
        "a thread of its own for our code in each replica",
        {"RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "1"},
    ),
    Setting(
        "an event loop of its own for handles",
        {"RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "1"},
    ),
    Setting(
        "HAProxy logs each request to a process that counts them",
        {"RAY_SERVE_HAPROXY_METRICS_ENABLED": "1"},
    ),
    Setting(
        "counters go to Ray ten times a second", {"RAY_SERVE_METRICS_EXPORT_INTERVAL_MS": "100"}
    ),
    Setting(
        "the controller looks ten times a second", {"RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.1"}
    ),
    Setting("no metrics of Ray at all", {"RAY_enable_metrics_collection": "0"}),
    Setting(
        "without our middleware for header values",
        {"RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": ""},
    ),
    Setting("Serve's access log", logging={"enable_access_log": True, "log_level": "INFO"}),
)


def _ratios(testbed: Testbed, rounds: int, seconds: float) -> dict[str, list[float]]:
    """Returns the other cluster's CPU per request by that of this one, for each load."""
    idle = _idle(testbed)
    found: dict[str, list[float]] = {"idle": [idle["other"] / idle["serve"]]}
    by_name = {variant.name: variant for variant in VARIANTS}
    for path, load in _LOADS:
        pair = [by_name[f"fingerpost-{path}"], by_name[f"other-{path}"]]
        for variant in pair:
            testbed.generator.put(load_of(variant, testbed.ports[variant.server], load, 1.0))
        ratios = found.setdefault(f"{path}, {load.label}", [])
        for turn in range(rounds):
            spent = {
                variant.server: _cpu_s(testbed, variant, load, seconds, idle)
                for variant in (pair if turn % 2 == 0 else pair[::-1])
            }
            ratios.append(spent["other"] / spent["serve"])
    return found


def _idle(testbed: Testbed) -> dict[str, float]:
    """Returns the CPU seconds per second of both clusters without requests."""
    window = testbed.rest(_IDLE_S)
    return {name: window.cpu_s(name) / window.seconds for name in ("serve", "other")}


def _cpu_s(
    testbed: Testbed, variant: Variant, load: Workload, seconds: float, idle: Mapping[str, float]
) -> float:
    """Returns the CPU seconds of one request."""
    sent = load_of(variant, testbed.ports[variant.server], load, seconds)
    return testbed.put(variant.server, sent, idle[variant.server])[0]


def report(result: Mapping[str, Any]) -> str:
    """Returns the report."""
    lines = ["# What settings of Ray Serve cost", ""]
    lines += [f"{headline(result['machine'])} How: benchmarks/serve_settings.py.", ""]
    lines += ["CPU with the setting by CPU without it:", ""]
    names = list(result["settings"][0]["ratios"])
    lines += [f"| setting | what it changes | {' | '.join(names)} |"]
    lines += [f"|---|---|{'--:|' * len(names)}"]
    for one in result["settings"]:
        cells = " | ".join(_cell(one["ratios"][name]) for name in names)
        name = f"`{one['name']}`" if one["name"] else ""
        lines.append(f"| {name} | {one['what']} | {cells} |")
    return "\n".join(lines)


def _cell(values: Sequence[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.2f}"
    return f"{median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def main() -> int:
    """Measures all settings; returns 0 unless an answer was wrong."""
    parser = script_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="duration of a turn, seconds")
    options = parser.parse_args()
    end_on_terminate()
    found: list[dict[str, Any]] = []
    about = machine()
    with running_testbed({"serve"}, None) as testbed:
        for setting in SETTINGS:
            (port,) = free_ports(1)
            other = gateway(HERE, port, testbed.ports["mock"], setting.environ, setting.options)
            with other as server:
                both = replace(
                    testbed,
                    servers={**testbed.servers, "other": server},
                    ports={**testbed.ports, "other": port},
                )
                ratios = _ratios(both, options.rounds, options.seconds)
            found.append({"name": setting.name, "what": setting.what, "ratios": ratios})
            print(setting.name or "nothing", {k: _cell(v) for k, v in ratios.items()}, flush=True)
    result = {"machine": about, "settings": found}
    text = report(result)
    publish(options.results, "serve_settings", result, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
