"""Shows that each deployment scales on its own while long streams continue.

    .venv/bin/python benchmarks/autoscaling.py

One Serve cluster with the application of configs/serve.yaml, and 20 streams through HAProxy, the
ingress and a dedicated provider client that last longer than the rest of the run. Meanwhile there
are three loads, one after another:

- decisions (/v1/route, a new conversation each time): they load the Orchestrator, with only a few
  concurrent requests in the ingress;
- complete answers that the provider holds for half a second, through the client that carries the
  streams: the client's target is lower than the ingress's;
- more of them from a provider that is inline, without a client of its own: only the ingress.

Each load continues until two replicas run, and 10 s longer. Then a few more streams begin, some of
them on the new replica, which Serve later stops: it accepts no new requests and runs until they have
ended. Twice a second the script reads from Serve which replicas exist. A missing or misplaced
event, an error event, and a stream without ``[DONE]`` are faults.

Only autoscaling_config differs from production: 1 to 2 replicas, small targets, and delays of 2 s up
and 5 s down over a mean of 3 s, measured every second. Serve's defaults are 30 s up and 600 s down
over a mean of 30 s, measured every 10 s. The settings that protect streams are those of production:
the environment of configs/serve.env, ``graceful_shutdown_timeout_s`` of serve_app/app.py, and
Serve's 30 s for an ingress replica that drains. ``--hard-stop 12`` shows the effect without one of
them: every change of the ingress's replicas reloads HAProxy, and the old process, with all its
streams, ends 12 seconds later. ``--only Orchestrator --clients 64 --target 32`` shows a target that
the embedded engine never reaches, because it rejects questions before.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from benchmarks.lib.cluster import fingerpost, mock, serving
from benchmarks.lib.machine import machine
from benchmarks.lib.ports import free_ports
from benchmarks.lib.processes import Server, temporary_folder
from benchmarks.lib.scaling import ScalingRun, judge, markdown, table
from benchmarks.lib.scaling_picture import picture
from benchmarks.lib.scaling_recorder import LoadPlan, recording
from benchmarks.lib.script import end_on_terminate, script_parser
from benchmarks.lib.variants import CHAT_PATH

STREAMS: Final = 20
LATE_STREAMS: Final = 6
_CALM_S: Final = 5.0
_STARTS_WITHIN_S: Final = 180.0
_SHORT: Final = {
    "min_replicas": 1,
    "max_replicas": 2,
    "upscale_delay_s": 2,
    "downscale_delay_s": 5,
    "look_back_period_s": 3,
    "metrics_interval_s": 1,
}
_ROUTES: Final = (
    {"name": "code", "description": "writing and debugging code", "models": ["vllm/slow"]},
    {"name": "writing", "description": "stories, poems and letters", "models": ["vllm/slow"]},
    {"name": "travel", "description": "trips, hotels and trains", "models": ["vllm/slow"]},
)
_QUESTIONS: Final = (
    "Write a function that sorts list {} by the second letter of each word, and say how fast it is",
    "Write poem number {} about the sea in winter, in four verses, for a friend in the mountains",
    "Which trains go to the town in valley {} on a Sunday, and is there a hotel near the station?",
)


def targets(provider: str, other: str, orchestrator: int) -> dict[str, int]:
    """Returns ``target_ongoing_requests`` by deployment; a load exceeds that of its own only."""
    rest = {"provider-shared": 30, "Orchestrator": orchestrator}
    return {"Ingress": 80, provider: 30, other: 30, **rest}


def plans(provider: str, deciding: int) -> list[LoadPlan]:
    """Returns the loads in turn; ``deciding`` clients request decisions."""

    def chat(model: str) -> Callable[[int], dict[str, Any]]:
        return lambda number: {
            "model": model,
            "messages": [{"role": "user", "content": f"hello {number}"}],
        }

    def decision(number: int) -> dict[str, Any]:
        text = " ".join([_QUESTIONS[number % len(_QUESTIONS)].format(number)] * 3)  # 64 tokens
        return {"messages": [{"role": "user", "content": text}]}

    return [
        LoadPlan(
            "Orchestrator", f"{deciding} clients, decisions", deciding, "/v1/route", decision, 0
        ),
        LoadPlan(
            provider,
            "30 clients, answers, dedicated",
            30,
            CHAT_PATH,
            chat("vllm/slow"),
            LATE_STREAMS,
        ),
        LoadPlan(
            "Ingress",
            "100 clients, answers, inline",
            100,
            CHAT_PATH,
            chat("vllm/slow@inline"),
            LATE_STREAMS,
        ),
    ]


def application(
    config: Path, ports: tuple[int, int], orchestrator: int
) -> tuple[dict[str, Any], str]:
    """Returns the application and the name of the client that carries the streams."""
    slow, other = ports
    clients = [f"provider-vllm-localhost-{port}" for port in ports]
    models = {
        "vllm/slow": (f"http://localhost:{slow}/v1", "dedicated"),
        "vllm/other": (f"http://localhost:{other}/v1", "dedicated"),
        "vllm/slow@inline": (f"http://127.0.0.1:{slow}/v1", "inline"),
    }
    options = [
        {"name": name, "autoscaling_config": {**_SHORT, "target_ongoing_requests": target}}
        for name, target in targets(clients[0], clients[1], orchestrator).items()
    ]
    return {**fingerpost(config, models, _ROUTES), "deployments": options}, clients[0]


async def measure(server: Server, port: int, loads: list[LoadPlan], seconds: float) -> ScalingRun:
    """Runs the loads, one after another, during the long streams."""
    async with recording(server, port) as run:
        await asyncio.sleep(_CALM_S)  # HAProxy reloads once more when all deployments have started
        async with asyncio.TaskGroup() as streams:
            for _ in range(STREAMS):
                streams.create_task(run.stream(seconds, ""))
            for plan in loads:
                await asyncio.sleep(_CALM_S)
                await run.phase(plan, streams)
        await asyncio.sleep(_CALM_S)
    return ScalingRun(run.samples, run.phases, run.streams)


def settings_of(options: argparse.Namespace) -> dict[str, str]:
    """Returns the settings of the run as text."""
    by_name = targets("the provider's client", "another provider's", options.target)
    target_text = ", ".join(f"{name} {target}" for name, target in by_name.items())
    return {
        "autoscaling_config": ", ".join(f"{name} {value:g}" for name, value in _SHORT.items()),
        "target_ongoing_requests": target_text,
        "long streams": f"{STREAMS} of {options.seconds:g} s",
        "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": (
            "as in configs/serve.env"
            if options.hard_stop is None
            else f"{options.hard_stop}, on purpose"
        ),
    }


def _serve_and_measure(options: argparse.Namespace) -> ScalingRun:
    port, slow, other = free_ports(3)
    # Serve's default: lib/cluster.py shortens it for servers without clients
    more = {"RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "30"}
    if options.hard_stop is not None:
        more["RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S"] = str(options.hard_stop)
    with mock(slow), mock(other), temporary_folder() as folder:
        config = folder / "gateway.yaml"
        served, provider = application(config, (slow, other), options.target)
        loads = [
            plan
            for plan in plans(provider, options.clients)
            if options.only is None or plan.deployment.startswith(options.only)
        ]
        with serving([served], port, more) as server:
            server.wait_for(f"http://127.0.0.1:{port}/healthz", _STARTS_WITHIN_S)
            return asyncio.run(measure(server, port, loads, options.seconds))


def main() -> int:
    """Runs the benchmark; returns 0 if all verdicts hold."""
    parser = script_parser(__doc__)
    parser.add_argument(
        "--seconds", type=float, default=270.0, help="duration of the long streams, seconds"
    )
    parser.add_argument(
        "--only", choices=["Orchestrator", "provider", "Ingress"], help="run one load only"
    )
    parser.add_argument(
        "--clients", type=int, default=4, help="number of clients that request decisions"
    )
    parser.add_argument(
        "--target", type=int, default=2, help="target_ongoing_requests of the Orchestrator"
    )
    parser.add_argument(
        "--hard-stop", type=int, metavar="S", help="seconds until an old HAProxy process ends"
    )
    options = parser.parse_args()
    end_on_terminate()
    about = machine()
    run = ScalingRun.of(_serve_and_measure(options).facts())  # rounded as in the results
    about["load_average_after"] = machine()["load_average"]
    cut = "" if options.hard_stop is None else f"_hard_stop_{options.hard_stop}"
    file = options.results / f"autoscaling{cut}.json"
    head = {"machine": about, "settings": settings_of(options)}
    judged = judge(run)
    print("\n" + table(run))
    options.results.mkdir(parents=True, exist_ok=True)
    file.write_text(as_json({**head, "verdicts": [asdict(one) for one in judged]}, run))
    file.with_suffix(".md").write_text(markdown(head, run, file.with_suffix(".svg").name))
    file.with_suffix(".svg").write_bytes(picture(run))
    return 0 if all(one.holds for one in judged) else 1


def as_json(head: Mapping[str, Any], run: ScalingRun) -> str:
    """Returns the results as JSON, one sample per line."""
    facts = run.facts()
    lines = ",\n".join(f" {json.dumps(line)}" for line in facts.pop("samples"))
    start = json.dumps({**head, **facts}, indent=1).removesuffix("\n}")
    return f'{start},\n "samples": [\n{lines}\n ]\n}}\n'


if __name__ == "__main__":
    sys.exit(main())
