"""Records a run of autoscaling.py: loads, streams, and samples of the cluster."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final

from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector

from benchmarks.lib.processes import Server
from benchmarks.lib.scaling import DECIDED, LoadPhase, Replicas, Sample, StreamRecord
from benchmarks.lib.variants import CHAT_PATH
from benchmarks.lib.whole_stream import StreamCheck

_LATE_S: Final = 60.0
_EVENT_S: Final = 0.05
_HOLD_S: Final = 10.0
_UP_WITHIN_S: Final = 60.0
_DOWN_WITHIN_S: Final = 60.0
_GONE_WITHIN_S: Final = 100.0
_SAMPLE_S: Final = 0.5
_PAUSE_S: Final = 0.1
_STATES: Final = {"STARTING": "starting", "RUNNING": "running", "STOPPING": "stopping"}


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """A load on one deployment."""

    deployment: str
    description: str
    clients: int
    path: str
    body: Callable[[int], dict[str, Any]]
    late: int
    """Number of streams that begin when two replicas run."""


@dataclass(slots=True)
class Tally:
    """Requests, reasons and faults of a load."""

    requests: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    faults: int = 0
    first_fault: str = ""

    def add_fault(self, fault: str) -> None:
        """Counts a fault."""
        self.faults += 1
        self.first_fault = self.first_fault or fault


class ScalingRecorder:
    """A run against one cluster: its samples, phases and streams so far."""

    def __init__(self, server: Server, port: int, session: ClientSession) -> None:
        self._server = server
        self._url = f"http://127.0.0.1:{port}"
        self._serve = f"{server.dashboard()}/api/serve/applications/"
        self._session = session
        self._began = time.monotonic()
        self._open = 0
        self._sampled = asyncio.Condition()
        self.samples: list[Sample] = []
        self.phases: list[LoadPhase] = []
        self.streams: list[StreamRecord] = []

    def now(self) -> float:
        """Returns seconds since the run began."""
        return round(time.monotonic() - self._began, 2)

    async def sample(self) -> None:
        """Samples the cluster until it is cancelled."""
        for number in count(1):
            async with self._session.get(self._serve) as answer:
                details = await answer.json()
            replicas = _replicas(details)
            haproxies = await asyncio.to_thread(self._server.count_named, "haproxy")
            async with self._sampled:
                self.samples.append(Sample(self.now(), replicas, self._open, haproxies))
                self._sampled.notify_all()
            await asyncio.sleep(max(0.0, number * _SAMPLE_S - self.now()))

    async def stream(self, seconds: float, phase: str) -> None:
        """Sends a request for a stream and reads it to its end."""
        expected = round(seconds / _EVENT_S)
        body = {
            "model": "vllm/slow",
            "messages": [{"role": "user", "content": "go on"}],
            "stream": True,
            "max_tokens": expected,
        }
        began, check = self.now(), StreamCheck(expected)
        self._open += 1
        try:
            async with self._session.post(f"{self._url}{CHAT_PATH}", json=body) as answer:
                check.status = answer.status
                async for line in answer.content:
                    check.add(line)
        except (ClientError, TimeoutError) as error:
            check.connection_error = f"{type(error).__name__}: {error}"[:200]
        finally:
            self._open -= 1
        record = StreamRecord(began, self.now(), check.events, expected, check.fault(), phase)
        self.streams.append(record)

    async def phase(self, plan: LoadPlan, streams: asyncio.TaskGroup) -> None:
        """Runs a load and waits until the deployment has one replica and the other has ended."""
        tally, stop, began = Tally(), asyncio.Event(), self.now()
        async with asyncio.TaskGroup() as load:
            for client in range(plan.clients):
                load.create_task(self._run_client(plan, tally, stop, client))
            await self._until(plan.deployment, lambda one: one.running > 1, _UP_WITHIN_S)
            await asyncio.sleep(_HOLD_S / 2)  # until all routers know the new replica
            for _ in range(plan.late):
                streams.create_task(self.stream(_LATE_S, plan.deployment))
            await asyncio.sleep(_HOLD_S / 2)
            stop.set()
        eased = self.now()
        await self._until(plan.deployment, lambda one: one.running == 1, _DOWN_WITHIN_S)
        await self._until(plan.deployment, lambda one: not one.stopping, _GONE_WITHIN_S)
        self.phases.append(
            LoadPhase(
                plan.deployment, plan.description, began, eased, self.now(),
                tally.requests, dict(tally.outcomes), tally.faults, tally.first_fault,
            )
        )  # fmt: skip
        print(f"{self.now():6.1f} s  {plan.deployment}: {tally}", flush=True)

    async def _run_client(
        self, plan: LoadPlan, tally: Tally, stop: asyncio.Event, client: int
    ) -> None:
        number = client
        while not stop.is_set():
            tally.requests += 1
            try:
                await self._send(plan, tally, plan.body(number))
            except (ClientError, TimeoutError, ValueError) as error:
                tally.add_fault(f"{type(error).__name__}: {error}"[:200])
                await asyncio.sleep(_PAUSE_S)
            number += plan.clients

    async def _send(self, plan: LoadPlan, tally: Tally, body: dict[str, Any]) -> None:
        async with self._session.post(f"{self._url}{plan.path}", json=body) as answer:
            content = await answer.json()
            if answer.status != 200:
                tally.add_fault(f"{answer.status}: {content}"[:200])
            elif plan.path == CHAT_PATH:
                if not content.get("choices"):
                    tally.add_fault(f"no answer: {content}"[:200])
            else:
                tally.outcomes[content["reason"]] += 1
                if content["reason"] not in DECIDED:  # back off after a rejection
                    await asyncio.sleep(_PAUSE_S)

    async def _until(
        self, deployment: str, holds: Callable[[Replicas], bool], within_s: float
    ) -> None:
        """Waits for a sample for which ``holds`` returns true; the verdicts report a timeout."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s), self._sampled:
                await self._sampled.wait_for(
                    lambda: holds(self.samples[-1].replicas.get(deployment, Replicas()))
                )


def _replicas(details: Mapping[str, Any]) -> dict[str, Replicas]:
    """Returns replicas by deployment from the answer of Serve's REST API."""
    replicas = {}
    for application in details["applications"].values():
        for name, deployment in application["deployments"].items():
            states = Counter(one["state"] for one in deployment["replicas"])
            counts = {field: states[state] for state, field in _STATES.items()}
            replicas[name] = Replicas(**counts)
    return replicas


@asynccontextmanager
async def recording(server: Server, port: int) -> AsyncIterator[ScalingRecorder]:
    """Samples the cluster until the block ends."""
    timeout = ClientTimeout(total=None, sock_connect=10, sock_read=60)
    async with ClientSession(connector=TCPConnector(limit=0), timeout=timeout) as session:
        run = ScalingRecorder(server, port, session)
        sampling = asyncio.create_task(run.sample())
        try:
            yield run
        finally:
            sampling.cancel()
            with suppress(asyncio.CancelledError):
                await sampling
