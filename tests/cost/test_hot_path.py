"""A guard against a hot path that gets twice as dear: CPU of a request beside a minimal one.

Ratios in one process are the same on a slow and on a busy machine. Coverage would slow one side
only, so that this folder is not measured.
"""

import json
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

import pytest

from serve_app.affinity.guarded import NoStore
from serve_app.api.app import create_api
from serve_app.api.dependencies import ApiDependencies
from serve_app.domain import Json, Question, Unavailable
from serve_app.exchange import Chunks, UpstreamReply, UpstreamRequest
from serve_app.requests.assembly import Ports, assemble
from serve_app.snapshot import compile_snapshot
from serve_app.telemetry.metrics import Metric, MetricsObserver

_BATCH: Final = 60
_ROUNDS: Final = 15
_EVENTS: Final = 50
_HEAD: Final = (("content-type", "application/json"),)
_STREAM_HEAD: Final = (("content-type", "text/event-stream"),)
_ANSWER: Final = json.dumps(
    {
        "id": "c",
        "object": "chat.completion",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Left."},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 200, "completion_tokens": 2, "total_tokens": 202},
    }
).encode()
_EVENT: Final = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":" market"}}]}\n\n'
_END: Final = (
    b'data: {"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
    b"data: [DONE]\n\n"
)
_QUESTION: Final = "Which way is it to the station, and is there a way around the market? " * 8

_Message = MutableMapping[str, Any]
_Asgi = Callable[
    [_Message, Callable[[], Awaitable[_Message]], Callable[[_Message], Awaitable[None]]],
    Awaitable[None],
]


class _Provider:
    """Answers at once, so that all that is measured is the gateway."""

    async def open(self, request: UpstreamRequest) -> UpstreamReply:
        if request.stream:
            return UpstreamReply(200, _STREAM_HEAD, _chunks())
        return UpstreamReply(200, _HEAD, _ANSWER)


async def _chunks() -> Chunks:  # type: ignore[misc]  # Chunks is what a generator is used as
    for _ in range(_EVENTS):
        yield _EVENT
    yield _END


class _NoOrchestrator:
    async def score(self, question: Question) -> Unavailable:
        raise AssertionError(question)


class _NoMeter:
    def count(self, metric: Metric, labels: tuple[str, ...], amount: float = 1) -> None:
        del metric, labels, amount

    def observe(self, metric: Metric, value: float, labels: tuple[str, ...]) -> None:
        del metric, value, labels

    def set(self, metric: Metric, value: float, labels: tuple[str, ...]) -> None:
        del metric, value, labels


async def _minimal(scope: _Message, receive: Any, send: Any) -> None:
    """Parses the request, writes it again, and sends the provider's answer."""
    del scope
    request = json.loads((await receive())["body"])
    json.dumps(request).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if not request["stream"]:
        await send({"type": "http.response.body", "body": _ANSWER})
        return
    async for chunk in _chunks():
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


@pytest.fixture(name="gateway")
def make_gateway(tmp_path: Any) -> _Asgi:
    """The API over a provider that answers at once."""
    file = tmp_path / "gateway.yaml"
    file.write_text(
        "version: v0.4.0\nmodel_providers:\n  - {model: vllm/m, base_url: 'http://127.0.0.1:9'}\n"
    )
    snapshot, observer = compile_snapshot(file, {}), MetricsObserver(_NoMeter())
    ports = Ports(_Provider(), _NoOrchestrator(), NoStore("no sessions here"), observer)
    assembly = assemble(lambda: snapshot, ports)

    async def health() -> Json:
        return {"status": "ok"}

    return create_api(
        ApiDependencies(
            gateway=assembly.gateway,
            stored=assembly.stored,
            snapshot=lambda: snapshot,
            observer=observer,
            health=health,
            new_id=lambda: "id",
            watched_by_server=True,
        )
    )


async def _cpu_s(app: _Asgi, body: bytes) -> float:
    """CPU seconds of a batch of requests."""
    sent: list[_Message] = []

    async def receive() -> _Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: _Message) -> None:
        sent.append(message)

    headers = [
        (b"host", b"127.0.0.1:8000"),
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"accept", b"*/*"),
        (b"user-agent", b"guard"),
        (b"authorization", b"Bearer x"),
    ]
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/chat/completions",
        "query_string": b"",
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8000),
    }
    began = time.process_time()
    for _ in range(_BATCH):
        await app(dict(scope), receive, send)
    spent = time.process_time() - began
    assert {message["status"] for message in sent if "status" in message} == {200}
    assert sum(b"stop" in message.get("body", b"") for message in sent) == _BATCH
    return spent


@pytest.mark.parametrize(("stream", "most"), [(False, 26.0), (True, 24.0)], ids=["unary", "stream"])
async def test_request_costs_no_more_than_so_many_minimal_ones(
    stream: bool, most: float, gateway: _Asgi
) -> None:
    """The best of many batches each, in turn, so that other work on the machine does not count."""
    messages = [
        {"role": "system", "content": "You answer briefly."},
        {"role": "user", "content": _QUESTION},
    ]
    body = json.dumps({"model": "vllm/m", "messages": messages, "stream": stream}).encode()
    best = [float("inf"), float("inf")]
    for _ in range(_ROUNDS):
        for at, app in enumerate((gateway, _minimal)):
            best[at] = min(best[at], await _cpu_s(app, body))
    ratio = best[0] / best[1]
    print(f"{ratio:.2f}")
    assert ratio <= most, f"a request costs as much as {ratio:.1f} minimal ones; find out what grew"
