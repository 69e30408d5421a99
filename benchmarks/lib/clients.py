"""Clients of several gateways, as those behind a load balancer, and the outcome of each request.

A client takes the gateways in turn. It skips a gateway that refuses the connection until its health
check succeeds: /-/healthz, as docs/operate/ec2.md asks of a load balancer. It retries nothing else: a
request that breaks after the gateway has accepted it is lost. Each request has a connection of its
own, so that no failure comes from an old connection. Every answer is read to its end.
"""

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from typing import Any, Final, Self

import aiohttp

from benchmarks.lib.loadgen import quantile

OK, REFUSED, LOST, LATE = "ok", "refused", "lost", "late"
CUT, CUT_WITH_ERROR = "cut", "cut with an error event"
DECIDED: Final = frozenset({"route", "no_match", "cached"})
"""Reasons of decisions that the Orchestrator made."""

_PATIENCE_S: Final = 120.0
_PAUSE_S: Final = 0.05
"""Pause after a failure."""
_HEALTH_CHECK_S: Final = 0.25
_DONE: Final = b"data: [DONE]"
_ERROR: Final = b'"error"'
_TASKS: Final = (
    "Write a Python function that sorts list number {}.",
    "Tell me a short story about the ship number {}.",
    "Debug the C++ code of module number {}, it crashes.",
)


@dataclass(frozen=True, slots=True)
class RequestKind:
    """A kind of request."""

    name: str
    model: str
    events: int = 0
    """Number of events of the stream; 0 requests a complete answer."""
    session: str = ""
    """Name of the session; ``{}`` in it is the request's number, so that each is a new one."""
    prefix: str = ""
    """Route prefix of the application."""

    def body(self, number: int) -> bytes:
        """Returns the body of request ``number``; each is a new conversation."""
        request: dict[str, Any] = {
            "model": self.model,
            "messages": [{"role": "user", "content": _TASKS[number % 3].format(number)}],
        }
        if self.events:
            request |= {"stream": True, "max_tokens": self.events}
        return json.dumps(request).encode()


@dataclass(frozen=True, slots=True)
class Outcome:
    """One request, from its start to its end; times are those of the monotonic clock."""

    kind: str
    began_s: float
    headed_s: float
    """Arrival of the answer's head; end of the request if there was none."""
    ended_s: float
    result: str
    port: int
    """Port of the gateway that accepted it; 0 if none did."""
    reason: str = ""
    """Reason of the decision."""
    model: str = ""
    detail: str = ""

    @property
    def waited_s(self) -> float:
        """Time to the end of a complete answer, or to the head of a stream."""
        return (self.headed_s if "stream" in self.kind else self.ended_s) - self.began_s

    @property
    def decided(self) -> bool:
        """Whether the Orchestrator chose the model."""
        return self.result == OK and self.reason in DECIDED

    def facts(self, zero_s: float) -> list[Any]:
        """Returns kind, start, end, result, reason and port for the list of all requests."""
        times = [round(one - zero_s, 3) for one in (self.began_s, self.ended_s)]
        return [self.kind, *times, self.result, self.reason, self.port]


class Clients:
    """Clients in a thread until the block ends: ``with Clients(ports, key) as clients``."""

    def __init__(self, ports: Sequence[int], key: str) -> None:
        self.outcomes: list[Outcome] = []
        self._ports = list(ports)
        self._headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
        # other conversations in each run
        self._numbers = count(time.time_ns() // 1_000_000 % 100_000_000)
        self._stopping = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._tasks: list[asyncio.Task[None]] = []
        self._down: dict[int, asyncio.Task[None]] = {}
        """Gateways that refused, with the tasks that check their health."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._cancel(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def keep(self, kind: RequestKind, clients: int) -> None:
        """Starts clients, each of which sends its next request after each answer."""
        self._begin(kind, clients, again=True)

    def once(self, kind: RequestKind, clients: int) -> None:
        """Starts clients, each of which sends one request."""
        self._begin(kind, clients, again=False)

    def stop(self) -> list[Outcome]:
        """Waits for the requests that run; returns all outcomes."""
        self._stopping = True
        future = asyncio.run_coroutine_threadsafe(self._wait(), self._loop)
        future.result(_PATIENCE_S + 20)
        return sorted(self.outcomes, key=lambda one: one.began_s)

    def _begin(self, kind: RequestKind, clients: int, *, again: bool) -> None:
        async def begin() -> None:
            for number in range(clients):
                self._tasks.append(asyncio.create_task(self._client(kind, number, again=again)))

        asyncio.run_coroutine_threadsafe(begin(), self._loop).result(10)

    async def _wait(self) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_PATIENCE_S + 10)  # each times out before
        await self._cancel()

    async def _cancel(self) -> None:
        running = [*self._tasks, *self._down.values()]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        self._tasks.clear()

    async def _client(self, kind: RequestKind, number: int, *, again: bool) -> None:
        connector = aiohttp.TCPConnector(force_close=True)
        timeout = aiohttp.ClientTimeout(total=_PATIENCE_S)
        async with aiohttp.ClientSession(
            connector=connector, headers=self._headers, timeout=timeout, read_bufsize=2**20
        ) as session:
            for turn in count(number):
                exchange = _Exchange(session, kind, next(self._numbers))
                at = turn % len(self._ports)
                ports = [
                    port for port in self._ports[at:] + self._ports[:at] if port not in self._down
                ]
                outcome, refused = await exchange.run(ports)
                self.outcomes.append(outcome)
                for port in refused - self._down.keys():
                    self._down[port] = asyncio.create_task(self._wait_until_healthy(port))
                if self._stopping or not again:
                    return
                if outcome.result != OK:
                    await asyncio.sleep(_PAUSE_S)

    async def _wait_until_healthy(self, port: int) -> None:
        """Uses a gateway again when its health check succeeds."""
        timeout = aiohttp.ClientTimeout(_HEALTH_CHECK_S * 4)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            healthy = False
            while not healthy:
                await asyncio.sleep(_HEALTH_CHECK_S)
                with suppress(aiohttp.ClientError, TimeoutError):
                    async with session.get(f"http://127.0.0.1:{port}/-/healthz") as response:
                        healthy = response.status == 200
        del self._down[port]


class _Exchange:
    """One request."""

    def __init__(self, session: aiohttp.ClientSession, kind: RequestKind, number: int) -> None:
        self._session = session
        self._kind = kind
        self._body = kind.body(number)
        self._named = {"x-model-affinity": kind.session.format(number)} if kind.session else None
        self._headed_s = 0.0
        self._reason = self._model = ""

    async def run(self, ports: Iterable[int]) -> tuple[Outcome, set[int]]:
        """Returns the outcome and the ports of the gateways that refused."""
        began_s = time.monotonic()
        result, port, detail = REFUSED, 0, ""
        refused = set()
        for port in ports:
            result, detail = await self._send(port)
            if result != REFUSED:
                break
            refused.add(port)
        ended_s = time.monotonic()
        headed_s = self._headed_s or ended_s
        taken = 0 if result == REFUSED else port
        times = began_s, headed_s, ended_s
        answer = self._reason, self._model, detail
        return Outcome(self._kind.name, *times, result, taken, *answer), refused

    async def _send(self, port: int) -> tuple[str, str]:
        url = f"http://127.0.0.1:{port}{self._kind.prefix}/v1/chat/completions"
        body = b""
        try:
            async with self._session.post(url, data=self._body, headers=self._named) as response:
                self._headed_s = time.monotonic()
                self._reason = response.headers.get("x-fingerpost-reason", "")
                self._model = response.headers.get("x-fingerpost-model", "")
                async for part in response.content.iter_any():
                    body += part
        except aiohttp.ClientConnectorError:
            return REFUSED, ""
        except TimeoutError:
            return LATE, ""
        except (aiohttp.ClientError, OSError) as error:
            begun = self._kind.events and self._headed_s
            cut = CUT_WITH_ERROR if _ERROR in body else CUT
            return cut if begun else LOST, f"{type(error).__name__}: {error}"[:200]
        if response.status != 200:
            return f"status {response.status}", body[:300].decode(errors="replace")
        return self._judge(body)

    def _judge(self, body: bytes) -> tuple[str, str]:
        if not self._kind.events:
            complete = b'"choices"' in body
            return (OK, "") if complete else (LOST, body[:300].decode(errors="replace"))
        if _DONE in body and _ERROR not in body:
            return OK, ""
        tail = body[-300:].decode(errors="replace")
        return (CUT_WITH_ERROR if _ERROR in body else CUT), tail


def figures(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Returns numbers, results and waiting times by kind."""
    by_kind: dict[str, Any] = {}
    for kind in sorted({one.kind for one in outcomes}):
        of_kind = [one for one in outcomes if one.kind == kind]
        waits = [one.waited_s for one in of_kind if one.result == OK]
        p50, p99, longest = (quantile(waits, share) for share in (0.5, 0.99, 1.0))
        by_kind[kind] = {
            "requests": len(of_kind),
            "results": dict(Counter(one.result for one in of_kind)),
            "wait_p50_s": p50 and round(p50, 3),
            "wait_p99_s": p99 and round(p99, 3),
            "wait_longest_s": longest and round(longest, 3),
        }
    return by_kind


def failed(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """Returns the outcomes without a correct answer."""
    return [one for one in outcomes if one.result != OK]
