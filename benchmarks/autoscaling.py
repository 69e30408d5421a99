"""Each deployment scales on its own while long streams run on.

    .venv/bin/python benchmarks/autoscaling.py

One Serve cluster with the application of configs/serve.yaml, and 20 streams through HAProxy, the
ingress and a dedicated provider client that last longer than everything else. Meanwhile, one after
another, three loads:

- decisions (/v1/route, a new conversation each time): they keep the Orchestrator busy, and no more
  than a few requests at once are in the ingress;
- complete answers that the provider holds for half a second, through the client that carries the
  streams: the client's target is lower than the ingress's;
- more of them from a provider that is inline, which has no client of its own: the ingress alone.

Each one goes on until two replicas run, and 10 s longer. Then a few more streams begin, some of
them on the new replica, which is the one that Serve stops again: it takes nothing new and lives on
until they have ended. Twice a second Serve is asked which replicas there are; an event that is
missing or out of place, an error event, and a stream without ``[DONE]`` are faults.

What differs from production is autoscaling_config alone: 1 to 2 replicas, small targets, and
delays of 2 s up and 5 s down over a mean of 3 s, measured every second. Serve's own are 30 s up and
600 s down over a mean of 30 s, measured every 10 s. What saves the streams is as it is served: the
environment of configs/serve.env, ``graceful_shutdown_timeout_s`` of serve_app/app.py, and Serve's
30 s for an ingress replica that drains. ``--hard-stop 12`` shows what happens without one of them:
every change of the ingress's replicas reloads HAProxy, and the old process, with all streams that
it carries, ends so many seconds later. ``--only Orchestrator --clients 64 --target 32`` shows a
target that the embedded engine never reaches, because it turns questions away before.
"""

import argparse
import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Final

from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector
from cluster import Server, fingerpost, folder, free_ports, mock, serving
from machine import machine
from overhead import RESULTS, end_on_terminate
from scaling import DECIDED, Found, Phase, Replicas, Sample, Stream, judge, markdown, table
from scaling_picture import picture
from whole_stream import Said

STREAMS: Final = 20
LATE: Final = 6
_LATE_S: Final = 60.0
_EVENT_S: Final = 0.05
_HOLD_S: Final = 10.0
_CALM_S: Final = 5.0
_UP_WITHIN_S: Final = 60.0
_DOWN_WITHIN_S: Final = 60.0
_GONE_WITHIN_S: Final = 100.0
_STARTS_WITHIN_S: Final = 180.0
_SAMPLE_S: Final = 0.5
_PAUSE_S: Final = 0.1
_CHAT: Final = "/v1/chat/completions"
_STATES: Final = {"STARTING": "starting", "RUNNING": "running", "STOPPING": "stopping"}
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
_ABOUT: Final = (
    "Write a function that sorts list {} by the second letter of each word, and say how fast it is",
    "Write poem number {} about the sea in winter, in four verses, for a friend in the mountains",
    "Which trains go to the town in valley {} on a Sunday, and is there a hotel near the station?",
)


@dataclass(frozen=True, slots=True)
class Plan:
    """A load: which deployment it is for, and what is asked."""

    deployment: str
    what: str
    clients: int
    path: str
    body: Callable[[int], dict[str, Any]]
    late: int
    """Streams that begin once two replicas run."""


@dataclass(slots=True)
class Tally:
    """What came of a load."""

    requests: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    faults: int = 0
    first_fault: str = ""

    def fault(self, what: str) -> None:
        """One more."""
        self.faults += 1
        self.first_fault = self.first_fault or what


def targets(provider: str, other: str, orchestrator: int) -> dict[str, int]:
    """``target_ongoing_requests`` by deployment, below and above what the loads have open."""
    rest = {"provider-shared": 30, "Orchestrator": orchestrator}
    return {"Ingress": 80, provider: 30, other: 30, **rest}


def plans(provider: str, deciding: int) -> list[Plan]:
    """The loads, in turn; ``deciding`` is how many clients ask for decisions."""

    def chat(model: str) -> Callable[[int], dict[str, Any]]:
        return lambda number: {
            "model": model,
            "messages": [{"role": "user", "content": f"hello {number}"}],
        }

    def decision(number: int) -> dict[str, Any]:
        said = " ".join([_ABOUT[number % len(_ABOUT)].format(number)] * 3)  # some 64 tokens
        return {"messages": [{"role": "user", "content": said}]}

    return [
        Plan("Orchestrator", f"{deciding} clients, decisions", deciding, "/v1/route", decision, 0),
        Plan(provider, "30 clients, answers, dedicated", 30, _CHAT, chat("vllm/slow"), LATE),
        Plan("Ingress", "100 clients, answers, inline", 100, _CHAT, chat("vllm/slow@inline"), LATE),
    ]


class Run:
    """One run against one cluster: what it has seen so far."""

    def __init__(self, server: Server, port: int, session: ClientSession) -> None:
        self._server = server
        self._url = f"http://127.0.0.1:{port}"
        self._serve = f"{server.dashboard()}/api/serve/applications/"
        self._session = session
        self._zero = time.monotonic()
        self._open = 0
        self._looked = asyncio.Condition()
        self.samples: list[Sample] = []
        self.phases: list[Phase] = []
        self.streams: list[Stream] = []

    def now(self) -> float:
        """Seconds since the run began."""
        return round(time.monotonic() - self._zero, 2)

    async def sample(self) -> None:
        """Looks at the cluster until it is cancelled."""
        for number in count(1):
            async with self._session.get(self._serve) as answer:
                details = await answer.json()
            replicas = _replicas(details)
            haproxies = await asyncio.to_thread(self._server.named, "haproxy")
            async with self._looked:
                self.samples.append(Sample(self.now(), replicas, self._open, haproxies))
                self._looked.notify_all()
            await asyncio.sleep(max(0.0, number * _SAMPLE_S - self.now()))

    async def stream(self, seconds: float, phase: str) -> None:
        """One stream, read to its end."""
        wanted = round(seconds / _EVENT_S)
        body = {
            "model": "vllm/slow",
            "messages": [{"role": "user", "content": "go on"}],
            "stream": True,
            "max_tokens": wanted,
        }
        began, said = self.now(), Said(wanted)
        self._open += 1
        try:
            async with self._session.post(f"{self._url}{_CHAT}", json=body) as answer:
                said.status = answer.status
                async for line in answer.content:
                    said.hear(line)
        except (ClientError, TimeoutError) as error:
            said.broke = f"{type(error).__name__}: {error}"[:200]
        finally:
            self._open -= 1
        found = Stream(began, self.now(), said.events, wanted, said.fault(), phase)
        self.streams.append(found)

    async def phase(self, plan: Plan, streams: asyncio.TaskGroup) -> None:
        """One load, until the deployment is back at one replica and the other is gone."""
        tally, stop, began = Tally(), asyncio.Event(), self.now()
        async with asyncio.TaskGroup() as load:
            for client in range(plan.clients):
                load.create_task(self._ask(plan, tally, stop, client))
            await self._until(plan.deployment, lambda one: one.running > 1, _UP_WITHIN_S)
            await asyncio.sleep(_HOLD_S / 2)  # until whoever chooses a replica knows the new one
            for _ in range(plan.late):
                streams.create_task(self.stream(_LATE_S, plan.deployment))
            await asyncio.sleep(_HOLD_S / 2)
            stop.set()
        eased = self.now()
        await self._until(plan.deployment, lambda one: one.running == 1, _DOWN_WITHIN_S)
        await self._until(plan.deployment, lambda one: not one.stopping, _GONE_WITHIN_S)
        self.phases.append(
            Phase(
                plan.deployment, plan.what, began, eased, self.now(),
                tally.requests, dict(tally.outcomes), tally.faults, tally.first_fault,
            )
        )  # fmt: skip
        print(f"{self.now():6.1f} s  {plan.deployment}: {tally}", flush=True)

    async def _ask(self, plan: Plan, tally: Tally, stop: asyncio.Event, client: int) -> None:
        number = client
        while not stop.is_set():
            tally.requests += 1
            try:
                await self._once(plan, tally, plan.body(number))
            except (ClientError, TimeoutError, ValueError) as error:
                tally.fault(f"{type(error).__name__}: {error}"[:200])
                await asyncio.sleep(_PAUSE_S)
            number += plan.clients

    async def _once(self, plan: Plan, tally: Tally, body: dict[str, Any]) -> None:
        async with self._session.post(f"{self._url}{plan.path}", json=body) as answer:
            content = await answer.json()
            if answer.status != 200:
                tally.fault(f"{answer.status}: {content}"[:200])
            elif plan.path == _CHAT:
                if not content.get("choices"):
                    tally.fault(f"no answer: {content}"[:200])
            else:
                tally.outcomes[content["reason"]] += 1
                if content["reason"] not in DECIDED:  # who is turned away is in no hurry
                    await asyncio.sleep(_PAUSE_S)

    async def _until(
        self, deployment: str, holds: Callable[[Replicas], bool], within_s: float
    ) -> None:
        """Waits for a sample of which it holds; not for ever: the figures say what was missing."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s), self._looked:
                await self._looked.wait_for(
                    lambda: holds(self.samples[-1].replicas.get(deployment, Replicas()))
                )


def _replicas(details: Mapping[str, Any]) -> dict[str, Replicas]:
    """By deployment, from what Serve's REST API says about applications."""
    found = {}
    for application in details["applications"].values():
        for name, deployment in application["deployments"].items():
            states = Counter(one["state"] for one in deployment["replicas"])
            counts = {ours: states[theirs] for theirs, ours in _STATES.items()}
            found[name] = Replicas(**counts)
    return found


def application(
    config: Path, ports: tuple[int, int], orchestrator: int
) -> tuple[dict[str, Any], str]:
    """What is served, and the name of the client that carries the streams."""
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


@asynccontextmanager
async def watched(server: Server, port: int) -> AsyncIterator[Run]:
    """A run that is sampled for as long as the block takes."""
    timeout = ClientTimeout(total=None, sock_connect=10, sock_read=60)
    async with ClientSession(connector=TCPConnector(limit=0), timeout=timeout) as session:
        run = Run(server, port, session)
        sampling = asyncio.create_task(run.sample())
        try:
            yield run
        finally:
            sampling.cancel()
            with suppress(asyncio.CancelledError):
                await sampling


async def measure(server: Server, port: int, chosen: list[Plan], seconds: float) -> Found:
    """The phases, one after another, within the long streams."""
    async with watched(server, port) as run:
        await asyncio.sleep(_CALM_S)  # HAProxy is reloaded once more when all has started
        async with asyncio.TaskGroup() as streams:
            for _ in range(STREAMS):
                streams.create_task(run.stream(seconds, ""))
            for plan in chosen:
                await asyncio.sleep(_CALM_S)
                await run.phase(plan, streams)
        await asyncio.sleep(_CALM_S)
    return Found(run.samples, run.phases, run.streams)


def settings_of(options: argparse.Namespace) -> dict[str, str]:
    """What the run was told, in words."""
    named = targets("the provider's client", "another provider's", options.target)
    wanted = ", ".join(f"{name} {told}" for name, told in named.items())
    return {
        "autoscaling_config": ", ".join(f"{name} {told:g}" for name, told in _SHORT.items()),
        "target_ongoing_requests": wanted,
        "long streams": f"{STREAMS} of {options.seconds:g} s",
        "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": (
            "as in configs/serve.env"
            if options.hard_stop is None
            else f"{options.hard_stop}, on purpose"
        ),
    }


def _serve_and_measure(options: argparse.Namespace) -> Found:
    port, slow, other = free_ports(3)
    # as Serve has it: what cluster.py takes is for servers that are only started and stopped
    more = {"RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "30"}
    if options.hard_stop is not None:
        more["RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S"] = str(options.hard_stop)
    with mock(slow), mock(other), folder() as place:
        config = place / "gateway.yaml"
        served, provider = application(config, (slow, other), options.target)
        chosen = [
            plan
            for plan in plans(provider, options.clients)
            if options.only is None or plan.deployment.startswith(options.only)
        ]
        with serving([served], port, more) as server:
            server.wait_for(f"http://127.0.0.1:{port}/healthz", _STARTS_WITHIN_S)
            return asyncio.run(measure(server, port, chosen, options.seconds))


def main() -> int:
    """Runs it; 0 when all holds."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--seconds", type=float, default=270.0, help="of the long streams")
    parser.add_argument("--only", choices=["Orchestrator", "provider", "Ingress"], help="one load")
    parser.add_argument("--clients", type=int, default=4, help="that ask for decisions")
    parser.add_argument("--target", type=int, default=2, help="of the Orchestrator")
    parser.add_argument("--hard-stop", type=int, metavar="S", help="after which HAProxy cuts")
    parser.add_argument("--results", type=Path, default=RESULTS, help="a folder")
    options = parser.parse_args()
    end_on_terminate()
    about = machine()
    found = Found.of(_serve_and_measure(options).facts())  # as whoever reads the results has it
    about["load_average_after"] = machine()["load_average"]
    cut = "" if options.hard_stop is None else f"_hard_stop_{options.hard_stop}"
    file = options.results / f"autoscaling{cut}.json"
    told = {"machine": about, "settings": settings_of(options)}
    judged = judge(found)
    print("\n" + table(found))
    options.results.mkdir(parents=True, exist_ok=True)
    file.write_text(as_json({**told, "verdicts": [asdict(one) for one in judged]}, found))
    file.with_suffix(".md").write_text(markdown(told, found, file.with_suffix(".svg").name))
    file.with_suffix(".svg").write_bytes(picture(found))
    return 0 if all(one.holds for one in judged) else 1


def as_json(told: Mapping[str, Any], found: Found) -> str:
    """The results as text, a sample a line."""
    facts = found.facts()
    lines = ",\n".join(f" {json.dumps(line)}" for line in facts.pop("samples"))
    head = json.dumps({**told, **facts}, indent=1).removesuffix("\n}")
    return f'{head},\n "samples": [\n{lines}\n ]\n}}\n'


if __name__ == "__main__":
    sys.exit(main())
