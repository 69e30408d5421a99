"""Fakes for the ports, scripted by each test; no mock library is used."""

import asyncio
import itertools
import json
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from serve_app.affinity.sessions import HoldingStore, Sessions
from serve_app.dialects.json_edits import read_document
from serve_app.dialects.registry import DEFAULT_DIALECT
from serve_app.domain import Binding, Headers, ModelRef, Question, Scores, Unavailable
from serve_app.exchange import (
    Chunks,
    FaultKind,
    StreamBrokenError,
    UpstreamFault,
    UpstreamReply,
    UpstreamRequest,
)
from serve_app.providers.prices import price_table
from serve_app.requests.answer import Answer
from serve_app.requests.call import ClientRequest
from serve_app.requests.gateway import Gateway
from serve_app.snapshot import Snapshot, compile_snapshot
from serve_app.telemetry.metrics import METRICS, Metric, MetricsObserver

FOREVER: Final = 3600.0
"""An item of a FakeChunks script: the provider sends nothing more."""


class FakeChunks:
    """A scripted body: yields bytes, sleeps for numbers (seconds) and raises exceptions."""

    def __init__(self, *script: bytes | float | Exception) -> None:
        self.script = deque(script)
        self.closed = 0
        self.reads = 0
        self.cancelled = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        self.reads += 1
        while self.script:
            item = self.script.popleft()
            if isinstance(item, Exception):
                raise item
            if isinstance(item, bytes):
                return item
            try:
                await asyncio.sleep(item)
            except asyncio.CancelledError:
                self.cancelled = True
                raise
        raise StopAsyncIteration

    async def aclose(self) -> None:
        self.closed += 1


def broken(kind: FaultKind = FaultKind.BROKEN, detail: str = "it broke off") -> StreamBrokenError:
    """The exception that a body raises when it stops early."""
    return StreamBrokenError(UpstreamFault(kind, detail))


Scripted = UpstreamReply | UpstreamFault | Callable[[UpstreamRequest], UpstreamReply]


class FakeUpstream:
    """Replies by the model's full name, repeats the last reply, and records every request."""

    def __init__(self, script: Mapping[str, Sequence[Scripted]]) -> None:
        self._script = {name: deque(answers) for name, answers in script.items()}
        self.requests: list[UpstreamRequest] = []

    @property
    def models(self) -> list[str]:
        return [str(request.model) for request in self.requests]

    async def open(self, request: UpstreamRequest) -> UpstreamReply | UpstreamFault:
        self.requests.append(request)
        answers = self._script[str(request.model)]
        answer = answers.popleft() if len(answers) > 1 else answers[0]
        return answer(request) if callable(answer) else answer


class FakeOrchestrator:
    """Returns the same scores, or the same Unavailable, for every question, and records them."""

    def __init__(self, scores: Scores | Unavailable) -> None:
        self.scores = scores
        self.questions: list[Question] = []

    async def score(self, question: Question) -> Scores | Unavailable:
        self.questions.append(question)
        return self.scores


class FakeStore:
    """Keeps bindings in a dictionary and records the keys that were read."""

    def __init__(self) -> None:
        self.bindings: dict[str, Binding] = {}
        self.keys: list[str] = []
        self.trouble: str | None = None

    async def get(self, key: str) -> Binding | None:
        self.keys.append(key)
        return None if self.trouble else self.bindings.get(key)

    async def bind(self, key: str, binding: Binding, *, instead_of: ModelRef | None) -> bool:
        if self.trouble:
            return False
        current = self.bindings.get(key)
        if (None if current is None else current.model) != instead_of:
            return False
        self.bindings[key] = binding
        return True

    async def find(self, key: str) -> tuple[Binding | None, bool]:
        return await self.get(key), False

    def hold(self, key: str, binding: Binding, *, instead_of: ModelRef | None) -> bool:
        del key, binding, instead_of
        return False


class FakeMeter:
    """Keeps every sample and fails if the labels do not fit the metric."""

    def __init__(self) -> None:
        self.counts: list[tuple[Metric, tuple[str, ...]]] = []
        self.amounts: dict[tuple[Metric, tuple[str, ...]], float] = {}
        self.values: list[tuple[Metric, float, tuple[str, ...]]] = []

    def count(self, metric: Metric, labels: tuple[str, ...], amount: float = 1) -> None:
        assert METRICS[metric].kind == "counter"
        assert len(labels) == len(METRICS[metric].labels)
        self.counts.append((metric, labels))
        self.amounts[metric, labels] = self.amounts.get((metric, labels), 0) + amount

    def observe(self, metric: Metric, value: float, labels: tuple[str, ...]) -> None:
        assert METRICS[metric].kind == "histogram"
        assert len(labels) == len(METRICS[metric].labels)
        self.values.append((metric, value, labels))

    def set(self, metric: Metric, value: float, labels: tuple[str, ...]) -> None:
        assert METRICS[metric].kind == "gauge"
        assert len(labels) == len(METRICS[metric].labels)
        self.values.append((metric, value, labels))

    def counted(self, metric: Metric) -> list[tuple[str, ...]]:
        return [labels for kept, labels in self.counts if kept is metric]

    def observed(self, metric: Metric) -> list[tuple[float, tuple[str, ...]]]:
        return [(value, labels) for kept, value, labels in self.values if kept is metric]


class FakeClock:
    """A clock that a test moves by hand."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


COMPLETION: Final = (
    b'{"id":"c1","object":"chat.completion","choices":[{"index":0,"message":'
    b'{"role":"assistant","content":"Hi"},"finish_reason":"stop"}]}'
)


def reply(
    status: int = 200, body: bytes | Chunks = COMPLETION, headers: Headers = ()
) -> UpstreamReply:
    """A provider's reply; by default a complete chat completion."""
    return UpstreamReply(status, (("content-type", "application/json"), *headers), body)


def fault(kind: FaultKind, detail: str = "it did not work") -> UpstreamFault:
    """The fault of an exchange that got no reply."""
    return UpstreamFault(kind, detail)


def request_of(  # noqa: PLR0913 - every part of a request
    snapshot: Snapshot,
    content: str,
    *,
    hint: str | None = None,
    headers: Headers = (),
    arrived: float = 0.0,
    session: Mapping[str, str] | None = None,
    credential: str | None = None,
) -> ClientRequest:
    """A chat completion as the API layer reads it."""
    dialect = DEFAULT_DIALECT
    document = read_document(content.encode(), unique=dialect.fields.read)
    return ClientRequest(
        snapshot=snapshot,
        surface=dialect.name,
        dialect=dialect,
        document=document,
        headers=headers,
        hint=hint,
        arrived=arrived,
        deciding_headers=session or {},
        credential=credential,
    )


def snapshot_of(directory: Path, text: str) -> Snapshot:
    """Compiles a gateway.yaml with this text."""
    file = directory / "gateway.yaml"
    file.write_text(text, "utf-8")
    return compile_snapshot(file)


@dataclass
class Rig:
    """A gateway between fakes, and one method that sends it a request."""

    snapshot: Snapshot
    upstream: FakeUpstream
    orchestrator: FakeOrchestrator
    meter: FakeMeter = field(default_factory=FakeMeter)
    clock: FakeClock = field(default_factory=FakeClock)
    store: FakeStore = field(default_factory=FakeStore)
    other_store: HoldingStore | None = None
    """A store to use in place of the fake one."""
    wall_clock: FakeClock = field(default_factory=lambda: FakeClock(1_700_000_000.0))

    @property
    def gateway(self) -> Gateway:
        observer = MetricsObserver(self.meter)
        return Gateway(
            upstream=self.upstream,
            orchestrator=self.orchestrator,
            sessions=Sessions(
                self.other_store or self.store,
                observer,
                lambda: price_table(self.snapshot.config),
                self.wall_clock,
            ),
            observer=observer,
            clock=self.clock,
        )

    async def ask(
        self,
        body: Mapping[str, Any],
        *,
        hint: str | None = None,
        headers: Headers = (),
        waited_s: float = 0.0,
        named: Mapping[str, str] | None = None,
        gateway: Gateway | None = None,
    ) -> Answer:
        """``gateway``: one that has answered before; else a new one."""
        content = json.dumps({"messages": [{"role": "user", "content": "Hello"}], **body})
        arrived = self.clock.now - waited_s
        request = request_of(
            self.snapshot, content, headers=headers, hint=hint, arrived=arrived, session=named
        )
        return await (gateway or self.gateway).complete(request)


def headers_of(answer: Answer) -> dict[str, str]:
    """An answer's headers; fails if a name occurs more than once."""
    pairs = dict(answer.headers)
    assert len(pairs) == len(answer.headers)
    return pairs


def pieces(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    """``data`` cut at these offsets; empty pieces are left out."""
    marks = [0, *sorted(cuts), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(marks) if a < b]
